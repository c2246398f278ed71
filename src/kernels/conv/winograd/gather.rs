//! Output pixels out of the products at the points, with the epilogue.

use super::super::super::arch::{Body, Simd};
use super::super::super::gemm::{Finish, FinishTile};
use super::super::geometry::Geometry;
use super::points::{INPUT, OUTPUT, output};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Reads, of tiles of `O` outputs a side, point `p` of tile `t` at `from[p * plane + (t - tiles.start) * row..]`, whole vectors of filters, and stores those
/// of the tiles' pixels that lie in `rows`.
pub(super) struct Gather<'a, const O: usize> {
    pub(super) g: &'a Geometry,
    pub(super) tiles: Range<usize>,
    /// Pixels of all images; the first is the output's first row.
    pub(super) rows: Range<usize>,
    /// Filters.
    pub(super) columns: usize,
    pub(super) from: *const f32,
    pub(super) row: usize,
    pub(super) plane: usize,
    pub(super) finish: &'a Finish<'a>,
}

impl<const O: usize> Body for Gather<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let g = self.g;
        let [height, width] = g.output();
        for (at, tile) in self.tiles.clone().enumerate() {
            let (image, y, x) = super::place(g, O, tile);
            // Of each line, the pixel that would be the tile's first, and those that are stored.
            let mut lines = [const { (0, 0..0) }; OUTPUT];
            for (i, line) in lines.iter_mut().enumerate().take(O.min(height - y)) {
                let first = (image * height + y + i) * width + x;
                let end = (first + O.min(width - x)).min(self.rows.end);
                *line = (first, first.max(self.rows.start)..end);
            }
            let from = self.from.wrapping_add(at * self.row);
            let mut filter = 0;
            while filter < self.columns {
                let n = S::LANES.min(self.columns - filter);
                // SAFETY: M holds whole vectors for every tile and point; the lines lie in the output.
                unsafe { self.vector(s, from.add(filter), &lines, filter, n) };
                filter += S::LANES;
            }
        }
    }
}

impl<const O: usize> Gather<'_, O> {
    /// One vector of filters of one tile, of which the first `n` are there.
    ///
    /// # Safety
    /// A vector can be loaded at `from` in every plane; the lines' ranges lie in `self.rows`.
    #[inline(always)]
    unsafe fn vector<S: Simd>(
        &self,
        s: S,
        from: *const f32,
        lines: &[(usize, Range<usize>); OUTPUT],
        filter: usize,
        n: usize,
    ) {
        let finish = self.finish;
        // SAFETY: as the caller promises.
        unsafe {
            let mut columns = [[s.splat(0.0); OUTPUT]; INPUT];
            for (x, column) in columns.iter_mut().enumerate().take(O + 2) {
                let at =
                    |y: usize| if y < O + 2 { s.load(from.add((y * (O + 2) + x) * self.plane)) } else { s.splat(0.0) };
                *column = output::<S, O>(s, [at(0), at(1), at(2), at(3), at(4), at(5)]);
            }
            let start = finish.start.map_or(s.splat(0.0), |start| s.from_bits(s.load_i32_part(start.add(filter), n)));
            for (i, (first, range)) in lines.iter().enumerate().take(O) {
                if range.is_empty() {
                    continue;
                }
                let at = |x: usize| columns[x][i];
                let pixels = output::<S, O>(s, [at(0), at(1), at(2), at(3), at(4), at(5)]);
                match &finish.direct {
                    Some(direct) if n == S::LANES && range.len() == O => {
                        let row = first - self.rows.start;
                        for (j, &v) in pixels.iter().enumerate().take(O) {
                            let mut v = s.add(v, start);
                            if let Some(residual) = direct.residual {
                                v = s.add(v, s.load(residual.add((row + j) * direct.residual_stride + filter)));
                            }
                            if direct.bounded {
                                v = s.min(s.splat(direct.hi), s.max(s.splat(direct.lo), v));
                            }
                            s.store(finish.out.cast::<f32>().add((row + j) * finish.stride + filter), v);
                        }
                    }
                    _ => {
                        let mut words = MaybeUninit::<[i32; OUTPUT * 16]>::uninit();
                        let words = words.as_mut_ptr().cast::<i32>();
                        for (j, &v) in pixels.iter().enumerate().take(O) {
                            s.store_i32(words.add(j * S::LANES), s.to_bits(s.add(v, start)));
                        }
                        let rows = range.start - self.rows.start..range.end - self.rows.start;
                        let words = words.add((range.start - first) * S::LANES);
                        s.call(FinishTile { finish, words, pitch: S::LANES, rows, columns: filter..filter + n });
                    }
                }
            }
        }
    }
}
