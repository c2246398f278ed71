//! Transposed convolution of channels-last f32 images (`[batch, height, width, channels]`).
//!
//! | case | algorithm |
//! | --- | --- |
//! | many filters | an indirect product for each phase of the output: an ordinary convolution with the taps that reach it |
//! | few filters | one product of pixels and all taps, some lines at a time, whose results are summed |
//! | depthwise | an ordinary depthwise convolution for each phase |
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
//! 2. A pixel's sum has one order, whatever is computed with it: its bits do not depend on the batch.

mod geometry;
mod lines;
mod phase;
#[cfg(test)]
mod tests;
mod weights;

pub use geometry::TransposedGeometry;
pub use weights::{TransposedForm, TransposedWeights};

use super::super::gemm::{Epilogue, Finish, PackedB, Part, Strided, finish, product, product_to};
use super::super::view::{Matrix, MatrixMut};
use super::depthwise::{Depthwise, FloatLanes};
use crate::error::{Result, ensure};
use crate::tensor::Buffer;
use geometry::reached;
use lines::{Line, runs};
use phase::{Phase, Reads};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use weights::{Form, Sizes};

/// Bytes of the weights of a phase that stay in the second cache while lines pass by.
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes of products that stay in the second cache until they are summed.
const LINES_BYTES: usize = 256 * 1024;

/// Elements of the longest vector.
const VECTOR: usize = 16;

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace { buffer: Buffer::zeroed(0), down: Vec::new() });
}

/// What is kept by each thread, so that a warm call allocates nothing.
struct Workspace {
    /// Products of input lines and sums.
    buffer: Buffer,
    /// The products that reach a line.
    down: Vec<(usize, usize)>,
}

/// A transposed convolution of f32 images of one size, to be run on any number of them.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    geometry: TransposedGeometry,
    weights: Arc<TransposedWeights>,
    /// `[phases down][phases across]`, where each is computed by itself.
    phases: Vec<Phase>,
    /// Whether a line's phase has taps, and the runs of columns whose phases have none.
    reached: Vec<bool>,
    bare: Vec<Range<usize>>,
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
        let pairs = rows.iter().flat_map(|y| columns.iter().map(move |x| [y, x]));
        let phases = match &weights.form {
            Form::Phases(_) => pairs.map(|phase| Phase::of_tables(g, phase)).collect(),
            Form::Depthwise(_) => pairs.map(|phase| Phase::of_windows(g, phase)).collect(),
            Form::Scatter(_) => Vec::new(),
        };
        let has = |phases: &[(usize, Vec<usize>)], phase| phases.binary_search_by_key(&phase, |own| own.0).is_ok();
        let reached = (0..g.output[0]).map(|y| has(&rows, g.phase(0, y))).collect();
        let mut bare: Vec<Range<usize>> = Vec::new();
        for x in (0..g.output[1]).filter(|&x| !has(&columns, g.phase(1, x))) {
            match bare.last_mut() {
                Some(run) if run.end == x => run.end += 1,
                _ => bare.push(x..x + 1),
            }
        }
        Ok(ConvTranspose2d { geometry, weights, phases, reached, bare })
    }

    /// The sizes.
    #[must_use]
    pub fn geometry(&self) -> &TransposedGeometry {
        &self.geometry
    }

    /// Convolves `input`, a matrix of `[batch * height * width, channels]`, to `output`, `[batch * output height *
    /// output width, filters]`. The epilogue's operands have the output's sizes; it has no scales.
    ///
    /// # Panics
    /// If sizes do not fit together, or there are gaps between the pixels of the output or a residual.
    #[track_caller]
    pub fn run(&self, input: Matrix<'_, f32>, output: MatrixMut<'_, f32>, epilogue: &Epilogue<'_>) {
        let lines = output.rows() / self.geometry.output[1].max(1);
        self.run_lines(input, 0..lines, lines, output, epilogue);
    }

    /// The part of [`run`](ConvTranspose2d::run) that lies in `lines` of all `total` lines of output pixels (of all
    /// images). `output` holds those lines only; the epilogue's operands are those of the whole output.
    ///
    /// # Panics
    /// As [`run`](ConvTranspose2d::run).
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
        assert!(lines.end <= total && output.stride() == g.filters, "lines {lines:?} of {total}, or gaps");
        assert!(epilogue.row_scale.is_none() && epilogue.column_scale.is_none(), "scales");
        let rows = lines.start * width..lines.end * width;
        let part = Part { whole: (total * width, g.filters), rows, columns: 0..g.filters, first_column: 0 };
        let finish = finish(epilogue, &part, &mut output);
        assert!(finish.residual.is_none() || finish.residual_stride == g.filters, "a residual with gaps");
        match &self.weights.form {
            Form::Scatter(b) => {
                WORKSPACE.with_borrow_mut(|own| self.by_lines(b, input, &lines, &finish, epilogue.bias, own));
            }
            _ => {
                self.by_phases(input, &lines, &finish, epilogue.allows_chunks());
                WORKSPACE.with_borrow_mut(|own| self.bare(&lines, &finish, epilogue.bias, &mut own.buffer));
            }
        }
    }

    /// The pixels that taps reach, phase by phase.
    fn by_phases(&self, input: Matrix<'_, f32>, lines: &Range<usize>, finish: &Finish<'_>, chunks: bool) {
        let g = &self.geometry;
        let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
        let isa = self.weights.isa;
        for (at, phase) in self.phases.iter().enumerate() {
            match (&phase.reads, &self.weights.form) {
                (Reads::Table(taps), Form::Phases(packed)) => {
                    for (group, b) in packed[at * g.groups..][..g.groups].iter().enumerate() {
                        let data = input.as_ptr().wrapping_add(group * channels).cast();
                        let rows = taps.floats(data, input.stride() * 4);
                        let block = (BLOCK_BYTES / (b.k() * 4 * b.panel()).max(1)).max(1) * b.panel();
                        for first in (0..filters).step_by(block) {
                            let columns = first..filters.min(first + block);
                            phase.each_line(g, lines, |pixel, rows_of| {
                                let finish = finish.at(pixel, group * filters + first, g.strides[1]);
                                let part =
                                    Part { whole: (0, 0), rows: rows_of, columns: columns.clone(), first_column: 0 };
                                // SAFETY: the rows are those of the input, whose size was compared with the geometry that
                                // the tables were made for; the pixels of a phase lie a stride apart in their line.
                                unsafe { product_to(isa, &rows, b.view(), channels, &part, &finish, chunks) };
                            });
                        }
                    }
                }
                (Reads::Window { geometry, first_tap }, Form::Depthwise(weights)) => {
                    let padded = g.channels.next_multiple_of(isa.lanes());
                    let weights = &weights[first_tap * padded..];
                    phase.each_line(g, lines, |pixel, rows| {
                        let finish = &finish.at(pixel, 0, g.strides[1]);
                        let (input, pixel) = (input.as_ptr(), input.stride());
                        isa.dispatch(Depthwise { geometry, weights, input, pixel, rows, finish, lanes: FloatLanes });
                    });
                }
                _ => {}
            }
        }
    }

    /// The pixels that no tap reaches.
    fn bare(&self, lines: &Range<usize>, finish: &Finish<'_>, bias: Option<&[f32]>, buffer: &mut Buffer) {
        let ([height, width], filters) = (self.geometry.output, self.geometry.filters);
        if self.bare.is_empty() && self.reached.iter().all(|&reached| reached) {
            return;
        }
        let (sums, biases) =
            words(buffer, width * filters + filters + 2 * VECTOR).split_at_mut(width * filters + VECTOR);
        biases.fill(0.0);
        if let Some(bias) = bias {
            biases[..filters].copy_from_slice(bias);
        }
        let whole = 0..width;
        for line in lines.clone() {
            let all = std::slice::from_ref(&whole);
            for columns in if self.reached[line % height] { &self.bare[..] } else { all } {
                self.weights.isa.dispatch(Line {
                    down: &[],
                    products: std::ptr::null(),
                    width: 1,
                    kernel: [1; 2],
                    filters,
                    stride: 1,
                    cut: 0,
                    columns: columns.len(),
                    bias: biases.as_ptr(),
                    sums: sums.as_mut_ptr(),
                    finish: &finish.at((line - lines.start) * width + columns.start, 0, 1),
                });
            }
        }
    }

    /// Whole lines, out of products of pixels and all taps: a ring of input lines.
    fn by_lines(
        &self,
        b: &PackedB,
        input: Matrix<'_, f32>,
        lines: &Range<usize>,
        finish: &Finish<'_>,
        bias: Option<&[f32]>,
        Workspace { buffer, down }: &mut Workspace,
    ) {
        let g = &self.geometry;
        let ([height, columns], width, stride) = (g.output, g.input[1], g.strides[1]);
        let line_len = width * b.n();
        let needed = ((g.kernel[0] - 1) * g.dilations[0] / g.strides[0] + 1).min(g.input[0]).max(1);
        let slots = needed + (LINES_BYTES / (line_len * 4).max(1)).clamp(1, g.input[0].max(1));
        let (run, runs) = (stride * g.filters, runs(g.pad_begin[1], columns, stride));
        let (ring_len, sums_len) = (slots * line_len + VECTOR, runs.len() * run + VECTOR);
        let (ring, rest) = words(buffer, ring_len + sums_len + run + VECTOR).split_at_mut(ring_len);
        let (sums, biases) = rest.split_at_mut(sums_len);
        biases.fill(0.0);
        if let Some(bias) = bias {
            biases[..run].chunks_exact_mut(g.filters).for_each(|chunk| chunk.copy_from_slice(bias));
        }
        let ring = ring.as_mut_ptr();
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
                let (rows, stride_bytes) = (count * width, input.stride() * 4);
                let first = image * g.input_pixels() + from * width;
                let data = input.as_ptr().cast::<u8>().wrapping_add(first * stride_bytes);
                let part = Part { whole: (rows, b.n()), rows: 0..rows, columns: 0..b.n(), first_column: 0 };
                // SAFETY: the rows are pixels of the input, whose size was compared with the geometry's; the ring has a
                // slot for each of the lines.
                unsafe {
                    let mut out = MatrixMut::from_raw(ring.add(from % slots * line_len), rows, b.n(), b.n());
                    let a = Strided { data, stride_bytes };
                    product(self.weights.isa, &a, b.view(), g.channels, part, &mut out, &Epilogue::default());
                }
                ready = from + count;
            }
            down.clear();
            let reaching = (0..g.kernel[0]).filter_map(|ky| Some((g.source(0, y, ky)? % slots * line_len, ky)));
            down.extend(reaching);
            self.weights.isa.dispatch(Line {
                down,
                products: ring,
                width,
                kernel: g.kernel,
                filters: g.filters,
                stride,
                cut: g.pad_begin[1],
                columns,
                bias: biases.as_ptr(),
                sums: sums.as_mut_ptr(),
                finish: &finish.at((line - lines.start) * columns, 0, 1),
            });
        }
    }
}

/// So many words of a buffer that grows.
fn words(buffer: &mut Buffer, len: usize) -> &mut [f32] {
    if buffer.as_slice().len() < len * 4 {
        *buffer = Buffer::zeroed(len * 4);
    }
    let words: &mut [f32] = buffer.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
    &mut words[..len]
}
