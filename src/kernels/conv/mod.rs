//! Convolution of channels-last images (`[batch, height, width, channels]`) on the tile of the matrix product.
//!
//! | case | algorithm |
//! | --- | --- |
//! | 1x1, stride 1, no padding | the matrix product itself, pixels as rows |
//! | all else | an indirect product: a segment of K per tap, its rows found through a table |
//! | the same of bytes | in pieces, each without the taps that lie in the padding for all of its pixels |
//! | fewer than 16 channels (stems) | the same with a segment per kernel row; of bytes, over a padded copy |
//! | depthwise | a kernel of its own over vectors of channels; of f32, another for taps three or five wide |
//! | depthwise 3x3 of bytes, AVX-512 | strips: a word is a column of taps, made once for all outputs that see it |
//! | volumes | the indirect product of an image of all their lines |
//! | 3x3, stride 1, where asked for | Winograd's, with 36 products of tiles, or 16 where the image is small |
//!
//! f32 images take a [`Conv2d`], bytes a [`ByteConv2d`], which pads with the input's zero point; a [`ConvTranspose2d`] is
//! made of the same products.
//!
//! Weights are packed once ([`ConvWeights`]); a [`Conv2d`] joins them with the tables of one size of image. A
//! one-dimensional convolution is one of height 1.

mod borders;
mod bytes;
mod depthwise;
mod depthwise_bytes;
mod depthwise_rows;
mod depthwise_runs;
mod depthwise_strips;
mod geometry;
mod padded_rows;
mod stem_rows;
mod stored;
mod taps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_borders;
#[cfg(test)]
mod tests_bytes;
mod transposed;
mod volume;
mod weights;
mod winograd;

pub use bytes::{ByteConv2d, ByteConvWeights};
pub use geometry::Geometry;
pub use transposed::{ConvTranspose2d, TransposedForm, TransposedGeometry, TransposedWeights};
pub use volume::Volume;
pub use weights::ConvWeights;

use super::gemm::{Epilogue, Part, Strided, finish, product};
use super::view::{Matrix, MatrixMut};
use crate::error::{Result, ensure};
use depthwise::{Depthwise, FloatLanes};
use depthwise_runs::DepthwiseRuns;
use std::ops::Range;
use std::sync::Arc;
use taps::TapTable;
use weights::Form;

/// A convolution of f32 images of one size, to be run on any number of them.
#[derive(Debug, Clone)]
pub struct Conv2d {
    geometry: Geometry,
    weights: Arc<ConvWeights>,
    /// Absent where rows need no table.
    taps: Option<TapTable>,
}

impl Conv2d {
    /// Joins weights with a size of image.
    ///
    /// # Errors
    /// `Shape` where the weights are not those of the geometry, or the geometry contradicts itself; `Limit` where its
    /// sizes overflow.
    pub fn new(geometry: Geometry, weights: Arc<ConvWeights>) -> Result<Self> {
        geometry.validate()?;
        let fits = weights.filters == geometry.filters
            && weights.channels_per_group == geometry.channels_per_group()
            && weights.groups == geometry.groups
            && weights.kernel == geometry.kernel
            && (weights.winograd_tile().is_none() || (geometry.strides == [1; 2] && geometry.dilations == [1; 2]));
        ensure!(fits, Shape, "the weights are of another convolution than {geometry:?}");
        let taps = match weights.form {
            Form::Groups(_) if !geometry.is_pointwise() => Some(TapTable::new(&geometry, 4, 0)),
            _ => None,
        };
        Ok(Conv2d { geometry, weights, taps })
    }

    /// The same convolution of a strip, and the lines of the input that it sees; see [`Geometry::strip`]. A depthwise or a
    /// pointwise one allocates nothing for it.
    #[must_use]
    pub fn strip(&self, lines: &Range<usize>) -> (Self, Range<usize>) {
        let (geometry, seen) = self.geometry.strip(lines);
        let taps = self.taps.is_some().then(|| TapTable::new(&geometry, 4, 0));
        (Conv2d { geometry, weights: self.weights.clone(), taps }, seen)
    }

    /// The sizes.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether its filters can be computed apart: whether [`run_region`](Conv2d::run_region) takes some of them.
    #[must_use]
    pub fn divides_filters(&self) -> bool {
        match &self.weights.form {
            Form::Groups(groups) => groups.len() == 1,
            Form::Winograd(_) => true,
            Form::Depthwise(_) => false,
        }
    }

    /// Whether it runs by Winograd's algorithm.
    #[must_use]
    pub fn is_winograd(&self) -> bool {
        self.weights.winograd_tile().is_some()
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.weights.len_bytes()
    }

    /// What a run reads first of the weights for `filter` and the following ones; see [`Epilogue::next`].
    #[must_use]
    pub fn bytes_from(&self, filter: usize) -> &[u8] {
        self.weights.bytes_from(filter)
    }

    /// How many rows of the output should stay together where it is divided over threads: a division elsewhere gives the
    /// same answer, but computes some things twice.
    #[must_use]
    pub fn rows_together(&self) -> usize {
        self.weights.winograd_tile().map_or(1, |lines| lines * self.geometry.output()[1])
    }

    /// Convolves `input`, a matrix of `[batch * height * width, channels]`, to `output`, `[batch * output height *
    /// output width, filters]`. The epilogue's operands have the output's sizes.
    ///
    /// # Panics
    /// If sizes do not fit together.
    #[track_caller]
    pub fn run(&self, input: Matrix<'_, f32>, output: MatrixMut<'_, f32>, epilogue: &Epilogue<'_>) {
        let rows = output.rows();
        self.run_rows(input, 0..rows, rows, output, epilogue);
    }

    /// The part of [`run`](Conv2d::run) that lies in `rows` of all `total` output pixels (of all images): how a
    /// convolution is divided over threads. `output` holds those rows only; the epilogue's operands are those of the
    /// whole output.
    ///
    /// # Panics
    /// If sizes do not fit together.
    #[track_caller]
    pub fn run_rows(
        &self,
        input: Matrix<'_, f32>,
        rows: Range<usize>,
        total: usize,
        output: MatrixMut<'_, f32>,
        epilogue: &Epilogue<'_>,
    ) {
        self.run_region(input, rows, 0..self.geometry.filters, total, output, epilogue);
    }

    /// The part of [`run_rows`](Conv2d::run_rows) that lies in the filters `columns`: all of them, unless there is one
    /// group that is not depthwise; then they start with a multiple of 32.
    ///
    /// # Panics
    /// As [`run_rows`](Conv2d::run_rows), or for other columns.
    #[track_caller]
    pub fn run_region(
        &self,
        input: Matrix<'_, f32>,
        rows: Range<usize>,
        columns: Range<usize>,
        total: usize,
        mut output: MatrixMut<'_, f32>,
        epilogue: &Epilogue<'_>,
    ) {
        let g = &self.geometry;
        if !check(g, (input.rows(), input.cols()), &rows, total) {
            return;
        }
        let single = self.divides_filters();
        assert!(single || columns == (0..g.filters), "columns {columns:?} of several groups");
        let isa = self.weights.isa;
        let whole = (total, g.filters);
        match &self.weights.form {
            Form::Depthwise(weights) => {
                let part = Part { whole, rows, columns: 0..g.filters, first_column: 0 };
                let finish = finish(epilogue, &part, &mut output);
                let (input, pixel) = (input.as_ptr(), input.stride());
                if depthwise_runs::suits(g) {
                    let finish = &finish;
                    isa.dispatch(DepthwiseRuns { geometry: g, weights, input, pixel, rows: part.rows, finish });
                    return;
                }
                isa.dispatch(Depthwise {
                    geometry: g,
                    weights,
                    input,
                    pixel,
                    rows: part.rows,
                    finish: &finish,
                    lanes: FloatLanes,
                });
            }
            Form::Winograd(weights) => {
                let part = Part { whole, rows, columns, first_column: 0 };
                let finish = finish(epilogue, &part, &mut output);
                // SAFETY: the input has the pixels of the geometry, and the output those of the part.
                unsafe { winograd::run(isa, g, weights, (input.as_ptr(), input.stride()), &part, &finish) };
            }
            Form::Groups(groups) => {
                let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
                // Only the last group's rows are the last.
                let epilogue = &Epilogue { next: if single { epilogue.next } else { &[] }, ..*epilogue };
                for (group, b) in groups.iter().enumerate() {
                    let of_group = group * filters..(group + 1) * filters;
                    let first_column = of_group.start;
                    let own = if single { columns.clone() } else { of_group };
                    let mut output = match single {
                        true => output.reborrow(),
                        false => output.reborrow().columns(own.clone()),
                    };
                    let part = Part { whole, rows: rows.clone(), first_column, columns: own };
                    let data = input.as_ptr().wrapping_add(group * channels).cast();
                    let stride_bytes = input.stride() * 4;
                    // SAFETY: the rows are those of the input, whose size was compared with the geometry that the
                    // tables were made for.
                    unsafe {
                        match &self.taps {
                            None => {
                                let a = Strided { data, stride_bytes };
                                product(isa, &a, b.view(), channels, part, &mut output, epilogue);
                            }
                            Some(taps) => {
                                let a = taps.floats(data, stride_bytes);
                                product(isa, &a, b.view(), a.segment(), part, &mut output, epilogue);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether there is anything to compute.
///
/// # Panics
/// If the input is not that of `total` output pixels, or `rows` are not among them.
#[track_caller]
fn check(g: &Geometry, (pixels, channels): (usize, usize), rows: &Range<usize>, total: usize) -> bool {
    let output_pixels = g.output_pixels();
    if output_pixels == 0 || g.filters == 0 {
        return false;
    }
    let batch = total / output_pixels;
    assert!(
        batch * output_pixels == total && pixels == batch * g.input_pixels() && channels == g.channels,
        "{pixels} x {channels} input, {total} output pixels, for {g:?}"
    );
    assert!(rows.start <= rows.end && rows.end <= total, "rows {rows:?} of {total}");
    !rows.is_empty()
}
