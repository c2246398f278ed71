//! Attention in one pass over strided heads, beside its two products alone: `cargo bench --bench attention`. Elements a
//! second are multiply-accumulates.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onrush::kernels::arch::Isa;
use onrush::kernels::attention::{Attention, Heads, Inputs, MaskStrides};
use onrush::kernels::gemm::{ComputedBytes, Epilogue, Layout, PackedB, PackedView, gemm, gemm_computed_bytes};
use onrush::kernels::quantize::{dequantize, dequantize_i32, quantize};
use onrush::kernels::{Matrix, MatrixMut};
use std::hint::black_box;

/// Name, heads, query rows, key rows, head size, causal.
const CASES: [(&str, usize, usize, usize, usize, bool); 4] = [
    ("short", 12, 32, 32, 32, false),
    ("long", 12, 512, 512, 64, false),
    ("causal", 12, 512, 512, 64, true),
    ("decoding", 12, 1, 1024, 64, false),
];

fn attention(criterion: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    for (name, heads, queries, keys, size, causal) in CASES {
        let (of_queries, of_keys) = (Heads::after_rows(heads, queries, size), Heads::after_rows(heads, keys, size));
        let attention = Attention {
            batch: 1,
            heads,
            kv_heads: heads,
            queries,
            keys,
            head_size: size,
            value_size: size,
            q: of_queries,
            k: of_keys,
            v: of_keys,
            out: of_queries,
            mask: Some(MaskStrides { batch: 0, head: 0, row: 0 }),
            scale: 1.0 / (size as f32).sqrt(),
            soft_cap: None,
            causal: causal.then_some(0),
        };
        let (q, k) = (vec![0.5; heads * queries * size], vec![0.25; heads * keys * size]);
        let (v, mask) = (vec![0.125; heads * keys * size], vec![0.0; keys]);
        let mut out = vec![0.0; heads * queries * size];
        let mut scratch = vec![0.0; attention.scratch_len(isa)];
        let mut group = criterion.benchmark_group(format!("attention {name} {heads}x{queries}x{keys}x{size}"));
        group.throughput(Throughput::Elements((2 * heads * queries * keys * size) as u64)).sample_size(20);
        group.bench_function("fused", |bencher| {
            let inputs = Inputs { q: &q, k: &k, v: &v, mask: Some(&mask) };
            bencher.iter(|| attention.run(isa, black_box(inputs), &mut out, &mut scratch));
        });
        // What no softmax could do without: both products of every head, their right sides packed beforehand.
        let to_scores = PackedB::pack(isa, &k[..keys * size], size, keys, Layout::Transposed { stride: size });
        let to_values = PackedB::pack(isa, &v[..keys * size], keys, size, Layout::RowMajor { stride: size });
        let mut scores = vec![0.0; queries * keys];
        group.bench_function("products alone", |bencher| {
            bencher.iter(|| {
                for head in 0..heads {
                    let q = Matrix::new(black_box(&q[head * size..]), queries, size, heads * size);
                    let to = MatrixMut::dense(&mut scores, queries, keys);
                    gemm(isa, q, &to_scores, to, &Epilogue::default());
                    let to = MatrixMut::new(&mut out[head * size..], queries, size, heads * size);
                    gemm(isa, Matrix::dense(&scores, queries, keys), &to_values, to, &Epilogue::default());
                }
            });
        });
        group.finish();
    }
}

/// Both products of quantized heads, by way of f32 (dequantized, multiplied, quantized again) and on bytes (the exact
/// sums, scaled, quantized). Name, heads, rows, head size.
const QUANTIZED: [(&str, usize, usize, usize); 3] =
    [("short", 12, 32, 32), ("sentence", 12, 128, 32), ("long", 12, 384, 64)];

fn quantized(criterion: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    for (name, heads, rows, size) in QUANTIZED {
        for (side, m, k, n) in [("scores", rows, size, rows), ("values", rows, rows, size)] {
            let (a, b) = (vec![90u8; heads * m * k], vec![200u8; heads * k * n]);
            let mut out = vec![0u8; heads * m * n];
            let (mut reals_a, mut reals_b) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            let (mut products, mut sums) = (vec![0.0; out.len()], vec![0i32; m * n]);
            let mut scratch = vec![0.0; PackedView::scratch_len(isa, k, n)];
            let mut group = criterion.benchmark_group(format!("quantized {side} {name} {heads}x{m}x{k}x{n}"));
            group.throughput(Throughput::Elements((heads * m * k * n) as u64)).sample_size(20);
            group.bench_function("f32", |bencher| {
                bencher.iter(|| {
                    dequantize(isa, black_box(&a[..]), 0.02, 120, &mut reals_a);
                    dequantize(isa, black_box(&b[..]), 0.02, 125, &mut reals_b);
                    for head in 0..heads {
                        let layout = Layout::RowMajor { stride: n };
                        let b =
                            PackedView::pack_into(isa, &reals_b[head * k * n..][..k * n], k, n, layout, &mut scratch);
                        let a = Matrix::dense(&reals_a[head * m * k..], m, k);
                        let to = MatrixMut::dense(&mut products[head * m * n..], m, n);
                        gemm(isa, a, b, to, &Epilogue::default());
                    }
                    quantize(isa, &products, 0.1, 128, &mut out);
                });
            });
            group.bench_function("bytes", |bencher| {
                bencher.iter(|| {
                    for head in 0..heads {
                        let data = &black_box(&b)[head * k * n..][..k * n];
                        let b = ComputedBytes { data, signed: false, zero_points: &[125] };
                        let a = Matrix::dense(&black_box(&a)[head * m * k..], m, k);
                        gemm_computed_bytes(isa, a, &[120], b, MatrixMut::dense(&mut sums, m, n));
                        dequantize_i32(isa, &sums, 0.0004, &mut products[..m * n]);
                        quantize(isa, &products[..m * n], 0.1, 128, &mut out[head * m * n..][..m * n]);
                    }
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, attention, quantized);
criterion_main!(benches);
