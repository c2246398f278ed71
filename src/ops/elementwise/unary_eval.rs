//! Running a unary function over a tensor: floats through `f64`, integers through `i64` with wrapping.

use super::UnaryKind;
use crate::error::{Result, bail};
use crate::tensor::{DType, Element, Tensor, with_float, with_number};

/// `kind` of every element of `x`, whose dtype it accepts.
pub(super) fn eval(kind: UnaryKind, x: &Tensor) -> Result<Tensor> {
    match kind {
        UnaryKind::Identity => Ok(x.clone()),
        UnaryKind::Not => Tensor::new(x.shape().clone(), x.as_slice::<bool>()?.iter().map(|v| !v).collect()),
        UnaryKind::IsNaN | UnaryKind::IsInf { .. } => {
            let found = with_float!(x.dtype(), T => {
                x.as_slice::<T>()?.iter().map(|v| kind.apply(v.to_f64()) != 0.0).collect::<Vec<bool>>()
            }, _ => bail!(InvalidModel, "{} is not defined for {}", kind.name(), x.dtype()));
            Tensor::new(x.shape().clone(), found)
        }
        UnaryKind::Abs | UnaryKind::Relu if !x.dtype().is_float() && !x.dtype().is_signed_integer() => Ok(x.clone()),
        UnaryKind::Sign if x.dtype() == DType::U64 => {
            Tensor::new(x.shape().clone(), x.as_slice::<u64>()?.iter().map(|&v| u64::from(v != 0)).collect())
        }
        _ => with_number!(x.dtype(), T => map::<T>(kind, x),
            _ => bail!(InvalidModel, "{} is not defined for bool", kind.name())),
    }
}

fn map<T: Element>(kind: UnaryKind, x: &Tensor) -> Result<Tensor> {
    let exact = |v: i64| match kind {
        UnaryKind::Abs => Some(v.wrapping_abs()),
        UnaryKind::Neg => Some(v.wrapping_neg()),
        UnaryKind::Sign => Some(v.signum()),
        UnaryKind::Relu => Some(v.max(0)),
        UnaryKind::BitwiseNot => Some(!v),
        _ => None,
    };
    let integral = T::DTYPE.is_integer();
    let elements = x.as_slice::<T>()?.iter().map(|&v| match exact(v.to_i64()).filter(|_| integral) {
        Some(result) => T::from_i64(result),
        None => T::from_f64(kind.apply(v.to_f64())),
    });
    Tensor::new(x.shape().clone(), elements.collect::<Vec<T>>())
}
