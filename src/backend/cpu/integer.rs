//! What integer convolutions and matrix products share: operands as the kernels want them, and their epilogue.
//!
//! Kernels take unsigned activations: signed ones are flipped by 0x80 into the workspace, with a zero point 128 higher.

use super::arena::Io;
use super::kernel::{Context, Spec};
use super::product::activation;
use crate::error::{Result, bail};
use crate::kernels::gemm::{self, ByteEpilogue, ByteOutput, QuantizedResidual, Requantize, Residual};
use crate::kernels::{Matrix, MatrixMut};
use crate::ops::Op;
use crate::ops::fused::{Chain, ChannelsLast, Epilogue, Linear, Quantized};
use crate::tensor::DType;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The parts of an integer product, taken out of what they are wrapped in.
pub(super) struct Parts<'a> {
    pub(super) last: bool,
    /// What is done to the quantized result, and how many inputs come before its own.
    pub(super) second: Option<(&'a Quantized, usize)>,
    pub(super) quantized: &'a Quantized,
    pub(super) epilogue: Option<&'a Epilogue>,
    /// The product itself.
    pub(super) op: &'a Arc<dyn Op>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(op: &'a Arc<dyn Op>) -> Option<Self> {
        let wrapper = op.downcast_ref::<ChannelsLast>();
        let op = wrapper.map_or(op, |last| &last.op);
        let chain = op.downcast_ref::<Chain>();
        let second = match chain {
            Some(chain) => Some((chain.second.downcast_ref::<Quantized>()?, chain.arity)),
            None => None,
        };
        let quantized = chain.map_or(op, |chain| &chain.first).downcast_ref::<Quantized>()?;
        let epilogue = quantized.op.downcast_ref::<Epilogue>();
        let op = epilogue.map_or(&quantized.op, |e| &e.op);
        Some(Parts { last: wrapper.is_some(), second, quantized, epilogue, op })
    }
}

/// A scale and a zero point, known now or read when the step runs.
#[derive(Debug, Clone, Copy)]
enum Scale {
    Known { scale: f32, zero_point: i32 },
    Read(Linear),
}

/// The quantization of an operand with one scale.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    index: usize,
    signed: bool,
    scale: Scale,
}

impl Bytes {
    fn new(spec: &Spec<'_>, index: usize, linear: Linear) -> Option<Self> {
        let signed = spec.input(index)?.dtype == DType::I8;
        let scale = match known(spec, linear) {
            Some((scale, zero_point)) => Scale::Known { scale, zero_point },
            None => Scale::Read(linear),
        };
        Some(Bytes { index, signed, scale })
    }

    /// Scale, and zero point of the bytes taken as unsigned.
    fn parameters(&self, io: &Io<'_>) -> Result<(f32, i32)> {
        let (scale, zero_point) = match self.scale {
            Scale::Known { scale, zero_point } => (scale, zero_point),
            Scale::Read(linear) => {
                let (scales, zeros): (&[f32], &[u8]) = (io.input(linear.scale)?, io.input(linear.zero_point)?);
                let (Some(&scale), Some(&zero)) = (scales.first(), zeros.first()) else {
                    bail!(Internal, "a scale without an element");
                };
                (scale, if self.signed { i32::from(zero as i8) } else { i32::from(zero) })
            }
        };
        Ok((scale, zero_point + if self.signed { 128 } else { 0 }))
    }
}

/// The bytes of an operand, unsigned: signed ones by way of the front of `workspace`, whose rest comes back.
fn flipped<'a>(bytes: &Bytes, io: &Io<'a>, workspace: &'a mut [u8]) -> Result<(&'a [u8], &'a mut [u8])> {
    let own: &[u8] = io.input(bytes.index)?;
    if !bytes.signed {
        return Ok((own, workspace));
    }
    let (flipped, rest) = workspace.split_at_mut(own.len().next_multiple_of(64));
    for (to, &from) in flipped.iter_mut().zip(own) {
        *to = from ^ 0x80;
    }
    Ok((&flipped[..own.len()], rest))
}

/// Scale and zero point where they are constants of one element.
pub(super) fn known(spec: &Spec<'_>, linear: Linear) -> Option<(f32, i32)> {
    let scale = spec.constant(linear.scale)?.as_slice::<f32>().ok()?;
    let zero = spec.constant(linear.zero_point)?.to_i64_vec().ok()?;
    match (scale, &zero[..]) {
        ([scale], [zero]) => Some((*scale, *zero as i32)),
        _ => None,
    }
}

/// The weight's scales and zero points, one or one a column.
pub(super) fn weight_scales(spec: &Spec<'_>, linear: Linear) -> Option<(Vec<f32>, Vec<i32>)> {
    let scales = spec.constant(linear.scale)?.as_slice::<f32>().ok()?.to_vec();
    let zeros = spec.constant(linear.zero_point)?.to_i64_vec().ok()?;
    Some((scales, zeros.into_iter().map(|zero| zero as i32).collect()))
}

/// Tells packed weights apart that have the same bytes but not the same form or zero points.
pub(super) fn variant(form: usize, zeros: &[i32]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (form, zeros).hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug, Clone, Copy)]
enum Store {
    F32,
    U8(Requantize),
    I8(Requantize),
}

/// What is added to an element.
#[derive(Debug, Clone, Copy)]
enum Added {
    Reals(usize),
    Bytes(Bytes),
}

/// Everything about an integer product but the product.
#[derive(Debug)]
pub(super) struct Tail {
    n: usize,
    x: Bytes,
    x_len: usize,
    added_len: usize,
    /// One factor a column; without the scale of x where that is not known yet.
    scales: Vec<f32>,
    bias: Option<usize>,
    residual: Option<Added>,
    activation: gemm::Activation,
    store: Store,
}

impl Tail {
    /// Of a product with `n` columns; `None` where kernels lack something.
    pub(super) fn new(spec: &Spec<'_>, parts: &Parts<'_>, n: usize) -> Option<Self> {
        let quantized = parts.quantized;
        if parts.second.is_some() {
            return None;
        }
        let x = Bytes::new(spec, 0, quantized.input(0)?)?;
        let (weights, _) = weight_scales(spec, quantized.input(1)?)?;
        let factor = if let Scale::Known { scale, .. } = x.scale { scale } else { 1.0 };
        let weight = |column: usize| if weights.len() == 1 { weights.first() } else { weights.get(column) };
        let scales = (0..n).map(|column| Some(weight(column)? * factor)).collect::<Option<Vec<f32>>>()?;
        let residual = parts.epilogue.and_then(Epilogue::residual_index);
        let vector = |index: &usize| Some(*index) != residual && spec.input(*index).is_some();
        let bias = (2..quantized.arity).find(vector);
        let more = (2..quantized.arity).filter(vector).count() > 1;
        let fits = |index: usize| spec.shape(index).is_some_and(|shape| shape.len() == n);
        if more || !bias.is_none_or(fits) {
            return None;
        }
        let added = match residual {
            None => None,
            Some(index) => Some(match quantized.input(index) {
                Some(linear) => Added::Bytes(Bytes::new(spec, index, linear)?),
                None => Added::Reals(index),
            }),
        };
        let store = match quantized.output {
            None => Store::F32,
            Some(linear) => {
                let (scale, zero_point) = known(spec, linear)?;
                let to = Requantize { factor: 1.0 / scale, zero_point };
                match spec.output(0)?.dtype {
                    DType::U8 => Store::U8(to),
                    DType::I8 => Store::I8(to),
                    _ => return None,
                }
            }
        };
        Some(Tail {
            n,
            x,
            x_len: spec.shape(0)?.len(),
            added_len: residual.map_or(Some(0), |index| Some(spec.shape(index)?.len()))?,
            scales,
            bias,
            residual: added,
            activation: activation(parts.epilogue.and_then(|e| e.activation))?,
            store,
        })
    }

    /// The input's zero point as the kernels take it, where it is known.
    pub(super) fn zero_point(&self) -> Option<u8> {
        match self.x.scale {
            Scale::Known { zero_point, .. } => u8::try_from(zero_point + if self.x.signed { 128 } else { 0 }).ok(),
            Scale::Read(_) => None,
        }
    }

    pub(super) fn workspace(&self) -> usize {
        let flipped = |bytes: &Bytes, len: usize| if bytes.signed { len.next_multiple_of(64) } else { 0 };
        let scales = if let Scale::Read(_) = self.x.scale { self.n * 4 } else { 0 };
        let added = match &self.residual {
            Some(Added::Bytes(bytes)) => flipped(bytes, self.added_len),
            _ => 0,
        };
        scales.next_multiple_of(64) + flipped(&self.x, self.x_len) + added
    }

    /// Calls `product` with the bytes of x, the output of `rows` rows and the epilogue.
    pub(super) fn run(
        &self,
        io: &Io<'_>,
        context: &mut Context<'_>,
        rows: usize,
        product: impl FnOnce(&[u8], ByteOutput<'_>, &ByteEpilogue<'_>),
    ) -> Result<()> {
        let n = self.n;
        let mut workspace: &mut [u8] = &mut *context.workspace;
        let (scale, zero_point) = self.x.parameters(io)?;
        let column_scale: &[f32] = match self.x.scale {
            Scale::Known { .. } => &self.scales,
            Scale::Read(_) => {
                let (scaled, rest) = workspace.split_at_mut((n * 4).next_multiple_of(64));
                workspace = rest;
                let scaled: &mut [f32] = &mut bytemuck::cast_slice_mut(scaled)[..n];
                for (to, from) in scaled.iter_mut().zip(&self.scales) {
                    *to = from * scale;
                }
                scaled
            }
        };
        let (x, rest) = flipped(&self.x, io, workspace)?;
        let mut epilogue = ByteEpilogue {
            zero_point,
            column_scale: Some(column_scale),
            shift: self.bias.map(|index| io.input(index)).transpose()?,
            activation: self.activation,
            ..ByteEpilogue::default()
        };
        match &self.residual {
            None => {}
            Some(Added::Reals(index)) if io.in_place() == Some(*index) => {
                epilogue.residual = Some(Residual::OutputBefore);
            }
            Some(Added::Reals(index)) => {
                epilogue.residual = Some(Residual::Before(Matrix::dense(io.input(*index)?, rows, n)));
            }
            Some(Added::Bytes(bytes)) => {
                let (scale, zero_point) = bytes.parameters(io)?;
                let (data, _) = flipped(bytes, io, rest)?;
                epilogue.byte_residual =
                    Some(QuantizedResidual { data: Matrix::dense(data, rows, n), scale, zero_point });
            }
        }
        let output = match self.store {
            Store::F32 => ByteOutput::F32(MatrixMut::dense(io.output(0)?, rows, n)),
            Store::U8(to) => ByteOutput::U8(MatrixMut::dense(io.output(0)?, rows, n), to),
            Store::I8(to) => ByteOutput::I8(MatrixMut::dense(io.output(0)?, rows, n), to),
        };
        if rows > 0 && n > 0 {
            product(x, output, &epilogue);
        }
        Ok(())
    }
}
