//! Operators of one input whose every output element depends on one input element.
//!
//! The formulas stand in [`unary_math`](super::unary_math); how they run over a tensor in
//! [`unary_eval`](super::unary_eval).

use super::unary_eval;
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Budget, Inputs, Op};
use crate::tensor::{DType, Fact, Tensor};

/// Which function of one element, with its parameters. Formulas are ONNX's, for `x` the element.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum UnaryKind {
    /// `x`.
    Identity,
    /// `|x|`; the least integer wraps to itself.
    Abs,
    /// `-x`.
    Neg,
    /// -1, 0 or 1.
    Sign,
    /// The least integer not below `x`.
    Ceil,
    /// The greatest integer not above `x`.
    Floor,
    /// The nearest integer, ties to the even one.
    Round,
    /// `1 / x`.
    Reciprocal,
    /// The square root.
    Sqrt,
    /// `e^x`.
    Exp,
    /// The natural logarithm.
    Log,
    /// The Gauss error function.
    Erf,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Tangent of radians.
    Tan,
    /// Inverse sine, in radians.
    Asin,
    /// Inverse cosine, in radians.
    Acos,
    /// Inverse tangent, in radians.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Hyperbolic tangent.
    Tanh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// Logical negation, of `bool`.
    Not,
    /// Every bit flipped, of integers.
    BitwiseNot,
    /// `x` where not negative, else `alpha x`.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `x` where not negative, else `alpha (e^x - 1)`.
    Elu {
        /// Scale below zero.
        alpha: f32,
    },
    /// `gamma x` where positive, else `gamma alpha (e^x - 1)`.
    Selu {
        /// Scale below zero.
        alpha: f32,
        /// Scale of both sides.
        gamma: f32,
    },
    /// `max(0, x) + min(0, alpha (e^(x / alpha) - 1))`.
    Celu {
        /// Scale of the negative side.
        alpha: f32,
    },
    /// `max(0, min(1, alpha x + beta))`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x` where above `alpha`, else 0.
    ThresholdedRelu {
        /// Threshold.
        alpha: f32,
    },
    /// `x Φ(x)`, with Φ the normal distribution, or its approximation by `tanh`.
    Gelu {
        /// True for the approximation.
        tanh: bool,
    },
    /// `x / (1 + e^(-alpha x))`; SiLU where `alpha` is 1.
    Swish {
        /// Scale inside the sigmoid.
        alpha: f32,
    },
    /// `x max(0, min(1, x / 6 + 1 / 2))`.
    HardSwish,
    /// `x tanh(ln(1 + e^x))`.
    Mish,
    /// `x + bias` below `-lambd`, `x - bias` above `lambd`, else 0.
    Shrink {
        /// What values beyond the threshold are moved by, towards zero.
        bias: f32,
        /// Threshold.
        lambd: f32,
    },
    /// Whether `x` is not a number; yields `bool`.
    IsNaN,
    /// Whether `x` is infinite; yields `bool`.
    IsInf {
        /// Whether -∞ counts.
        detect_negative: bool,
        /// Whether +∞ counts.
        detect_positive: bool,
    },
}

impl UnaryKind {
    /// The dtype of the output for an input of `dtype`.
    #[must_use]
    pub fn output_dtype(self, dtype: DType) -> DType {
        match self {
            UnaryKind::IsNaN | UnaryKind::IsInf { .. } => DType::Bool,
            _ => dtype,
        }
    }

    /// Whether ONNX defines the function for elements of `dtype`.
    #[must_use]
    pub fn accepts(self, dtype: DType) -> bool {
        match self {
            UnaryKind::Identity => true,
            UnaryKind::Abs | UnaryKind::Sign | UnaryKind::Shrink { .. } | UnaryKind::Erf => dtype != DType::Bool,
            UnaryKind::Neg | UnaryKind::Relu => dtype.is_float() || dtype.is_signed_integer(),
            UnaryKind::Not => dtype == DType::Bool,
            UnaryKind::BitwiseNot => dtype.is_integer(),
            _ => dtype.is_float(),
        }
    }

    /// ONNX's `op_type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            UnaryKind::Identity => "Identity",
            UnaryKind::Abs => "Abs",
            UnaryKind::Neg => "Neg",
            UnaryKind::Sign => "Sign",
            UnaryKind::Ceil => "Ceil",
            UnaryKind::Floor => "Floor",
            UnaryKind::Round => "Round",
            UnaryKind::Reciprocal => "Reciprocal",
            UnaryKind::Sqrt => "Sqrt",
            UnaryKind::Exp => "Exp",
            UnaryKind::Log => "Log",
            UnaryKind::Erf => "Erf",
            UnaryKind::Sin => "Sin",
            UnaryKind::Cos => "Cos",
            UnaryKind::Tan => "Tan",
            UnaryKind::Asin => "Asin",
            UnaryKind::Acos => "Acos",
            UnaryKind::Atan => "Atan",
            UnaryKind::Sinh => "Sinh",
            UnaryKind::Cosh => "Cosh",
            UnaryKind::Tanh => "Tanh",
            UnaryKind::Asinh => "Asinh",
            UnaryKind::Acosh => "Acosh",
            UnaryKind::Atanh => "Atanh",
            UnaryKind::Relu => "Relu",
            UnaryKind::Sigmoid => "Sigmoid",
            UnaryKind::Softplus => "Softplus",
            UnaryKind::Softsign => "Softsign",
            UnaryKind::Not => "Not",
            UnaryKind::BitwiseNot => "BitwiseNot",
            UnaryKind::LeakyRelu { .. } => "LeakyRelu",
            UnaryKind::Elu { .. } => "Elu",
            UnaryKind::Selu { .. } => "Selu",
            UnaryKind::Celu { .. } => "Celu",
            UnaryKind::HardSigmoid { .. } => "HardSigmoid",
            UnaryKind::ThresholdedRelu { .. } => "ThresholdedRelu",
            UnaryKind::Gelu { .. } => "Gelu",
            UnaryKind::Swish { .. } => "Swish",
            UnaryKind::HardSwish => "HardSwish",
            UnaryKind::Mish => "Mish",
            UnaryKind::Shrink { .. } => "Shrink",
            UnaryKind::IsNaN => "IsNaN",
            UnaryKind::IsInf { .. } => "IsInf",
        }
    }
}

/// A function of each element of input 0, of any shape; the output has the same shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unary(pub UnaryKind);

impl Op for Unary {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(self.0.accepts(x.dtype), InvalidModel, "{} is not defined for {}", self.0.name(), x.dtype);
        if self.0 == UnaryKind::Identity {
            return Ok(vec![x.clone()]);
        }
        Ok(vec![Fact { dtype: self.0.output_dtype(x.dtype), shape: x.shape.clone(), value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![unary_eval::eval(self.0, inputs.require(0)?)?])
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new();
        match self.0 {
            UnaryKind::LeakyRelu { alpha }
            | UnaryKind::Elu { alpha }
            | UnaryKind::Celu { alpha }
            | UnaryKind::ThresholdedRelu { alpha }
            | UnaryKind::Swish { alpha } => attrs.float("alpha", alpha),
            UnaryKind::Selu { alpha, gamma } => attrs.float("alpha", alpha).float("gamma", gamma),
            UnaryKind::HardSigmoid { alpha, beta } => attrs.float("alpha", alpha).float("beta", beta),
            UnaryKind::Gelu { tanh } => attrs.str("approximate", if tanh { "tanh" } else { "none" }),
            UnaryKind::Shrink { bias, lambd } => attrs.float("bias", bias).float("lambd", lambd),
            UnaryKind::IsInf { detect_negative, detect_positive } => {
                attrs.flag("detect_negative", detect_negative).flag("detect_positive", detect_positive)
            }
            _ => attrs,
        }
    }
}
