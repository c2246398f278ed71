//! Convolution of quantized images, channels last, with constant weights.

use super::arena::Io;
use super::convolution::geometry;
use super::integer::{Parts, Tail, variant, weight_scales};
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, ensure};
use crate::kernels::Matrix;
use crate::kernels::arch::Isa;
use crate::kernels::conv::{ByteConv2d, ByteConvWeights};
use crate::kernels::gemm::ByteWeights;
use crate::ops::nn::Conv;
use crate::tensor::{DType, Tensor};

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
        // What their form depends on beside their sizes.
        let form =
            [[conv.group, geometry.strides[1]], geometry.pad_begin, geometry.pad_end, geometry.dilations].concat();
        let pack = |w: &Tensor| ByteConvWeights::pack(isa, byte_weights(w)?, &geometry, &zeros);
        let weights = spec.weights.get_or_pack(weight, variant(&form, &zeros), pack)?;
        let [height, width] = geometry.output();
        let expected = input[0] * height * width * weight.shape()[0];
        ensure!(output.elements() == expected, Internal, "the output is {output}, not of {height} x {width} pixels");
        let conv = ByteConv2d::new(geometry, weights, tail.zero_point().unwrap_or(0))?;
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

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let g = self.conv.geometry();
        let (pixels, rows) = (self.batch * g.input_pixels(), self.batch * g.output_pixels());
        self.tail.run(io, context, rows, |x, output, epilogue| {
            self.conv.run_rows(Matrix::dense(x, pixels, g.channels), io.share(), rows, output, epilogue);
        })
    }
}
