//! Products of f32 on one thread beside the crates `gemm` and `matrixmultiply`, each as a share of what the multipliers of
//! this machine can do, measured in the same run: `cargo run --release --bin products`.
//!
//! The peers take B as it lies in each call; Onrush multiplies by weights that were packed once, which is what a model
//! does, and once more with packing in the call, so that like stands beside like.

#[path = "../../../support/peaks.rs"]
#[allow(dead_code)] // Products of bytes and halves have no peer here.
mod peaks;

/// What the peaks ask: this program always measures.
mod timing {
    pub(crate) fn is_timed() -> bool {
        true
    }
}

use gemm_f32::gemm::f32::get_gemm_fn;
use onrush::kernels::arch::Isa;
use onrush::kernels::gemm::{Epilogue, Layout, PackedB, PackedView, gemm};
use onrush::kernels::{Matrix, MatrixMut};
use peaks::Peaks;
use std::hint::black_box;
use std::time::{Duration, Instant};

const SIZES: [[usize; 3]; 10] = [
    [256, 256, 256],
    [512, 512, 512],
    [1024, 1024, 1024],
    [2048, 2048, 2048],
    [3136, 144, 24],
    [12544, 64, 64],
    [196, 256, 1024],
    [32, 384, 1536],
    [8, 512, 2048],
    [1, 1280, 1000],
];

fn main() {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    let peaks = Peaks::measure(isa);
    println!("{}: {peaks:.1?} GFLOP/s; shares of the first in percent", isa.name());
    println!("{:>18} {:>7} {:>15} {:>6} {:>14}", "m x k x n", "onrush", "packed in call", "gemm", "matrixmultiply");
    for [m, k, n] in SIZES {
        let number = |i: usize| (i % 101) as f32 / 101.0 - 0.5;
        let (a, b): (Vec<f32>, Vec<f32>) = ((0..m * k).map(number).collect(), (0..k * n).map(number).collect());
        let layout = Layout::RowMajor { stride: n };
        let packed = PackedB::pack(isa, &b, k, n, layout);
        let mut scratch = vec![0.0; PackedView::scratch_len(isa, k, n)];
        let mut out = vec![0.0f32; m * n];
        let work = 2e-9 * (m * k * n) as f64;
        let [of_a, of_b] = [k as isize, n as isize];
        let mut best = [Duration::MAX; 4];
        let mut answers = [const { Vec::new() }; 4];
        // In turn, so that what else the machine does hits all alike.
        for _ in 0..5 {
            let mut runs: [&mut dyn FnMut(&mut [f32]); 4] = [
                &mut |out| {
                    gemm(
                        isa,
                        Matrix::dense(black_box(&a), m, k),
                        &packed,
                        MatrixMut::dense(out, m, n),
                        &Epilogue::default(),
                    )
                },
                &mut |out| {
                    let packed = PackedView::pack_into(isa, black_box(&b), k, n, layout, &mut scratch);
                    gemm(isa, Matrix::dense(&a, m, k), packed, MatrixMut::dense(out, m, n), &Epilogue::default());
                },
                // The product of the transposed, as the crate itself turns it for rows that lie one behind the other.
                // SAFETY: the three are dense matrices of [m, k], [k, n] and [m, n].
                &mut |out| unsafe {
                    let (a, b, to) = (black_box(a.as_ptr()), b.as_ptr(), out.as_mut_ptr());
                    let (zero, one, serial) = (0.0, 1.0, gemm_common::Parallelism::None);
                    get_gemm_fn()(
                        n, m, k, to, of_b, 1, false, b, of_b, 1, a, of_a, 1, zero, one, false, false, false, serial,
                    );
                },
                // SAFETY: as above.
                &mut |out| unsafe {
                    let a = black_box(a.as_ptr());
                    matrixmultiply::sgemm(
                        m,
                        k,
                        n,
                        1.0,
                        a,
                        of_a,
                        1,
                        b.as_ptr(),
                        of_b,
                        1,
                        0.0,
                        out.as_mut_ptr(),
                        of_b,
                        1,
                    );
                },
            ];
            for ((run, best), answer) in runs.iter_mut().zip(&mut best).zip(&mut answers) {
                *best = (*best).min(shortest(&mut || run(&mut out)));
                answer.clone_from(&out);
            }
        }
        for answer in &answers[1..] {
            let same = answer.iter().zip(&answers[0]).all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + b.abs()));
            assert!(same, "two of the products of {m} x {k} x {n} differ");
        }
        let [ours, in_call, gemm, matrixmultiply] = best.map(|time| 100.0 * work / time.as_secs_f64() / peaks.f32);
        let name = format!("{m} x {k} x {n}");
        println!("{name:>18} {ours:7.1} {in_call:15.1} {gemm:6.1} {matrixmultiply:14.1}");
    }
}

/// The shortest of the runs of some milliseconds, short ones timed several at a time.
fn shortest(run: &mut dyn FnMut()) -> Duration {
    let once = {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let turns = (20_000 / once.as_nanos().max(1)).clamp(1, 1000) as u32;
    let (start, mut shortest) = (Instant::now(), once);
    while start.elapsed() < Duration::from_millis(60) {
        let turn = Instant::now();
        (0..turns).for_each(|_| run());
        shortest = shortest.min(turn.elapsed() / turns);
    }
    shortest
}
