//! Element by element with broadcasting: arithmetic, comparison, logic, activations, casts, selection.

mod binary;
mod binary_eval;
mod broadcast;
mod cast;
mod clip;
mod contrib;
mod lengths;
mod real;
mod select;
#[cfg(test)]
mod tests;
mod unary;
mod unary_eval;
mod unary_math;
mod variadic;

pub use binary::{Binary, BinaryKind};
pub use cast::{BitCast, Cast, CastLike};
pub use clip::Clip;
pub use select::Where;
pub use unary::{Unary, UnaryKind};
pub use variadic::{Variadic, VariadicKind};

use super::OpDef;
use crate::error::bail;

/// As many inputs as a model may name.
const MANY: usize = 1 << 20;

/// A unary operator without attributes.
macro_rules! unary {
    ($kind:ident, $opset:literal) => {
        OpDef::new(stringify!($kind), $opset, 1..=1, |_| Ok(Unary(UnaryKind::$kind).into()))
    };
}

/// A unary operator with float attributes and their defaults.
macro_rules! scaled {
    ($kind:ident, $opset:literal, $($attr:ident = $default:expr),+) => {
        OpDef::new(stringify!($kind), $opset, 1..=1, |node| {
            Ok(Unary(UnaryKind::$kind { $($attr: node.float_or(stringify!($attr), $default)?),+ }).into())
        })
    };
}

/// A binary operator without attributes.
macro_rules! binary {
    ($kind:ident, $opset:literal) => {
        OpDef::new(stringify!($kind), $opset, 2..=2, |_| Ok(Binary(BinaryKind::$kind).into()))
    };
}

/// An operator of any number of inputs.
macro_rules! variadic {
    ($kind:ident, $opset:literal) => {
        OpDef::new(stringify!($kind), $opset, 1..=MANY, |_| Ok(Variadic(VariadicKind::$kind).into()))
    };
}

pub(super) const OPS: &[OpDef] = &[
    unary!(Identity, 14),
    unary!(Abs, 13),
    unary!(Neg, 13),
    unary!(Sign, 13).since(9),
    unary!(Ceil, 13),
    unary!(Floor, 13),
    unary!(Round, 11).since(11),
    unary!(Reciprocal, 13),
    unary!(Sqrt, 13),
    unary!(Exp, 13),
    unary!(Log, 13),
    unary!(Erf, 13).since(9),
    unary!(Sin, 7),
    unary!(Cos, 7),
    unary!(Tan, 7),
    unary!(Asin, 7),
    unary!(Acos, 7),
    unary!(Atan, 7),
    unary!(Sinh, 9).since(9),
    unary!(Cosh, 9).since(9),
    unary!(Tanh, 13),
    unary!(Asinh, 9).since(9),
    unary!(Acosh, 9).since(9),
    unary!(Atanh, 9).since(9),
    unary!(Relu, 14),
    unary!(Sigmoid, 13),
    unary!(Softplus, 1),
    unary!(Softsign, 1),
    unary!(Not, 1),
    unary!(BitwiseNot, 18).since(18),
    unary!(HardSwish, 14).since(14),
    unary!(Mish, 18).since(18),
    unary!(IsNaN, 13).since(9),
    scaled!(LeakyRelu, 16, alpha = 0.01),
    scaled!(Elu, 6, alpha = 1.0),
    scaled!(Selu, 6, alpha = 1.673_263_2, gamma = 1.050_701),
    scaled!(Celu, 12, alpha = 1.0).since(12),
    scaled!(HardSigmoid, 6, alpha = 0.2, beta = 0.5),
    scaled!(ThresholdedRelu, 10, alpha = 1.0),
    scaled!(Swish, 24, alpha = 1.0).since(24),
    scaled!(Shrink, 9, bias = 0.0, lambd = 0.5).since(9),
    OpDef::new("Gelu", 20, 1..=1, |node| {
        let tanh = match node.str_or("approximate", "none")?.as_str() {
            "none" => false,
            "tanh" => true,
            other => bail!(InvalidModel, "approximate is {other:?}, neither \"none\" nor \"tanh\""),
        };
        Ok(Unary(UnaryKind::Gelu { tanh }).into())
    })
    .since(20),
    OpDef::new("IsInf", 20, 1..=1, |node| {
        let detect_negative = node.flag_or("detect_negative", true)?;
        let detect_positive = node.flag_or("detect_positive", true)?;
        Ok(Unary(UnaryKind::IsInf { detect_negative, detect_positive }).into())
    })
    .since(10),
    binary!(Add, 14),
    binary!(Sub, 14),
    binary!(Mul, 14),
    binary!(Div, 14),
    binary!(Pow, 15),
    binary!(And, 7),
    binary!(Or, 7),
    binary!(Xor, 7),
    binary!(Equal, 13),
    binary!(Less, 13),
    binary!(LessOrEqual, 16).since(12),
    binary!(Greater, 13),
    binary!(GreaterOrEqual, 16).since(12),
    binary!(BitwiseAnd, 18).since(18),
    binary!(BitwiseOr, 18).since(18),
    binary!(BitwiseXor, 18).since(18),
    binary!(PRelu, 16),
    OpDef::new("Mod", 13, 2..=2, |node| Ok(Binary(BinaryKind::Mod { fmod: node.flag_or("fmod", false)? }).into()))
        .since(10),
    OpDef::new("BitShift", 11, 2..=2, |node| {
        let left = match node.str_or("direction", "")?.as_str() {
            "LEFT" => true,
            "RIGHT" => false,
            other => bail!(InvalidModel, "direction is {other:?}, neither \"LEFT\" nor \"RIGHT\""),
        };
        Ok(Binary(BinaryKind::BitShift { left }).into())
    })
    .since(11),
    variadic!(Sum, 13),
    variadic!(Mean, 13),
    variadic!(Max, 13),
    variadic!(Min, 13),
    OpDef::new("Clip", 13, 1..=3, clip::read),
    OpDef::new("Where", 16, 3..=3, |_| Ok(Where.into())).since(9),
    OpDef::new("Cast", 13, 1..=1, cast::read_cast),
    OpDef::new("CastLike", 15, 2..=2, cast::read_cast_like).since(15),
    OpDef::new("BitCast", 26, 1..=1, cast::read_bit_cast).since(26),
    contrib::GELU,
    contrib::QUICK_GELU,
    contrib::BIAS_GELU,
    contrib::FAST_GELU,
];
