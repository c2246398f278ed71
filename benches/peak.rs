//! The products as a share of what this machine's multipliers can do, measured in the same run: `cargo bench --bench peak`.
//!
//! Each figure is the best of many short repeats, so that a busy machine spoils it less. An argument keeps only the lines
//! that contain it.

use onrush::kernels::arch::{Body, Isa, Simd};
use onrush::kernels::conv::{Conv2d, ConvWeights, Geometry};
use onrush::kernels::gemm::{Activation, Epilogue, Layout, PackedB, gemm};
use onrush::kernels::{Matrix, MatrixMut};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    let peak = (0..5).map(|_| isa.dispatch(FmaPeak)).fold(0.0, f64::max);
    println!("{}: f32 multiply-add {peak:.1} GFLOP/s", isa.name());

    for size in [64, 128, 256, 384, 512, 768, 1024, 1536, 2048] {
        float(isa, size, size, size, peak, &report);
    }
    for (m, k, n) in [
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
    ] {
        float(isa, m, k, n, peak, &report);
    }
    let base = Geometry::new;
    let padded = |g: Geometry, p: usize| Geometry { pad_begin: [p; 2], pad_end: [p; 2], ..g };
    let strided = |g: Geometry, s: usize| Geometry { strides: [s; 2], ..g };
    for g in [
        strided(padded(base([224; 2], 3, 64, [7, 7]), 3), 2),
        strided(padded(base([224; 2], 3, 32, [3, 3]), 1), 2),
        padded(base([56; 2], 64, 64, [3, 3]), 1),
        padded(base([28; 2], 128, 128, [3, 3]), 1),
        padded(base([14; 2], 256, 256, [3, 3]), 1),
        padded(base([7; 2], 512, 512, [3, 3]), 1),
        strided(padded(base([56; 2], 128, 128, [3, 3]), 1), 2),
    ] {
        convolution(isa, g, peak, &report);
    }
    for (size, channels, stride, kernel) in [
        (112, 32, 1, 3),
        (112, 96, 2, 3),
        (56, 144, 1, 3),
        (28, 192, 1, 3),
        (14, 384, 1, 3),
        (14, 576, 2, 3),
        (7, 960, 1, 3),
        (28, 240, 1, 5),
    ] {
        let g = base([size; 2], channels, channels, [kernel; 2]);
        convolution(isa, strided(padded(Geometry { groups: channels, ..g }, kernel / 2), stride), peak, &report);
    }
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

fn convolution(isa: Isa, g: Geometry, peak: f64, report: &Report<'_>) {
    let weights =
        ConvWeights::pack(isa, &numbers(g.weights_len()), g.filters, g.channels_per_group(), g.kernel, g.groups);
    let conv = Conv2d::new(g, Arc::new(weights.expect("the sizes fit"))).expect("the geometry is right");
    let (input, bias) = (numbers(g.input_pixels() * g.channels), numbers(g.filters));
    let rows = g.output_pixels();
    let mut out = vec![0.0; rows * g.filters];
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
    let name = format!(
        "f32 conv {}x{} {} -> {} k{} s{}{}",
        g.input[0],
        g.input[1],
        g.channels,
        g.filters,
        g.kernel[0],
        g.strides[0],
        if g.groups > 1 { " depthwise" } else { "" }
    );
    report(name, 2.0 * (rows * g.weights_len()) as f64, peak, &mut || {
        let input = Matrix::dense(black_box(&input), g.input_pixels(), g.channels);
        conv.run(input, MatrixMut::dense(&mut out, rows, g.filters), &epilogue);
    });
}

fn numbers(len: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|_| random.f32() - 0.5).collect()
}

/// The shortest of the repeats that fit in a third of a second; short runs are timed several at a time.
fn best(run: &mut dyn FnMut()) -> Duration {
    run();
    let once = {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let inner = (20_000 / once.as_nanos().max(1)).clamp(1, 1000) as u32;
    let start = Instant::now();
    let mut shortest = once;
    while start.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        (0..inner).for_each(|_| run());
        shortest = shortest.min(start.elapsed() / inner);
    }
    shortest
}

/// GFLOP/s of multiply-adds on registers alone.
struct FmaPeak;

impl Body for FmaPeak {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        const CHAINS: usize = 12;
        const TURNS: usize = 2_000_000;
        let (a, b) = (s.splat(black_box(0.999_999)), s.splat(black_box(1e-6)));
        let mut acc = [s.splat(black_box(1.0)); CHAINS];
        let start = Instant::now();
        for _ in 0..TURNS {
            for acc in &mut acc {
                *acc = s.fma(*acc, a, b);
            }
        }
        let time = start.elapsed().as_secs_f64();
        black_box(acc.iter().map(|&acc| s.sum(acc)).sum::<f32>());
        (2 * CHAINS * TURNS * S::LANES) as f64 / time / 1e9
    }
}
