//! Transposed convolution of channels-last f32 images (`[batch, height, width, channels]`).
//!
//! | case | algorithm |
//! | --- | --- |
//! | many filters | an indirect product for each phase of the output: an ordinary convolution with the taps that reach it |
//! | few filters | one product of pixels and all taps, a few lines at a time, whose results are gathered |
//! | depthwise | gathered from the input, over vectors of channels |
//!
//! ```text
//! by phases:
//!     for each phase (y, x) of the strides that taps reach, for each block of its weights that stays in the second cache:
//!         for each output line of phase y: its pixels of phase x = taps' pixels x weights, epilogue, store
//! by lines:
//!     for each output line: multiply the input lines that it needs and that are not there yet; sum its taps
//! ```
//! 1. The pixels of a phase in one line lie a stride apart, which is a matrix with gaps between its rows: the tile stores
//!    them where they belong.
//! 2. What no tap reaches is gathered from nothing.
//! 3. A pixel's sum has one order, whatever is computed with it: its bits do not depend on the batch.

mod gather;
mod geometry;
#[cfg(test)]
mod tests;
mod weights;

pub use geometry::TransposedGeometry;
pub use weights::{TransposedForm, TransposedWeights};

use super::super::gemm::{Epilogue, Finish, PackedB, Part, Strided, finish, product, product_to};
use super::super::view::{Matrix, MatrixMut};
use super::taps::TapTable;
use crate::error::{Result, ensure};
use crate::tensor::Buffer;
use gather::{Gather, Reach};
use geometry::reached;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use weights::{Form, Sizes};

/// Bytes of the weights of a phase that stay in the second cache while lines pass by.
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes of products that stay in the second cache until they are gathered.
const LINES_BYTES: usize = 256 * 1024;

thread_local! {
    /// Products of input lines, kept by each thread, so that a warm call allocates nothing.
    static WORKSPACE: RefCell<Buffer> = RefCell::new(Buffer::zeroed(0));
}

/// A transposed convolution of f32 images of one size, to be run on any number of them.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    geometry: TransposedGeometry,
    weights: Arc<TransposedWeights>,
    /// `[phases down][phases across]`, where there are products for each.
    phases: Vec<Phase>,
    /// The taps that reach each line and each column.
    down: Reach,
    across: Reach,
    /// Whether a line's phase has taps, and the runs of columns whose phases have none.
    reached: Vec<bool>,
    bare: Vec<Range<usize>>,
}

/// The output pixels of a phase.
#[derive(Debug, Clone)]
struct Phase {
    /// The first line and column, and how many there are of each in an image.
    first: [usize; 2],
    count: [usize; 2],
    taps: TapTable,
}

impl ConvTranspose2d {
    /// Joins weights with a size of image.
    ///
    /// # Errors
    /// `Shape` where the weights are not those of the geometry, or the geometry contradicts itself.
    pub fn new(geometry: TransposedGeometry, weights: Arc<TransposedWeights>) -> Result<Self> {
        geometry.validate()?;
        let g = &geometry;
        let sizes = Sizes {
            channels_per_group: g.channels_per_group(),
            filters_per_group: g.filters_per_group(),
            groups: g.groups,
            kernel: g.kernel,
            strides: g.strides,
            dilations: g.dilations,
        };
        ensure!(weights.sizes == sizes, Shape, "the weights are of another convolution than {geometry:?}");
        let [rows, columns] = [0, 1].map(|axis| reached(g.kernel[axis], g.strides[axis], g.dilations[axis]));
        let phases = match &weights.form {
            Form::Phases(_) => {
                let pairs = rows.iter().flat_map(|y| columns.iter().map(move |x| [y, x]));
                pairs.map(|[y, x]| Phase::new(g, [y, x])).collect()
            }
            _ => Vec::new(),
        };
        let [down, across] = [(0, &rows), (1, &columns)].map(|(axis, phases)| reach(g, axis, phases));
        let has = |phases: &[(usize, Vec<usize>)], phase| phases.binary_search_by_key(&phase, |own| own.0).is_ok();
        let reached = (0..g.output[0]).map(|y| has(&rows, g.phase(0, y))).collect();
        let mut bare: Vec<Range<usize>> = Vec::new();
        for x in (0..g.output[1]).filter(|&x| !has(&columns, g.phase(1, x))) {
            match bare.last_mut() {
                Some(run) if run.end == x => run.end += 1,
                _ => bare.push(x..x + 1),
            }
        }
        Ok(ConvTranspose2d { geometry, weights, phases, down, across, reached, bare })
    }

    /// The sizes.
    #[must_use]
    pub fn geometry(&self) -> &TransposedGeometry {
        &self.geometry
    }

    /// Convolves `input`, a matrix of `[batch * height * width, channels]`, to `output`, `[batch * output height *
    /// output width, filters]`. The epilogue's operands have the output's sizes.
    ///
    /// # Panics
    /// If sizes do not fit together.
    #[track_caller]
    pub fn run(&self, input: Matrix<'_, f32>, output: MatrixMut<'_, f32>, epilogue: &Epilogue<'_>) {
        let lines = output.rows() / self.geometry.output[1].max(1);
        self.run_lines(input, 0..lines, lines, output, epilogue);
    }

    /// The part of [`run`](ConvTranspose2d::run) that lies in `lines` of all `total` lines of output pixels (of all
    /// images). `output` holds those lines only; the epilogue's operands are those of the whole output.
    ///
    /// # Panics
    /// If sizes do not fit together.
    #[track_caller]
    pub fn run_lines(
        &self,
        input: Matrix<'_, f32>,
        lines: Range<usize>,
        total: usize,
        mut output: MatrixMut<'_, f32>,
        epilogue: &Epilogue<'_>,
    ) {
        let g = &self.geometry;
        let [height, width] = g.output;
        if height == 0 || width == 0 || g.filters == 0 || lines.is_empty() {
            return;
        }
        let batch = total / height;
        assert!(
            batch * height == total && input.rows() == batch * g.input_pixels() && input.cols() == g.channels,
            "{} x {} input, {total} output lines, for {g:?}",
            input.rows(),
            input.cols()
        );
        assert!(lines.end <= total && epilogue.row_scale.is_none(), "lines {lines:?} of {total}");
        let rows = lines.start * width..lines.end * width;
        let part = Part { whole: (total * width, g.filters), rows, columns: 0..g.filters, first_column: 0 };
        let finish = finish(epilogue, &part, &mut output);
        match &self.weights.form {
            Form::Phases(packed) => {
                self.phases(packed, input, &lines, &finish, epilogue.allows_chunks());
                self.bare(input, &lines, &finish);
            }
            Form::Scatter(packed) => WORKSPACE.with_borrow_mut(|buffer| {
                for (group, b) in packed.iter().enumerate() {
                    self.scatter(group, b, input, &lines, &finish, buffer);
                }
            }),
            Form::Depthwise(weights) => {
                let padded = weights.len() / (g.kernel[0] * g.kernel[1]).max(1);
                let mut taps = Vec::new();
                for line in lines.clone() {
                    let image = line / height * g.input_pixels() * input.stride();
                    taps.clear();
                    let own = self.down.of(line % height);
                    taps.extend(own.iter().map(|&(y, ky)| (image + y * g.input[1] * input.stride(), ky)));
                    self.gather(Gather {
                        pixel: input.stride(),
                        weights: Some((weights.as_ptr(), padded)),
                        ..self.line(&taps, input.as_ptr(), &finish, (line - lines.start) * width)
                    });
                }
            }
        }
    }

    /// The pixels that taps reach, phase by phase.
    fn phases(
        &self,
        packed: &[PackedB],
        input: Matrix<'_, f32>,
        lines: &Range<usize>,
        finish: &Finish<'_>,
        chunks: bool,
    ) {
        let g = &self.geometry;
        let [height, width] = g.output;
        let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
        for (at, b) in packed.iter().enumerate() {
            let (phase, group) = (&self.phases[at / g.groups], at % g.groups);
            let [count_y, count_x] = phase.count;
            if count_y == 0 || count_x == 0 {
                continue;
            }
            let data = input.as_ptr().wrapping_add(group * channels).cast();
            let rows = phase.taps.floats(data, input.stride() * 4);
            let block = (BLOCK_BYTES / (b.k() * 4 * b.panel()).max(1)).max(1) * b.panel();
            for first in (0..filters).step_by(block) {
                let columns = first..filters.min(first + block);
                for image in lines.start / height..lines.end.div_ceil(height) {
                    // Those of the image's lines that are asked for.
                    let start = lines.start.max(image * height) - image * height;
                    let end = lines.end.min((image + 1) * height) - image * height;
                    let skipped = start.saturating_sub(phase.first[0]).div_ceil(g.strides[0]);
                    for y in skipped..count_y {
                        let line = phase.first[0] + y * g.strides[0];
                        if line >= end {
                            break;
                        }
                        let pixel = (image * height + line - lines.start) * width + phase.first[1];
                        let finish = finish.at(pixel, group * filters + first, g.strides[1]);
                        let own = (image * count_y + y) * count_x;
                        let part =
                            Part { whole: (0, 0), rows: own..own + count_x, columns: columns.clone(), first_column: 0 };
                        // SAFETY: the rows are those of the input, whose size was compared with the geometry that the
                        // tables were made for; the pixels of a phase lie a stride apart in their line.
                        unsafe {
                            product_to(self.weights.isa, &rows, b.view(), channels, &part, &finish, chunks);
                        }
                    }
                }
            }
        }
    }

    /// The pixels that no tap reaches.
    fn bare(&self, input: Matrix<'_, f32>, lines: &Range<usize>, finish: &Finish<'_>) {
        let [height, width] = self.geometry.output;
        for line in lines.clone() {
            let all = [0..width];
            for columns in if self.reached[line % height] { &self.bare[..] } else { &all[..] } {
                let line = self.line(&[], input.as_ptr(), finish, (line - lines.start) * width);
                self.gather(Gather { columns: columns.clone(), ..line });
            }
        }
    }

    /// The lines of one group, out of products of pixels and all taps: a ring of input lines.
    fn scatter(
        &self,
        group: usize,
        b: &PackedB,
        input: Matrix<'_, f32>,
        lines: &Range<usize>,
        finish: &Finish<'_>,
        buffer: &mut Buffer,
    ) {
        let g = &self.geometry;
        let (height, width) = (g.output[0], g.input[1]);
        let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
        let line_len = width * b.n();
        let needed = ((g.kernel[0] - 1) * g.dilations[0] / g.strides[0] + 1).min(g.input[0]).max(1);
        let slots = needed + (LINES_BYTES / (line_len * 4).max(1)).clamp(1, g.input[0].max(1));
        if buffer.as_slice().len() < slots * line_len * 4 {
            *buffer = Buffer::zeroed(slots * line_len * 4);
        }
        let ring: &mut [f32] = buffer.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        let ring = ring.as_mut_ptr();
        let finish = finish.at(0, group * filters, 1);
        let mut taps = Vec::new();
        // The input lines of an image that are there: those before `ready`, as far as there are slots.
        let (mut image, mut ready) = (usize::MAX, 0);
        for line in lines.clone() {
            let y = line % height;
            let sources = g.sources(0, y);
            if image != line / height {
                (image, ready) = (line / height, sources.start);
            }
            let last = g.sources(0, (lines.end - 1 - image * height).min(height - 1)).end;
            while ready < sources.end {
                // Whatever of the image comes next, up to where the ring ends or what is still needed begins.
                let from = ready.max(sources.start);
                let count = (slots - from % slots).min(sources.start + slots - from).min(last - from);
                let data = input.as_ptr().wrapping_add(group * channels).cast();
                let rows = Strided { data, stride_bytes: input.stride() * 4 };
                let first = image * g.input_pixels() + from * width;
                let part =
                    Part { whole: (count * width, b.n()), rows: 0..count * width, columns: 0..b.n(), first_column: 0 };
                let rows = Strided { data: rows.data.wrapping_add(first * rows.stride_bytes), ..rows };
                // SAFETY: the rows are pixels of the input, whose size was compared with the geometry's; the ring has a
                // slot for each of the lines.
                unsafe {
                    let slot = ring.add(from % slots * line_len);
                    let mut out = MatrixMut::from_raw(slot, count * width, b.n(), b.n());
                    product(self.weights.isa, &rows, b.view(), channels, part, &mut out, &Epilogue::default());
                }
                ready = from + count;
            }
            taps.clear();
            taps.extend(self.down.of(y).iter().map(|&(y, ky)| (y % slots * line_len, ky)));
            let row = (line - lines.start) * g.output[1];
            let gather = Gather { pixel: b.n(), tap: filters, ..self.line(&taps, ring, &finish, row) };
            self.gather(Gather { channels: filters, ..gather });
        }
    }

    /// A whole line, to be gathered.
    fn line<'a>(
        &'a self,
        down: &'a [(usize, usize)],
        source: *const f32,
        finish: &'a Finish<'a>,
        row: usize,
    ) -> Gather<'a> {
        Gather {
            down,
            across: &self.across,
            columns: 0..self.geometry.output[1],
            source,
            pixel: 0,
            tap: 0,
            weights: None,
            kernel_width: self.geometry.kernel[1],
            channels: self.geometry.filters,
            finish,
            row,
        }
    }

    fn gather(&self, gather: Gather<'_>) {
        self.weights.isa.dispatch(gather);
    }
}

impl Phase {
    fn new(g: &TransposedGeometry, phase: [&(usize, Vec<usize>); 2]) -> Self {
        let [y, x] = [0, 1].map(|axis| {
            let (stride, (phase, taps)) = (g.strides[axis], phase[axis]);
            let first = (phase + stride - g.pad_begin[axis] % stride) % stride;
            let count = g.output[axis].saturating_sub(first).div_ceil(stride);
            let position = |at: usize, tap: usize| g.source(axis, first + at * stride, tap);
            let positions: Vec<Option<usize>> =
                (0..count).flat_map(|at| taps.iter().map(move |&tap| position(at, tap))).collect();
            (first, count, taps.len(), positions)
        });
        let (kernel, count) = ([y.2, x.2], [y.1, x.1]);
        let taps = TapTable::of_positions([&y.3, &x.3], kernel, count, g.input, g.channels_per_group());
        Phase { first: [y.0, x.0], count, taps }
    }
}

/// The taps that reach the positions of an axis, whose phases are those.
fn reach(g: &TransposedGeometry, axis: usize, phases: &[(usize, Vec<usize>)]) -> Reach {
    let mut all = Reach { starts: vec![0], taps: Vec::new() };
    for out in 0..g.output[axis] {
        if let Ok(at) = phases.binary_search_by_key(&g.phase(axis, out), |phase| phase.0) {
            all.taps.extend(phases[at].1.iter().filter_map(|&tap| Some((g.source(axis, out, tap)?, tap))));
        }
        all.starts.push(all.taps.len());
    }
    all
}
