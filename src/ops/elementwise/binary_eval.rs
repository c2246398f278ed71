//! Running a binary function over two tensors: floats through `f64`, integers through `i128`, where the 64-bit
//! types of either sign fit, so that one body serves all.

use super::BinaryKind;
use super::binary::bits;
use crate::error::{Result, bail, err};
use crate::ops::numeric::{Reader, collect_floats, collect_integers, read_floats, read_integers};
use crate::tensor::{DType, Shape, Tensor, broadcast_index, broadcast_shapes};
use std::cmp::Ordering;

/// `kind` of `a` and `b`, whose dtypes it accepts.
pub(super) fn eval(kind: BinaryKind, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = broadcast_shapes(&[a.shape(), b.shape()])?;
    shape.checked_len()?;
    if kind == BinaryKind::Pow && a.dtype() != b.dtype() {
        return mixed_pow(a, b, shape);
    }
    let pairs = pairs(a, b, &shape);
    let unequal = || err!(InvalidModel, "{} of {} and {}", kind.name(), a.dtype(), b.dtype());
    if kind.is_comparison() {
        let holds = |order: Option<Ordering>| match kind {
            BinaryKind::Equal => order == Some(Ordering::Equal),
            BinaryKind::Less => order == Some(Ordering::Less),
            BinaryKind::Greater => order == Some(Ordering::Greater),
            BinaryKind::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        };
        let elements: Vec<bool> = match (Reader::of(a)?, Reader::of(b)?) {
            (Reader::Floats(x), Reader::Floats(y)) => pairs.map(|(i, j)| holds(x(i).partial_cmp(&y(j)))).collect(),
            (Reader::Integers(x), Reader::Integers(y)) => pairs.map(|(i, j)| holds(x(i).partial_cmp(&y(j)))).collect(),
            _ => return Err(unequal()),
        };
        return Tensor::new(shape, elements);
    }
    if a.dtype() == DType::Bool {
        let f = |x: bool, y: bool| match kind {
            BinaryKind::And => x && y,
            BinaryKind::Or => x || y,
            _ => x != y,
        };
        let (x, y) = (a.as_slice::<bool>()?, b.as_slice::<bool>()?);
        let elements = pairs.map(|(i, j)| f(x[i], y[j])).collect();
        return Tensor::new(shape, elements);
    }
    match (Reader::of(a)?, Reader::of(b)?) {
        (Reader::Floats(x), Reader::Floats(y)) => {
            collect_floats(a.dtype(), &shape, &mut pairs.map(|(i, j)| kind.apply(x(i), y(j))))
        }
        (Reader::Integers(x), Reader::Integers(y)) => {
            collect_integers(a.dtype(), &shape, &mut pairs.map(|(i, j)| integer(kind, x(i), y(j))))
        }
        _ => Err(unequal()),
    }
}

/// The places in both operands of each element of the result.
fn pairs(a: &Tensor, b: &Tensor, shape: &Shape) -> impl Iterator<Item = (usize, usize)> + use<> {
    broadcast_index(a.shape(), shape).zip(broadcast_index(b.shape(), shape))
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
    if a.dtype() == DType::Bool || b.dtype() == DType::Bool {
        bail!(InvalidModel, "Pow is not defined for bool");
    }
    let pairs = pairs(a, b, &shape);
    if a.dtype().is_integer() && b.dtype().is_integer() {
        let (bases, exponents) = (read_integers(a)?, read_integers(b)?);
        let mut powers = pairs.map(|(i, j)| integer(BinaryKind::Pow, bases(i), exponents(j)));
        return collect_integers(a.dtype(), &shape, &mut powers);
    }
    let (bases, exponents) = (read_floats(a)?, read_floats(b)?);
    collect_floats(a.dtype(), &shape, &mut pairs.map(|(i, j)| bases(i).powf(exponents(j))))
}
