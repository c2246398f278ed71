//! A phase of a transposed convolution: the output pixels that the same taps reach, a stride apart, are those of an
//! ordinary convolution of stride 1.

use super::super::geometry::Geometry;
use super::super::taps::TapTable;
use super::geometry::TransposedGeometry;
use std::ops::Range;

/// The output pixels of a phase.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    /// The first line and column, and how many there are of each in an image.
    first: [usize; 2],
    count: [usize; 2],
    /// Lines and columns of the ordinary convolution's output, and how many of them come before the first.
    output: [usize; 2],
    skipped: [usize; 2],
    pub(super) reads: Reads,
}

/// What its pixels are made of.
#[derive(Debug, Clone)]
pub(super) enum Reads {
    /// Pixels in a table.
    Table(TapTable),
    /// Windows of an ordinary convolution, whose taps begin with one of the packed weights.
    Window { geometry: Geometry, first_tap: usize },
}

impl Phase {
    /// The phase with these taps, down and across.
    fn places(g: &TransposedGeometry, phase: [&(usize, Vec<usize>); 2]) -> [[usize; 2]; 2] {
        let [y, x] = [0, 1].map(|axis| {
            let stride = g.strides[axis];
            let first = (phase[axis].0 + stride - g.pad_begin[axis] % stride) % stride;
            [first, g.output[axis].saturating_sub(first).div_ceil(stride)]
        });
        [[y[0], x[0]], [y[1], x[1]]]
    }

    /// The phase of these taps by way of tables.
    pub(super) fn of_tables(g: &TransposedGeometry, phase: [&(usize, Vec<usize>); 2]) -> Self {
        let [first, count] = Self::places(g, phase);
        let [y, x] = [0, 1].map(|axis| {
            let taps = &phase[axis].1;
            let source = |at: usize, tap: usize| g.source(axis, first[axis] + at * g.strides[axis], tap);
            (0..count[axis]).flat_map(|at| taps.iter().map(move |&tap| source(at, tap))).collect::<Vec<_>>()
        });
        let kernel = [phase[0].1.len(), phase[1].1.len()];
        let taps = TapTable::of_positions([&y, &x], kernel, count, g.input, g.channels_per_group());
        Phase { first, count, output: count, skipped: [0; 2], reads: Reads::Table(taps) }
    }

    /// The same by way of windows, whose taps are packed phase by phase.
    pub(super) fn of_windows(g: &TransposedGeometry, phase: [&(usize, Vec<usize>); 2]) -> Self {
        let [first, count] = Self::places(g, phase);
        let kernel = [phase[0].1.len(), phase[1].1.len()];
        let mut window = Geometry { groups: g.groups, ..Geometry::new(g.input, g.channels, g.filters, kernel) };
        let mut skipped = [0; 2];
        for axis in 0..2 {
            let taps = &phase[axis].1;
            // The element that a tap takes for the first position: one that may lie before all elements.
            let ahead = (first[axis] + g.pad_begin[axis]) as isize;
            let source = |tap: usize| (ahead - (tap * g.dilations[axis]) as isize) / g.strides[axis] as isize;
            let start = source(taps[0]);
            window.dilations[axis] = taps.get(1).map_or(1, |&tap| (source(tap) - start).unsigned_abs());
            window.pad_begin[axis] = (-start).max(0).unsigned_abs();
            skipped[axis] = start.max(0).unsigned_abs();
            let padded = skipped[axis] + count[axis] + (kernel[axis] - 1) * window.dilations[axis];
            window.pad_end[axis] = padded.saturating_sub(g.input[axis] + window.pad_begin[axis]);
        }
        let first_tap = g.first_tap([phase[0].0, phase[1].0]);
        Phase { first, count, output: window.output(), skipped, reads: Reads::Window { geometry: window, first_tap } }
    }

    /// Calls `run(pixel, rows)` for its part of each of `lines`: the place of the first pixel, counted from that of the
    /// first line, and the rows of the ordinary convolution.
    pub(super) fn each_line(
        &self,
        g: &TransposedGeometry,
        lines: &Range<usize>,
        mut run: impl FnMut(usize, Range<usize>),
    ) {
        let [height, width] = g.output;
        let [count_y, count_x] = self.count;
        if count_y == 0 || count_x == 0 {
            return;
        }
        for image in lines.start / height..lines.end.div_ceil(height) {
            // Those of the image's lines that are asked for.
            let start = lines.start.max(image * height) - image * height;
            let end = lines.end.min((image + 1) * height) - image * height;
            for y in start.saturating_sub(self.first[0]).div_ceil(g.strides[0])..count_y {
                let line = self.first[0] + y * g.strides[0];
                if line >= end {
                    break;
                }
                let pixel = (image * height + line - lines.start) * width + self.first[1];
                let row = (image * self.output[0] + self.skipped[0] + y) * self.output[1] + self.skipped[1];
                run(pixel, row..row + count_x);
            }
        }
    }
}
