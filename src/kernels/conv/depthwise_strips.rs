//! Depthwise convolution of bytes by 3 x 3 taps in strips ([`ByteStrip`]), where the instruction set has them.
//!
//! ```text
//! for each two output rows at stride 1, or each one: for each block of channels: a strip
//! ```
//! 1. Input rows are read where they lie; rows that are not there are a line of padding whose columns are all one.
//! 2. Channels that sixty-four do not divide are narrower blocks, of thirty-two or sixteen; as many pieces of the row as make
//!    a strip go side by side. Their input rows are copied into a ring, 64 bytes a column, with padding written out.
//! 3. Blocks that do not divide the channels overlap, and so do pieces of a row: what is computed twice is alike.

use super::super::arch::{Body, ByteStrip, Isa, Simd};
use super::super::gemm::{Finish, FinishTile, Rescale};
use super::super::stored::Parts;
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
    fn run<S: Simd>(self, _: S) -> Option<[usize; LANES]> {
        if !S::BYTE_STRIP {
            return None;
        }
        let mut order = [0; LANES];
        for (at, channel) in order.iter_mut().enumerate() {
            *channel = S::quad_channel(at / S::LANES, at % S::LANES);
        }
        Some(order)
    }
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
    fn channels(&self) -> usize {
        LANES / self.parts
    }

    /// Columns of each piece of a row of `count`, and where each piece begins.
    fn pieces(&self, count: usize) -> (usize, [usize; 4]) {
        let columns = count.div_ceil(self.parts);
        let mut starts = [0; 4];
        for (q, start) in starts.iter_mut().enumerate() {
            *start = (q * columns).min(count - columns);
        }
        (columns, starts)
    }
}

/// The narrow blocks of so many channels, sixteen at least, and a whole one that overlaps another.
fn last_blocks(channels: usize) -> impl Iterator<Item = Block> {
    let last = match (channels / LANES, channels % LANES) {
        (_, 0) => [None, None],
        (0, 16) => [Some((0, 4)), None],
        (0, 32) => [Some((0, 2)), None],
        (0, ..32) => [Some((0, 4)), Some((channels - 16, 4))],
        (0, _) => [Some((0, 2)), Some((channels - 32, 2))],
        (_, ..=16) => [Some((channels - 16, 4)), None],
        (_, ..=32) => [Some((channels - 32, 2)), None],
        _ => [Some((channels - LANES, 1)), None],
    };
    last.into_iter().flatten().map(|(start, parts)| Block { start, parts })
}

/// The blocks of so many channels, sixteen at least.
fn blocks(channels: usize) -> impl Iterator<Item = Block> {
    (0..channels / LANES).map(|block| Block { start: block * LANES, parts: 1 }).chain(last_blocks(channels))
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
    /// `[blocks][four vectors][lanes]`: the sum of each channel's weights.
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
        let count = blocks(channels).count();
        let mut buffer = Buffer::zeroed(count * rows * BLOCK);
        let words: &mut [i8] = bytemuck::cast_slice_mut(buffer.as_mut_slice()?);
        let mut sums = vec![0; count * LANES];
        for (b, block) in blocks(channels).enumerate() {
            for (at, offset) in order.iter().enumerate() {
                let channel = block.start + offset % block.channels();
                for tap in 0..9 {
                    let weight = weights[tap * padded + channel];
                    for row in 0..rows {
                        let word = (b * rows + row) * BLOCK / 4 + tap % 3 * LANES + at;
                        words[word * 4 + tap / 3 + row] = weight as i8;
                    }
                    sums[b * LANES + at] += weight;
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
        let count = channels / LANES + last_blocks(channels).count();
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
    unsafe fn prepare(
        &self,
        order: &[usize; LANES],
        finish: &Finish<'_>,
        zero_point: i32,
        begin: &mut [i32],
        factors: &mut [f32],
    ) -> bool {
        let mut near = true;
        for (b, block) in blocks(self.channels).enumerate() {
            let of_block = b * LANES..(b + 1) * LANES;
            let (begin, factors) = (&mut begin[of_block.clone()], &mut factors[of_block.clone()]);
            let sums = &self.sums[of_block];
            // The channels of four lanes are neighbors.
            for at in (0..LANES).step_by(4) {
                let channel = block.start + order[at] % block.channels();
                for i in 0..4 {
                    // SAFETY: as the caller promises.
                    let (bias, factor) = unsafe {
                        let bias = finish.start.map_or(0, |bias| *bias.add(channel + i));
                        (bias, finish.rescale.map_or(0.0, |rescale| *rescale.scale.add(channel + i)))
                    };
                    let start = bias.wrapping_sub(zero_point.wrapping_mul(sums[at + i]));
                    let most = start.unsigned_abs() as f32 + (9 * 255 * 128) as f32;
                    near &= most * factor.abs() < (1 << 30) as f32;
                    (begin[at + i], factors[at + i]) = (start, factor);
                }
            }
        }
        near
    }
}

/// A depthwise convolution of the output pixels `range`, counted over all images.
pub(super) struct DepthwiseStrips<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) weights: &'a StripWords,
    pub(super) input: *const u8,
    /// Bytes from pixel to pixel of the input.
    pub(super) pixel: usize,
    pub(super) zero_point: u8,
    pub(super) range: Range<usize>,
    pub(super) finish: &'a Finish<'a>,
    /// At least [`strip_bytes`].
    pub(super) copies: &'a mut [u8],
}

/// Bytes of a ring's row: of halves of an output row, the longest pieces.
fn ring_row(g: &Geometry) -> usize {
    (g.output()[1].div_ceil(2).saturating_sub(1) * g.strides[1] + 3) * LANES
}

/// Bytes of all rings.
fn ring_bytes(g: &Geometry) -> usize {
    last_blocks(g.channels).filter(|block| block.parts > 1).count() * ROWS * ring_row(g)
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

/// How sums become bytes in a strip.
#[derive(Clone, Copy)]
struct Narrow {
    zero_point: i16,
    least: i8,
    most: i8,
    flip: u8,
}

impl Narrow {
    fn new(rescale: &Rescale, signed: bool) -> Self {
        let offset = rescale.zero_point - if signed { 0 } else { 128 };
        let byte = |x: i32| (x + offset).clamp(-128, 127) as i8;
        Narrow {
            zero_point: offset as i16,
            least: byte(rescale.least),
            most: byte(rescale.most.round_ties_even() as i32),
            flip: if signed { 0 } else { 128 },
        }
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

impl DepthwiseStrips<'_> {
    /// Runs it.
    ///
    /// # Safety
    /// The input has the images that `range` counts, and the epilogue's operands an element a channel.
    pub(super) unsafe fn run(mut self, isa: Isa) {
        let (g, weights, finish) = (self.geometry, self.weights, self.finish);
        let Some(order) = isa.dispatch(Order) else { return };
        let [height, width] = g.output();
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
        // SAFETY: as the caller promises.
        let near = unsafe { weights.prepare(&order, finish, self.zero_point.into(), begin, factors) };
        let narrow = finish.narrow().filter(|_| near).map(|(rescale, signed)| Narrow::new(rescale, signed));
        let to = narrow.unwrap_or(Narrow { zero_point: 0, least: 0, most: 0, flip: 0 });
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
            for (b, block) in blocks(g.channels).enumerate() {
                let (columns, starts) = block.pieces(count);
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
                    zero_point: to.zero_point,
                    least: to.least,
                    most: to.most,
                    flip: to.flip,
                    columns,
                    pair,
                    sums: if narrow.is_some() { std::ptr::null_mut() } else { sums.as_mut_ptr() },
                    out: finish.out.wrapping_add(line.first * finish.stride + block.start),
                    out_step: finish.stride,
                    out_row: width * finish.stride,
                    parts: block.parts,
                    part_at: starts.map(|start| start * finish.stride),
                };
                if block.parts == 1 {
                    self.in_place(&line, &block, &mut strip);
                } else {
                    // SAFETY: as the caller promises.
                    unsafe { self.in_ring(&line, &block, &mut rings, narrow_blocks, &mut strip) };
                    narrow_blocks += 1;
                }
                isa.dispatch(Strip(&strip));
                if narrow.is_none() {
                    let (sums, ordered) = sums.split_at_mut(SUMS * LANES);
                    for (at, sum) in sums.iter().enumerate().take(columns * LANES) {
                        ordered[at / LANES * LANES + order[at % LANES]] = *sum;
                    }
                    for (q, start) in starts.iter().enumerate().take(block.parts) {
                        isa.dispatch(FinishTile {
                            finish,
                            words: ordered[q * block.channels()..].as_ptr(),
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

    /// The number of the input row, counted over all images, that row `k` of a strip is, where it is there.
    fn input_row(&self, line: &Line, k: usize) -> Option<usize> {
        let g = self.geometry;
        let place = (line.y * g.strides[0] + k).checked_sub(g.pad_begin[0])?;
        (place < g.input[0]).then(|| line.image * g.input[0] + place)
    }

    /// The strip reads the rows of the input.
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
                    unsafe { copy_piece(from, self.pixel, end - skip, block.channels(), to) }
                }
            }
        }
    }
}

/// Copies `channels`, 16 or 32, of `count` pixels, to every 64 bytes.
///
/// # Safety
/// The pixels are there, `pixel` bytes apart.
unsafe fn copy_piece(from: *const u8, pixel: usize, count: usize, channels: usize, to: &mut [u8]) {
    assert!(count == 0 || (count - 1) * LANES + channels <= to.len());
    let to = to.as_mut_ptr();
    for x in 0..count {
        // SAFETY: the pixels are there, as the caller promises; the copy's length was looked at.
        unsafe {
            let (from, to) = (from.add(x * pixel), to.add(x * LANES));
            if channels == 16 {
                std::ptr::copy_nonoverlapping(from, to, 16);
            } else {
                std::ptr::copy_nonoverlapping(from, to, 32);
            }
        }
    }
}
