//! The products as a share of what this machine's multipliers can do, measured in the same run: `cargo bench --bench peak`.
//!
//! Each figure is the best of many short repeats, so that a busy machine spoils it less. An argument keeps only the lines
//! that contain it.

mod support {
    pub(crate) mod peaks;
    pub(crate) mod timing;
}

use half::bf16;
use onrush::kernels::arch::{Body, Isa, Simd};
use onrush::kernels::conv::{ByteConv2d, ByteConvWeights, Conv2d, ConvWeights, Geometry};
use onrush::kernels::gemm::{
    Activation, ByteEpilogue, ByteOutput, ByteWeights, Epilogue, Layout, PackedB, PackedBf16, PackedBytes, Requantize,
    gemm, gemm_bf16, gemm_bytes,
};
use onrush::kernels::{Matrix, MatrixMut};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::peaks::Peaks;
use support::timing::is_timed;

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    let report = |name: String, work: f64, peak: f64, run: &mut dyn FnMut()| {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted)) {
            let time = best(run);
            let rate = work / time.as_secs_f64() / 1e9;
            println!("{name:44} {:>11.2?} {rate:8.1} G/s {:6.1} %", time, 100.0 * rate / peak);
        }
    };
    let peaks = Peaks::measure(isa);
    println!(
        "{}: multiply-adds of f32 {:.1}, of bfloat16 {:.1} GFLOP/s, of bytes {:.1} GOP/s",
        isa.name(),
        peaks.f32,
        peaks.bf16,
        peaks.bytes
    );
    for (m, k, n) in SQUARES.iter().map(|&n| (n, n, n)).chain(SIZES) {
        float(isa, m, k, n, peaks.f32, &report);
    }
    single_rows(isa, &report);
    for g in convolutions() {
        convolution(isa, g, peaks.f32, &report);
    }
    for (m, k, n) in SQUARES.iter().map(|&n| (n, n, n)).chain(SIZES) {
        halves(isa, m, k, n, peaks.bf16, &report);
    }
    for (m, k, n) in SQUARES.iter().map(|&n| (n, n, n)).chain(SIZES) {
        bytes(isa, m, k, n, peaks.bytes, &report);
    }
    for g in convolutions() {
        byte_convolution(isa, g, peaks.bytes, &report);
    }
}

/// Single rows, as a share of what reading as many bytes as the weights takes: a few hundred KiB to more than any cache.
fn single_rows(isa: Isa, report: &Report<'_>) {
    for (k, n) in [(256, 256), (512, 1024), (1280, 1000), (2048, 2048), (4096, 8192)] {
        let bytes = (k * n * 4) as f64;
        let words = numbers(k * n);
        let bandwidth = bytes / best(&mut || _ = black_box(isa.dispatch(Read(black_box(&words))))).as_secs_f64() / 1e9;
        let (a, b) = (numbers(k), PackedB::pack(isa, &words, k, n, Layout::RowMajor { stride: n }));
        let mut out = vec![0.0; n];
        report(format!("f32 row {k} x {n}, of {bandwidth:.0} GB/s"), bytes, bandwidth, &mut || {
            let out = MatrixMut::dense(&mut out, 1, n);
            gemm(isa, Matrix::dense(&a, 1, k), black_box(&b), out, &Epilogue::default());
        });
    }
}

/// Square products.
const SQUARES: [usize; 9] = [64, 128, 256, 384, 512, 768, 1024, 1536, 2048];

/// Products of convolution nets and transformers, `(m, k, n)`.
const SIZES: [(usize, usize, usize); 23] = [
    (12, 512, 512),
    (49, 512, 512),
    (196, 256, 256),
    (32, 384, 1152),
    (32, 384, 1536),
    (32, 1536, 384),
    (256, 384, 1152),
    (256, 1536, 384),
    (12544, 16, 96),
    (3136, 24, 144),
    (3136, 144, 24),
    (784, 192, 32),
    (196, 384, 64),
    (49, 960, 160),
    (49, 320, 1280),
    (1, 1280, 1000),
    (1, 512, 512),
    (1, 2048, 1000),
    (1, 64, 64),
    (2, 512, 512),
    (4, 512, 512),
    (8, 512, 512),
    (1, 4096, 4096),
];

/// Convolutions of ResNet-50 and MobileNetV2.
fn convolutions() -> Vec<Geometry> {
    let base = Geometry::new;
    let padded = |g: Geometry, p: usize| Geometry { pad_begin: [p; 2], pad_end: [p; 2], ..g };
    let strided = |g: Geometry, s: usize| Geometry { strides: [s; 2], ..g };
    let mut all = vec![
        strided(padded(base([224; 2], 3, 64, [7, 7]), 3), 2),
        strided(padded(base([224; 2], 3, 32, [3, 3]), 1), 2),
        padded(base([56; 2], 64, 64, [3, 3]), 1),
        padded(base([28; 2], 128, 128, [3, 3]), 1),
        padded(base([14; 2], 256, 256, [3, 3]), 1),
        padded(base([7; 2], 512, 512, [3, 3]), 1),
        strided(padded(base([56; 2], 128, 128, [3, 3]), 1), 2),
    ];
    let depthwise = [
        (112, 32, 1, 3),
        (112, 96, 2, 3),
        (56, 144, 1, 3),
        (28, 192, 1, 3),
        (14, 384, 1, 3),
        (14, 576, 2, 3),
        (7, 960, 1, 3),
        (28, 240, 1, 5),
    ];
    all.extend(depthwise.map(|(size, channels, stride, kernel)| {
        let g = Geometry { groups: channels, ..base([size; 2], channels, channels, [kernel; 2]) };
        strided(padded(g, kernel / 2), stride)
    }));
    all
}

type Report<'a> = dyn Fn(String, f64, f64, &mut dyn FnMut()) + 'a;

fn float(isa: Isa, m: usize, k: usize, n: usize, peak: f64, report: &Report<'_>) {
    let (a, b, bias) = (numbers(m * k), numbers(k * n), numbers(n));
    let b = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
    let mut out = vec![0.0; m * n];
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
    report(format!("f32 gemm {m} x {k} x {n}"), 2.0 * (m * k * n) as f64, peak, &mut || {
        gemm(isa, Matrix::dense(&a, m, k), black_box(&b), MatrixMut::dense(&mut out, m, n), &epilogue);
    });
}

fn halves(isa: Isa, m: usize, k: usize, n: usize, peak: f64, report: &Report<'_>) {
    let a: Vec<bf16> = numbers(m * k).into_iter().map(bf16::from_f32).collect();
    let (b, bias) = (numbers(k * n), numbers(n));
    let b = PackedBf16::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
    let mut out = vec![0.0; m * n];
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
    report(format!("bf16 gemm {m} x {k} x {n}"), 2.0 * (m * k * n) as f64, peak, &mut || {
        gemm_bf16(isa, Matrix::dense(&a, m, k), black_box(&b), MatrixMut::dense(&mut out, m, n), &epilogue);
    });
}

fn bytes(isa: Isa, m: usize, k: usize, n: usize, peak: f64, report: &Report<'_>) {
    let (a, b): (Vec<u8>, Vec<i8>) = (vec![3; m * k], vec![-2; k * n]);
    let b = PackedBytes::pack(isa, ByteWeights::I8(&b), k, n, &[]);
    let (bias, scale) = (vec![5; n], vec![1e-3; n]);
    let mut out = vec![0; m * n];
    let epilogue = ByteEpilogue {
        zero_point: 7,
        bias: Some(&bias),
        column_scale: Some(&scale),
        activation: Activation::Relu,
        ..ByteEpilogue::default()
    };
    let to = Requantize { factor: 1.0, zero_point: 0 };
    report(format!("byte gemm {m} x {k} x {n}"), 2.0 * (m * k * n) as f64, peak, &mut || {
        let out = ByteOutput::U8(MatrixMut::dense(&mut out, m, n), to);
        gemm_bytes(isa, Matrix::dense(&a, m, k), black_box(&b), out, &epilogue);
    });
}

fn byte_convolution(isa: Isa, g: Geometry, peak: f64, report: &Report<'_>) {
    let weights = vec![-3; g.weights_len()];
    let weights = ByteConvWeights::pack(isa, ByteWeights::I8(&weights), &g, &[]).expect("the sizes fit");
    let conv = ByteConv2d::new(g, Arc::new(weights), 7).expect("the geometry is right");
    let input = vec![9; g.input_pixels() * g.channels];
    let (bias, scale) = (vec![5; g.filters], vec![1e-3; g.filters]);
    let rows = g.output_pixels();
    let mut out = vec![0; rows * g.filters];
    let epilogue = ByteEpilogue {
        zero_point: 7,
        bias: Some(&bias),
        column_scale: Some(&scale),
        activation: Activation::Relu,
        ..ByteEpilogue::default()
    };
    let to = Requantize { factor: 1.0, zero_point: 0 };
    report(format!("byte {}", name(&g)), 2.0 * (rows * g.weights_len()) as f64, peak, &mut || {
        let input = Matrix::dense(black_box(&input), g.input_pixels(), g.channels);
        conv.run(input, ByteOutput::U8(MatrixMut::dense(&mut out, rows, g.filters), to), &epilogue);
    });
}

fn name(g: &Geometry) -> String {
    let [height, width] = g.input;
    let kind = if g.groups > 1 { " depthwise" } else { "" };
    format!("conv {height}x{width} {} -> {} k{} s{}{kind}", g.channels, g.filters, g.kernel[0], g.strides[0])
}

fn convolution(isa: Isa, g: Geometry, peak: f64, report: &Report<'_>) {
    let weights = numbers(g.weights_len());
    let packed = ConvWeights::pack(isa, &weights, g.filters, g.channels_per_group(), g.kernel, g.groups);
    let winograd = g.winograd_tile().map(|tile| ConvWeights::pack_winograd(isa, &weights, g.filters, g.channels, tile));
    for packed in [Some(packed), winograd].into_iter().flatten() {
        let conv = Conv2d::new(g, Arc::new(packed.expect("the sizes fit"))).expect("the geometry is right");
        let (input, bias) = (numbers(g.input_pixels() * g.channels), numbers(g.filters));
        let rows = g.output_pixels();
        let mut out = vec![0.0; rows * g.filters];
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
        // The work of the definition, so that Winograd's share may pass the peak.
        let title = format!("f32 {}{}", name(&g), if conv.is_winograd() { " winograd" } else { "" });
        report(title, 2.0 * (rows * g.weights_len()) as f64, peak, &mut || {
            let input = Matrix::dense(black_box(&input), g.input_pixels(), g.channels);
            conv.run(input, MatrixMut::dense(&mut out, rows, g.filters), &epilogue);
        });
    }
}

fn numbers(len: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|_| random.f32() - 0.5).collect()
}

/// The shortest of the repeats that fit in a third of a second (of two where nothing is timed), short runs timed several at a time. Runs too long to pass
/// undisturbed are averaged, by the time that they held a core where the system tells.
fn best(run: &mut dyn FnMut()) -> Duration {
    let patience = if is_timed() { Duration::from_millis(300) } else { Duration::ZERO };
    run();
    let once = {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let inner = (20_000 / once.as_nanos().max(1)).clamp(1, 1000) as u32;
    let (start, on_core) = (Instant::now(), time_on_core());
    let (mut shortest, mut runs) = (once, 0);
    while start.elapsed() < patience {
        let start = Instant::now();
        (0..inner).for_each(|_| run());
        shortest = shortest.min(start.elapsed() / inner);
        runs += inner;
    }
    match time_on_core().zip(on_core) {
        Some((end, start)) if runs > 0 && shortest > Duration::from_millis(3) => (end - start) / runs,
        _ => shortest,
    }
}

/// How long this thread has held a core, as Linux tells it.
fn time_on_core() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Reads everything once, in eight chains.
struct Read<'a>(&'a [f32]);

impl Body for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        const CHAINS: usize = 8;
        let mut acc = [s.splat(0.0); CHAINS];
        for block in self.0.chunks_exact(CHAINS * S::LANES) {
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the block holds a vector for each chain.
                *acc = s.add(*acc, unsafe { s.load(block.as_ptr().add(i * S::LANES)) });
            }
        }
        let mut sum = 0.0;
        for acc in acc {
            sum += s.sum(acc);
        }
        sum
    }
}
