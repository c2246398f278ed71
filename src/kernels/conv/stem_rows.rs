//! Convolution of a few channels of bytes by 3 x 3 taps, row by row ([`ByteStem`]), where the instruction set has that.
//!
//! The input rows that an output row sees are in a ring of copies with padding written out. The weights are those of the
//! product that takes what this does not: a segment of three words for each kernel row, in panels of 32 filters.

use super::super::arch::{Body, ByteBounds, ByteStem, Isa, Simd};
use super::super::gemm::{Finish, PackedBytes};
use super::depthwise_rows::copy_row;
use super::depthwise_strips::bounds;
use super::geometry::Geometry;
use super::padded_rows::segment;
use std::ops::Range;

/// Filters of a panel.
const PANEL: usize = 32;

/// Bytes of a panel's weights.
const PANEL_BYTES: usize = 9 * 4 * PANEL;

/// Rows of the ring, as many as an output row sees at least.
const ROWS: usize = 4;

/// Most filters, whose operands lie in an array.
const MOST_FILTERS: usize = 128;

/// Whether the instruction set has it.
struct Has;

impl Body for Has {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        S::BYTE_STEM
    }
}

/// Operands of all filters.
#[repr(align(64))]
struct Operands<T>([T; MOST_FILTERS]);

/// A convolution of the output pixels `range`, counted over all images.
pub(super) struct StemRows<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) weights: &'a PackedBytes,
    /// The images that `range` counts.
    pub(super) input: *const u8,
    /// Bytes from pixel to pixel of the input.
    pub(super) pixel: usize,
    pub(super) zero_point: u8,
    pub(super) range: Range<usize>,
    /// Its operands have an element a filter.
    pub(super) finish: &'a Finish<'a>,
    pub(super) copies: &'a mut Vec<u8>,
}

/// A row, compiled for its instruction set.
struct Row<'a>(&'a ByteStem);

impl Body for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the maker of the row saw to it that its pointers are good.
        unsafe { s.byte_stem(self.0) }
    }
}

impl StemRows<'_> {
    /// Runs it where this kernel takes it, and says so.
    pub(super) fn run(self, isa: Isa) -> bool {
        let (g, finish, b) = (self.geometry, self.finish, self.weights);
        let panels = g.filters.div_ceil(PANEL);
        let suits = isa.dispatch(Has)
            && segment(g) == 12
            && g.kernel == [3; 2]
            && g.dilations == [1; 2]
            && g.filters <= MOST_FILTERS
            && b.bytes_from(0).len() == panels * PANEL_BYTES;
        let Some((rescale, signed)) = finish.narrow().filter(|_| suits) else { return false };
        let (mut begin, mut scale) = (Operands([0; MOST_FILTERS]), Operands([0.0; MOST_FILTERS]));
        let mut most = 0.0;
        for filter in 0..g.filters {
            // SAFETY: the epilogue's operands have an element a filter.
            let (bias, factor) =
                unsafe { (finish.start.map_or(0, |bias| *bias.add(filter)), *rescale.scale.add(filter)) };
            let start = bias.wrapping_sub(b.column_sums()[filter].wrapping_mul(self.zero_point.into()));
            // All of them together: what is not a number shows too.
            most += ((start as f32).abs() + (36 * 255 * 128) as f32) * factor.abs();
            (begin.0[filter], scale.0[filter]) = (start, factor);
        }
        // Far from the ends of 32 bits.
        let near = most < (1 << 30) as f32;
        if near {
            self.rows(isa, &begin.0, &scale.0, bounds(rescale, signed));
        }
        near
    }

    fn rows(self, isa: Isa, begin: &[i32], scale: &[f32], bounds: ByteBounds) {
        let (g, finish, zero_point) = (self.geometry, self.finish, self.zero_point);
        let [height, width] = g.output();
        let reach = (width - 1) * g.strides[1] + 3;
        let row_bytes = reach.max(g.pad_begin[1] + g.input[1]) * g.channels + 4;
        let copies = self.copies;
        copies.clear();
        copies.resize((ROWS + 1) * row_bytes, zero_point);
        let (padding, ring) = copies.split_at_mut(row_bytes);
        let mut held = [usize::MAX; ROWS];
        let step = g.strides[1] * g.channels;
        let mut done = self.range.start;
        while done < self.range.end {
            let (line, x) = (done / width, done % width);
            let (image, y, count) = (line / height, line % height, (width - x).min(self.range.end - done));
            let mut rows = [padding.as_ptr(); 3];
            for (k, row) in rows.iter_mut().enumerate() {
                let place = (y * g.strides[0] + k).checked_sub(g.pad_begin[0]);
                if let Some(place) = place.filter(|place| *place < g.input[0]) {
                    let id = image * g.input[0] + place;
                    let copy = &mut ring[id % ROWS * row_bytes..][..row_bytes];
                    if held[id % ROWS] != id {
                        held[id % ROWS] = id;
                        let from = self.input.wrapping_add(id * g.input[1] * self.pixel);
                        // SAFETY: the input has a row `id`; the copy has room for it behind its padding.
                        unsafe { copy_row(from, self.pixel, g, &mut copy[g.pad_begin[1] * g.channels..]) };
                    }
                    *row = copy.as_ptr();
                }
                *row = row.wrapping_add(x * step);
            }
            for first in (0..g.filters).step_by(PANEL) {
                let at = (done - self.range.start) * finish.stride + first;
                let stem = ByteStem {
                    rows,
                    step,
                    weights: self.weights.bytes_from(0)[first / PANEL * PANEL_BYTES..].as_ptr().cast(),
                    begin: begin[first..].as_ptr(),
                    scale: scale[first..].as_ptr(),
                    bounds,
                    out: finish.out.wrapping_add(at),
                    out_step: finish.stride,
                    pairs: count / 2,
                    filters: PANEL.min(g.filters - first),
                };
                isa.dispatch(Row(&stem));
                if count % 2 == 1 {
                    // The last pixel, twice.
                    let (rows, out) =
                        (rows.map(|row| row.wrapping_add((count - 1) * step)), (count - 1) * finish.stride);
                    let out = stem.out.wrapping_add(out);
                    isa.dispatch(Row(&ByteStem { rows, step: 0, out, out_step: 0, pairs: 1, ..stem }));
                }
            }
            done += count;
        }
    }
}
