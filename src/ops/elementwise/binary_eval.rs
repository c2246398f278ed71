//! Running a binary function over two tensors: floats through `f64`, integers through `i128`, where the 64-bit
//! types of either sign fit, so that one body serves all.

use super::BinaryKind;
use super::binary::bits;
use crate::error::{Result, bail, err};
use crate::tensor::{DType, Element, Shape, Tensor, broadcast_index, broadcast_shapes, with_dtype, with_number};
use std::cmp::Ordering;

/// `kind` of `a` and `b`, whose dtypes it accepts.
pub(super) fn eval(kind: BinaryKind, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = broadcast_shapes(&[a.shape(), b.shape()])?;
    shape.checked_len()?;
    if kind.is_comparison() {
        return with_dtype!(a.dtype(), T => compare::<T>(kind, a, b, shape));
    }
    if a.dtype() == DType::Bool {
        let f = |x: bool, y: bool| match kind {
            BinaryKind::And => x && y,
            BinaryKind::Or => x || y,
            _ => x != y,
        };
        return collect(a, b, shape, |x, y| Ok(f(x, y)));
    }
    if kind == BinaryKind::Pow && a.dtype() != b.dtype() {
        return mixed_pow(a, b, shape);
    }
    with_number!(a.dtype(), T => if T::DTYPE.is_float() {
        collect(a, b, shape, |x: T, y: T| Ok(T::from_f64(kind.apply(x.to_f64(), y.to_f64()))))
    } else {
        collect(a, b, shape, |x: T, y: T| Ok(T::from_i64(integer(kind, widen(x), widen(y))? as i64)))
    }, _ => bail!(InvalidModel, "{} is not defined for bool", kind.name()))
}

/// The integer exactly, `u64` included.
pub(in crate::ops) fn widen<T: Element>(v: T) -> i128 {
    if T::DTYPE == DType::U64 { i128::from(v.to_i64() as u64) } else { i128::from(v.to_i64()) }
}

fn collect<T: Element, U: Element>(
    a: &Tensor,
    b: &Tensor,
    shape: Shape,
    f: impl Fn(T, T) -> Result<U>,
) -> Result<Tensor> {
    let (x, y) = (a.as_slice::<T>()?, b.as_slice::<T>()?);
    let elements: Result<Vec<U>> = if a.shape() == b.shape() {
        x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect()
    } else {
        broadcast_index(a.shape(), &shape).zip(broadcast_index(b.shape(), &shape)).map(|(i, j)| f(x[i], y[j])).collect()
    };
    Tensor::new(shape, elements?)
}

fn compare<T: Element + PartialOrd>(kind: BinaryKind, a: &Tensor, b: &Tensor, shape: Shape) -> Result<Tensor> {
    collect(a, b, shape, |x: T, y: T| {
        let order = x.partial_cmp(&y);
        Ok(match kind {
            BinaryKind::Equal => order == Some(Ordering::Equal),
            BinaryKind::Less => order == Some(Ordering::Less),
            BinaryKind::Greater => order == Some(Ordering::Greater),
            BinaryKind::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        })
    })
}

/// The low 64 bits are the result, whatever the width and sign of the operands: `i128` holds a product of `i64`, and
/// wrapping keeps the low bits of a product of `u64`.
fn integer(kind: BinaryKind, a: i128, b: i128) -> Result<i128> {
    let zero = || err!(InvalidInput, "an integer is divided by zero ({})", kind.name());
    Ok(match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Sub => a - b,
        BinaryKind::Mul => a.wrapping_mul(b),
        BinaryKind::Div => a.checked_div(b).ok_or_else(zero)?,
        BinaryKind::Mod { fmod: true } => a.checked_rem(b).ok_or_else(zero)?,
        BinaryKind::Mod { fmod: false } => {
            let remainder = a.checked_rem(b).ok_or_else(zero)?;
            if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder }
        }
        BinaryKind::Pow => match u64::try_from(b) {
            Ok(exponent) => wrapping_pow(a, exponent),
            Err(_) if a == 0 => return Err(zero()),
            Err(_) => (a as f64).powf(b as f64) as i128,
        },
        BinaryKind::PRelu if a < 0 => a.wrapping_mul(b),
        BinaryKind::PRelu => a,
        _ => bits(kind, a, b),
    })
}

fn wrapping_pow(mut base: i128, mut exponent: u64) -> i128 {
    let mut power = 1i128;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = power.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    power
}

/// `Pow` of two dtypes: exact where both are integers, else through `f64`.
fn mixed_pow(a: &Tensor, b: &Tensor, shape: Shape) -> Result<Tensor> {
    let (i, j) = (broadcast_index(a.shape(), &shape), broadcast_index(b.shape(), &shape));
    if a.dtype().is_integer() && b.dtype().is_integer() {
        let exponents: Vec<i128> = with_number!(b.dtype(), T => b.as_slice::<T>()?.iter().map(|&v| widen(v)).collect(),
            _ => bail!(InvalidModel, "Pow is not defined for bool"));
        return with_number!(a.dtype(), T => {
            let x = a.as_slice::<T>()?;
            let power = |i: usize, j: usize| integer(BinaryKind::Pow, widen(x[i]), exponents[j]);
            let elements: Result<Vec<T>> = i.zip(j).map(|(i, j)| Ok(T::from_i64(power(i, j)? as i64))).collect();
            Tensor::new(shape, elements?)
        }, _ => bail!(InvalidModel, "Pow is not defined for bool"));
    }
    let exponents = b.to_f64_vec()?;
    with_number!(a.dtype(), T => {
        let x = a.as_slice::<T>()?;
        let elements: Vec<T> = i.zip(j).map(|(i, j)| T::from_f64(x[i].to_f64().powf(exponents[j]))).collect();
        Tensor::new(shape, elements)
    }, _ => bail!(InvalidModel, "Pow is not defined for bool"))
}
