//! Convolution of bytes: exact integer sums, padding that reads the input's zero point, the integer epilogue.

use super::super::arch::{Body, Isa};
use super::super::gemm::{
    ByteEpilogue, ByteOutput, ByteWeights, PackedBytes, Part, Strided, finish_bytes, product_bytes,
};
use super::super::view::Matrix;
use super::borders::Borders;
use super::depthwise::{ByteLanes, Depthwise};
use super::depthwise_bytes::{DepthwiseBytes, TapWords, copy_bytes};
use super::depthwise_rows::{BlockWords, ByteDepthwise, ring_bytes};
use super::depthwise_strips::{StripWords, strip_bytes};
use super::geometry::Geometry;
use super::padded_rows::{PaddedRows, segment, takes};
use super::stem_rows::StemRows;
use super::taps::TapTable;
use crate::error::{Result, ensure};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// Packed bytes of `[filters, channels / groups, kernel height, kernel width]`, less their zero points.
#[derive(Debug, Clone)]
pub struct ByteConvWeights {
    pub(super) isa: Isa,
    pub(super) filters: usize,
    pub(super) channels_per_group: usize,
    pub(super) groups: usize,
    pub(super) kernel: [usize; 2],
    pub(super) merged: bool,
    pub(super) form: Form,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    /// One B a group.
    Groups(Vec<PackedBytes>),
    /// `[taps][channels, filled up to whole vectors]`: what does not fit the other form.
    Depthwise(Vec<i32>),
    /// Four taps to a word.
    Taps(TapWords),
    /// The same, in blocks of channels.
    Blocks(BlockWords),
    /// 3 x 3 taps, where the instruction set has strips.
    Strips(StripWords),
}

impl ByteConvWeights {
    /// Packs the `weights` of `geometry` (whose input size does not matter) for `isa`, less `zero_points`: one, one a
    /// filter, or none.
    ///
    /// # Errors
    /// `Shape` where the number of weights or of zero points is not the geometry's, or groups do not divide the
    /// filters.
    pub fn pack(isa: Isa, weights: ByteWeights<'_>, geometry: &Geometry, zero_points: &[i32]) -> Result<Self> {
        let g = geometry;
        let (filters, groups, [height, width]) = (g.filters, g.groups, g.kernel);
        ensure!(
            groups > 0 && filters % groups == 0 && g.channels.is_multiple_of(groups),
            Shape,
            "{groups} groups do not divide {filters} filters and {} channels",
            g.channels
        );
        let channels = g.channels_per_group();
        let len = [channels, height, width].iter().try_fold(filters, |len, &size| len.checked_mul(size));
        ensure!(len == Some(weights.len()), Shape, "{} weights for {g:?}", weights.len());
        let known = [0, 1, filters].contains(&zero_points.len());
        ensure!(known, Shape, "{} zero points for {filters} filters", zero_points.len());
        let taps = height * width;
        let merged = takes(g);
        let form = if channels == 1 && filters == groups && groups > 1 {
            let padded = filters.next_multiple_of(isa.lanes());
            let mut packed = vec![0; taps * padded];
            for (filter, tap) in (0..filters).flat_map(|filter| (0..taps).map(move |tap| (filter, tap))) {
                let zero_point = zero_points.get(if zero_points.len() == 1 { 0 } else { filter });
                packed[tap * padded + filter] = weights.get(filter * taps + tap) - zero_point.copied().unwrap_or(0);
            }
            let strips = || StripWords::pack(isa, &packed, g, padded).map(Form::Strips);
            let blocks = || BlockWords::pack(isa, &packed, g, padded).map(Form::Blocks);
            let words = || TapWords::pack(&packed, taps, padded).map(Form::Taps);
            strips().or_else(blocks).or_else(words).unwrap_or(Form::Depthwise(packed))
        } else {
            let per_group = filters / groups;
            let group = |group: usize| {
                let own = match zero_points.len() {
                    0 | 1 => zero_points,
                    _ => &zero_points[group * per_group..][..per_group],
                };
                let sizes = if merged { [height, segment(g)] } else { [taps, channels] };
                let weights = weights.part(group * per_group * channels * taps, per_group * channels * taps);
                PackedBytes::from_filters(isa, weights, per_group, [channels, taps], sizes, own)
            };
            Form::Groups((0..groups).map(group).collect())
        };
        Ok(ByteConvWeights { isa, filters, channels_per_group: channels, groups, kernel: g.kernel, merged, form })
    }

    /// The instruction set that they are packed for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes that they hold.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match &self.form {
            Form::Groups(groups) => groups.iter().map(PackedBytes::len_bytes).sum(),
            Form::Depthwise(packed) => packed.len() * 4,
            Form::Taps(words) => words.len_bytes(),
            Form::Blocks(words) => words.len_bytes(),
            Form::Strips(words) => words.len_bytes(),
        }
    }
}

thread_local! {
    /// Padding of a zero point that was not known: kept, so that a warm call allocates nothing.
    static COPIES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A convolution of images of bytes of one size, to be run on any number of them.
#[derive(Debug, Clone)]
pub struct ByteConv2d {
    geometry: Geometry,
    weights: Arc<ByteConvWeights>,
    /// Absent where rows need no table.
    taps: Option<TapTable>,
    /// Absent where rows are taken as the table has them.
    borders: Option<Borders>,
}

impl ByteConv2d {
    /// Joins weights with a size of image. `zero_point` is the input's where it is known, so that padding need not be
    /// written for each run.
    ///
    /// # Errors
    /// `Shape` where the weights are not those of the geometry, or the geometry contradicts itself; `Limit` where its
    /// sizes overflow.
    pub fn new(geometry: Geometry, weights: Arc<ByteConvWeights>, zero_point: u8) -> Result<Self> {
        geometry.validate()?;
        let merged = takes(&geometry);
        let fits = weights.filters == geometry.filters
            && weights.channels_per_group == geometry.channels_per_group()
            && weights.groups == geometry.groups
            && weights.kernel == geometry.kernel
            && weights.merged == merged
            && match &weights.form {
                Form::Blocks(words) => words.fits(weights.isa, &geometry),
                Form::Strips(words) => words.fits(&geometry),
                Form::Groups(groups) if merged => groups.iter().all(|b| b.segment == segment(&geometry)),
                _ => true,
            };
        ensure!(fits, Shape, "the weights are of another convolution than {geometry:?}");
        let taps = match weights.form {
            Form::Groups(_) if geometry.is_pointwise() || merged => None,
            Form::Groups(_) | Form::Taps(_) => Some(TapTable::new(&geometry, 1, zero_point)),
            Form::Depthwise(_) | Form::Blocks(_) | Form::Strips(_) => None,
        };
        let borders = match &weights.form {
            Form::Groups(groups) if taps.is_some() => Borders::new(weights.isa, &geometry, groups, zero_point),
            _ => None,
        };
        Ok(ByteConv2d { geometry, weights, taps, borders })
    }

    /// What a run reads first of the weights; see [`ByteEpilogue::next`].
    #[must_use]
    pub fn first_bytes(&self) -> &[u8] {
        match &self.weights.form {
            Form::Groups(groups) => groups.first().map_or(&[], |b| b.bytes_from(0)),
            _ => &[],
        }
    }

    /// The sizes.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Convolves `input`, a matrix of `[batch * height * width, channels]`, to `output`, `[batch * output height *
    /// output width, filters]`. The input's zero point is the epilogue's, whose operands have the output's sizes.
    ///
    /// # Panics
    /// If sizes do not fit together, or the zero point is no unsigned byte.
    #[track_caller]
    pub fn run(&self, input: Matrix<'_, u8>, output: ByteOutput<'_>, epilogue: &ByteEpilogue<'_>) {
        let rows = output.rows();
        self.run_rows(input, 0..rows, rows, output, epilogue);
    }

    /// A depthwise one, by weights of a form that takes `bytes` bytes of copies.
    fn depthwise<W>(
        &self,
        weights: &W,
        bytes: usize,
        input: Matrix<'_, u8>,
        (rows, total): (Range<usize>, usize),
        mut output: ByteOutput<'_>,
        epilogue: &ByteEpilogue<'_>,
    ) where
        for<'a> ByteDepthwise<'a, W>: Body<Output = ()>,
    {
        let g = &self.geometry;
        let part = Part { whole: (total, g.filters), rows, columns: 0..g.filters, first_column: 0 };
        let finish = finish_bytes(epilogue, &part, &mut output);
        COPIES.with_borrow_mut(|copies| {
            copies.resize(copies.len().max(bytes), 0);
            self.weights.isa.dispatch(ByteDepthwise {
                geometry: g,
                weights,
                input: input.as_ptr(),
                pixel: input.stride(),
                zero_point: epilogue.zero_point as u8,
                range: part.rows,
                finish: &finish,
                copies,
            });
        });
    }

    /// The part of [`run`](ByteConv2d::run) that lies in `rows` of all `total` output pixels; see
    /// [`Conv2d::run_rows`](super::Conv2d::run_rows).
    ///
    /// # Panics
    /// As [`run`](ByteConv2d::run).
    #[track_caller]
    pub fn run_rows(
        &self,
        input: Matrix<'_, u8>,
        rows: Range<usize>,
        total: usize,
        mut output: ByteOutput<'_>,
        epilogue: &ByteEpilogue<'_>,
    ) {
        let g = &self.geometry;
        if !super::check(g, (input.rows(), input.cols()), &rows, total) {
            return;
        }
        let zero_point = epilogue.zero_point;
        assert!((0..256).contains(&zero_point), "the input's zero point is {zero_point}");
        let isa = self.weights.isa;
        let whole = (total, g.filters);
        match &self.weights.form {
            Form::Depthwise(weights) => {
                let part = Part { whole, rows, columns: 0..g.filters, first_column: 0 };
                let finish = finish_bytes(epilogue, &part, &mut output);
                isa.dispatch(Depthwise {
                    geometry: g,
                    weights,
                    input: input.as_ptr(),
                    pixel: input.stride(),
                    rows: part.rows,
                    finish: &finish,
                    lanes: ByteLanes { zero_point },
                });
            }
            Form::Taps(weights) => {
                let Some(taps) = &self.taps else { return };
                let part = Part { whole, rows, columns: 0..g.filters, first_column: 0 };
                let finish = finish_bytes(epilogue, &part, &mut output);
                let rows = taps.bytes(input.as_ptr(), input.stride(), zero_point as u8);
                COPIES.with_borrow_mut(|copies| {
                    copies.resize(copies.len().max(copy_bytes(&rows)), 0);
                    isa.dispatch(DepthwiseBytes {
                        rows,
                        weights,
                        channels: g.channels,
                        zero_point,
                        range: part.rows,
                        finish: &finish,
                        copies,
                    });
                });
            }
            Form::Blocks(weights) => {
                self.depthwise(weights, ring_bytes(g, weights), input, (rows, total), output, epilogue);
            }
            Form::Strips(weights) => {
                self.depthwise(weights, strip_bytes(g, weights), input, (rows, total), output, epilogue);
            }
            Form::Groups(groups) if self.weights.merged => {
                let (pixels, width) = (g.output_pixels(), g.output()[1]);
                let Some(b) = groups.first() else { return };
                let part = Part { whole, rows, columns: 0..g.filters, first_column: 0 };
                let finish = finish_bytes(epilogue, &part, &mut output);
                let stem = COPIES.with_borrow_mut(|copies| {
                    let rows = StemRows {
                        geometry: g,
                        weights: b,
                        input: input.as_ptr(),
                        pixel: input.stride(),
                        zero_point: zero_point as u8,
                        range: part.rows.clone(),
                        finish: &finish,
                        copies,
                    };
                    rows.run(isa)
                });
                if stem {
                    return;
                }
                let Part { whole, rows, .. } = part;
                COPIES.with_borrow_mut(|copies| {
                    for image in rows.start / pixels..rows.end.div_ceil(pixels) {
                        let before = image * pixels;
                        let own = rows.start.max(before)..rows.end.min(before + pixels);
                        let lines = (own.start - before) / width..(own.end - before).div_ceil(width);
                        let data = input.as_ptr().wrapping_add(image * g.input_pixels() * input.stride());
                        let mut output = output.part(own.start - rows.start..own.end - rows.start);
                        let part = Part { whole, rows: own, columns: 0..g.filters, first_column: 0 };
                        // SAFETY: the image is one of those that the input was checked to have; the copy holds what
                        // the rows of the part see.
                        unsafe {
                            let a = PaddedRows::new(g, data, input.stride(), zero_point as u8, &lines, before, copies);
                            product_bytes(isa, &a, b, &part, &mut output, epilogue);
                        }
                    }
                });
            }
            Form::Groups(groups) => {
                let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
                // Only the last group's rows are the last.
                let epilogue = &ByteEpilogue { next: if groups.len() == 1 { epilogue.next } else { &[] }, ..*epilogue };
                for (group, b) in groups.iter().enumerate() {
                    let columns = group * filters..(group + 1) * filters;
                    let mut output = output.columns(columns.clone());
                    let part = Part { whole, rows: rows.clone(), first_column: columns.start, columns };
                    let data = input.as_ptr().wrapping_add(group * channels);
                    let pixel = input.stride();
                    // SAFETY: the rows are those of the input, whose size was compared with the geometry that the
                    // tables were made for.
                    unsafe {
                        match &self.taps {
                            None => {
                                let a = Strided { data, stride_bytes: pixel };
                                product_bytes(isa, &a, b, &part, &mut output, epilogue);
                            }
                            Some(taps) => {
                                let a = taps.bytes(data, pixel, zero_point as u8);
                                let borders = self.borders.as_ref();
                                match borders.and_then(|borders| borders.rows(&a, &part, zero_point)) {
                                    Some(a) => product_bytes(isa, &a, b, &part, &mut output, epilogue),
                                    None => product_bytes(isa, &a, b, &part, &mut output, epilogue),
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
