//! Where the rows of an indirect product begin: each output pixel is a row, each tap of the kernel a segment of it.
//!
//! ```text
//! pointer(tap (y, x), output pixel (oy, ox)) = input + down[oy][y] + across[ox][x]   or zeros in the padding
//! ```
//! 1. The table is kept as two short ones, down and across: a table of every tap of every pixel would be larger than
//!    many an image.
//! 2. With few channels (a stem's three), a segment of one tap would be shorter than a turn of the inner loop. The
//!    taps of one kernel row lie side by side in a channels-last image, so they are one segment; only where such a
//!    segment reaches into the padding is it put together in a buffer.

use super::super::gemm::RowPointers;
use super::geometry::Geometry;
use crate::tensor::Buffer;
use std::ops::Range;

/// Marks a position in the padding.
const PADDING: isize = -1;

/// Below this many channels, taps of a kernel row are taken together.
const FEW_CHANNELS: usize = 16;

/// Whether the taps of a kernel row are taken together.
pub(super) fn merges(groups: usize, channels: usize, kernel: [usize; 2], dilations: [usize; 2]) -> bool {
    groups == 1 && channels < FEW_CHANNELS && dilations[1] == 1 && kernel[1] > 1
}

/// The tables of a geometry, in pixels.
#[derive(Debug, Clone)]
pub(super) struct TapTable {
    /// `[output height][kernel height]`: the row's first pixel, or [`PADDING`].
    down: Vec<isize>,
    /// `[output width][kernel width]`: the pixel in its row, or [`PADDING`].
    across: Vec<isize>,
    kernel: [usize; 2],
    output: [usize; 2],
    input: [usize; 2],
    /// What padding reads: as long as a segment, all bytes `padding_byte`.
    padding: Buffer,
    padding_byte: u8,
    /// Output columns none of whose taps lies in the padding.
    inside: Range<usize>,
    /// First column of the leftmost tap at output column 0, as a step back; and columns from output to output.
    left: usize,
    step: usize,
    channels: usize,
    merged: bool,
}

impl TapTable {
    /// The tables of `geometry`; padding reads elements of `element_bytes` that are all `padding`.
    pub(super) fn new(geometry: &Geometry, element_bytes: usize, padding: u8) -> Self {
        Self::of_lines(geometry, element_bytes, padding, geometry.positions(0))
    }

    /// The same where `lines` says what each line of taps reads, `[output height][kernel height]`.
    pub(super) fn of_lines(
        geometry: &Geometry,
        element_bytes: usize,
        padding: u8,
        lines: impl IntoIterator<Item = Option<usize>>,
    ) -> Self {
        let index = |position: Option<usize>, scale: usize| position.map_or(PADDING, |p| (p * scale) as isize);
        // A depthwise row reads all channels, whatever the groups.
        let depthwise =
            geometry.groups > 1 && geometry.groups == geometry.channels && geometry.groups == geometry.filters;
        let channels = if depthwise { geometry.channels } else { geometry.channels_per_group() };
        let merged = merges(geometry.groups, channels, geometry.kernel, geometry.dilations);
        let segment = if merged { channels * geometry.kernel[1] } else { channels };
        let mut zeros = Buffer::zeroed(segment * element_bytes);
        if let Some(bytes) = zeros.as_mut_slice() {
            bytes.fill(padding);
        }
        let across: Vec<isize> = geometry.positions(1).map(|p| index(p, 1)).collect();
        TapTable {
            down: lines.into_iter().map(|p| index(p, geometry.input[1])).collect(),
            inside: inside(&across, geometry.kernel[1]),
            across,
            kernel: geometry.kernel,
            output: geometry.output(),
            input: geometry.input,
            padding: zeros,
            padding_byte: padding,
            left: geometry.pad_begin[1],
            step: geometry.strides[1],
            channels,
            merged,
        }
    }

    /// The tables of f32 pixels that follow each other in the input from column to column of the output, of `kernel` taps for
    /// each of `output` positions, whose elements are `positions` along each axis.
    pub(super) fn of_positions(
        [down, across]: [&[Option<usize>]; 2],
        kernel: [usize; 2],
        output: [usize; 2],
        input: [usize; 2],
        channels: usize,
    ) -> Self {
        let index = |position: &Option<usize>, scale: usize| position.map_or(PADDING, |p| (p * scale) as isize);
        let across: Vec<isize> = across.iter().map(|p| index(p, 1)).collect();
        TapTable {
            down: down.iter().map(|p| index(p, input[1])).collect(),
            inside: inside(&across, kernel[1]),
            across,
            kernel,
            output,
            input,
            padding: Buffer::zeroed(channels * size_of::<f32>()),
            padding_byte: 0,
            left: 0,
            step: 1,
            channels,
            merged: false,
        }
    }

    /// The rows over an f32 input whose pixels lie `pixel_bytes` apart. Packed f32 weights are the same with a segment
    /// for each tap and with one for each kernel row, so that pixels with gaps between them take the former.
    ///
    /// `input` points to the first channel of a group in the first pixel.
    pub(super) fn floats(&self, input: *const u8, pixel_bytes: usize) -> TapRows<'_> {
        let merged = self.merged && pixel_bytes == self.channels * 4;
        TapRows { table: self, input, pixel_bytes, element_bytes: 4, merged, padding_byte: self.padding_byte }
    }

    /// The rows over an input of bytes whose pixels lie `pixel_bytes` apart, a segment for each tap; padding reads
    /// `padding_byte`.
    pub(super) fn bytes(&self, input: *const u8, pixel_bytes: usize, padding_byte: u8) -> TapRows<'_> {
        TapRows { table: self, input, pixel_bytes, element_bytes: 1, merged: false, padding_byte }
    }
}

/// Pointers that lie `step` bytes apart.
#[inline(always)]
fn spread(slots: &mut [*const u8], from: *const u8, step: usize) {
    for (j, slot) in slots.iter_mut().enumerate() {
        *slot = from.wrapping_add(j * step);
    }
}

/// Pointers that are written at once: the rows of a strip.
pub(super) const SPREAD: usize = 12;

/// The same in the first `count` slots, and maybe in some behind them, so that short loops have one length: what belongs
/// there is written later.
#[inline(always)]
pub(super) fn spread_over(slots: &mut [*const u8], count: usize, from: *const u8, step: usize) {
    match slots.first_chunk_mut::<SPREAD>() {
        Some(slots) if count <= SPREAD => spread(slots, from, step),
        _ => spread(&mut slots[..count], from, step),
    }
}

/// The positions none of whose `kernel` taps lies in the padding, where these follow each other.
fn inside(across: &[isize], kernel: usize) -> Range<usize> {
    let mut runs = across.chunks_exact(kernel.max(1)).map(|taps| taps.iter().all(|&tap| tap >= 0));
    let first = runs.by_ref().take_while(|inside| !inside).count();
    let more = runs.take_while(|&inside| inside).count();
    if first * kernel.max(1) < across.len() { first..first + 1 + more } else { 0..0 }
}

/// The rows of one group of one input.
pub(super) struct TapRows<'a> {
    table: &'a TapTable,
    input: *const u8,
    pixel_bytes: usize,
    element_bytes: usize,
    merged: bool,
    padding_byte: u8,
}

impl TapRows<'_> {
    /// The first pixel, and bytes from one to the next.
    #[inline]
    pub(super) fn pixels(&self) -> (*const u8, usize) {
        (self.input, self.pixel_bytes)
    }

    /// Elements of a segment.
    pub(super) fn segment(&self) -> usize {
        if self.merged { self.table.channels * self.table.kernel[1] } else { self.table.channels }
    }

    /// Bytes of the segments that a row may have to put together.
    fn merged_bytes(&self) -> usize {
        if self.merged { self.segments() * self.segment() * self.element_bytes } else { 0 }
    }
}

impl RowPointers for TapRows<'_> {
    fn segments(&self) -> usize {
        let [height, width] = self.table.kernel;
        if self.merged { height } else { height * width }
    }

    fn copy_bytes(&self) -> usize {
        let own_padding = self.padding_byte != self.table.padding_byte;
        self.merged_bytes() + if own_padding { self.segment() * self.element_bytes } else { 0 }
    }

    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], copies: &mut [u8]) {
        let t = self.table;
        let [kernel_height, kernel_width] = t.kernel;
        let [height, width] = t.output;
        let image_bytes = t.input[0] * t.input[1] * self.pixel_bytes;
        if self.fill_spread(first, count, pointers, copies) || self.fill_inside(first, count, pointers) {
            return;
        }
        let (pixel, mut x) = (first / width, first % width);
        let (mut image, mut y) = (pixel / height, pixel % height);
        // Padding of its own stands behind what the rows put together.
        let (copies, own) = copies.split_at_mut(self.merged_bytes() * count);
        let padding = self.padding(own);
        let dense = self.pixel_bytes == t.channels * self.element_bytes;
        let mut row = 0;
        while row < count {
            let input = self.input.wrapping_add(image * image_bytes);
            let down = &t.down[y * kernel_height..][..kernel_height];
            let mut run = (count - row).min(width - x);
            if self.merged && dense && t.inside.contains(&x) {
                run = run.min(t.inside.end - x);
                let from = (x * t.step) as isize - t.left as isize;
                let step = t.step * self.pixel_bytes;
                for (ky, &down) in down.iter().enumerate() {
                    let slots = &mut pointers[ky * count + row..][..run];
                    if down < 0 {
                        spread(slots, padding.as_ptr(), 0);
                    } else {
                        spread(slots, input.wrapping_offset((down + from) * self.pixel_bytes as isize), step);
                    }
                }
            } else if self.merged {
                run = 1;
                let copies = &mut copies[row * self.merged_bytes()..][..self.merged_bytes()];
                self.fill_merged(input, down, x, pointers[row..].iter_mut().step_by(count), copies, padding);
            } else {
                let across = &t.across[x * kernel_width..][..run * kernel_width];
                self.fill_run(input, down, across, count, &mut pointers[row..], padding.as_ptr());
            }
            row += run;
            x += run;
            if x == width {
                (x, y) = (0, y + 1);
                if y == height {
                    (y, image) = (0, image + 1);
                }
            }
        }
    }
}

impl TapRows<'_> {
    /// The pointers of output pixels that follow each other in one row; those of a tap begin `pitch` behind those of the
    /// tap before.
    fn fill_run(
        &self,
        input: *const u8,
        down: &[isize],
        across: &[isize],
        pitch: usize,
        pointers: &mut [*const u8],
        padding: *const u8,
    ) {
        let width = self.table.kernel[1];
        let run = across.len() / width;
        let step = self.table.step * self.pixel_bytes;
        for (y, &down) in down.iter().enumerate() {
            for x in 0..width {
                let slots = &mut pointers[(y * width + x) * pitch..][..run];
                let (first, last) = (across[x], across[(run - 1) * width + x]);
                // The pixels between the outermost two lie between them.
                if down >= 0 && first | last >= 0 {
                    let from = input.wrapping_add((down + first) as usize * self.pixel_bytes);
                    spread(slots, from, step);
                } else {
                    for (j, slot) in slots.iter_mut().enumerate() {
                        let across = across[j * width + x];
                        let pixel = input.wrapping_offset((down + across) * self.pixel_bytes as isize);
                        *slot = if down | across >= 0 { pixel } else { padding };
                    }
                }
            }
        }
    }
}

/// Output pixels of a strip that lie in one row of one image.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// The first of them in the strip, and in its row.
    row: usize,
    x: usize,
    count: usize,
    image: *const u8,
    down: &'a [isize],
}

/// Rows of an image that a strip reaches into at most, to be filled by spreading.
const MOST_RUNS: usize = 4;

impl<'a> TapRows<'a> {
    /// What padding reads; `own` is used where the table's has another byte.
    pub(super) fn padding<'b>(&'b self, own: &'b mut [u8]) -> &'b [u8] {
        if self.padding_byte == self.table.padding_byte {
            return self.table.padding.as_slice();
        }
        let own = &mut own[..self.segment() * self.element_bytes];
        own.fill(self.padding_byte);
        own
    }

    /// The output pixels `first..first + count` by rows, if these are few; how many rows they are.
    fn runs(&self, first: usize, count: usize) -> Option<([Run<'a>; MOST_RUNS], usize)> {
        let t = self.table;
        let [height, width] = t.output;
        let image_bytes = t.input[0] * t.input[1] * self.pixel_bytes;
        let none = Run { row: 0, x: 0, count: 0, image: self.input, down: &[] };
        let (mut runs, mut len, mut row) = ([none; MOST_RUNS], 0, 0);
        let (mut line, mut x) = (first / width, first % width);
        while row < count {
            let run = (count - row).min(width - x);
            *runs.get_mut(len)? = Run {
                row,
                x,
                count: run,
                image: self.input.wrapping_add(line / height * image_bytes),
                down: t.down.get(line % height * t.kernel[0]..)?.get(..t.kernel[0])?,
            };
            len += 1;
            row += run;
            (line, x) = (line + 1, 0);
        }
        Some((runs, len))
    }

    /// The pointers of a short strip, as if no tap lay beside the image, then once more those of the pixels with taps that
    /// do: so no loop depends on where the strip lies. Otherwise nothing, and `false`.
    fn fill_spread(&self, first: usize, count: usize, pointers: &mut [*const u8], copies: &mut [u8]) -> bool {
        let t = self.table;
        let [kernel_height, kernel_width] = t.kernel;
        if count > SPREAD {
            return false;
        }
        let Some(near) = t.across.get(t.inside.start * kernel_width..).and_then(|near| near.get(..kernel_width)) else {
            return false;
        };
        let Some((runs, len)) = self.runs(first, count).filter(|_| !t.inside.is_empty()) else { return false };
        let (copies, own) = copies.split_at_mut(self.merged_bytes() * count);
        let (padding, runs) = (self.padding(own), &runs[..len]);
        // Merged, a segment begins with the leftmost tap.
        let near = if self.merged { &near[..1] } else { near };
        let step = t.step * self.pixel_bytes;
        let mut at = 0;
        for ky in 0..kernel_height {
            for &near in near {
                for run in runs {
                    let down = run.down[ky];
                    let pixel = down + near + (run.x * t.step) as isize - (t.inside.start * t.step) as isize;
                    let inside = run.image.wrapping_offset(pixel * self.pixel_bytes as isize);
                    let (from, step) = if down < 0 { (padding.as_ptr(), 0) } else { (inside, step) };
                    spread_over(&mut pointers[at + run.row..], run.count, from, step);
                }
                at += count;
            }
        }
        for run in runs {
            let beside = (run.x..run.x + run.count).filter(|x| !t.inside.contains(x));
            for x in beside {
                let across = &t.across[x * kernel_width..][..kernel_width];
                let row = run.row + x - run.x;
                let slots = pointers[row..].iter_mut().step_by(count);
                if self.merged {
                    let copies = &mut copies[row * self.merged_bytes()..][..self.merged_bytes()];
                    self.fill_merged(run.image, run.down, x, slots, copies, padding);
                    continue;
                }
                let taps = run.down.iter().flat_map(|&down| across.iter().map(move |&across| (down, across)));
                for (slot, (down, across)) in slots.zip(taps) {
                    let pixel = run.image.wrapping_offset((down + across) * self.pixel_bytes as isize);
                    *slot = if down | across >= 0 { pixel } else { padding.as_ptr() };
                }
            }
        }
        true
    }

    /// The pointers of output pixels that follow each other in one row, where none of their taps lies in the padding;
    /// otherwise nothing, and `false`.
    fn fill_inside(&self, first: usize, count: usize, pointers: &mut [*const u8]) -> bool {
        let t = self.table;
        let [kernel_height, kernel_width] = t.kernel;
        let [height, width] = t.output;
        let (line, x) = (first / width, first % width);
        let gaps = self.merged && self.pixel_bytes != t.channels * self.element_bytes;
        if x + count > width || gaps {
            return false;
        }
        let down = &t.down[line % height * kernel_height..][..kernel_height];
        let across = &t.across[x * kernel_width..][..kernel_width];
        let last = t.across[(x + count) * kernel_width - 1];
        // The taps between the outermost ones lie between them.
        if (down[0] | down[kernel_height - 1] | across[0] | last) < 0 {
            return false;
        }
        // Merged, a segment begins with the leftmost tap.
        let across = if self.merged { &across[..1] } else { across };
        let image = line / height * (t.input[0] * t.input[1] * self.pixel_bytes);
        let step = t.step * self.pixel_bytes;
        let mut at = 0;
        for &down in down {
            for &across in across {
                let from = self.input.wrapping_add(image + (down + across) as usize * self.pixel_bytes);
                spread(&mut pointers[at..at + count], from, step);
                at += count;
            }
        }
        true
    }

    /// The pointers of one output pixel with a segment for each kernel row.
    fn fill_merged<'p>(
        &self,
        input: *const u8,
        down: &[isize],
        x: usize,
        slots: impl Iterator<Item = &'p mut *const u8>,
        copies: &mut [u8],
        padding: &[u8],
    ) {
        let t = self.table;
        let kernel_width = t.kernel[1];
        let across = &t.across[x * kernel_width..][..kernel_width];
        let channel_bytes = t.channels * self.element_bytes;
        let in_place = self.pixel_bytes == channel_bytes && across.iter().all(|&across| across >= 0);
        // In pixels, where the leftmost tap lies; before the image in the padding.
        let start = (x * t.step) as isize - t.left as isize;
        for ((&down, slot), copy) in down.iter().zip(slots).zip(copies.chunks_exact_mut(kernel_width * channel_bytes)) {
            *slot = if down < 0 {
                padding.as_ptr()
            } else if in_place {
                input.wrapping_offset((down + start) * self.pixel_bytes as isize)
            } else {
                for (&across, pixel) in across.iter().zip(copy.chunks_exact_mut(channel_bytes)) {
                    if across < 0 {
                        pixel.copy_from_slice(&padding[..channel_bytes]);
                    } else {
                        let from = input.wrapping_offset((down + across) * self.pixel_bytes as isize);
                        // SAFETY: the pixel lies in the image, as the table was made for its size, and `copies` is
                        // not part of it.
                        unsafe { std::ptr::copy_nonoverlapping(from, pixel.as_mut_ptr(), channel_bytes) };
                    }
                }
                copy.as_ptr()
            };
        }
    }
}
