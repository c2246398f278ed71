//! A middle or leading axis: a few vectors of neighboring columns at a time, down the axis.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector as v;
use super::Reduction;

/// Vectors of columns folded together: two cache lines with the widest vectors.
const WIDE: usize = 2;

pub(super) fn reduce(isa: Isa, reduction: Reduction, n: usize, inner: usize, x: &[f32], y: &mut [f32]) {
    isa.dispatch(Columns { reduction, n, inner, x, y });
}

struct Columns<'a> {
    reduction: Reduction,
    n: usize,
    inner: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

/// Folds every column: `lane` prepares an element, `fold` joins two, `end` finishes.
macro_rules! fold_columns {
    ($s:ident, $n:ident, $inner:ident, $xs:ident, $ys:ident, $rest:expr,
     |$x:ident| $lane:expr, |$a:ident, $b:ident| $fold:expr, |$r:ident| $end:expr) => {{
        let (block, width) = ($n * $inner, WIDE * S::LANES);
        for (o, y) in $ys.chunks_exact_mut($inner).enumerate() {
            let x = &$xs[o * block..(o + 1) * block];
            let mut c = 0;
            // SAFETY: every row of the block has its elements from column c on.
            unsafe {
                while c + width <= $inner {
                    let mut sums = [$s.splat($rest); WIDE];
                    for k in 0..$n {
                        for (w, sum) in sums.iter_mut().enumerate() {
                            let $x = $s.load(x.as_ptr().add(k * $inner + c + w * S::LANES));
                            let ($a, $b) = (*sum, $lane);
                            *sum = $fold;
                        }
                    }
                    for (w, &$r) in sums.iter().enumerate() {
                        $s.store(y.as_mut_ptr().add(c + w * S::LANES), $end);
                    }
                    c += width;
                }
                while c < $inner {
                    let left = ($inner - c).min(S::LANES);
                    let mut sum = $s.splat($rest);
                    for k in 0..$n {
                        let $x = $s.load_part(x.as_ptr().add(k * $inner + c), left);
                        let ($a, $b) = (sum, $lane);
                        sum = $fold;
                    }
                    let $r = sum;
                    $s.store_part(y.as_mut_ptr().add(c), left, $end);
                    c += S::LANES;
                }
            }
        }
    }};
}

impl Body for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Columns { reduction, n, inner, x, y } = self;
        let count = s.splat(n as f32);
        match reduction {
            Reduction::Sum => fold_columns!(s, n, inner, x, y, 0.0, |x| x, |a, b| s.add(a, b), |r| r),
            Reduction::Mean => fold_columns!(s, n, inner, x, y, 0.0, |x| x, |a, b| s.add(a, b), |r| s.div(r, count)),
            Reduction::LogSum => fold_columns!(s, n, inner, x, y, 0.0, |x| x, |a, b| s.add(a, b), |r| v::ln(s, r)),
            Reduction::L1 => fold_columns!(s, n, inner, x, y, 0.0, |x| s.abs(x), |a, b| s.add(a, b), |r| r),
            Reduction::SumSquare => fold_columns!(s, n, inner, x, y, 0.0, |x| s.mul(x, x), |a, b| s.add(a, b), |r| r),
            Reduction::L2 => {
                fold_columns!(s, n, inner, x, y, 0.0, |x| s.mul(x, x), |a, b| s.add(a, b), |r| s.sqrt(r));
            }
            Reduction::Max => {
                fold_columns!(s, n, inner, x, y, f32::NEG_INFINITY, |x| x, |a, b| v::max_nan(s, a, b), |r| r);
            }
            Reduction::Min => {
                fold_columns!(s, n, inner, x, y, f32::INFINITY, |x| x, |a, b| v::min_nan(s, a, b), |r| r);
            }
            Reduction::Prod => fold_columns!(s, n, inner, x, y, 1.0, |x| x, |a, b| s.mul(a, b), |r| r),
            Reduction::LogSumExp => log_sum_exp(s, n, inner, x, y),
        }
    }
}

/// `top + ln(sum(e^(x - top)))` for each column.
#[inline(always)]
fn log_sum_exp<S: Simd>(s: S, n: usize, inner: usize, x: &[f32], y: &mut [f32]) {
    for (o, y) in y.chunks_exact_mut(inner).enumerate() {
        let x = &x[o * n * inner..(o + 1) * n * inner];
        for c in (0..inner).step_by(S::LANES) {
            let left = (inner - c).min(S::LANES);
            // SAFETY: every row of the block has `left` elements from column c on.
            unsafe {
                let mut top = s.splat(f32::NEG_INFINITY);
                for k in 0..n {
                    top = v::max_nan(s, top, s.load_part(x.as_ptr().add(k * inner + c), left));
                }
                let mut sum = s.splat(0.0);
                for k in 0..n {
                    let d = s.sub(s.load_part(x.as_ptr().add(k * inner + c), left), top);
                    sum = s.add(sum, v::exp_nonpositive(s, d));
                }
                let finite = s.lt(s.abs(top), s.splat(f32::INFINITY));
                let result = s.select(finite, s.add(top, v::ln(s, sum)), top);
                s.store_part(y.as_mut_ptr().add(c), left, result);
            }
        }
    }
}
