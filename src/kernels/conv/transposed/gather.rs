//! Output pixels as sums over the taps that reach them: of vectors of channels that lie ready, times weights or not.
//!
//! ```text
//! for each output pixel of a part of a line, for each vector of channels:
//!     acc = bias
//!     for each tap (y, x) that reaches it: acc += source[y][x][tap] * weight[tap]
//! ```

use super::super::super::arch::{Body, Simd};
use super::super::super::gemm::{Finish, FinishTile};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Pixels whose epilogue is taken together.
const PIXELS: usize = 8;

/// The taps that reach the positions of an axis.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// Where the taps of each position begin in `taps`; one more than positions.
    pub(super) starts: Vec<usize>,
    /// Each as the element that it takes, and the tap.
    pub(super) taps: Vec<(usize, usize)>,
}

impl Reach {
    /// The taps that reach position `out`.
    pub(super) fn of(&self, out: usize) -> &[(usize, usize)] {
        &self.taps[self.starts[out]..self.starts[out + 1]]
    }
}

/// A part of an output line.
pub(super) struct Gather<'a> {
    /// The taps that reach the line: where the row that they take begins in the source, and the row of the kernel.
    pub(super) down: &'a [(usize, usize)],
    pub(super) across: &'a Reach,
    pub(super) columns: Range<usize>,
    pub(super) source: *const f32,
    /// Elements from pixel to pixel of the source, and from tap to tap.
    pub(super) pixel: usize,
    pub(super) tap: usize,
    /// Factors, where there are any, and elements from tap to tap.
    pub(super) weights: Option<(*const f32, usize)>,
    pub(super) kernel_width: usize,
    pub(super) channels: usize,
    pub(super) finish: &'a Finish<'a>,
    /// The line's first pixel in the coordinates of `finish`.
    pub(super) row: usize,
}

impl Body for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let finish = self.finish;
        let mut words = MaybeUninit::<[i32; PIXELS * 16]>::uninit();
        let words = words.as_mut_ptr().cast::<i32>();
        let mut first = self.columns.start;
        while first < self.columns.end {
            let count = PIXELS.min(self.columns.end - first);
            let mut channel = 0;
            while channel < self.channels {
                let n = S::LANES.min(self.channels - channel);
                // SAFETY: whoever made this saw to it that the source holds the taps for each channel, the weights whole
                // vectors of them, and that the pixels and channels lie in what `finish` describes.
                unsafe {
                    let start = finish.start.map_or(s.splat_i32(0), |start| s.load_i32_part(start.add(channel), n));
                    for j in 0..count {
                        let mut acc = s.from_bits(start);
                        let at = first + j;
                        for &(row, ky) in self.down {
                            for &(x, kx) in &self.across.taps[self.across.starts[at]..self.across.starts[at + 1]] {
                                let tap = ky * self.kernel_width + kx;
                                let p = self.source.add(row + x * self.pixel + tap * self.tap + channel);
                                let v = if n == S::LANES { s.load(p) } else { s.load_part(p, n) };
                                acc = match self.weights {
                                    Some((weights, step)) => s.fma(v, s.load(weights.add(tap * step + channel)), acc),
                                    None => s.add(acc, v),
                                };
                            }
                        }
                        s.store_i32(words.add(j * S::LANES), s.to_bits(acc));
                    }
                    let (rows, columns) = (self.row + first..self.row + first + count, channel..channel + n);
                    s.call(FinishTile { finish, words, pitch: S::LANES, rows, columns });
                }
                channel += S::LANES;
            }
            first += count;
        }
    }
}
