//! Convolution of quantized images, channels last, with constant weights: scaled, or the sums themselves.

use super::arena::Io;
use super::convolution::geometry;
use super::integer::{Parts, Tail, flip_signs, variant, weight_scales};
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, ensure};
use crate::kernels::arch::Isa;
use crate::kernels::conv::{ByteConv2d, ByteConvWeights, Geometry};
use crate::kernels::gemm::{ByteEpilogue, ByteOutput, ByteWeights};
use crate::kernels::{Matrix, MatrixMut};
use crate::ops::fused::ChannelsLast;
use crate::ops::nn::Conv;
use crate::ops::quant::ConvInteger;
use crate::tensor::{DType, Shape, Tensor};

#[derive(Debug)]
pub(super) struct IntegerConvolution {
    conv: ByteConv2d,
    batch: usize,
    tail: Tail,
}

/// The bytes of a constant.
pub(super) fn byte_weights(weight: &Tensor) -> Result<ByteWeights<'_>> {
    Ok(match weight.dtype() {
        DType::I8 => ByteWeights::I8(weight.as_slice()?),
        _ => ByteWeights::U8(weight.as_slice()?),
    })
}

/// The weights joined with a size of image; `zero_point` is that of the image, where it is known.
fn packed(
    spec: &Spec<'_>,
    isa: Isa,
    conv: &Conv,
    geometry: Geometry,
    (weight, zeros): (&Tensor, &[i32]),
    zero_point: u8,
) -> Result<ByteConv2d> {
    // What their form depends on beside their sizes.
    let form = [[conv.group, geometry.strides[1]], geometry.pad_begin, geometry.pad_end, geometry.dilations].concat();
    let pack = |w: &Tensor| ByteConvWeights::pack(isa, byte_weights(w)?, &geometry, zeros);
    let weights = spec.weights.get_or_pack(weight, variant(&form, zeros), pack)?;
    ByteConv2d::new(geometry, weights, zero_point)
}

fn check(batch: usize, geometry: &Geometry, output: &Shape) -> Result<()> {
    let [height, width] = geometry.output();
    let expected = batch * height * width * geometry.filters;
    ensure!(output.elements() == expected, Internal, "the output is {output}, not of {height} x {width} pixels");
    Ok(())
}

impl IntegerConvolution {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(parts) = Parts::of(&spec.instruction.op).filter(|parts| parts.last) else { return Ok(None) };
        let Some(conv) = parts.op.downcast_ref::<Conv>() else { return Ok(None) };
        let (Some(input), Some(weight), Some(output)) = (spec.shape(0), spec.constant(1), spec.output_shape(0)) else {
            return Ok(None);
        };
        let Some(geometry) = geometry(conv, input, weight.shape())? else { return Ok(None) };
        let Some(tail) = Tail::new(spec, &parts, weight.shape()[0]) else { return Ok(None) };
        let Some((_, zeros)) = parts.quantized.input(1).and_then(|linear| weight_scales(spec, linear)) else {
            return Ok(None);
        };
        let conv = packed(spec, isa, conv, geometry, (weight, &zeros), tail.zero_point().unwrap_or(0))?;
        check(input[0], &geometry, output)?;
        Ok(Some(IntegerConvolution { conv, batch: input[0], tail }))
    }
}

impl Kernel for IntegerConvolution {
    fn name(&self) -> String {
        let g = self.conv.geometry();
        let [h, w] = g.kernel;
        let groups = if g.groups > 1 { format!(" in {} groups", g.groups) } else { String::new() };
        format!("integer conv {h}x{w} {}->{}{groups}", g.channels, g.filters)
    }

    fn workspace(&self) -> usize {
        self.tail.workspace()
    }

    fn division(&self) -> Division {
        Division::units(self.batch * self.conv.geometry().output_pixels(), 1)
    }

    fn weights(&self, _part: usize, _of: usize) -> &[u8] {
        self.conv.first_bytes()
    }

    fn tells_extremes(&self) -> bool {
        true
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let g = self.conv.geometry();
        let (pixels, rows) = (self.batch * g.input_pixels(), self.batch * g.output_pixels());
        self.tail.run(io, context, rows, |x, output, epilogue| {
            self.conv.run_rows(Matrix::dense(x, pixels, g.channels), io.share(), rows, output, epilogue);
        })
    }
}

/// `ConvInteger` with constant weights: the sums themselves.
#[derive(Debug)]
pub(super) struct ConvolutionSums {
    conv: ByteConv2d,
    batch: usize,
    signed: bool,
    zero: bool,
}

impl ConvolutionSums {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<ChannelsLast>().and_then(|last| last.op.downcast_ref::<ConvInteger>()) else {
            return Ok(None);
        };
        let (Some(input), Some(weight), Some(output)) = (spec.shape(0), spec.constant(1), spec.output_shape(0)) else {
            return Ok(None);
        };
        let zeros: Vec<i32> = match (spec.input(3), spec.constant(3)) {
            (None, _) => Vec::new(),
            (_, Some(zeros)) => zeros.to_i64_vec()?.into_iter().map(|zero| zero as i32).collect(),
            _ => return Ok(None),
        };
        let single = spec.input(2).is_none() || spec.shape(2).is_some_and(|shape| shape.elements() == 1);
        let Some(geometry) = geometry(&op.conv, input, weight.shape())? else { return Ok(None) };
        if !single || ![0, 1, geometry.filters].contains(&zeros.len()) {
            return Ok(None);
        }
        let conv = packed(spec, isa, &op.conv, geometry, (weight, &zeros), 0)?;
        check(input[0], &geometry, output)?;
        let signed = spec.input(0).is_some_and(|slot| slot.dtype == DType::I8);
        Ok(Some(ConvolutionSums { conv, batch: input[0], signed, zero: spec.input(2).is_some() }))
    }
}

impl Kernel for ConvolutionSums {
    fn name(&self) -> String {
        let g = self.conv.geometry();
        let [h, w] = g.kernel;
        format!("integer conv sums {h}x{w} {}->{}", g.channels, g.filters)
    }

    fn workspace(&self) -> usize {
        let g = self.conv.geometry();
        if self.signed { self.batch * g.input_pixels() * g.channels } else { 0 }
    }

    fn division(&self) -> Division {
        Division::units(self.batch * self.conv.geometry().output_pixels(), 1)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let g = self.conv.geometry();
        let (pixels, rows) = (self.batch * g.input_pixels(), self.batch * g.output_pixels());
        let zero: &[u8] = if self.zero { io.input(2)? } else { &[0] };
        let zero = zero.first().copied().unwrap_or(0);
        let (x, zero_point) = flipped(self.signed, io.input(0)?, zero, context.workspace);
        let output: MatrixMut<'_, i32> = io.output_matrix(0, g.filters)?;
        if output.rows() > 0 && output.cols() > 0 {
            let epilogue = ByteEpilogue { zero_point, ..ByteEpilogue::default() };
            let x = Matrix::dense(x, pixels, g.channels);
            self.conv.run_rows(x, io.share(), rows, ByteOutput::I32(output), &epilogue);
        }
        Ok(())
    }
}

/// Bytes as kernels take them, unsigned, and their zero point: signed ones by way of the workspace.
pub(super) fn flipped<'a>(signed: bool, x: &'a [u8], zero: u8, workspace: &'a mut [u8]) -> (&'a [u8], i32) {
    if !signed {
        return (x, i32::from(zero));
    }
    (flip_signs(x, workspace), i32::from(zero as i8) + 128)
}
