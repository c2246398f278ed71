//! Running a unary function over a tensor: floats through `f64`, integers through `i64` with wrapping.

use super::UnaryKind;
use crate::error::{Result, bail, ensure};
use crate::ops::numeric::{collect_floats, collect_integers, read_floats, read_integers};
use crate::tensor::{DType, Tensor};

/// `kind` of every element of `x`, whose dtype it accepts.
pub(super) fn eval(kind: UnaryKind, x: &Tensor) -> Result<Tensor> {
    match kind {
        UnaryKind::Identity => Ok(x.clone()),
        UnaryKind::Not => Tensor::new(x.shape().clone(), x.as_slice::<bool>()?.iter().map(|v| !v).collect()),
        UnaryKind::IsNaN | UnaryKind::IsInf { .. } => {
            ensure!(x.dtype().is_float(), InvalidModel, "{} is not defined for {}", kind.name(), x.dtype());
            let read = read_floats(x)?;
            Tensor::new(x.shape().clone(), (0..x.len()).map(|i| kind.apply(read(i)) != 0.0).collect())
        }
        UnaryKind::Abs | UnaryKind::Relu if !x.dtype().is_float() && !x.dtype().is_signed_integer() => Ok(x.clone()),
        UnaryKind::Sign if x.dtype() == DType::U64 => {
            Tensor::new(x.shape().clone(), x.as_slice::<u64>()?.iter().map(|&v| u64::from(v != 0)).collect())
        }
        _ if x.dtype() == DType::Bool => bail!(InvalidModel, "{} is not defined for bool", kind.name()),
        _ => map(kind, x),
    }
}

fn map(kind: UnaryKind, x: &Tensor) -> Result<Tensor> {
    let exact: Option<fn(i64) -> i64> = match kind {
        UnaryKind::Abs => Some(i64::wrapping_abs),
        UnaryKind::Neg => Some(i64::wrapping_neg),
        UnaryKind::Sign => Some(i64::signum),
        UnaryKind::Relu => Some(|v| v.max(0)),
        UnaryKind::BitwiseNot => Some(|v| !v),
        _ => None,
    };
    let places = 0..x.len();
    match exact.filter(|_| x.dtype().is_integer()) {
        Some(exact) => {
            let read = read_integers(x)?;
            collect_integers(x.dtype(), x.shape(), &mut places.map(|i| Ok(i128::from(exact(read(i) as i64)))))
        }
        None => {
            let read = read_floats(x)?;
            collect_floats(x.dtype(), x.shape(), &mut places.map(|i| kind.apply(read(i))))
        }
    }
}
