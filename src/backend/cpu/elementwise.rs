//! Maps of one and two operands: arithmetic, comparison, logic, limits, selection, and copies.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, ensure};
use crate::kernels::arch::Isa;
use crate::kernels::elementwise::{self as k, Broadcast, Operand};
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind, Variadic, VariadicKind, Where};
use crate::tensor::DType;

/// A map of one f32 operand.
#[derive(Debug)]
pub(super) struct Map {
    isa: Isa,
    function: k::Unary,
    division: Division,
}

impl Map {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let float =
            |slot: Option<&crate::backend::Slot>| slot.is_some_and(|s| s.dtype == DType::F32 && s.shape.is_some());
        if !float(spec.input(0)) || !float(spec.output(0)) {
            return Ok(None);
        }
        let function = if let Some(Unary(kind)) = spec.op::<Unary>() {
            function_of(*kind)
        } else if spec.op::<Clip>().is_some() {
            let present = |index: usize| spec.input(index).map(|_| index);
            bounds(spec, present(1), present(2)).map(|(low, high)| k::Unary::Clip { low, high })
        } else {
            None
        };
        Ok(function.map(|function| Map { isa, function, division: Division::elements(spec.output_shape(0)) }))
    }
}

/// Constant bounds of a `Clip`, each the input of this index, if there is one.
pub(super) fn bounds(spec: &Spec<'_>, low: Option<usize>, high: Option<usize>) -> Option<(f32, f32)> {
    let bound = |index: Option<usize>, open: f32| match index {
        None => Some(open),
        Some(index) => spec.constant(index)?.to_f32_vec().ok()?.first().copied(),
    };
    Some((bound(low, f32::NEG_INFINITY)?, bound(high, f32::INFINITY)?))
}

pub(super) fn function_of(kind: UnaryKind) -> Option<k::Unary> {
    use UnaryKind as U;
    use k::Unary as V;
    macro_rules! scalar {
        ($kind:expr) => {
            V::Scalar(|x| $kind.apply_f32(x))
        };
    }
    Some(match kind {
        U::Abs => V::Abs,
        U::Neg => V::Neg,
        U::Sign => V::Sign,
        U::Ceil => V::Ceil,
        U::Floor => V::Floor,
        U::Round => V::Round,
        U::Reciprocal => V::Reciprocal,
        U::Sqrt => V::Sqrt,
        U::Exp => V::Exp,
        U::Log => V::Ln,
        U::Erf => V::Erf,
        U::Sin => V::Sin,
        U::Cos => V::Cos,
        U::Tan => scalar!(U::Tan),
        U::Asin => scalar!(U::Asin),
        U::Acos => scalar!(U::Acos),
        U::Atan => scalar!(U::Atan),
        U::Sinh => scalar!(U::Sinh),
        U::Cosh => scalar!(U::Cosh),
        U::Asinh => scalar!(U::Asinh),
        U::Acosh => scalar!(U::Acosh),
        U::Atanh => scalar!(U::Atanh),
        U::Tanh => V::Tanh,
        U::Relu => V::Relu,
        U::Sigmoid => V::Sigmoid,
        U::Softplus => V::Softplus,
        U::Softsign => V::Softsign,
        U::Mish => V::Mish,
        U::HardSwish => V::HardSwish,
        U::Gelu { tanh: false } => V::Gelu,
        U::Gelu { tanh: true } => V::GeluTanh,
        U::Swish { alpha } => V::Swish { alpha },
        U::LeakyRelu { alpha } => V::LeakyRelu { alpha },
        U::Elu { alpha } => V::Elu { alpha },
        U::Selu { alpha, gamma } => V::Selu { alpha, gamma },
        // The kernel looks at one side of zero only.
        U::Celu { alpha } if alpha > 0.0 => V::Celu { alpha },
        U::HardSigmoid { alpha, beta } => V::HardSigmoid { alpha, beta },
        U::ThresholdedRelu { alpha } => V::ThresholdedRelu { alpha },
        _ => return None,
    })
}

impl Kernel for Map {
    fn name(&self) -> String {
        "map".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        if io.in_place() == Some(0) {
            k::unary_in_place(self.isa, self.function, io.output(0)?);
        } else {
            k::unary(self.isa, self.function, &io.input(0)?[io.share()], io.output(0)?);
        }
        Ok(())
    }
}

/// What a map of two operands computes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pairing {
    Float(k::Binary),
    Integer(k::IntegerOp),
    Compare(k::Compare),
    Logic(k::Logic),
}

/// A map of two operands, broadcast.
#[derive(Debug)]
pub(super) struct Zip {
    isa: Isa,
    pairing: Pairing,
    dtype: DType,
    operands: [Broadcast; 2],
    division: Division,
}

impl Zip {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(a), Some(b), Some(out)) = (spec.input(0), spec.input(1), spec.output_shape(0)) else {
            return Ok(None);
        };
        let pairing = if let Some(Binary(kind)) = spec.op::<Binary>() {
            pairing_of(*kind, a.dtype)
        } else if let Some(Variadic(kind)) = spec.op::<Variadic>() {
            (spec.instruction.inputs.len() == 2).then(|| variadic(*kind, a.dtype)).flatten()
        } else {
            None
        };
        let (Some(pairing), Some(sa), Some(sb)) = (pairing, &a.shape, &b.shape) else { return Ok(None) };
        if a.dtype != b.dtype {
            return Ok(None);
        }
        let (Some(first), Some(second)) = (Broadcast::of(sa, out), Broadcast::of(sb, out)) else { return Ok(None) };
        Ok(Some(Zip {
            isa,
            pairing,
            dtype: a.dtype,
            operands: [first, second],
            division: Division::elements(Some(out)),
        }))
    }
}

pub(super) fn pairing_of(kind: BinaryKind, dtype: DType) -> Option<Pairing> {
    use BinaryKind as B;
    let numbers = matches!(dtype, DType::F32 | DType::I32 | DType::I64);
    let compare = match kind {
        B::Equal => Some(k::Compare::Equal),
        B::Less => Some(k::Compare::Less),
        B::LessOrEqual => Some(k::Compare::LessOrEqual),
        B::Greater => Some(k::Compare::Greater),
        B::GreaterOrEqual => Some(k::Compare::GreaterOrEqual),
        _ => None,
    };
    if let (Some(compare), true) = (compare, numbers) {
        return Some(Pairing::Compare(compare));
    }
    Some(match (kind, dtype) {
        (B::Add, DType::F32) => Pairing::Float(k::Binary::Add),
        (B::Sub, DType::F32) => Pairing::Float(k::Binary::Sub),
        (B::Mul, DType::F32) => Pairing::Float(k::Binary::Mul),
        (B::Div, DType::F32) => Pairing::Float(k::Binary::Div),
        (B::Pow, DType::F32) => Pairing::Float(k::Binary::Pow),
        (B::PRelu, DType::F32) => Pairing::Float(k::Binary::PRelu),
        (B::Mod { fmod: true }, DType::F32) => Pairing::Float(k::Binary::Scalar(|a, b| a % b)),
        (B::Add, DType::I32 | DType::I64) => Pairing::Integer(k::IntegerOp::Add),
        (B::Sub, DType::I32 | DType::I64) => Pairing::Integer(k::IntegerOp::Sub),
        (B::Mul, DType::I32 | DType::I64) => Pairing::Integer(k::IntegerOp::Mul),
        (B::And, DType::Bool) => Pairing::Logic(k::Logic::And),
        (B::Or, DType::Bool) => Pairing::Logic(k::Logic::Or),
        (B::Xor, DType::Bool) => Pairing::Logic(k::Logic::Xor),
        _ => return None,
    })
}

pub(super) fn variadic(kind: VariadicKind, dtype: DType) -> Option<Pairing> {
    Some(match (kind, dtype) {
        (VariadicKind::Sum, DType::F32) => Pairing::Float(k::Binary::Add),
        (VariadicKind::Max, DType::F32) => Pairing::Float(k::Binary::Max),
        (VariadicKind::Min, DType::F32) => Pairing::Float(k::Binary::Min),
        (VariadicKind::Max, DType::I32 | DType::I64) => Pairing::Integer(k::IntegerOp::Max),
        (VariadicKind::Min, DType::I32 | DType::I64) => Pairing::Integer(k::IntegerOp::Min),
        _ => return None,
    })
}

/// Operand `index` of a step: the output itself where it is done in place.
pub(super) fn operand<'a, T: bytemuck::AnyBitPattern>(
    io: &Io<'a>,
    index: usize,
    spread: &'a Broadcast,
) -> Result<Operand<'a, T>> {
    if io.in_place() == Some(index) {
        ensure!(spread.is_full(), Internal, "an operand that is spread cannot be overwritten");
        return Ok(Operand::Target);
    }
    Ok(Operand::Spread(io.input(index)?, spread))
}

impl Kernel for Zip {
    fn name(&self) -> String {
        "zip".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run<'a>(&self, io: &Io<'a>, _context: &mut Context<'_>) -> Result<()> {
        let [first, second] = &self.operands;
        let start = io.share().start;
        macro_rules! run {
            ($t:ty, $out:ty, |$a:ident, $b:ident, $y:ident| $body:expr) => {{
                let $a: Operand<'_, $t> = operand(io, 0, first)?;
                let $b: Operand<'_, $t> = operand(io, 1, second)?;
                let $y: &mut [$out] = io.output(0)?;
                $body
            }};
        }
        match (self.pairing, self.dtype) {
            (Pairing::Float(op), _) => run!(f32, f32, |a, b, y| k::binary(self.isa, op, a, b, start, y)),
            (Pairing::Integer(op), DType::I32) => run!(i32, i32, |a, b, y| k::integer(op, a, b, start, y)),
            (Pairing::Integer(op), _) => run!(i64, i64, |a, b, y| k::integer(op, a, b, start, y)),
            (Pairing::Compare(op), DType::F32) => run!(f32, u8, |a, b, y| k::compare(op, a, b, start, y)),
            (Pairing::Compare(op), DType::I32) => run!(i32, u8, |a, b, y| k::compare(op, a, b, start, y)),
            (Pairing::Compare(op), _) => run!(i64, u8, |a, b, y| k::compare(op, a, b, start, y)),
            (Pairing::Logic(op), _) => run!(u8, u8, |a, b, y| k::logic(op, a, b, start, y)),
        }
        Ok(())
    }
}

/// `Where` on f32.
#[derive(Debug)]
pub(super) struct Select {
    isa: Isa,
    operands: [Broadcast; 3],
    division: Division,
}

impl Select {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(out), Some(true)) = (spec.output_shape(0), spec.output(0).map(|s| s.dtype == DType::F32)) else {
            return Ok(None);
        };
        if spec.op::<Where>().is_none() {
            return Ok(None);
        }
        let spread = |index: usize| spec.shape(index).and_then(|shape| Broadcast::of(shape, out));
        let (Some(c), Some(a), Some(b)) = (spread(0), spread(1), spread(2)) else { return Ok(None) };
        Ok(Some(Select { isa, operands: [c, a, b], division: Division::elements(Some(out)) }))
    }
}

impl Kernel for Select {
    fn name(&self) -> String {
        "select".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let [c, a, b] = &self.operands;
        let condition: Operand<'_, u8> = operand(io, 0, c)?;
        let (a, b): (Operand<'_, f32>, Operand<'_, f32>) = (operand(io, 1, a)?, operand(io, 2, b)?);
        k::select(self.isa, condition, a, b, io.share().start, io.output(0)?);
        Ok(())
    }
}

/// The same bytes in another place.
#[derive(Debug)]
pub(super) struct Copy {
    size: usize,
}

impl Copy {
    /// Of elements of this dtype.
    pub(super) fn of(dtype: DType) -> Self {
        Copy { size: dtype.size() }
    }

    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let identity = spec.op::<Unary>() == Some(&Unary(UnaryKind::Identity));
        let size = spec.input(0).filter(|s| s.shape.is_some()).map(|s| s.dtype.size());
        Ok(size.filter(|_| identity && spec.is_static()).map(|size| Copy { size }))
    }
}

impl Kernel for Copy {
    fn name(&self) -> String {
        "copy".to_owned()
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        match self.size {
            1 => io.output::<u8>(0)?.copy_from_slice(io.input(0)?),
            2 => io.output::<u16>(0)?.copy_from_slice(io.input(0)?),
            4 => io.output::<u32>(0)?.copy_from_slice(io.input(0)?),
            _ => io.output::<u64>(0)?.copy_from_slice(io.input(0)?),
        }
        Ok(())
    }
}
