//! What a core can multiply and add at most, on registers alone, measured in the run whose figures are held against it.

use super::timing::is_timed;
use onrush::kernels::arch::{Body, Isa, Simd};
use std::hint::black_box;
use std::time::Instant;

/// The most operations a second of one core, in thousand millions; a multiplication and its addition are two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peaks {
    pub(crate) f32: f64,
    pub(crate) bf16: f64,
    pub(crate) bytes: f64,
}

impl Peaks {
    /// The best of five attempts each; a glance at each where nothing is timed.
    pub(crate) fn measure(isa: Isa) -> Self {
        let turns = if is_timed() { 2_000_000 } else { 1000 };
        let most = |peak: &dyn Fn() -> f64| (0..5).map(|_| peak()).fold(0.0, f64::max);
        Peaks {
            f32: most(&|| isa.dispatch(FmaPeak { turns })),
            bf16: most(&|| isa.dispatch(Bf16Peak { turns })),
            bytes: most(&|| isa.dispatch(DotPeak { turns })),
        }
    }
}

/// GFLOP/s of multiply-adds on registers alone.
struct FmaPeak {
    turns: usize,
}

impl Body for FmaPeak {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        const CHAINS: usize = 12;
        let turns = self.turns;
        let (a, b) = (s.splat(black_box(0.999_999)), s.splat(black_box(1e-6)));
        let mut acc = [s.splat(black_box(1.0)); CHAINS];
        let start = Instant::now();
        for _ in 0..turns {
            for acc in &mut acc {
                *acc = s.fma(*acc, a, b);
            }
        }
        let time = start.elapsed().as_secs_f64();
        black_box(acc.iter().map(|&acc| s.sum(acc)).sum::<f32>());
        (2 * CHAINS * turns * S::LANES) as f64 / time / 1e9
    }
}

/// GOP/s of byte dot products on registers alone.
struct DotPeak {
    turns: usize,
}

impl Body for DotPeak {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        const CHAINS: usize = 6;
        let turns = self.turns;
        let bytes = black_box([3u8; 64]);
        let mut sums = [0i32; 16];
        // SAFETY: the arrays hold as many elements as the widest vector.
        unsafe {
            let (a, b) = (s.dot_a(bytes.as_ptr()), s.dot_b(bytes.as_ptr().cast()));
            let mut acc = [s.dot_start(s.splat_i32(black_box(1))); 2 * CHAINS];
            let chains = 2 * CHAINS / S::DOT_REGISTERS;
            let start = Instant::now();
            for _ in 0..turns {
                for acc in &mut acc[..chains] {
                    *acc = s.dot(*acc, a, b);
                }
            }
            let time = start.elapsed().as_secs_f64();
            for acc in acc {
                s.store_i32(sums.as_mut_ptr(), s.dot_sum(acc));
                black_box(sums);
            }
            (8 * chains * turns * S::LANES) as f64 / time / 1e9
        }
    }
}

/// GFLOP/s of multiply-adds of pairs of bfloat16 on registers alone.
struct Bf16Peak {
    turns: usize,
}

impl Body for Bf16Peak {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        // As many as there are registers for: some machines take six cycles for one, and begin two in each.
        const CHAINS: usize = 24;
        let turns = self.turns;
        let (a, b) = (s.splat_i32(black_box(0x3f7f_3f7f)), s.splat_i32(black_box(0x3586_3586)));
        let mut acc = [s.splat(black_box(1.0)); CHAINS];
        let chains = if S::LANES == 16 { CHAINS } else { CHAINS / 3 };
        let start = Instant::now();
        for _ in 0..turns {
            for acc in &mut acc[..chains] {
                *acc = s.dot_bf16(*acc, a, b);
            }
        }
        let time = start.elapsed().as_secs_f64();
        black_box(acc.iter().map(|&acc| s.sum(acc)).sum::<f32>());
        (4 * chains * turns * S::LANES) as f64 / time / 1e9
    }
}
