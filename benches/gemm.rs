//! Matrix products in f32, bytes and bfloat16: square, tall, thin and single-row. `cargo bench --bench gemm`; for shares of
//! the machine's peak see the `peak` bench.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use onrush::kernels::arch::Isa;
use onrush::kernels::gemm::{
    ByteEpilogue, ByteOutput, ByteWeights, Epilogue, Layout, PackedB, PackedBf16, PackedBytes, Requantize, gemm,
    gemm_bf16, gemm_bytes,
};
use onrush::kernels::{Matrix, MatrixMut};
use std::hint::black_box;

const SIZES: [(&str, usize, usize, usize); 5] = [
    ("square", 256, 256, 256),
    ("large", 1024, 1024, 1024),
    ("tall", 3136, 144, 24),
    ("thin", 8, 512, 2048),
    ("row", 1, 1280, 1000),
];

fn products(c: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    for (name, m, k, n) in SIZES {
        let mut group = c.benchmark_group(format!("{name} {m}x{k}x{n}"));
        group.throughput(Throughput::Elements((m * k * n) as u64)).sample_size(20);
        let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
        let layout = Layout::RowMajor { stride: n };
        let mut out = vec![0.0; m * n];

        let packed = PackedB::pack(isa, &b, k, n, layout);
        group.bench_function("f32", |bench| {
            bench.iter(|| {
                let out = MatrixMut::dense(&mut out, m, n);
                gemm(isa, Matrix::dense(black_box(&a), m, k), &packed, out, &Epilogue::default());
            });
        });

        let packed = PackedBf16::pack(isa, &b, k, n, layout);
        let halves = vec![bf16::from_f32(0.5); m * k];
        group.bench_function("bf16", |bench| {
            bench.iter(|| {
                let out = MatrixMut::dense(&mut out, m, n);
                gemm_bf16(isa, Matrix::dense(black_box(&halves), m, k), &packed, out, &Epilogue::default());
            });
        });

        let packed = PackedBytes::pack(isa, ByteWeights::I8(&vec![3; k * n]), k, n, &[]);
        let (bytes, scale, mut quantized) = (vec![5u8; m * k], vec![1e-3; n], vec![0u8; m * n]);
        let epilogue = ByteEpilogue { zero_point: 128, column_scale: Some(&scale), ..ByteEpilogue::default() };
        group.bench_function("bytes", |bench| {
            bench.iter(|| {
                let to = Requantize { factor: 1.0, zero_point: 128 };
                let out = ByteOutput::U8(MatrixMut::dense(&mut quantized, m, n), to);
                gemm_bytes(isa, Matrix::dense(black_box(&bytes), m, k), &packed, out, &epilogue);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
