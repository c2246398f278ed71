//! What integer convolutions and matrix products share: operands as the kernels want them, and their epilogue.
//!
//! Kernels take unsigned activations: signed ones are flipped by 0x80 into the workspace, with a zero point 128 higher.

use super::arena::Io;
use super::kernel::{Context, Spec};
use super::product::{activation, stored};
use crate::error::{Result, bail};
use crate::kernels::Matrix;
use crate::kernels::gemm::{self, ByteEpilogue, ByteOutput, QuantizedResidual, Requantize, Residual, Through};
use crate::ops::Op;
use crate::ops::elementwise::{Binary, BinaryKind};
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
        let op = stored(op);
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
    Ok((flip_signs(own, flipped), rest))
}

/// Signed bytes as unsigned ones, 128 up, at the beginning of `to`.
pub(super) fn flip_signs<'a>(from: &[u8], to: &'a mut [u8]) -> &'a [u8] {
    let to = &mut to[..from.len()];
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from ^ 0x80;
    }
    to
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
pub(super) fn variant(form: &[usize], zeros: &[i32]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (form, zeros).hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug, Clone, Copy)]
enum Store {
    F32,
    F16,
    Bf16,
    U8(Requantize),
    I8(Requantize),
}

/// What is added to an element.
#[derive(Debug, Clone, Copy)]
enum Added {
    Reals(usize),
    /// With a factor for its scale, and how many elements there are.
    Bytes(Bytes, f32, usize),
}

/// A first rounding, and what is added behind it.
#[derive(Debug)]
struct Second {
    factor: f32,
    limits: (i32, i32),
    scale: f32,
    shift: Option<Vec<f32>>,
    residual: Option<Added>,
}

/// Everything about an integer product but the product.
///
/// Where all scales are known and the activation only bounds, the factors of the output are in the scales of the columns.
#[derive(Debug)]
pub(super) struct Tail {
    n: usize,
    x: Bytes,
    x_len: usize,
    /// One factor a column; without the scale of x where that is not known yet.
    scales: Vec<f32>,
    bias: Option<Vec<i32>>,
    shift: Option<Vec<f32>>,
    residual: Option<Added>,
    activation: gemm::Activation,
    second: Option<Second>,
    store: Store,
}

/// The range of a dtype of bytes less a zero point.
fn limits(dtype: DType, zero_point: i32) -> Option<(i32, i32)> {
    match dtype {
        DType::U8 => Some((-zero_point, 255 - zero_point)),
        DType::I8 => Some((-128 - zero_point, 127 - zero_point)),
        _ => None,
    }
}

/// A bias of real numbers in steps of the sums, where it is that but for what f32 loses.
fn steps(bias: &[f32], scales: &[f32]) -> Option<Vec<i32>> {
    let step = |(bias, scale): (&f32, &f32)| {
        let steps = f64::from(*bias) / f64::from(*scale);
        let whole = steps.round();
        ((steps - whole).abs() <= steps.abs() * 1e-6 && whole.abs() < 1e9).then_some(whole as i32)
    };
    bias.iter().zip(scales).map(step).collect()
}

impl Tail {
    /// Of a product with `n` columns; `None` where kernels lack something.
    pub(super) fn new(spec: &Spec<'_>, parts: &Parts<'_>, n: usize) -> Option<Self> {
        let quantized = parts.quantized;
        let x = Bytes::new(spec, 0, quantized.input(0)?)?;
        let (weights, _) = weight_scales(spec, quantized.input(1)?)?;
        let x_scale = if let Scale::Known { scale, .. } = x.scale { scale } else { 1.0 };
        let weight = |column: usize| if weights.len() == 1 { weights.first() } else { weights.get(column) };
        let mut scales = (0..n).map(|column| Some(weight(column)? * x_scale)).collect::<Option<Vec<f32>>>()?;
        let residual = parts.epilogue.and_then(Epilogue::residual_index);
        let vector = |index: &usize| Some(*index) != residual && spec.input(*index).is_some();
        let bias = (2..quantized.arity).find(vector);
        if (2..quantized.arity).filter(vector).count() > 1 {
            return None;
        }
        let mut shift = match bias {
            Some(index) => Some(spec.constant(index)?.as_slice::<f32>().ok().filter(|b| b.len() == n)?.to_vec()),
            None => None,
        };
        let mut residual = match residual {
            Some(index) => Some(added(spec, index, quantized.input(index))?),
            None => None,
        };
        let mut activation = activation(parts.epilogue.and_then(|e| e.activation))?;
        let known_x = matches!(x.scale, Scale::Known { .. });
        let bias = shift.as_ref().filter(|_| known_x).and_then(|shift| steps(shift, &scales));
        if bias.is_some() {
            shift = None;
        }
        // How the product's own result is quantized.
        let first = match quantized.output {
            Some(linear) => Some((known(spec, linear)?, linear)),
            None => None,
        };
        let mut factor = first.map_or(1.0, |((scale, _), _)| 1.0 / scale);
        let bounds =
            matches!(activation, gemm::Activation::None | gemm::Activation::Relu | gemm::Activation::Clip { .. });
        if known_x && bounds && !matches!(residual, Some(Added::Reals(_))) {
            scales.iter_mut().chain(shift.iter_mut().flatten()).for_each(|scale| *scale *= factor);
            if let Some(Added::Bytes(_, own, _)) = &mut residual {
                *own *= factor;
            }
            if let gemm::Activation::Clip { lo, hi } = activation {
                activation = gemm::Activation::Clip { lo: lo * factor, hi: hi * factor };
            }
            factor = 1.0;
        }
        let dtype = spec.output(0)?.dtype;
        let (second, store) = match (parts.second, first) {
            (None, None) => (None, Store::real(dtype)?),
            (None, Some(((_, zero_point), _))) => (None, Store::new(dtype, factor, zero_point)?),
            (Some(_), None) => return None,
            (Some((second, arity)), Some(((scale, zero_point), linear))) => {
                let (second, store) = chained(spec, (second, arity), n, scale)?;
                let limits = limits(spec.input(linear.zero_point)?.dtype, zero_point)?;
                (Some(Second { factor, limits, ..second }), store)
            }
        };
        let x_len = spec.shape(0)?.elements();
        Some(Tail { n, x, x_len, scales, bias, shift, residual, activation, second, store })
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
        let added = |added: &Option<Added>| match added {
            Some(Added::Bytes(bytes, _, len)) => flipped(bytes, *len),
            _ => 0,
        };
        let second = self.second.as_ref().map_or(0, |second| added(&second.residual));
        scales.next_multiple_of(64) + flipped(&self.x, self.x_len) + added(&self.residual) + second
    }

    /// Calls `product` with the bytes of x, the share of the output of `rows` rows, and the epilogue of all of it.
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
            bias: self.bias.as_deref(),
            shift: self.shift.as_deref(),
            activation: self.activation,
            extremes: context.extremes,
            next: context.next,
            pack_rows: context.pack_rows,
            ..ByteEpilogue::default()
        };
        let mut rest = rest;
        match &self.residual {
            None => {}
            Some(Added::Reals(index)) if io.in_place() == Some(*index) => {
                epilogue.residual = Some(Residual::OutputBefore);
            }
            Some(Added::Reals(index)) => {
                epilogue.residual = Some(Residual::Before(Matrix::dense(io.input(*index)?, rows, n)));
            }
            Some(Added::Bytes(bytes, factor, _)) => {
                let (residual, more) = quantized(bytes, *factor, io, rest, (rows, n))?;
                (epilogue.byte_residual, rest) = (Some(residual), more);
            }
        }
        if let Some(second) = &self.second {
            let residual = match &second.residual {
                Some(Added::Bytes(bytes, factor, _)) => Some(quantized(bytes, *factor, io, rest, (rows, n))?.0),
                _ => None,
            };
            let Second { factor, limits, scale, shift, .. } = second;
            let shift = shift.as_deref();
            epilogue.through = Some(Through { factor: *factor, limits: *limits, scale: *scale, shift, residual });
        }
        let output = match self.store {
            Store::F32 => ByteOutput::F32(io.output_matrix(0, n)?),
            Store::F16 => ByteOutput::F16(io.output_matrix(0, n)?),
            Store::Bf16 => ByteOutput::Bf16(io.output_matrix(0, n)?),
            Store::U8(to) => ByteOutput::U8(io.output_matrix(0, n)?, to),
            Store::I8(to) => ByteOutput::I8(io.output_matrix(0, n)?, to),
        };
        if output.rows() > 0 && output.cols() > 0 {
            product(x, output, &epilogue);
        }
        Ok(())
    }
}

impl Store {
    fn real(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Store::F32),
            DType::F16 => Some(Store::F16),
            DType::BF16 => Some(Store::Bf16),
            _ => None,
        }
    }

    fn new(dtype: DType, factor: f32, zero_point: i32) -> Option<Self> {
        let to = Requantize { factor, zero_point };
        match dtype {
            DType::U8 => Some(Store::U8(to)),
            DType::I8 => Some(Store::I8(to)),
            _ => None,
        }
    }
}

/// The summand that is input `index` of the step.
fn added(spec: &Spec<'_>, index: usize, linear: Option<Linear>) -> Option<Added> {
    Some(match linear {
        Some(linear) => Added::Bytes(Bytes::new(spec, index, linear)?, 1.0, spec.shape(index)?.elements()),
        None => Added::Reals(index),
    })
}

/// The sum that follows a result quantized with `scale`, and how it is stored. Its limits are still to be told.
fn chained(spec: &Spec<'_>, (sum, arity): (&Quantized, usize), n: usize, scale: f32) -> Option<(Second, Store)> {
    if sum.op.downcast_ref::<Binary>()?.0 != BinaryKind::Add {
        return None;
    }
    // The sum's inputs are the step's from `arity` on, but for its first.
    let own = |linear: Linear| Linear {
        scale: arity + linear.scale - 1,
        zero_point: arity + linear.zero_point - 1,
        ..linear
    };
    let (to, zero_point) = known(spec, own(sum.output?))?;
    let factor = 1.0 / to;
    let (shift, residual) = match sum.input(1) {
        Some(linear) => match added(spec, arity, Some(own(linear)))? {
            Added::Bytes(bytes, _, len) => (None, Some(Added::Bytes(bytes, factor, len))),
            Added::Reals(_) => return None,
        },
        None => {
            let vector = spec.constant(arity)?.as_slice::<f32>().ok().filter(|vector| vector.len() == n)?;
            (Some(vector.iter().map(|v| v * factor).collect()), None)
        }
    };
    let store = Store::new(spec.output(0)?.dtype, 1.0, zero_point)?;
    Some((Second { factor: 1.0, limits: (0, 0), scale: scale * factor, shift, residual }, store))
}

/// A summand as kernels take it, and the rest of the workspace.
fn quantized<'a>(
    bytes: &Bytes,
    factor: f32,
    io: &Io<'a>,
    workspace: &'a mut [u8],
    (rows, n): (usize, usize),
) -> Result<(QuantizedResidual<'a>, &'a mut [u8])> {
    let (scale, zero_point) = bytes.parameters(io)?;
    let (data, rest) = flipped(bytes, io, workspace)?;
    Ok((QuantizedResidual { data: Matrix::dense(data, rows, n), scale: scale * factor, zero_point }, rest))
}
