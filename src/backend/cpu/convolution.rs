//! Convolution of f32 images, channels last, with its epilogue.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use super::product::activation;
use crate::error::{Result, ensure};
use crate::kernels::Matrix;
use crate::kernels::arch::Isa;
use crate::kernels::conv::{Conv2d, ConvWeights, Geometry, Volume};
use crate::kernels::gemm;
use crate::ops::fused::{ChannelsLast, Epilogue};
use crate::ops::nn::Conv;
use crate::tensor::{DType, Tensor};

#[derive(Debug)]
pub(super) struct Convolution {
    pub(super) conv: Conv2d,
    pub(super) batch: usize,
    pub(super) bias: Option<usize>,
    pub(super) residual: Option<usize>,
    pub(super) activation: gemm::Activation,
}

/// The values of two spatial axes; an image without height has height 1. Empty lists mean ones.
pub(super) fn pair(values: &[usize], rank: usize) -> [usize; 2] {
    match (rank, values) {
        (_, []) => [1, 1],
        (1, [w, ..]) => [1, *w],
        (_, [h, w, ..]) => [*h, *w],
        (_, [w]) => [1, *w],
    }
}

/// The sizes of a convolution of `[batch, spatial.., channels]` with a weight of ONNX's layout; `None` where kernels lack
/// something.
pub(super) fn geometry(conv: &Conv, input: &[usize], weight: &[usize]) -> Result<Option<Geometry>> {
    let spatial = input.len().saturating_sub(2);
    if !(1..=2).contains(&spatial) || weight.len() != input.len() {
        return Ok(None);
    }
    let size = &input[1..=spatial];
    let kernel = &weight[2..];
    let (begin, end) = conv.padding.resolve(size, kernel, &conv.strides, &conv.dilations)?;
    let pads = |list: &[i64]| -> Option<Vec<usize>> { list.iter().map(|&p| usize::try_from(p).ok()).collect() };
    let (Some(begin), Some(end)) = (pads(&begin), pads(&end)) else { return Ok(None) };
    let flat = |list: &[usize]| if spatial == 1 { [0, list[0]] } else { [list[0], list[1]] };
    Ok(Some(Geometry {
        groups: conv.group,
        strides: pair(&conv.strides, spatial),
        dilations: pair(&conv.dilations, spatial),
        pad_begin: flat(&begin),
        pad_end: flat(&end),
        ..Geometry::new(pair(size, spatial), input[spatial + 1], weight[0], pair(kernel, spatial))
    }))
}

/// The sizes of a convolution of `[batch, depth, height, width, channels]`; `None` where kernels lack something.
fn volume(conv: &Conv, input: &[usize], weight: &[usize]) -> Result<Option<Volume>> {
    let (&[_, depth, height, width, channels], &[filters, _, kd, kh, kw]) = (input, weight) else {
        return Ok(None);
    };
    let (size, kernel) = ([depth, height, width], [kd, kh, kw]);
    let (begin, end) = conv.padding.resolve(&size, &kernel, &conv.strides, &conv.dilations)?;
    let three = |list: &[usize]| <[usize; 3]>::try_from(list).unwrap_or([1; 3]);
    let pads = |list: &[i64]| -> Option<[usize; 3]> {
        let list: Option<Vec<usize>> = list.iter().map(|&p| usize::try_from(p).ok()).collect();
        list?.try_into().ok()
    };
    // Depthwise convolutions have a kernel for images alone.
    let depthwise = conv.group > 1 && conv.group == filters && conv.group == channels;
    let (Some(pad_begin), Some(pad_end), false) = (pads(&begin), pads(&end), depthwise) else { return Ok(None) };
    let (strides, dilations) = (three(&conv.strides), three(&conv.dilations));
    let groups = conv.group;
    Ok(Some(Volume { input: size, channels, filters, groups, kernel, strides, dilations, pad_begin, pad_end }))
}

/// The convolution of each slice by itself, where a volume's is no more.
fn by_slices(volume: &Volume) -> Option<Geometry> {
    let alone = volume.kernel[0] == 1 && volume.strides[0] == 1;
    let two = |of: [usize; 3]| [of[1], of[2]];
    (alone && volume.pad_begin[0] == 0 && volume.pad_end[0] == 0).then(|| Geometry {
        groups: volume.groups,
        strides: two(volume.strides),
        dilations: two(volume.dilations),
        pad_begin: two(volume.pad_begin),
        pad_end: two(volume.pad_end),
        ..Geometry::new(two(volume.input), volume.channels, volume.filters, two(volume.kernel))
    })
}

impl Convolution {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(last) = spec.op::<ChannelsLast>() else { return Ok(None) };
        let epilogue = last.op.downcast_ref::<Epilogue>();
        let inner = epilogue.map_or(&last.op, |e| &e.op);
        let (Some(conv), true) = (inner.downcast_ref::<Conv>(), spec.all(DType::F32)) else { return Ok(None) };
        let (Some(input), Some(weight), Some(output)) = (spec.shape(0), spec.constant(1), spec.output_shape(0)) else {
            return Ok(None);
        };
        let Some(activation) = activation(epilogue.and_then(|e| e.activation)) else { return Ok(None) };
        let volume = volume(conv, input, weight.shape())?;
        let image = match &volume {
            Some(volume) => by_slices(volume),
            None => geometry(conv, input, weight.shape())?,
        };
        let kernel = match (&image, &volume) {
            (Some(image), _) => image.kernel,
            (None, Some(volume)) => [volume.kernel[0].saturating_mul(volume.kernel[1]), volume.kernel[2]],
            (None, None) => return Ok(None),
        };
        let batch = input[0] * if volume.is_some() && image.is_some() { input[1] } else { 1 };
        let winograd = image.and_then(|image| image.winograd_tile()).filter(|_| spec.weights.allow_winograd());
        let pack = |w: &Tensor| {
            let (filters, channels) = (w.shape()[0], w.shape()[1]);
            match winograd {
                Some(tile) => ConvWeights::pack_winograd(isa, w.as_slice()?, filters, channels, tile),
                None => ConvWeights::pack(isa, w.as_slice()?, filters, channels, kernel, conv.group),
            }
        };
        // No convolution has no group, or as many.
        let variant = match winograd {
            Some(4) => 0,
            Some(tile) => u64::MAX - tile as u64,
            None => conv.group as u64,
        };
        let weights = spec.weights.get_or_pack(weight, variant, pack)?;
        let conv = match (image, volume) {
            (Some(image), _) => Conv2d::new(image, weights)?,
            (None, Some(volume)) => volume.conv(weights)?,
            (None, None) => return Ok(None),
        };
        let expected = batch * conv.geometry().output_pixels() * weight.shape()[0];
        ensure!(output.elements() == expected, Internal, "the output is {output}, not of {expected} elements");
        Ok(Some(Convolution {
            batch,
            conv,
            bias: spec.input(2).filter(|_| epilogue.is_none_or(|e| e.arity > 2)).map(|_| 2),
            residual: epilogue.and_then(Epilogue::residual_index),
            activation,
        }))
    }
}

impl Kernel for Convolution {
    fn name(&self) -> String {
        let g = self.conv.geometry();
        let [h, w] = g.kernel;
        let groups = if g.groups > 1 { format!(" in {} groups", g.groups) } else { String::new() };
        let winograd = if self.conv.is_winograd() { " winograd" } else { "" };
        format!("conv {h}x{w} {}->{}{groups}{winograd}", g.channels, g.filters)
    }

    fn division(&self) -> Division {
        let g = self.conv.geometry();
        let rows = self.batch * g.output_pixels();
        if !self.conv.divides_filters() {
            return Division::units(rows, 1);
        }
        // Taps of one pixel overlap: an image is read once.
        let (pixels, weights) = (self.batch * g.input_pixels(), self.conv.weight_bytes());
        let grain = self.conv.rows_together();
        Division::of_product(pixels, g.channels, g.filters, weights, 4).or_units(rows, grain)
    }

    fn weights(&self, part: usize, of: usize) -> &[u8] {
        self.conv.bytes_from(self.division().first_column(part, of))
    }

    fn tells_extremes(&self) -> bool {
        // As of a product.
        self.activation.bounds().is_none() || matches!(self.division(), Division::Columns { .. })
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let g = self.conv.geometry();
        let (pixels, rows) = (self.batch * g.input_pixels(), self.batch * g.output_pixels());
        let input = Matrix::dense(io.input(0)?, pixels, g.channels);
        let bias: Option<&[f32]> = self.bias.map(|i| io.input(i)).transpose()?;
        let residual = match self.residual {
            Some(index) if io.in_place() == Some(index) => Some(gemm::Residual::OutputBefore),
            Some(index) => Some(gemm::Residual::Before(Matrix::dense(io.input(index)?, rows, g.filters))),
            None => None,
        };
        let (activation, next, pack_rows) = (self.activation, context.next, context.pack_rows);
        let extremes = context.extremes;
        let epilogue = gemm::Epilogue { bias, residual, activation, extremes, next, pack_rows, ..Default::default() };
        let (share, output) = (io.share(), io.output_matrix::<f32>(0, g.filters)?);
        if output.rows() > 0 && output.cols() > 0 {
            let (own, columns) = self.division().region(share, rows, g.filters);
            self.conv.run_region(input, own, columns, rows, output, &epilogue);
        }
        Ok(())
    }
}
