//! Transposed convolution of f32 images, channels last, with its epilogue.

use super::arena::Io;
use super::convolution::pair;
use super::kernel::{Context, Division, Kernel, Spec};
use super::product::activation;
use crate::error::{Result, ensure};
use crate::kernels::Matrix;
use crate::kernels::arch::Isa;
use crate::kernels::conv::{ConvTranspose2d, TransposedGeometry, TransposedWeights};
use crate::kernels::gemm;
use crate::ops::fused::{ChannelsLast, Epilogue};
use crate::ops::nn::ConvTranspose;
use crate::tensor::{DType, Tensor};
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Debug)]
pub(super) struct TransposedConvolution {
    conv: ConvTranspose2d,
    batch: usize,
    bias: Option<usize>,
    residual: Option<usize>,
    activation: gemm::Activation,
}

/// The sizes of a transposed convolution of `[batch, spatial.., channels]` with a weight of ONNX's layout; `None` where
/// kernels lack something.
fn geometry(conv: &ConvTranspose, input: &[usize], weight: &[usize]) -> Result<Option<TransposedGeometry>> {
    let spatial = input.len().saturating_sub(2);
    if !(1..=2).contains(&spatial) || weight.len() != input.len() {
        return Ok(None);
    }
    let (size, kernel) = (&input[1..=spatial], &weight[2..]);
    let (output, begin) = conv.output(size, kernel)?;
    let begin: Option<Vec<usize>> = begin.iter().map(|&cut| usize::try_from(cut).ok()).collect();
    let Some(begin) = begin else { return Ok(None) };
    let filters = weight[1].saturating_mul(conv.group);
    Ok(Some(TransposedGeometry {
        output: pair(&output, spatial),
        groups: conv.group,
        dilations: pair(&conv.dilations, spatial),
        pad_begin: if spatial == 1 { [0, begin[0]] } else { [begin[0], begin[1]] },
        ..TransposedGeometry::new(
            pair(size, spatial),
            input[spatial + 1],
            filters,
            pair(kernel, spatial),
            pair(&conv.strides, spatial),
        )
    }))
}

impl TransposedConvolution {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(last) = spec.op::<ChannelsLast>() else { return Ok(None) };
        let epilogue = last.op.downcast_ref::<Epilogue>();
        let inner = epilogue.map_or(&last.op, |e| &e.op);
        let (Some(conv), true) = (inner.downcast_ref::<ConvTranspose>(), spec.all(DType::F32)) else { return Ok(None) };
        let (Some(input), Some(weight), Some(output)) = (spec.shape(0), spec.constant(1), spec.output_shape(0)) else {
            return Ok(None);
        };
        let Some(activation) = activation(epilogue.and_then(|e| e.activation)) else { return Ok(None) };
        let Some(geometry) = geometry(conv, input, weight.shape())? else { return Ok(None) };
        geometry.validate()?;
        let mut variant = DefaultHasher::new();
        (geometry.groups, geometry.strides, geometry.dilations).hash(&mut variant);
        let TransposedGeometry { channels, kernel: [height, width], strides, dilations, groups, .. } = geometry;
        let shape = [channels, geometry.filters_per_group(), height, width];
        let pack = |w: &Tensor| TransposedWeights::pack(isa, w.as_slice()?, shape, groups, strides, dilations);
        let weights = spec.weights.get_or_pack(weight, variant.finish(), pack)?;
        let expected = input[0] * geometry.output_pixels() * geometry.filters;
        ensure!(output.elements() == expected, Internal, "the output is {output}, not of {:?} pixels", geometry.output);
        Ok(Some(TransposedConvolution {
            batch: input[0],
            conv: ConvTranspose2d::new(geometry, weights)?,
            bias: spec.input(2).filter(|_| epilogue.is_none_or(|e| e.arity > 2)).map(|_| 2),
            residual: epilogue.and_then(Epilogue::residual_index),
            activation,
        }))
    }
}

impl Kernel for TransposedConvolution {
    fn name(&self) -> String {
        let g = self.conv.geometry();
        let [h, w] = g.kernel;
        let groups = if g.groups > 1 { format!(" in {} groups", g.groups) } else { String::new() };
        format!("transposed conv {h}x{w} {}->{}{groups}", g.channels, g.filters)
    }

    fn division(&self) -> Division {
        let g = self.conv.geometry();
        Division::units(self.batch * g.output_pixels(), g.output[1])
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let g = self.conv.geometry();
        let (pixels, rows) = (self.batch * g.input_pixels(), self.batch * g.output_pixels());
        let input = Matrix::dense(io.input(0)?, pixels, g.channels);
        let bias: Option<&[f32]> = self.bias.map(|i| io.input(i)).transpose()?;
        let residual = match self.residual {
            Some(index) if io.in_place() == Some(index) => Some(gemm::Residual::OutputBefore),
            Some(index) => Some(gemm::Residual::Before(Matrix::dense(io.input(index)?, rows, g.filters))),
            None => None,
        };
        let epilogue = gemm::Epilogue { bias, residual, activation: self.activation, ..Default::default() };
        let (share, output) = (io.share(), io.output_matrix::<f32>(0, g.filters)?);
        if output.rows() > 0 && output.cols() > 0 {
            // A share consists of whole lines.
            let lines = share.start / g.output[1]..share.end / g.output[1];
            self.conv.run_lines(input, lines, self.batch * g.output[0], output, &epilogue);
        }
        Ok(())
    }
}
