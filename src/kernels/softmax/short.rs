//! Rows shorter than a vector: a lane for each row, so that no lane idles and nothing is folded.

use super::super::arch::{Body, Simd};
use super::super::vector::{exp_nonpositive, ln};
use super::rows::Form;

/// Lanes of the widest instruction set.
const MOST_LANES: usize = 16;

/// Whether rows of so many elements are computed here, whatever their number.
pub(super) fn takes<S: Simd>(cols: usize) -> bool {
    cols < S::LANES
}

/// `y = form(scale * x)` for `rows` rows of fewer than `LANES` elements, which are the same at `x` and `y` or do not
/// overlap.
pub(super) struct ShortRows {
    pub(super) form: Form,
    pub(super) cols: usize,
    pub(super) scale: f32,
    pub(super) rows: usize,
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
}

impl Body for ShortRows {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ShortRows { form, cols, scale, rows, x, y } = self;
        // `[cols][LANES]`; lanes without a row hold what was there before.
        let mut block = [0.0f32; MOST_LANES * MOST_LANES];
        let scale = s.splat(scale);
        let mut first = 0;
        while first < rows {
            let count = S::LANES.min(rows - first);
            // SAFETY: rows `first..first + count` lie within both; the block holds a vector for each column.
            unsafe {
                let (x, y) = (x.add(first * cols), y.add(first * cols));
                for i in 0..count {
                    for j in 0..cols {
                        *block.as_mut_ptr().add(j * S::LANES + i) = *x.add(i * cols + j);
                    }
                }
                let at = block.as_mut_ptr();
                let mut top = s.splat(f32::NEG_INFINITY);
                for j in 0..cols {
                    let v = s.mul(s.load(at.add(j * S::LANES)), scale);
                    s.store(at.add(j * S::LANES), v);
                    top = s.max(v, top);
                }
                let mut sum = s.splat(0.0);
                for j in 0..cols {
                    let d = s.sub(s.load(at.add(j * S::LANES)), top);
                    let e = exp_nonpositive(s, d);
                    s.store(at.add(j * S::LANES), if form == Form::Softmax { e } else { d });
                    sum = s.add(sum, e);
                }
                let last = if form == Form::Softmax { s.div(s.splat(1.0), sum) } else { ln(s, sum) };
                for j in 0..cols {
                    let v = s.load(at.add(j * S::LANES));
                    s.store(at.add(j * S::LANES), if form == Form::Softmax { s.mul(v, last) } else { s.sub(v, last) });
                }
                for i in 0..count {
                    for j in 0..cols {
                        *y.add(i * cols + j) = *block.as_ptr().add(j * S::LANES + i);
                    }
                }
            }
            first += count;
        }
    }
}
