//! Products of few rows with weights in f32 and in float16, which waits for half the bytes: `cargo bench --bench few_rows`.

use half::f16;
use onrush::kernels::arch::Isa;
use onrush::kernels::gemm::{
    Epilogue, HALVES_ROWS, Layout, PackedB, PackedHalves, gemm, gemm_halves, halves_scratch_len,
};
use onrush::kernels::{Matrix, MatrixMut};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rows and columns of the weights: one that the second cache holds, one for the third, one for memory.
const SIZES: [(usize, usize); 3] = [(384, 384), (1024, 1024), (4096, 4096)];

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let patience = Duration::from_millis(if quick { 30 } else { 300 });
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    for (k, n) in SIZES {
        let weights: Vec<f32> = (0..k * n).map(|i| f16::from_f32((i % 1013) as f32 / 1013.0 - 0.5).to_f32()).collect();
        let layout = Layout::RowMajor { stride: n };
        let (wide, halves) =
            (PackedB::pack(isa, &weights, k, n, layout), PackedHalves::pack(isa, &weights, k, n, layout));
        let mut scratch = vec![0.0; halves_scratch_len(isa, 4 * HALVES_ROWS)];
        for m in [1, 2, HALVES_ROWS, 2 * HALVES_ROWS, 4 * HALVES_ROWS] {
            let (a, mut out) = (vec![0.5f32; m * k], vec![0.0f32; m * n]);
            // By turns, so that what else the machine does meets both.
            let mut best = [Duration::MAX; 2];
            let start = Instant::now();
            while start.elapsed() < patience {
                for (form, best) in best.iter_mut().enumerate() {
                    let (a, out) = (Matrix::dense(black_box(&a), m, k), MatrixMut::dense(&mut out, m, n));
                    let start = Instant::now();
                    match form {
                        0 => gemm(isa, a, &wide, out, &Epilogue::default()),
                        _ => gemm_halves(isa, a, &halves, 0..m, 0..n, out, &Epilogue::default(), &mut scratch),
                    }
                    *best = (*best).min(start.elapsed());
                }
            }
            let [wide, halves] = best.map(|time| time.as_secs_f64() * 1e6);
            let rate = (k * n * 2) as f64 / halves / 1e3;
            println!(
                "{m:2} x {k} x {n:4}: f32 {wide:9.1} us, float16 {halves:9.1} us ({rate:5.1} GB/s), {:.2} times as fast",
                wide / halves
            );
        }
    }
}
