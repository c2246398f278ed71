//! Rows of a convolution of few channels: a copy of the image with its padding written out.
//!
//! The taps of one kernel row lie side by side in it, so they are one segment, and none of them has to be asked about. A
//! segment lies as far from the one before in every row, so that a row has one pointer.
//! What a segment reads behind them, up to a whole word, is multiplied by zero.

use super::super::gemm::RowPointers;
use super::geometry::Geometry;
use super::taps::{merges, spread_over};
use std::ops::Range;

/// Whether the taps of a kernel row are taken together: few channels, and not much more padding than the kernel reaches.
pub(super) fn takes(g: &Geometry) -> bool {
    let along = |axis: usize| g.kernel[axis].saturating_sub(1).saturating_mul(g.dilations[axis]);
    let reach = [along(0), along(1)];
    let padded = [0, 1].into_iter().all(|axis| g.pad_begin[axis].max(g.pad_end[axis]) <= reach[axis]);
    merges(g.groups, g.channels_per_group(), g.kernel, g.dilations) && padded
}

/// Bytes of a segment: the taps of a kernel row, and as many as fill a word.
pub(super) fn segment(g: &Geometry) -> usize {
    (g.kernel[1] * g.channels).next_multiple_of(4)
}

/// Bytes of a row of the copy.
fn row_bytes(g: &Geometry) -> usize {
    let reach = (g.output()[1].max(1) - 1) * g.strides[1] + g.kernel[1];
    reach.max(g.pad_begin[1] + g.input[1]) * g.channels + 4
}

/// The rows of the padded image that the output rows `lines` see.
fn seen(g: &Geometry, lines: &Range<usize>) -> Range<usize> {
    let last = lines.end.max(1) - 1;
    lines.start * g.strides[0]..last * g.strides[0] + (g.kernel[0] - 1) * g.dilations[0] + 1
}

/// The rows over a part of one image.
pub(super) struct PaddedRows<'a> {
    geometry: &'a Geometry,
    copy: &'a [u8],
    row_bytes: usize,
    /// Output pixels of a line.
    width: usize,
    /// The first row of the padded image that is there.
    first: usize,
    /// Output pixels of the images before.
    before: usize,
}

impl<'a> PaddedRows<'a> {
    /// Copies what the output rows `lines` see of the image at `input`, whose pixels lie `pixel` bytes apart; `before`
    /// output pixels are those of the images before it.
    ///
    /// # Safety
    /// The image has as many pixels as the geometry says.
    pub(super) unsafe fn new(
        geometry: &'a Geometry,
        input: *const u8,
        pixel: usize,
        padding: u8,
        lines: &Range<usize>,
        before: usize,
        copy: &'a mut Vec<u8>,
    ) -> Self {
        let (g, row_bytes, rows) = (geometry, row_bytes(geometry), seen(geometry, lines));
        copy.clear();
        copy.resize(rows.len() * row_bytes, padding);
        for (place, row) in rows.clone().zip(copy.chunks_exact_mut(row_bytes)) {
            let Some(y) = place.checked_sub(g.pad_begin[0]).filter(|y| *y < g.input[0]) else { continue };
            let row = &mut row[g.pad_begin[1] * g.channels..][..g.input[1] * g.channels];
            let from = input.wrapping_add(y * g.input[1] * pixel);
            // SAFETY: the image has a row `y`, as the caller promises.
            unsafe {
                if pixel == g.channels {
                    std::ptr::copy_nonoverlapping(from, row.as_mut_ptr(), row.len());
                } else {
                    for (x, to) in row.chunks_exact_mut(g.channels).enumerate() {
                        std::ptr::copy_nonoverlapping(from.add(x * pixel), to.as_mut_ptr(), to.len());
                    }
                }
            }
        }
        PaddedRows { geometry, copy, row_bytes, width: g.output()[1], first: rows.start, before }
    }
}

impl RowPointers for PaddedRows<'_> {
    fn segments(&self) -> usize {
        self.geometry.kernel[0]
    }

    fn segments_apart(&self) -> bool {
        false
    }

    fn offset(&self, segment: usize) -> usize {
        segment * self.geometry.dilations[0] * self.row_bytes
    }

    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], _: &mut [u8]) {
        let (g, width) = (self.geometry, self.width);
        let (mut y, mut x) = ((first - self.before) / width, (first - self.before) % width);
        let across = g.strides[1] * g.channels;
        let mut row = 0;
        while row < count {
            let run = (count - row).min(width - x);
            let from = (y * g.strides[0] - self.first) * self.row_bytes + x * across;
            spread_over(&mut pointers[row..], run, self.copy.as_ptr().wrapping_add(from), across);
            row += run;
            (x, y) = (0, y + 1);
        }
    }
}
