//! Depthwise convolution of bytes by 3 x 3 taps in strips ([`ByteStrip`]), where the instruction set has them.
//!
//! ```text
//! for each two output rows at stride 1, or each one: for each block of channels: a strip
//! ```
//! 1. Input rows are read where they lie; rows that are not there are a line of padding whose columns are all one.
//! 2. Channels that sixty-four do not divide are narrower blocks, of thirty-two or sixteen; as many pieces of the row as make
//!    a strip go side by side. Their input rows are copied into a ring, 64 bytes a column, with padding written out.
//! 3. Blocks that do not divide the channels overlap, and so do pieces of a row: what is computed twice is alike.

use super::super::arch::{Body, ByteBounds, ByteStrip, Isa, Simd};
use super::super::gemm::{Finish, FinishTile, Rescale};
use super::super::stored::Parts;
use super::depthwise_rows::ByteDepthwise;
use super::geometry::Geometry;
use crate::error::{Result, ensure};
use crate::tensor::Buffer;
use std::ops::Range;

/// Channels of a strip.
const LANES: usize = 64;

/// Bytes of the weights of a block for one output row.
const BLOCK: usize = 12 * LANES;

/// Rows of a ring: those that a strip of two output rows sees.
const ROWS: usize = 4;

/// Output columns whose sums are brought into the order of memory together, where no bytes are stored.
const SUMS: usize = 16;

/// Narrow blocks that there are at most.
const MOST_NARROW: usize = 2;

/// The order of lanes, where there are strips.
struct Order;

impl Body for Order {
    type Output = Option<[usize; LANES]>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Option<[usize; LANES]> {
        S::BYTE_STRIP.then_some(order(s))
    }
}

/// The channel of each lane.
#[inline(always)]
fn order<S: Simd>(_: S) -> [usize; LANES] {
    let (mut order, mut at) = ([0; LANES], 0);
    while at < LANES {
        order[at] = S::quad_channel(at / S::LANES, at % S::LANES);
        at += 1;
    }
    order
}

/// A strip, compiled for its instruction set.
struct Strip<'a>(&'a ByteStrip);

impl Body for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the maker of the strip saw to it that its pointers are good.
        unsafe { s.byte_strip(self.0) }
    }
}

/// Channels that one strip takes, or as many strips as there are parts.
#[derive(Debug, Clone, Copy)]
struct Block {
    start: usize,
    parts: usize,
}

impl Block {
    #[inline(always)]
    fn channels(&self) -> usize {
        LANES / self.parts
    }

    /// Columns of each piece of a row of `count`, and where each piece begins.
    #[inline(always)]
    fn pieces(&self, count: usize) -> (usize, [usize; 4]) {
        let columns = count.div_ceil(self.parts);
        let mut starts = [0; 4];
        let mut q = 0;
        while q < self.parts {
            starts[q] = (q * columns).min(count - columns);
            q += 1;
        }
        (columns, starts)
    }
}

/// The blocks of so many channels, sixteen at least.
#[derive(Clone, Copy)]
struct Blocks {
    /// Those that follow each other.
    whole: usize,
    /// Those behind them: narrow ones, or one that overlaps another.
    last: [Block; MOST_NARROW],
    count: usize,
}

impl Blocks {
    fn new(channels: usize) -> Self {
        let block = |from_end: usize, parts| Block { start: channels - from_end, parts };
        let (whole, rest) = (channels / LANES, channels % LANES);
        let none = Block { start: 0, parts: 1 };
        let (last, narrow) = match (whole, rest) {
            (_, 0) => ([none; 2], 0),
            (0, 16) => ([block(16, 4), none], 1),
            (0, 32) => ([block(32, 2), none], 1),
            (0, ..32) => ([Block { start: 0, parts: 4 }, block(16, 4)], 2),
            (0, _) => ([Block { start: 0, parts: 2 }, block(32, 2)], 2),
            (_, ..=16) => ([block(16, 4), none], 1),
            (_, ..=32) => ([block(32, 2), none], 1),
            _ => ([block(LANES, 1), none], 1),
        };
        Blocks { whole, last, count: whole + narrow }
    }

    /// Block `b`.
    #[inline(always)]
    fn at(&self, b: usize) -> Block {
        match b.checked_sub(self.whole) {
            None => Block { start: b * LANES, parts: 1 },
            Some(b) => self.last[b % MOST_NARROW],
        }
    }
}

/// Whether strips take it.
fn suits(g: &Geometry) -> bool {
    g.channels >= 16 && g.kernel == [3; 2] && g.dilations == [1; 2] && matches!(g.strides[1], 1 | 2)
}

/// Weights in the order of the strips.
#[derive(Debug, Clone)]
pub(super) struct StripWords {
    /// `[blocks][output rows of a strip][columns][four vectors][lanes][4]`, aligned.
    words: Buffer,
    /// `[blocks][LANES]`: the sum of each channel's weights, in their order.
    sums: Vec<i32>,
    channels: usize,
    /// Strips may have two output rows.
    pairs: bool,
}

impl StripWords {
    /// Packs weights of `[taps][padded]`, where the instruction set has strips, and the geometry and the weights' range
    /// allow it.
    pub(super) fn pack(isa: Isa, weights: &[i32], g: &Geometry, padded: usize) -> Option<Self> {
        let order = isa.dispatch(Order)?;
        if !suits(g) || weights.iter().any(|weight| i8::try_from(*weight).is_err()) {
            return None;
        }
        let (channels, pairs) = (g.channels, g.strides == [1; 2]);
        let rows = 1 + usize::from(pairs);
        let blocks = Blocks::new(channels);
        let count = blocks.count;
        let mut buffer = Buffer::zeroed(count * rows * BLOCK);
        let words: &mut [i8] = bytemuck::cast_slice_mut(buffer.as_mut_slice()?);
        let mut sums = vec![0; count * LANES];
        for b in 0..count {
            let block = blocks.at(b);
            for (at, offset) in order.iter().enumerate() {
                let channel = block.start + offset % block.channels();
                for tap in 0..9 {
                    let weight = weights[tap * padded + channel];
                    for row in 0..rows {
                        let word = (b * rows + row) * BLOCK / 4 + tap % 3 * LANES + at;
                        words[word * 4 + tap / 3 + row] = weight as i8;
                    }
                    sums[b * LANES + offset] += weight;
                }
            }
        }
        Some(StripWords { words: buffer, sums, channels, pairs })
    }

    /// Appends what they consist of, for a file.
    pub(super) fn store(&self, parts: &mut Parts) {
        parts.put(usize::from(self.pairs));
        parts.put_buffer(&self.words);
        parts.put_elements(&self.sums);
    }

    /// The same back, for so many taps and channels.
    pub(super) fn restore(isa: Isa, parts: &mut Parts, taps: usize, channels: usize) -> Result<Self> {
        let pairs = parts.take()?;
        let known = isa.dispatch(Order).is_some() && taps == 9 && channels >= 16 && pairs < 2;
        ensure!(known, Malformed, "{taps} taps of {channels} channels in strips");
        let count = Blocks::new(channels).count;
        let words = parts.take_buffer(&[count, 1 + pairs, BLOCK])?;
        let sums = parts.take_elements(&[count, LANES])?;
        Ok(StripWords { words, sums, channels, pairs: pairs == 1 })
    }

    /// Bytes that they hold.
    pub(super) fn len_bytes(&self) -> usize {
        self.words.as_slice().len() + self.sums.len() * 4
    }

    /// Whether images of this geometry can be convolved with them.
    pub(super) fn fits(&self, g: &Geometry) -> bool {
        self.channels == g.channels && suits(g) && self.pairs == (g.strides == [1; 2])
    }

    /// What the sums of each block start from, and their factors, in the order of its lanes; whether all results are far
    /// from the ends of 32 bits.
    ///
    /// # Safety
    /// The epilogue's operands have an element for each channel.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(
        &self,
        s: S,
        finish: &Finish<'_>,
        zero_point: i32,
        begin: &mut [i32],
        factors: &mut [f32],
    ) -> bool {
        let (blocks, order, zero_point) = (Blocks::new(self.channels), order(s), s.splat_i32(zero_point));
        let (mut most, largest) = (s.splat(0.0), s.splat((9 * 255 * 128) as f32));
        let mut b = 0;
        while b < blocks.count {
            let (block, lanes) = (blocks.at(b), b * LANES..(b + 1) * LANES);
            let (begin, factors) = (&mut begin[lanes.clone()], &mut factors[lanes.clone()]);
            let sums = &self.sums[lanes];
            // In the order of channels.
            let (mut starts, mut scales, mut at) = ([0i32; LANES], [0f32; LANES], 0);
            while at < LANES {
                let channel = block.start + at % block.channels();
                // SAFETY: as the caller promises; a block has whole vectors of channels.
                unsafe {
                    let bias = finish.start.map_or(s.splat_i32(0), |bias| s.load_i32(bias.add(channel)));
                    let start = s.sub_i32(bias, s.mul_i32(zero_point, s.load_i32(sums.as_ptr().add(at))));
                    let scale = match &finish.rescale {
                        Some(rescale) => s.load(rescale.scale.add(channel)),
                        None => s.splat(0.0),
                    };
                    s.store_i32(starts.as_mut_ptr().add(at), start);
                    s.store(scales.as_mut_ptr().add(at), scale);
                    // All of them together: what is not a number shows too.
                    most = s.add(most, s.mul(s.add(s.abs(s.from_i32(start)), largest), s.abs(scale)));
                }
                at += S::LANES;
            }
            at = 0;
            while at < LANES {
                // Four lanes have neighbors.
                begin[at..at + 4].copy_from_slice(&starts[order[at]..order[at] + 4]);
                factors[at..at + 4].copy_from_slice(&scales[order[at]..order[at] + 4]);
                at += 4;
            }
            b += 1;
        }
        s.sum(most) < (1 << 30) as f32
    }
}

/// Bytes of a ring's row: of halves of an output row, the longest pieces.
fn ring_row(g: &Geometry) -> usize {
    (g.output()[1].div_ceil(2).saturating_sub(1) * g.strides[1] + 3) * LANES
}

/// Bytes of all rings that there can be.
fn ring_bytes(g: &Geometry) -> usize {
    if g.channels.is_multiple_of(LANES) { 0 } else { MOST_NARROW * ROWS * ring_row(g) }
}

/// Bytes of copies that a run needs: a line of padding, two words for each channel of each block, sums, and rings.
pub(super) fn strip_bytes(g: &Geometry, weights: &StripWords) -> usize {
    2 * LANES + weights.sums.len() * 8 + 2 * SUMS * LANES * 4 + ring_bytes(g)
}

/// The output columns of one row, or of two that follow each other, that a run is at.
#[derive(Clone, Copy)]
struct Line {
    /// The first output column's row of the output.
    first: usize,
    image: usize,
    y: usize,
    x: usize,
    count: usize,
    pair: bool,
}

/// What takes sums to bytes by a factor alone, for kernels that know no result to be far out.
#[inline(always)]
pub(super) fn bounds(rescale: &Rescale, signed: bool) -> ByteBounds {
    let offset = rescale.zero_point - if signed { 0 } else { 128 };
    ByteBounds {
        zero_point: offset as i16,
        least: (rescale.least + offset).clamp(-128, 127) as i8,
        most: (rescale.most.round_ties_even() as i32 + offset).clamp(-128, 127) as i8,
        flip: if signed { 0 } else { 128 },
    }
}

/// Input rows of narrow blocks, brought together.
struct Rings<'a> {
    /// `[narrow blocks][ROWS][ring_row]`.
    bytes: &'a mut [u8],
    held: [[usize; ROWS]; MOST_NARROW],
    /// The output columns that they are for.
    across: Range<usize>,
}

impl Body for ByteDepthwise<'_, StripWords> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        if !S::BYTE_STRIP {
            return;
        }
        let (g, weights, finish, order) = (self.geometry, self.weights, self.finish, order(s));
        let ([height, width], blocks) = (g.output(), Blocks::new(g.channels));
        let copies = std::mem::take(&mut self.copies);
        let aligned = copies.as_ptr().align_offset(LANES).min(LANES);
        let (padding, rest) = copies[aligned..].split_at_mut(LANES);
        let (begin, rest) = rest.split_at_mut(weights.sums.len() * 4);
        let (factors, rest) = rest.split_at_mut(weights.sums.len() * 4);
        let (sums, rest) = rest.split_at_mut(2 * SUMS * LANES * 4);
        let (begin, factors) = (bytemuck::cast_slice_mut(begin), bytemuck::cast_slice_mut(factors));
        let sums: &mut [i32] = bytemuck::cast_slice_mut(sums);
        padding.fill(self.zero_point);
        let bytes = &mut rest[..ring_bytes(g)];
        let mut rings = Rings { bytes, held: [[usize::MAX; ROWS]; MOST_NARROW], across: 0..0 };
        // SAFETY: the epilogue's operands have an element a channel.
        let near = unsafe { weights.prepare(s, finish, self.zero_point.into(), begin, factors) };
        let narrow = match finish.narrow() {
            Some((rescale, signed)) if near => Some(bounds(rescale, signed)),
            _ => None,
        };
        let to = narrow.unwrap_or(ByteBounds { zero_point: 0, least: 0, most: 0, flip: 0 });
        let most = if narrow.is_some() { usize::MAX } else { SUMS };
        let mut done = self.range.start;
        while done < self.range.end {
            let (row, x, left) = (done / width, done % width, self.range.end - done);
            let (y, count) = (row % height, (width - x).min(left).min(most));
            let pair = weights.pairs && count == width && y + 1 < height && left >= 2 * width && narrow.is_some();
            let line = Line { first: done - self.range.start, image: row / height, y, x, count, pair };
            if rings.across != (x..x + count) {
                rings.across = x..x + count;
                rings.held = [[usize::MAX; ROWS]; MOST_NARROW];
                // What no row overwrites stays padding.
                rings.bytes.fill(self.zero_point);
            }
            let (start, mut narrow_blocks, rows) = (x * g.strides[1], 0, 1 + usize::from(weights.pairs));
            for b in 0..blocks.count {
                let block = blocks.at(b);
                let (columns, starts) = block.pieces(count);
                let mut part_at = starts;
                for at in &mut part_at {
                    *at *= finish.stride;
                }
                let mut strip = ByteStrip {
                    rows: [padding.as_ptr(); 4],
                    steps: [0; 4],
                    lead: g.pad_begin[1].saturating_sub(start),
                    width: g.input[1].saturating_sub(start.saturating_sub(g.pad_begin[1])),
                    padding: self.zero_point,
                    stride: g.strides[1],
                    weights: weights.words.as_slice()[b * rows * BLOCK..].as_ptr().cast(),
                    begin: begin[b * LANES..].as_ptr(),
                    scale: factors[b * LANES..].as_ptr(),
                    bounds: to,
                    columns,
                    pair,
                    sums: if narrow.is_some() { std::ptr::null_mut() } else { sums.as_mut_ptr() },
                    out: finish.out.wrapping_add(line.first * finish.stride + block.start),
                    out_step: finish.stride,
                    out_row: width * finish.stride,
                    parts: block.parts,
                    part_at,
                };
                if block.parts == 1 {
                    self.in_place(&line, &block, &mut strip);
                } else {
                    // SAFETY: the input has the images that the range counts.
                    unsafe { self.in_ring(&line, &block, &mut rings, narrow_blocks, &mut strip) };
                    narrow_blocks += 1;
                }
                s.call(Strip(&strip));
                if narrow.is_none() {
                    let (sums, ordered) = sums.split_at_mut(SUMS * LANES);
                    for (at, sum) in sums.iter().enumerate().take(columns * LANES) {
                        ordered[at / LANES * LANES + order[at % LANES]] = *sum;
                    }
                    for (q, start) in starts.iter().enumerate().take(block.parts) {
                        s.call(FinishTile {
                            finish,
                            words: ordered[q * block.channels()..].as_mut_ptr(),
                            pitch: LANES,
                            rows: line.first + start..line.first + start + columns,
                            columns: block.start..block.start + block.channels(),
                        });
                    }
                }
            }
            done += count * (1 + usize::from(pair));
        }
    }
}

impl ByteDepthwise<'_, StripWords> {
    /// The number of the input row, counted over all images, that row `k` of a strip is, where it is there.
    #[inline(always)]
    fn input_row(&self, line: &Line, k: usize) -> Option<usize> {
        let g = self.geometry;
        let place = (line.y * g.strides[0] + k).checked_sub(g.pad_begin[0])?;
        (place < g.input[0]).then(|| line.image * g.input[0] + place)
    }

    /// The strip reads the rows of the input.
    #[inline(always)]
    fn in_place(&self, line: &Line, block: &Block, strip: &mut ByteStrip) {
        let g = self.geometry;
        let skip = (line.x * g.strides[1]).saturating_sub(g.pad_begin[1]);
        for k in 0..3 + usize::from(line.pair) {
            if let Some(id) = self.input_row(line, k) {
                let from = (id * g.input[1] + skip) * self.pixel + block.start;
                (strip.rows[k], strip.steps[k]) = (self.input.wrapping_add(from), self.pixel);
            }
        }
    }

    /// The strip reads the rows of a ring.
    ///
    /// # Safety
    /// The input has the line's image.
    #[inline(always)]
    unsafe fn in_ring(&self, line: &Line, block: &Block, rings: &mut Rings<'_>, ring: usize, strip: &mut ByteStrip) {
        let g = self.geometry;
        let (columns, starts) = block.pieces(line.count);
        let (len, row_bytes) = ((columns - 1) * g.strides[1] + 3, ring_row(g));
        (strip.lead, strip.width) = (0, len);
        for k in 0..3 + usize::from(line.pair) {
            let Some(id) = self.input_row(line, k) else { continue };
            let copy = &mut rings.bytes[(ring * ROWS + id % ROWS) * row_bytes..][..row_bytes];
            (strip.rows[k], strip.steps[k]) = (copy.as_ptr(), LANES);
            if rings.held[ring][id % ROWS] == id {
                continue;
            }
            rings.held[ring][id % ROWS] = id;
            for (q, start) in starts.iter().enumerate().take(block.parts) {
                let first = (line.x + start) * g.strides[1];
                let skip = g.pad_begin[1].saturating_sub(first);
                let end = len.min((g.input[1] + g.pad_begin[1]).saturating_sub(first));
                if end > skip {
                    let pixel = id * g.input[1] + first + skip - g.pad_begin[1];
                    let from = self.input.wrapping_add(pixel * self.pixel + block.start);
                    let to = &mut copy[skip * LANES + q * block.channels()..];
                    // SAFETY: the input row has these pixels, as the caller promises.
                    unsafe {
                        match block.parts {
                            2 => copy_piece::<32>(from, self.pixel, end - skip, to),
                            _ => copy_piece::<16>(from, self.pixel, end - skip, to),
                        }
                    }
                }
            }
        }
    }
}

/// Copies `N` bytes of `count` pixels, to every 64 bytes.
///
/// # Safety
/// The pixels are there, `pixel` bytes apart.
#[inline(always)]
unsafe fn copy_piece<const N: usize>(from: *const u8, pixel: usize, count: usize, to: &mut [u8]) {
    assert!(count == 0 || (count - 1) * LANES + N <= to.len());
    let (mut from, mut to) = (from, to.as_mut_ptr());
    for _ in 0..count {
        // SAFETY: the pixels are there, as the caller promises; the copy's length was looked at.
        unsafe { std::ptr::copy_nonoverlapping(from, to, N) };
        (from, to) = (from.wrapping_add(pixel), to.wrapping_add(LANES));
    }
}
