//! Depthwise convolution: every channel by itself, so vectors of channels, and several output columns in registers.
//!
//! ```text
//! for each output row, for each run of COLUMNS output columns whose taps all lie in the image, for each vector of channels:
//!     acc[j] = bias
//!     for each tap (y, x) with y in the image: acc[j] += input[y][x + j * stride] * weight[tap]
//! ```
//! Columns whose taps reach over the left or right edge are computed one by one with the taps that remain.

use super::super::arch::{Body, Simd};
use super::super::gemm::{Finish, FinishTile};
use super::geometry::Geometry;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Output columns of one block; as many independent chains as it takes to hide the latency of a multiply-add.
const COLUMNS: usize = 8;

/// The element types: sums and weights are 32-bit words of them.
pub(super) trait Lanes: Copy {
    /// An element of the input.
    type Input: Copy;
    /// A weight.
    type Weight: Copy;
    /// Loads `n <= LANES` elements as words that can be multiplied.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load<S: Simd>(self, s: S, p: *const Self::Input, n: usize) -> S::I32;
    /// `acc + x * weight`.
    fn mac<S: Simd>(self, s: S, acc: S::I32, x: S::I32, weight: S::I32) -> S::I32;
}

/// f32.
#[derive(Clone, Copy)]
pub(super) struct FloatLanes;

impl Lanes for FloatLanes {
    type Input = f32;
    type Weight = f32;

    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, p: *const f32, n: usize) -> S::I32 {
        // SAFETY: as the caller promises.
        s.to_bits(unsafe { if n == S::LANES { s.load(p) } else { s.load_part(p, n) } })
    }

    #[inline(always)]
    fn mac<S: Simd>(self, s: S, acc: S::I32, x: S::I32, weight: S::I32) -> S::I32 {
        s.to_bits(s.fma(s.from_bits(x), s.from_bits(weight), s.from_bits(acc)))
    }
}

/// Unsigned bytes less their zero point, times weights of 32 bits, less theirs.
#[derive(Clone, Copy)]
pub(super) struct ByteLanes {
    pub(super) zero_point: i32,
}

impl Lanes for ByteLanes {
    type Input = u8;
    type Weight = i32;

    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, p: *const u8, n: usize) -> S::I32 {
        // SAFETY: as the caller promises.
        let bytes = unsafe { if n == S::LANES { s.load_u8(p) } else { s.load_u8_part(p, n) } };
        s.sub_i32(bytes, s.splat_i32(self.zero_point))
    }

    #[inline(always)]
    fn mac<S: Simd>(self, s: S, acc: S::I32, x: S::I32, weight: S::I32) -> S::I32 {
        s.add_i32(acc, s.mul_i32(x, weight))
    }
}

/// A depthwise convolution of the output pixels `rows`.
pub(super) struct Depthwise<'a, L: Lanes> {
    pub(super) geometry: &'a Geometry,
    /// `[taps][channels, filled up to whole vectors]`.
    pub(super) weights: &'a [L::Weight],
    pub(super) input: *const L::Input,
    /// Elements from pixel to pixel of the input.
    pub(super) pixel: usize,
    pub(super) rows: Range<usize>,
    pub(super) finish: &'a Finish<'a>,
    pub(super) lanes: L,
}

/// The taps that one block of output columns reads.
struct Window<L: Lanes> {
    lanes: L,
    /// The first pixel of the first tap.
    input: *const L::Input,
    /// Elements from tap to tap, down and across, and from output column to output column.
    down: usize,
    across: usize,
    step: usize,
    /// Weights of the first tap; elements from one tap down, and across.
    weights: *const L::Weight,
    weights_down: usize,
    weights_across: usize,
    /// Taps down and across.
    height: usize,
    width: usize,
}

impl<L: Lanes> Body for Depthwise<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let g = self.geometry;
        let [out_height, out_width] = g.output();
        let padded = g.channels.next_multiple_of(S::LANES);
        let [kernel_height, kernel_width] = g.kernel;
        // Taps of output position `out` that lie in the image, and the position of the first of them.
        let clip = |axis: usize, out: usize| {
            let (stride, dilation) = (g.strides[axis], g.dilations[axis]);
            let start = (out * stride) as isize - g.pad_begin[axis] as isize;
            let first = (-start).max(0).unsigned_abs().div_ceil(dilation).min(g.kernel[axis]);
            let room = (g.input[axis] as isize - start).max(0).unsigned_abs();
            let end = room.div_ceil(dilation).min(g.kernel[axis]).max(first);
            (first..end, (start + (first * dilation) as isize).max(0).unsigned_abs())
        };
        // Output columns whose taps all lie in the image.
        let left = g.pad_begin[1].div_ceil(g.strides[1]).min(out_width);
        let reach = (kernel_width - 1) * g.dilations[1] + 1;
        let right = match (g.input[1] + g.pad_begin[1]).checked_sub(reach) {
            Some(room) => (room / g.strides[1] + 1).clamp(left, out_width),
            None => left,
        };
        let mut row = self.rows.start;
        while row < self.rows.end {
            let (line, x) = (row / out_width, row % out_width);
            let (image, y) = (line / out_height, line % out_height);
            let count = (out_width - x).min(self.rows.end - row);
            let (taps_down, input_y) = clip(0, y);
            let mut done = 0;
            while done < count {
                let x = x + done;
                let inside = x >= left && x < right;
                let columns = match (right.min(x + count - done)).saturating_sub(x) {
                    COLUMNS.. if inside => COLUMNS,
                    4.. if inside => 4,
                    _ => 1,
                };
                let (taps_across, input_x) =
                    if inside { (0..kernel_width, x * g.strides[1] - g.pad_begin[1]) } else { clip(1, x) };
                let pixels = (image * g.input[0] + input_y) * g.input[1] + input_x;
                let window = Window {
                    lanes: self.lanes,
                    input: self.input.wrapping_add(pixels * self.pixel),
                    down: g.dilations[0] * g.input[1] * self.pixel,
                    across: g.dilations[1] * self.pixel,
                    step: g.strides[1] * self.pixel,
                    weights: self
                        .weights
                        .as_ptr()
                        .wrapping_add((taps_down.start * kernel_width + taps_across.start) * padded),
                    weights_down: kernel_width * padded,
                    weights_across: padded,
                    height: taps_down.len().min(kernel_height),
                    width: taps_across.len(),
                };
                let row = row - self.rows.start + done;
                // SAFETY: the window's taps lie in the image, and the rows and channels in the output.
                unsafe {
                    match columns {
                        COLUMNS => block::<S, L, COLUMNS>(s, &window, self.finish, row, g.channels),
                        4 => block::<S, L, 4>(s, &window, self.finish, row, g.channels),
                        _ => block::<S, L, 1>(s, &window, self.finish, row, g.channels),
                    }
                }
                done += columns;
            }
            row += count;
        }
    }
}

/// `N` output pixels, all channels.
///
/// # Safety
/// The window's taps are readable for every channel and output column, its weights for whole vectors; rows
/// `row..row + N` lie in what `finish` describes.
#[inline(always)]
unsafe fn block<S: Simd, L: Lanes, const N: usize>(
    s: S,
    w: &Window<L>,
    finish: &Finish<'_>,
    row: usize,
    channels: usize,
) {
    let mut channel = 0;
    // SAFETY: as the caller promises.
    unsafe {
        while channel + S::LANES <= channels {
            vector::<S, L, N>(s, w, finish, row, channel, S::LANES);
            channel += S::LANES;
        }
        if channel < channels {
            vector::<S, L, N>(s, w, finish, row, channel, channels - channel);
        }
    }
}

/// One vector of channels, of which the first `n` are there.
///
/// # Safety
/// As of [`block`].
#[inline(always)]
unsafe fn vector<S: Simd, L: Lanes, const N: usize>(
    s: S,
    w: &Window<L>,
    finish: &Finish<'_>,
    row: usize,
    channel: usize,
    n: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let start = finish.start.map_or(s.splat_i32(0), |start| s.load_i32_part(start.add(channel), n));
        let mut acc = [start; N];
        for y in 0..w.height {
            for x in 0..w.width {
                let weight = w.weights.add(y * w.weights_down + x * w.weights_across + channel);
                let weight = s.load_i32(weight.cast());
                let input = w.input.add(y * w.down + x * w.across + channel);
                for (j, acc) in acc.iter_mut().enumerate() {
                    *acc = w.lanes.mac(s, *acc, w.lanes.load(s, input.add(j * w.step), n), weight);
                }
            }
        }
        match &finish.direct {
            Some(direct) if n == S::LANES => {
                for (j, &acc) in acc.iter().enumerate() {
                    let mut v = s.from_bits(acc);
                    if let Some(residual) = direct.residual {
                        v = s.add(v, s.load(residual.add((row + j) * direct.residual_stride + channel)));
                    }
                    if direct.bounded {
                        v = s.min(s.splat(direct.hi), s.max(s.splat(direct.lo), v));
                    }
                    s.store(finish.out.cast::<f32>().add((row + j) * finish.stride + channel), v);
                }
            }
            _ => {
                let mut words = MaybeUninit::<[i32; COLUMNS * 16]>::uninit();
                let at = words.as_mut_ptr().cast::<i32>();
                for (j, &acc) in acc.iter().enumerate() {
                    s.store_i32(at.add(j * S::LANES), acc);
                }
                let (rows, columns) = (row..row + N, channel..channel + n);
                s.call(FinishTile { finish, words: at, pitch: S::LANES, rows, columns });
            }
        }
    }
}
