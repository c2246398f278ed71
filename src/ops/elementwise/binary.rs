//! Operators of two inputs that broadcast against each other.
//!
//! How they run over tensors stands in [`binary_eval`](super::binary_eval).

use super::binary_eval;
use super::broadcast::{broadcast_dims, tracked_lengths, zip_lengths};
use super::real::Real;
use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, Budget, Inputs, Op};
use crate::tensor::{DType, Dim, Fact, Tensor};

/// Which function of two elements. Integers wrap, except where a variant says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BinaryKind {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`; of integers truncated, and an error where `b` is 0.
    Div,
    /// `a` to the power `b`, in the dtype of `a`; the dtypes may differ.
    Pow,
    /// The remainder; of integers an error where `b` is 0.
    Mod {
        /// True: the sign of `a`, as C's `fmod`. False: the sign of `b`, as Python's `%`.
        fmod: bool,
    },
    /// Both, of `bool`.
    And,
    /// Either, of `bool`.
    Or,
    /// Exactly one, of `bool`.
    Xor,
    /// `a = b`; yields `bool`.
    Equal,
    /// `a < b`; yields `bool`.
    Less,
    /// `a <= b`; yields `bool`.
    LessOrEqual,
    /// `a > b`; yields `bool`.
    Greater,
    /// `a >= b`; yields `bool`.
    GreaterOrEqual,
    /// Bits set in both, of integers.
    BitwiseAnd,
    /// Bits set in either, of integers.
    BitwiseOr,
    /// Bits set in exactly one, of integers.
    BitwiseXor,
    /// `a` shifted by `b` bits, of unsigned integers; a shift by the width or more yields 0.
    BitShift {
        /// Towards the high bits.
        left: bool,
    },
    /// `a` where not negative, else `a * b`; `b` broadcasts to the shape of `a`.
    PRelu,
}

impl BinaryKind {
    /// ONNX's `op_type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BinaryKind::Add => "Add",
            BinaryKind::Sub => "Sub",
            BinaryKind::Mul => "Mul",
            BinaryKind::Div => "Div",
            BinaryKind::Pow => "Pow",
            BinaryKind::Mod { .. } => "Mod",
            BinaryKind::And => "And",
            BinaryKind::Or => "Or",
            BinaryKind::Xor => "Xor",
            BinaryKind::Equal => "Equal",
            BinaryKind::Less => "Less",
            BinaryKind::LessOrEqual => "LessOrEqual",
            BinaryKind::Greater => "Greater",
            BinaryKind::GreaterOrEqual => "GreaterOrEqual",
            BinaryKind::BitwiseAnd => "BitwiseAnd",
            BinaryKind::BitwiseOr => "BitwiseOr",
            BinaryKind::BitwiseXor => "BitwiseXor",
            BinaryKind::BitShift { .. } => "BitShift",
            BinaryKind::PRelu => "PRelu",
        }
    }

    /// True for the five comparisons, which yield `bool`.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryKind::Equal
                | BinaryKind::Less
                | BinaryKind::LessOrEqual
                | BinaryKind::Greater
                | BinaryKind::GreaterOrEqual
        )
    }

    /// True where the inputs may change places.
    #[must_use]
    pub fn is_commutative(self) -> bool {
        use BinaryKind::*;
        matches!(self, Add | Mul | And | Or | Xor | Equal | BitwiseAnd | BitwiseOr | BitwiseXor)
    }

    /// The dtype of the output for a first input of `dtype`.
    #[must_use]
    pub fn output_dtype(self, dtype: DType) -> DType {
        if self.is_comparison() { DType::Bool } else { dtype }
    }

    /// Whether ONNX defines the function for elements of `dtype`.
    #[must_use]
    pub fn accepts(self, dtype: DType) -> bool {
        match self {
            BinaryKind::And | BinaryKind::Or | BinaryKind::Xor => dtype == DType::Bool,
            BinaryKind::Equal => true,
            BinaryKind::BitwiseAnd | BinaryKind::BitwiseOr | BinaryKind::BitwiseXor | BinaryKind::BitShift { .. } => {
                dtype.is_integer()
            }
            _ => dtype != DType::Bool,
        }
    }

    /// The function in double precision; `bool` counts as 0 and 1. Bit operations take integral arguments.
    #[must_use]
    pub fn apply(self, a: f64, b: f64) -> f64 {
        apply(self, a, b).unwrap_or_else(|| bits(self, a as i64, b as i64) as f64)
    }

    /// The function in single precision throughout.
    #[must_use]
    pub fn apply_f32(self, a: f32, b: f32) -> f32 {
        apply(self, a, b).unwrap_or_else(|| bits(self, a as i64, b as i64) as f32)
    }
}

/// The bit operations; 0 for any other kind.
pub(super) fn bits(kind: BinaryKind, a: i64, b: i64) -> i64 {
    let shift = u32::try_from(b).ok();
    match kind {
        BinaryKind::BitwiseAnd => a & b,
        BinaryKind::BitwiseOr => a | b,
        BinaryKind::BitwiseXor => a ^ b,
        BinaryKind::BitShift { left: true } => shift.and_then(|s| a.checked_shl(s)).unwrap_or(0),
        BinaryKind::BitShift { left: false } => shift.and_then(|s| (a as u64).checked_shr(s)).unwrap_or(0) as i64,
        _ => 0,
    }
}

/// The functions of floats; `None` for the bit operations.
fn apply<R: Real>(kind: BinaryKind, a: R, b: R) -> Option<R> {
    let zero = R::of(0.0);
    let flag = |condition: bool| if condition { R::of(1.0) } else { zero };
    Some(match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Sub => a - b,
        BinaryKind::Mul => a * b,
        BinaryKind::Div => a / b,
        BinaryKind::Pow => a.pow(b),
        BinaryKind::Mod { fmod } => {
            let remainder = a.fmod(b);
            let opposed = (remainder < zero && b > zero) || (remainder > zero && b < zero);
            if !fmod && opposed { remainder + b } else { remainder }
        }
        BinaryKind::And => flag(a != zero && b != zero),
        BinaryKind::Or => flag(a != zero || b != zero),
        BinaryKind::Xor => flag((a != zero) != (b != zero)),
        BinaryKind::Equal => flag(a == b),
        BinaryKind::Less => flag(a < b),
        BinaryKind::LessOrEqual => flag(a <= b),
        BinaryKind::Greater => flag(a > b),
        BinaryKind::GreaterOrEqual => flag(a >= b),
        BinaryKind::PRelu => {
            if a < zero {
                a * b
            } else {
                a
            }
        }
        BinaryKind::BitwiseAnd | BinaryKind::BitwiseOr | BinaryKind::BitwiseXor | BinaryKind::BitShift { .. } => {
            return None;
        }
    })
}

/// A function of the elements of inputs 0 and 1, broadcast against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binary(pub BinaryKind);

impl Op for Binary {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (a, b) = (inputs.require(0)?, inputs.require(1)?);
        for dtype in [a.dtype, b.dtype] {
            ensure!(self.0.accepts(dtype), InvalidModel, "{} is not defined for {dtype}", self.0.name());
        }
        let mixed = self.0 == BinaryKind::Pow;
        ensure!(mixed || a.dtype == b.dtype, InvalidModel, "the inputs are of {} and {}", a.dtype, b.dtype);
        let shape = match self.0 {
            BinaryKind::PRelu => unidirectional(a, b)?,
            _ => broadcast_dims(&[a, b])?,
        };
        Ok(vec![Fact { dtype: self.0.output_dtype(a.dtype), shape, value: None, content: content(self.0, a, b) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![binary_eval::eval(self.0, inputs.require(0)?, inputs.require(1)?)?])
    }

    fn attrs(&self) -> Attrs {
        match self.0 {
            BinaryKind::Mod { fmod } => Attrs::new().flag("fmod", fmod),
            BinaryKind::BitShift { left } => Attrs::new().str("direction", if left { "LEFT" } else { "RIGHT" }),
            _ => Attrs::new(),
        }
    }
}

/// The axes of `a`, to which `b` must broadcast.
fn unidirectional(a: &Fact, b: &Fact) -> Result<Option<Vec<Dim>>> {
    let joined = broadcast_dims(&[a, b])?;
    if let (Some(own), Some(joined)) = (a.dims(), &joined) {
        let grown = own.len() < joined.len() || own.iter().zip(joined).any(|(d, j)| *d == Dim::Known(1) && d != j);
        if grown {
            bail!(Shape, "{b} does not broadcast to {a}");
        }
    }
    Ok(a.shape.clone())
}

/// What arithmetic makes of lengths.
fn content(kind: BinaryKind, a: &Fact, b: &Fact) -> Option<Vec<Dim>> {
    let length = |x: &Dim, y: &Dim| match (kind, x, y) {
        (BinaryKind::Add, x, y) => x.plus(y),
        (BinaryKind::Mul, x, y) => x.times(y),
        (BinaryKind::Sub, x, Dim::Known(0)) | (BinaryKind::Div, x, Dim::Known(1)) => x.clone(),
        (BinaryKind::Sub, Dim::Known(x), Dim::Known(y)) => x.checked_sub(*y).map_or(Dim::Unknown, Dim::Known),
        (BinaryKind::Sub, Dim::Symbol(x), Dim::Symbol(y)) if x == y => Dim::Known(0),
        (BinaryKind::Div, Dim::Known(x), Dim::Known(y)) => x.checked_div(*y).map_or(Dim::Unknown, Dim::Known),
        _ => Dim::Unknown,
    };
    if !matches!(kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul | BinaryKind::Div) {
        return None;
    }
    zip_lengths(&tracked_lengths(a)?, &tracked_lengths(b)?, a.dtype, length)
}
