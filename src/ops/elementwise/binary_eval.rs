//! Running a binary function over two tensors: floats through `f64`, integers through `i128`, where the 64-bit
//! types of either sign fit, so that one body serves all.

use super::BinaryKind;
use super::binary::bits;
use crate::error::{Result, bail, err};
use crate::ops::numeric::{Numbers, from_f64, integers};
use crate::tensor::{DType, Shape, Tensor, broadcast_index, broadcast_shapes};
use std::cmp::Ordering;

/// `kind` of `a` and `b`, whose dtypes it accepts.
pub(super) fn eval(kind: BinaryKind, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = broadcast_shapes(&[a.shape(), b.shape()])?;
    shape.checked_len()?;
    if kind == BinaryKind::Pow && a.dtype() != b.dtype() {
        return mixed_pow(a, b, shape);
    }
    let pairs = Pairs::new(a, b, &shape);
    if kind.is_comparison() {
        let holds = |order: Option<Ordering>| match kind {
            BinaryKind::Equal => order == Some(Ordering::Equal),
            BinaryKind::Less => order == Some(Ordering::Less),
            BinaryKind::Greater => order == Some(Ordering::Greater),
            BinaryKind::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        };
        let elements: Vec<bool> = match (Numbers::of(a)?, Numbers::of(b)?) {
            (Numbers::Floats(x), Numbers::Floats(y)) => pairs.map(|i, j| holds(x[i].partial_cmp(&y[j]))),
            (Numbers::Integers(x), Numbers::Integers(y)) => pairs.map(|i, j| holds(x[i].partial_cmp(&y[j]))),
            _ => bail!(InvalidModel, "{} of {} and {}", kind.name(), a.dtype(), b.dtype()),
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
        let elements = pairs.map(|i, j| f(x[i], y[j]));
        return Tensor::new(shape, elements);
    }
    let results = match (Numbers::of(a)?, Numbers::of(b)?) {
        (Numbers::Floats(x), Numbers::Floats(y)) => Numbers::Floats(pairs.map(|i, j| kind.apply(x[i], y[j]))),
        (Numbers::Integers(x), Numbers::Integers(y)) => {
            Numbers::Integers(pairs.try_map(|i, j| integer(kind, x[i], y[j]))?)
        }
        _ => bail!(InvalidModel, "{} of {} and {}", kind.name(), a.dtype(), b.dtype()),
    };
    results.into_tensor(a.dtype(), shape)
}

/// The places in both operands of each element of the result.
struct Pairs<'a> {
    a: &'a Shape,
    b: &'a Shape,
    shape: &'a Shape,
}

impl<'a> Pairs<'a> {
    fn new(a: &'a Tensor, b: &'a Tensor, shape: &'a Shape) -> Self {
        Pairs { a: a.shape(), b: b.shape(), shape }
    }

    fn try_map<T>(&self, mut f: impl FnMut(usize, usize) -> Result<T>) -> Result<Vec<T>> {
        let mut elements = Vec::with_capacity(self.shape.checked_len()?);
        for (i, j) in broadcast_index(self.a, self.shape).zip(broadcast_index(self.b, self.shape)) {
            elements.push(f(i, j)?);
        }
        Ok(elements)
    }

    fn map<T>(&self, mut f: impl FnMut(usize, usize) -> T) -> Vec<T> {
        broadcast_index(self.a, self.shape).zip(broadcast_index(self.b, self.shape)).map(|(i, j)| f(i, j)).collect()
    }
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
    let pairs = Pairs::new(a, b, &shape);
    if a.dtype() == DType::Bool || b.dtype() == DType::Bool {
        bail!(InvalidModel, "Pow is not defined for bool");
    }
    if a.dtype().is_integer() && b.dtype().is_integer() {
        let (bases, exponents) = (integers(a)?, integers(b)?);
        let powers = pairs.try_map(|i, j| integer(BinaryKind::Pow, bases[i], exponents[j]))?;
        return Numbers::Integers(powers).into_tensor(a.dtype(), shape);
    }
    let (bases, exponents) = (a.to_f64_vec()?, b.to_f64_vec()?);
    let powers = pairs.map(|i, j| bases[i].powf(exponents[j]));
    from_f64(a.dtype(), shape, powers)
}
