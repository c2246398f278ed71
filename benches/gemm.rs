//! Matrix products in f32, bytes and bfloat16 on one thread: square, tall, thin and single-row, beside `matrixmultiply` in
//! f32, which packs both sides in each call as it does for any caller. `cargo bench --bench gemm`; under each group stands
//! the share of what the machine's multipliers can do, measured in the same run. The `peak` bench has many more shapes, and
//! `benches/peers` the crate `gemm`.

mod support {
    pub(crate) mod peaks;
    pub(crate) mod timing;
}

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use onrush::kernels::arch::Isa;
use onrush::kernels::gemm::{
    ByteEpilogue, ByteOutput, ByteWeights, Epilogue, Layout, PackedB, PackedBf16, PackedBytes, PackedView, Requantize,
    gemm, gemm_bf16, gemm_bytes,
};
use onrush::kernels::{Matrix, MatrixMut};
use std::hint::black_box;
use std::time::{Duration, Instant};
use support::peaks::Peaks;
use support::timing::is_timed;

const SIZES: [(&str, usize, usize, usize); 8] = [
    ("square", 256, 256, 256),
    ("square", 512, 512, 512),
    ("square", 1024, 1024, 1024),
    ("square", 2048, 2048, 2048),
    ("tall", 3136, 144, 24),
    ("tall", 12544, 64, 64),
    ("thin", 8, 512, 2048),
    ("row", 1, 1280, 1000),
];

/// Times runs for Criterion, and keeps the shortest mean of its samples.
fn shortest(bencher: &mut Bencher<'_>, mut run: impl FnMut()) -> Duration {
    let mut shortest = Duration::MAX;
    bencher.iter_custom(|runs| {
        let start = Instant::now();
        (0..runs).for_each(|_| run());
        let time = start.elapsed();
        shortest = shortest.min(time.div_f64(runs as f64));
        time
    });
    shortest
}

fn products(c: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    let peaks = Peaks::measure(isa);
    for (name, m, k, n) in SIZES {
        let mut group = c.benchmark_group(format!("{name} {m}x{k}x{n}"));
        group.throughput(Throughput::Elements((m * k * n) as u64)).sample_size(10);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let mut shares: Vec<(&str, f64, Duration)> = Vec::new();
        let mut timed = |form: &'static str, peak: f64, run: &mut dyn FnMut()| {
            let mut time = Duration::MAX;
            group.bench_function(form, |bencher| time = shortest(bencher, &mut *run));
            shares.push((form, peak, time));
        };

        let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
        let layout = Layout::RowMajor { stride: n };
        let mut out = vec![0.0; m * n];
        let packed = PackedB::pack(isa, &b, k, n, layout);
        let mut scratch = vec![0.0; PackedView::scratch_len(isa, k, n)];
        timed("f32", peaks.f32, &mut || {
            let out = MatrixMut::dense(&mut out, m, n);
            gemm(isa, Matrix::dense(black_box(&a), m, k), &packed, out, &Epilogue::default());
        });
        timed("f32, packed in the call", peaks.f32, &mut || {
            let packed = PackedView::pack_into(isa, black_box(&b), k, n, layout, &mut scratch);
            let out = MatrixMut::dense(&mut out, m, n);
            gemm(isa, Matrix::dense(black_box(&a), m, k), packed, out, &Epilogue::default());
        });
        timed("f32 by matrixmultiply", peaks.f32, &mut || {
            let (a, b, to) = (black_box(&a).as_ptr(), black_box(&b).as_ptr(), out.as_mut_ptr());
            let [of_a, of_b] = [k as isize, n as isize];
            // SAFETY: the three are dense matrices of [m, k], [k, n] and [m, n].
            unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, of_a, 1, b, of_b, 1, 0.0, to, of_b, 1) };
        });

        let packed = PackedBf16::pack(isa, &b, k, n, layout);
        let halves = vec![bf16::from_f32(0.5); m * k];
        timed("bf16", peaks.bf16, &mut || {
            let out = MatrixMut::dense(&mut out, m, n);
            gemm_bf16(isa, Matrix::dense(black_box(&halves), m, k), &packed, out, &Epilogue::default());
        });

        let packed = PackedBytes::pack(isa, ByteWeights::I8(&vec![3; k * n]), k, n, &[]);
        let (bytes, scale, mut quantized) = (vec![5u8; m * k], vec![1e-3; n], vec![0u8; m * n]);
        let epilogue = ByteEpilogue { zero_point: 128, column_scale: Some(&scale), ..ByteEpilogue::default() };
        timed("bytes", peaks.bytes, &mut || {
            let to = Requantize { factor: 1.0, zero_point: 128 };
            let out = ByteOutput::U8(MatrixMut::dense(&mut quantized, m, n), to);
            gemm_bytes(isa, Matrix::dense(black_box(&bytes), m, k), &packed, out, &epilogue);
        });
        group.finish();
        for (form, peak, time) in shares.iter().filter(|(_, _, time)| is_timed() && *time < Duration::MAX) {
            let share = 2e-9 * (m * k * n) as f64 / time.as_secs_f64() / peak;
            println!("{name} {m} x {k} x {n}, {form}: {:.1} % of {peak:.0} G/s", 100.0 * share);
        }
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
