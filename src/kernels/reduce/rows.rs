//! The last axis: four accumulators along a row, then their lanes.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector as v;
use super::Reduction;

pub(super) fn reduce(isa: Isa, reduction: Reduction, n: usize, x: &[f32], y: &mut [f32]) {
    isa.dispatch(Rows { reduction, n, x, y });
}

struct Rows<'a> {
    reduction: Reduction,
    n: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

/// Folds one row: `lane` prepares an element, `fold` joins two, `rest` is what joins without effect.
macro_rules! fold_row {
    ($s:ident, $row:ident, $rest:expr, |$x:ident| $lane:expr, |$a:ident, $b:ident| $fold:expr) => {{
        let row: &[f32] = $row;
        let rest = $s.splat($rest);
        let mut sums = [rest; 4];
        let mut i = 0;
        // SAFETY: every access is below the row's length.
        unsafe {
            while i + 4 * S::LANES <= row.len() {
                for (k, sum) in sums.iter_mut().enumerate() {
                    let $x = $s.load(row.as_ptr().add(i + k * S::LANES));
                    let ($a, $b) = (*sum, $lane);
                    *sum = $fold;
                }
                i += 4 * S::LANES;
            }
            let mut k = 0;
            while i < row.len() {
                let left = (row.len() - i).min(S::LANES);
                let $x = $s.load_part(row.as_ptr().add(i), left);
                let ($a, $b) = (sums[k & 3], $s.select($s.first(left), $lane, rest));
                sums[k & 3] = $fold;
                k += 1;
                i += S::LANES;
            }
        }
        let ($a, $b) = (sums[0], sums[1]);
        let low = $fold;
        let ($a, $b) = (sums[2], sums[3]);
        let high = $fold;
        let ($a, $b) = (low, high);
        $fold
    }};
}

impl Body for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows { reduction, n, x, y } = self;
        for (r, y) in y.iter_mut().enumerate() {
            let row = &x[r * n..(r + 1) * n];
            *y = match reduction {
                Reduction::Sum => s.sum(fold_row!(s, row, 0.0, |x| x, |a, b| s.add(a, b))),
                Reduction::Mean => s.sum(fold_row!(s, row, 0.0, |x| x, |a, b| s.add(a, b))) / n as f32,
                Reduction::LogSum => s.sum(fold_row!(s, row, 0.0, |x| x, |a, b| s.add(a, b))).ln(),
                Reduction::L1 => s.sum(fold_row!(s, row, 0.0, |x| s.abs(x), |a, b| s.add(a, b))),
                Reduction::SumSquare => s.sum(fold_row!(s, row, 0.0, |x| s.mul(x, x), |a, b| s.add(a, b))),
                Reduction::L2 => s.sum(fold_row!(s, row, 0.0, |x| s.mul(x, x), |a, b| s.add(a, b))).sqrt(),
                Reduction::Max => {
                    let top = fold_row!(s, row, f32::NEG_INFINITY, |x| x, |a, b| v::max_nan(s, a, b));
                    lanes(s, top, |a, b| if a > b || a.is_nan() { a } else { b })
                }
                Reduction::Min => {
                    let low = fold_row!(s, row, f32::INFINITY, |x| x, |a, b| v::min_nan(s, a, b));
                    lanes(s, low, |a, b| if a < b || a.is_nan() { a } else { b })
                }
                Reduction::Prod => lanes(s, fold_row!(s, row, 1.0, |x| x, |a, b| s.mul(a, b)), |a, b| a * b),
                Reduction::LogSumExp => log_sum_exp(s, row),
            };
        }
    }
}

/// The lanes of `v` folded, first to last.
#[inline(always)]
fn lanes<S: Simd>(s: S, v: S::F32, fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    // SAFETY: the array holds as many elements as the widest vector.
    unsafe { s.store(lanes.as_mut_ptr(), v) };
    lanes[1..S::LANES].iter().fold(lanes[0], |a, &b| fold(a, b))
}

/// `top + ln(sum(e^(x - top)))`, so that nothing overflows; minus infinity of a row of that, or of nothing.
#[inline(always)]
fn log_sum_exp<S: Simd>(s: S, row: &[f32]) -> f32 {
    let top = fold_row!(s, row, f32::NEG_INFINITY, |x| x, |a, b| v::max_nan(s, a, b));
    let top = lanes(s, top, |a, b| if a > b || a.is_nan() { a } else { b });
    if top.is_infinite() {
        return top;
    }
    let center = s.splat(top);
    let sum = fold_row!(s, row, 0.0, |x| v::exp_nonpositive(s, s.sub(x, center)), |a, b| s.add(a, b));
    top + s.sum(sum).ln()
}
