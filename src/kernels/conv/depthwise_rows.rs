//! Depthwise convolution of bytes, block by block of channels that lie side by side.
//!
//! ```text
//! for each output row: the input rows that it sees, with padding written out, are in a ring of copies
//!     for each block of four vectors of channels, for each output pixel of the row:
//!         acc[0..4] = bias - zero_point * sum(weights)
//!         for each group of four taps: interleave four loads to words of four taps; acc += dot(words, weights)
//! ```
//! 1. A load brings as many channels as four vectors of sums have, so that the shuffles that bring taps together work on
//!    whole registers, and the narrowing of the results undoes their order.
//! 2. Rows of a ring have no padding to ask about, and a tap is the same distance away at every pixel.
//! 3. Fewer channels than a block has: several pixels that are neighbors in memory make one block, at stride 1.
//! 4. Blocks that do not divide the channels overlap: some channels are computed twice, and alike.

use super::super::arch::{Body, Isa, Simd};
use super::super::gemm::{Finish, FinishTile, Rescale};
use super::super::stored::Parts;
use super::geometry::Geometry;
use crate::error::{Result, ensure};
use crate::tensor::Buffer;
use std::ops::Range;

/// Taps that a kernel may have here, a multiple of four.
const MOST_TAPS: usize = 64;

/// Input rows that the ring may hold.
const MOST_ROWS: usize = 32;

/// Bytes of a cache line, at multiples of which the ring's rows begin.
const LINE: usize = 64;

/// Channels of the largest block.
const MOST_CHANNELS: usize = 64;

/// Weights in the order of the blocks.
#[derive(Debug, Clone)]
pub(super) struct BlockWords {
    /// The first channel of each block.
    starts: Vec<usize>,
    /// `[blocks][taps / 4][four vectors][lanes][4]`, aligned: a load over the end of a line costs two.
    words: Buffer,
    /// `[blocks][four vectors][lanes]`: the sum of each channel's weights.
    sums: Vec<i32>,
    taps: usize,
    channels: usize,
}

/// Channels of a block.
fn block(isa: Isa) -> usize {
    4 * isa.lanes()
}

/// The first channel of each block.
fn starts(channels: usize, block: usize) -> Vec<usize> {
    match channels.checked_sub(block) {
        Some(last) => (0..channels.div_ceil(block)).map(|b| (b * block).min(last)).collect(),
        None => vec![0],
    }
}

/// Whether there are channels enough for blocks, and the ring is not much larger than what is read.
fn allowed(isa: Isa, g: &Geometry) -> bool {
    let (block, taps) = (block(isa), g.kernel[0].saturating_mul(g.kernel[1]));
    let neighbors = g.channels > 0 && block.is_multiple_of(g.channels) && g.strides[1] == 1;
    let along = |axis: usize| g.kernel[axis].saturating_sub(1).saturating_mul(g.dilations[axis]);
    let reach = [along(0), along(1)];
    let padded = [0, 1].into_iter().all(|axis| g.pad_begin[axis].max(g.pad_end[axis]) <= reach[axis]);
    (g.channels >= block || neighbors) && (1..=MOST_TAPS).contains(&taps) && reach[0] < MOST_ROWS && padded
}

/// The channel that each lane of four vectors has, before the channels of several pixels are told apart.
struct Order;

impl Body for Order {
    type Output = [usize; MOST_CHANNELS];

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> [usize; MOST_CHANNELS] {
        let mut order = [0; MOST_CHANNELS];
        for (at, channel) in order.iter_mut().enumerate().take(4 * S::LANES) {
            *channel = S::quad_channel(at / S::LANES, at % S::LANES);
        }
        order
    }
}

impl BlockWords {
    /// Packs weights of `[taps][padded]`, where the geometry and their range allow it.
    pub(super) fn pack(isa: Isa, weights: &[i32], g: &Geometry, padded: usize) -> Option<Self> {
        let (block, channels, taps) = (block(isa), g.channels, g.kernel[0] * g.kernel[1]);
        if !allowed(isa, g) || weights.iter().any(|weight| i8::try_from(*weight).is_err()) {
            return None;
        }
        let starts = starts(channels, block);
        let order = isa.dispatch(Order);
        let groups = taps.div_ceil(4);
        let mut buffer = Buffer::zeroed(starts.len() * groups * block * 4);
        let words: &mut [i8] = bytemuck::cast_slice_mut(buffer.as_mut_slice()?);
        let mut sums = vec![0; starts.len() * block];
        for (b, start) in starts.iter().enumerate() {
            for (at, offset) in order[..block].iter().enumerate() {
                let channel = (start + offset) % channels;
                for tap in 0..taps {
                    let weight = weights[tap * padded + channel];
                    words[((b * groups + tap / 4) * block + at) * 4 + tap % 4] = weight as i8;
                    sums[b * block + at] += weight;
                }
            }
        }
        Some(BlockWords { starts, words: buffer, sums, taps, channels })
    }

    /// Appends what they consist of, for a file.
    pub(super) fn store(&self, parts: &mut Parts) {
        parts.put_buffer(&self.words);
        parts.put_elements(&self.sums);
    }

    /// The same back, for so many taps and channels.
    pub(super) fn restore(isa: Isa, parts: &mut Parts, taps: usize, channels: usize) -> Result<Self> {
        ensure!((1..=MOST_TAPS).contains(&taps) && channels > 0, Malformed, "{taps} taps in blocks");
        let block = block(isa);
        let words = parts.take_buffer(&[channels.div_ceil(block), taps.div_ceil(4), block, 4])?;
        let sums = parts.take_elements(&[channels.div_ceil(block), block])?;
        Ok(BlockWords { starts: starts(channels, block), words, sums, taps, channels })
    }

    /// Bytes that they hold.
    pub(super) fn len_bytes(&self) -> usize {
        self.words.as_slice().len() + self.sums.len() * 4
    }

    /// What the sums of each block start from, and their factors, in the order of its lanes.
    ///
    /// # Safety
    /// The epilogue's operands have an element for each channel.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(&self, finish: &Finish<'_>, zero_point: i32, begin: &mut [i32], factors: &mut [f32]) {
        let block = 4 * S::LANES;
        for (at, ((begin, factor), sum)) in begin.iter_mut().zip(factors).zip(&self.sums).enumerate() {
            let offset = S::quad_channel(at % block / S::LANES, at % S::LANES);
            let channel = self.starts[at / block] + offset;
            let channel = if channel < self.channels { channel } else { channel % self.channels };
            // SAFETY: as the caller promises.
            unsafe {
                let bias = finish.start.map_or(0, |bias| *bias.add(channel));
                *begin = bias.wrapping_sub(zero_point.wrapping_mul(*sum));
                *factor = finish.rescale.map_or(0.0, |rescale| *rescale.scale.add(channel));
            }
        }
    }

    /// Whether images of this geometry can be convolved with them.
    pub(super) fn fits(&self, isa: Isa, geometry: &Geometry) -> bool {
        self.channels == geometry.channels && allowed(isa, geometry)
    }
}

/// A depthwise convolution of the output pixels `range`, counted over all images, by weights in the form `W`.
pub(super) struct ByteDepthwise<'a, W> {
    pub(super) geometry: &'a Geometry,
    pub(super) weights: &'a W,
    /// The images that `range` counts.
    pub(super) input: *const u8,
    /// Bytes from pixel to pixel of the input.
    pub(super) pixel: usize,
    pub(super) zero_point: u8,
    pub(super) range: Range<usize>,
    /// Its operands have an element a channel.
    pub(super) finish: &'a Finish<'a>,
    /// At least as many bytes as the form needs for a run.
    pub(super) copies: &'a mut [u8],
}

/// Input rows that one output row spans, and bytes of each with its padding and what a block reads beyond it.
fn ring(g: &Geometry) -> (usize, usize) {
    let span = (g.kernel[0] - 1) * g.dilations[0] + 1;
    let reach = (g.output()[1].max(1) - 1) * g.strides[1] + (g.kernel[1] - 1) * g.dilations[1] + 1;
    let pixels = reach.max(g.pad_begin[1] + g.input[1]);
    (span, (pixels * g.channels + 2 * MOST_CHANNELS).next_multiple_of(LINE))
}

/// Bytes of copies that a run needs: the ring, a row of padding, and two words for each channel of each block.
pub(super) fn ring_bytes(g: &Geometry, weights: &BlockWords) -> usize {
    let (rows, bytes) = ring(g);
    (rows + 1) * bytes + weights.sums.len() * 8 + LINE
}

impl Body for ByteDepthwise<'_, BlockWords> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ByteDepthwise { geometry: g, weights, input, pixel, zero_point, range, finish, copies } = self;
        let [height, width] = g.output();
        let (rows, row_bytes) = ring(g);
        let aligned = copies.as_ptr().align_offset(LINE).min(LINE);
        let (copies, rest) = copies[aligned..].split_at_mut(rows * row_bytes);
        let (padding, rest) = rest.split_at_mut(row_bytes);
        let (begin, rest) = rest.split_at_mut(weights.sums.len() * 4);
        let begin: &mut [i32] = bytemuck::cast_slice_mut(begin);
        let factors: &mut [f32] = bytemuck::cast_slice_mut(&mut rest[..weights.sums.len() * 4]);
        // SAFETY: the epilogue's operands have an element a channel.
        unsafe { weights.prepare::<S>(finish, zero_point.into(), begin, factors) };
        // What no row overwrites stays padding.
        copies.fill(zero_point);
        padding.fill(zero_point);
        let mut held = [usize::MAX; MOST_ROWS];
        let mut done = range.start;
        while done < range.end {
            let (line, x) = (done / width, done % width);
            let (image, y) = (line / height, line % height);
            let count = (width - x).min(range.end - done);
            let mut taps = [std::ptr::null::<u8>(); MOST_TAPS];
            for ky in 0..g.kernel[0] {
                let place = (y * g.strides[0] + ky * g.dilations[0]).checked_sub(g.pad_begin[0]);
                let row = match place.filter(|place| *place < g.input[0]) {
                    None => padding.as_ptr(),
                    Some(place) => {
                        let id = image * g.input[0] + place;
                        let copy = &mut copies[id % rows * row_bytes..][..row_bytes];
                        if held[id % rows] != id {
                            held[id % rows] = id;
                            let from = input.wrapping_add(id * g.input[1] * pixel);
                            // SAFETY: the input has a row `id`; the copy has room for it behind its padding.
                            unsafe { copy_row(from, pixel, g, &mut copy[g.pad_begin[1] * g.channels..]) };
                        }
                        copy.as_ptr()
                    }
                };
                for kx in 0..g.kernel[1] {
                    taps[ky * g.kernel[1] + kx] = row.wrapping_add(kx * g.dilations[1] * g.channels);
                }
            }
            // A tap that is not there is multiplied by zero.
            for tap in weights.taps..weights.taps.next_multiple_of(4) {
                taps[tap] = taps[0];
            }
            let row = Row {
                weights,
                taps: &taps,
                first: done - range.start,
                x: x..x + count,
                step: g.strides[1],
                begin,
                factors,
                finish,
            };
            // SAFETY: the taps of every pixel of the row lie in the ring, which is longer than a block's last load; the
            // pixels lie in the output.
            unsafe {
                match finish.narrow() {
                    Some((rescale, signed)) => row.blocks(s, Narrow { rescale: *rescale, signed }),
                    None => row.blocks(s, General),
                }
            }
            done += count;
        }
    }
}

/// Copies the pixels of an image's row one behind the other.
///
/// # Safety
/// The row has as many pixels as the geometry says, `pixel` bytes apart, and the copy room for them.
pub(super) unsafe fn copy_row(from: *const u8, pixel: usize, g: &Geometry, to: &mut [u8]) {
    // SAFETY: as the caller promises.
    unsafe {
        if pixel == g.channels {
            std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), g.input[1] * pixel);
            return;
        }
        for x in 0..g.input[1] {
            std::ptr::copy_nonoverlapping(from.add(x * pixel), to.as_mut_ptr().add(x * g.channels), g.channels);
        }
    }
}

/// A run of output pixels in one row.
struct Row<'a> {
    weights: &'a BlockWords,
    /// Where each tap of the output row's first pixel lies.
    taps: &'a [*const u8; MOST_TAPS],
    /// The first pixel's place among the rows of the output.
    first: usize,
    x: Range<usize>,
    step: usize,
    /// What the sums of each block start from, and their factors.
    begin: &'a [i32],
    factors: &'a [f32],
    finish: &'a Finish<'a>,
}

/// What is done to the sums of a block.
trait Ending: Copy {
    /// Whether [`store`](Ending::store) takes the blocks of pixels that lie side by side in the output.
    const WHOLE: bool;

    /// Stores a whole block at element `to` of the output; `scale` holds its factors.
    ///
    /// # Safety
    /// It lies in the output.
    unsafe fn store<S: Simd>(self, s: S, finish: &Finish<'_>, to: usize, sums: [S::I32; 4], scale: [S::F32; 4]);
}

/// Scales, bounds, and bytes.
#[derive(Clone, Copy)]
struct Narrow {
    rescale: Rescale,
    signed: bool,
}

/// Whatever the epilogue says.
#[derive(Clone, Copy)]
struct General;

impl Ending for Narrow {
    const WHOLE: bool = true;

    #[inline(always)]
    unsafe fn store<S: Simd>(self, s: S, finish: &Finish<'_>, to: usize, sums: [S::I32; 4], scale: [S::F32; 4]) {
        let Narrow { rescale: r, signed } = self;
        let (most, least, zero_point) = (s.splat(r.most), s.splat_i32(r.least), s.splat_i32(r.zero_point));
        // Written out: the closure of an array's `map` would not be compiled for the instruction set.
        let [a, b, c, d] = sums;
        let [a, b, c, d] = [
            s.mul(s.from_i32(a), scale[0]),
            s.mul(s.from_i32(b), scale[1]),
            s.mul(s.from_i32(c), scale[2]),
            s.mul(s.from_i32(d), scale[3]),
        ];
        let [a, b, c, d] = [
            s.max_i32(s.to_i32(s.min(most, a)), least),
            s.max_i32(s.to_i32(s.min(most, b)), least),
            s.max_i32(s.to_i32(s.min(most, c)), least),
            s.max_i32(s.to_i32(s.min(most, d)), least),
        ];
        let v =
            [s.add_i32(a, zero_point), s.add_i32(b, zero_point), s.add_i32(c, zero_point), s.add_i32(d, zero_point)];
        // SAFETY: as the caller promises.
        unsafe { s.store_quads(finish.out.add(to), v, signed) }
    }
}

impl Ending for General {
    const WHOLE: bool = false;

    #[inline(always)]
    unsafe fn store<S: Simd>(self, _: S, _: &Finish<'_>, _: usize, _: [S::I32; 4], _: [S::F32; 4]) {}
}

/// The sums of a part of a block, or of any block whose end is not short: in the order of memory, then finished.
struct Rest<'a, S: Simd> {
    finish: &'a Finish<'a>,
    sums: [S::I32; 4],
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<T: Simd> Body for Rest<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut lanes = [0i32; MOST_CHANNELS];
        // SAFETY: the vectors are those of the one instruction set that is running, whose lanes fill the array.
        unsafe { lanes.as_mut_ptr().cast::<[T::I32; 4]>().write_unaligned(self.sums) };
        // A vector is read from any column on.
        let mut words = [0i32; MOST_CHANNELS + 16];
        for (at, lane) in lanes.iter().enumerate().take(4 * S::LANES) {
            words[S::quad_channel(at / S::LANES, at % S::LANES)] = *lane;
        }
        s.call(FinishTile {
            finish: self.finish,
            words: words.as_mut_ptr(),
            pitch: self.columns.len(),
            rows: self.rows,
            columns: self.columns,
        });
    }
}

impl Row<'_> {
    /// All blocks of all pixels.
    ///
    /// # Safety
    /// The taps of every pixel lie in readable memory, as far as the last block's loads reach, and the pixels in the
    /// output.
    #[inline(always)]
    unsafe fn blocks<S: Simd, E: Ending>(&self, s: S, ending: E) {
        let w = self.weights;
        let (block, channels, groups) = (4 * S::LANES, w.channels, w.taps.div_ceil(4));
        let together = (block / channels).max(1);
        for (b, &start) in w.starts.iter().enumerate() {
            // SAFETY: as the caller promises; the weights have that many blocks.
            unsafe {
                let words = w.words.as_slice().as_ptr().cast::<i8>().add(b * groups * block * 4);
                let first = self.begin.as_ptr().add(b * block);
                let factor = self.factors.as_ptr().add(b * block);
                let begin = [
                    s.load_i32(first),
                    s.load_i32(first.add(S::LANES)),
                    s.load_i32(first.add(2 * S::LANES)),
                    s.load_i32(first.add(3 * S::LANES)),
                ];
                let factors = [
                    s.load(factor),
                    s.load(factor.add(S::LANES)),
                    s.load(factor.add(2 * S::LANES)),
                    s.load(factor.add(3 * S::LANES)),
                ];
                let whole = match E::WHOLE && (together == 1 || self.finish.stride == channels) {
                    true => self.x.len() / together * together,
                    false => 0,
                };
                for x in (self.x.start..self.x.start + whole).step_by(together) {
                    let acc = self.sums(s, begin, x * self.step * channels + start, groups, words);
                    let to = (self.first + x - self.x.start) * self.finish.stride + start;
                    ending.store(s, self.finish, to, acc, factors);
                }
                for x in (self.x.start + whole..self.x.end).step_by(together) {
                    let sums = self.sums(s, begin, x * self.step * channels + start, groups, words);
                    let row = self.first + x - self.x.start;
                    let rows = row..row + together.min(self.x.end - x);
                    let columns = start..start + block.min(channels);
                    s.call(Rest::<S> { finish: self.finish, sums, rows, columns });
                }
            }
        }
    }

    /// The sums of the block whose first tap lies `offset` bytes behind the row's.
    ///
    /// # Safety
    /// As of [`blocks`](Row::blocks).
    #[inline(always)]
    unsafe fn sums<S: Simd>(
        &self,
        s: S,
        begin: [S::I32; 4],
        offset: usize,
        groups: usize,
        words: *const i8,
    ) -> [S::I32; 4] {
        let mut acc = begin;
        for group in 0..groups {
            // SAFETY: as the caller promises.
            unsafe {
                let taps = self.taps.as_ptr().add(group * 4);
                let four = [
                    (*taps).add(offset),
                    (*taps.add(1)).add(offset),
                    (*taps.add(2)).add(offset),
                    (*taps.add(3)).add(offset),
                ];
                acc = s.dot_quads(acc, four, words.add(group * 16 * S::LANES));
            }
        }
        acc
    }
}
