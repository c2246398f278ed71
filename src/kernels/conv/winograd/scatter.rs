//! Tiles of the input at the points: out of the image, a row of channels for each point and tile.

use super::super::super::arch::{Body, Simd};
use super::super::geometry::Geometry;
use super::points::{INPUT, POINTS, input};
use std::ops::Range;

/// Writes, of tiles of `O` outputs a side, point `p` of tile `t` to `to[p * plane + (t - tiles.start) * row..]`, whole vectors of channels.
pub(super) struct Scatter<'a, const O: usize> {
    pub(super) g: &'a Geometry,
    pub(super) input: *const f32,
    /// Elements from pixel to pixel of the input.
    pub(super) pixel: usize,
    pub(super) tiles: Range<usize>,
    /// As many as there are channels, for the pixels beside the image.
    pub(super) zeros: *const f32,
    pub(super) to: *mut f32,
    pub(super) row: usize,
    pub(super) plane: usize,
}

impl<const O: usize> Body for Scatter<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let g = self.g;
        for (at, tile) in self.tiles.clone().enumerate() {
            let (image, y, x) = super::place(g, O, tile);
            let mut pixels = [self.zeros; POINTS];
            for (i, pixels) in pixels.chunks_exact_mut(O + 2).enumerate().take(O + 2) {
                // Positions before the image wrap round to one behind it.
                let y = (y + i).wrapping_sub(g.pad_begin[0]);
                if y < g.input[0] {
                    for (j, pixel) in pixels.iter_mut().enumerate() {
                        let x = (x + j).wrapping_sub(g.pad_begin[1]);
                        if x < g.input[1] {
                            let index = (image * g.input[0] + y) * g.input[1] + x;
                            *pixel = self.input.wrapping_add(index * self.pixel);
                        }
                    }
                }
            }
            let to = self.to.wrapping_add(at * self.row);
            let mut channel = 0;
            // SAFETY: the pixels lie in the image or are zeros, both as many as channels; each point's plane holds a row
            // of whole vectors for every tile.
            unsafe {
                while channel + S::LANES <= g.channels {
                    transform::<S, O>(s, &pixels, channel, |p| s.load(p), to, self.plane);
                    channel += S::LANES;
                }
                let rest = g.channels - channel;
                if rest > 0 {
                    transform::<S, O>(s, &pixels, channel, |p| s.load_part(p, rest), to, self.plane);
                }
            }
        }
    }
}

/// One vector of channels of one tile.
///
/// # Safety
/// The pixels can be loaded from `channel` on, and a vector stored at `channel` of `to` in every plane.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // A column of several rows.
unsafe fn transform<S: Simd, const O: usize>(
    s: S,
    pixels: &[*const f32; POINTS],
    channel: usize,
    load: impl Fn(*const f32) -> S::F32,
    to: *mut f32,
    plane: usize,
) {
    let mut lines = [[s.splat(0.0); INPUT]; INPUT];
    for (y, line) in lines.iter_mut().enumerate().take(O + 2) {
        let at = |x: usize| if x < O + 2 { load(pixels[y * (O + 2) + x].wrapping_add(channel)) } else { s.splat(0.0) };
        *line = input::<S, O>(s, [at(0), at(1), at(2), at(3), at(4), at(5)]);
    }
    for x in 0..O + 2 {
        let at = |i: usize| lines[i][x];
        let points = input::<S, O>(s, [at(0), at(1), at(2), at(3), at(4), at(5)]);
        for (y, v) in points.into_iter().enumerate().take(O + 2) {
            // SAFETY: as the caller promises.
            unsafe { s.store(to.add((y * (O + 2) + x) * plane + channel), v) };
        }
    }
}
