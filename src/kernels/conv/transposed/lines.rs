//! Lines of output pixels out of products of pixels and all taps.
//!
//! A stride's worth of output columns, all filters of them, is a run of elements; so are the taps that one input pixel
//! contributes to it. With few filters a vector holds much of a run:
//!
//! ```text
//! for each run q of the line, for each vector of it:
//!     acc = bias
//!     for each kernel row that reaches the line, for each j: acc += products[q - j][row][taps j * stride ..]
//!     store acc at q * stride
//! the epilogue of the line
//! ```
//! Vectors may reach over the end of a run: the next run is stored over it.

use super::super::super::arch::{Body, Simd};
use super::super::super::gemm::{Finish, FinishTile};

/// One output line.
pub(super) struct Line<'a> {
    /// Where the products of the input lines that reach it begin, and the row of the kernel that each is taken from.
    pub(super) down: &'a [(usize, usize)],
    /// `[input lines][input width][taps down][taps across][filters]`, and a vector behind.
    pub(super) products: *const f32,
    /// Pixels of an input line.
    pub(super) width: usize,
    /// Taps down, and across.
    pub(super) kernel: [usize; 2],
    pub(super) filters: usize,
    /// Columns from one input pixel to the next: no more than there are taps across.
    pub(super) stride: usize,
    /// Columns that are cut from the left, and those of the output.
    pub(super) cut: usize,
    pub(super) columns: usize,
    /// The bias of a run, and a vector behind.
    pub(super) bias: *const f32,
    /// Room for the runs of a line, and a vector behind.
    pub(super) sums: *mut f32,
    /// Of the line, as one row.
    pub(super) finish: &'a Finish<'a>,
}

/// The runs of a line of `columns` columns, `cut` of which are cut from the left.
pub(super) fn runs(cut: usize, columns: usize, stride: usize) -> std::ops::Range<usize> {
    cut / stride..(cut + columns).div_ceil(stride)
}

impl Body for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [height, across] = self.kernel;
        let len = self.stride * self.filters;
        let tap_row = across * self.filters;
        let pixel = height * tap_row;
        // Whole runs of taps, and elements of the last.
        let (whole, rest) = (across / self.stride, across % self.stride * self.filters);
        let runs = runs(self.cut, self.columns, self.stride);
        let first = runs.start;
        for q in runs {
            let least = (q + 1).saturating_sub(self.width);
            let most = whole.min(q + 1);
            let partial = rest > 0 && whole >= least && whole <= q;
            let mut at = 0;
            while at < len {
                // SAFETY: whoever made this saw to it that products, bias and sums are as long as they say; a pixel's taps lie
                // in its products, and what is read behind them in the next pixel's or the vector at the end.
                unsafe {
                    let mut acc = s.load(self.bias.add(at));
                    for &(line, row) in self.down {
                        let from = self.products.add(line + row * tap_row + at);
                        for j in least..most {
                            acc = s.add(acc, s.load(from.add((q - j) * pixel + j * len)));
                        }
                        if partial && at < rest {
                            let n = S::LANES.min(rest - at);
                            acc = s.add(acc, s.load_part(from.add((q - whole) * pixel + whole * len), n));
                        }
                    }
                    s.store(self.sums.add((q - first) * len + at), acc);
                }
                at += S::LANES;
            }
        }
        let words = self.sums.wrapping_add((self.cut - first * self.stride) * self.filters).cast();
        let (finish, columns) = (self.finish, 0..self.columns * self.filters);
        // SAFETY: the sums hold the line; vectors at its end reach into the vector behind.
        s.call(FinishTile { finish, words, pitch: 0, rows: 0..1, columns });
    }
}
