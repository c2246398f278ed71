//! Operators of two inputs that broadcast against each other.
//!
//! How they run over tensors stands in [`binary_eval`](super::binary_eval).

use super::binary_eval;
use super::broadcast::broadcast_dims;
use super::lengths;
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
    /// `a` shifted by `b` bits, of integers; every bit is gone after a shift by the width or more.
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
        apply(self, a, b).unwrap_or_else(|| bits(self, a as i128, b as i128) as f64)
    }

    /// The function in single precision throughout.
    #[must_use]
    pub fn apply_f32(self, a: f32, b: f32) -> f32 {
        apply(self, a, b).unwrap_or_else(|| bits(self, a as i128, b as i128) as f32)
    }
}

/// The bit operations; 0 for any other kind. An `i128` holds a `u64` shifted by less than 64, and shifts a negative
/// number as its own width would.
pub(super) fn bits(kind: BinaryKind, a: i128, b: i128) -> i128 {
    match (kind, u32::try_from(b)) {
        (BinaryKind::BitwiseAnd, _) => a & b,
        (BinaryKind::BitwiseOr, _) => a | b,
        (BinaryKind::BitwiseXor, _) => a ^ b,
        (BinaryKind::BitShift { left: true }, Ok(shift @ 0..64)) => a << shift,
        (BinaryKind::BitShift { left: false }, Ok(shift)) => a >> shift.min(127),
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
        if self.0 == BinaryKind::Equal
            && let Some(answers) = lengths::equal(a, b)
        {
            let rank = shape.as_ref().map_or(0, Vec::len);
            let lengths = vec![answers.len(); rank];
            return Ok(vec![Fact::constant(Tensor::new(lengths, answers)?)]);
        }
        Ok(vec![Fact {
            dtype: self.0.output_dtype(a.dtype),
            shape,
            value: None,
            content: lengths::arithmetic(self.0, a, b),
        }])
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

/// The axes of `a`, to which `b` must broadcast. Whether a symbol fits an axis of length 1 is told by each request.
fn unidirectional(a: &Fact, b: &Fact) -> Result<Option<Vec<Dim>>> {
    let joined = broadcast_dims(&[a, b])?;
    if let (Some(own), Some(joined)) = (a.dims(), &joined) {
        let grown = own.len() < joined.len()
            || own.iter().zip(joined).any(|(d, j)| *d == Dim::Known(1) && j.known().is_some_and(|j| j != 1));
        if grown {
            bail!(Shape, "{b} does not broadcast to {a}");
        }
    }
    Ok(a.shape.clone())
}
