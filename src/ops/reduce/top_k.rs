//! TopK: the greatest or least few elements along an axis, in order.

use super::lines::Lines;
use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::order::argsort;
use crate::tensor::{DType, Dim, Fact, Tensor, normalize_axis, with_bits};

/// The `k` (input 1, `i64`, one element) greatest or least elements of input 0 along an axis, and their indices
/// (output 1, `i64`). Of equal elements the one with the smaller index comes first; NaN counts as greater than any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopK {
    /// The axis, negative from the end.
    pub axis: i64,
    /// True for the greatest, false for the least.
    pub largest: bool,
    /// Whether the order of the outputs matters; they are in order either way.
    pub sorted: bool,
}

/// Before opset 10 `k` is an attribute; before opset 11 the greatest are meant.
pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    if node.opset() < 10 {
        let Some(k) = node.int("k")? else { bail!(InvalidModel, "attribute k is missing") };
        node.set_input(1, Tensor::vector(vec![k]));
    }
    ensure!(node.has_input(1), InvalidModel, "input 1 (k) is missing");
    Ok(TopK {
        axis: node.int_or("axis", -1)?,
        largest: node.flag_or("largest", true)?,
        sorted: node.flag_or("sorted", true)?,
    }
    .into())
}

impl Op for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, k) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(k.dtype.is_integer(), InvalidModel, "k is of {}, not an integer", k.dtype);
        let Some(mut dims) = x.shape.clone() else {
            return Ok(vec![Fact::unranked(x.dtype), Fact::unranked(DType::I64)]);
        };
        let axis = normalize_axis(self.axis, dims.len())?;
        let length = match k.concrete_shape() {
            Some(shape) if shape.elements() != 1 => bail!(Shape, "k must be one number, not {k}"),
            Some(_) => k.lengths().and_then(|l| l.into_iter().next()).unwrap_or(Dim::Unknown),
            None => Dim::Unknown,
        };
        if let (Dim::Known(k), Dim::Known(n)) = (&length, &dims[axis]) {
            ensure!(k <= n, Shape, "the top {k} of {n} elements are asked for");
        }
        dims[axis] = length;
        Ok(vec![Fact::new(x.dtype, dims.clone()), Fact::new(DType::I64, dims)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, k) = (inputs.require(0)?, inputs.require(1)?.to_i64_vec()?);
        let axis = x.shape().axis(self.axis)?;
        let lines = Lines::new(x.shape(), axis);
        let k = match k[..] {
            [k] => usize::try_from(k).ok().filter(|&k| k <= lines.len),
            _ => bail!(InvalidInput, "k must be one number, not {}", k.len()),
        };
        let Some(k) = k else { bail!(InvalidInput, "k is outside 0..={}, the length of axis {axis}", lines.len) };
        let shape = x.shape().replaced(axis..axis + 1, &[k]);
        let target = Lines::new(&shape, axis);
        let mut indices = vec![0i64; shape.checked_len()?];
        let mut sources = vec![0usize; indices.len()];
        let keys = keys(x)?;
        for (from, to) in lines.starts().zip(target.starts()) {
            let at = |position: usize| from + position * lines.stride;
            let order = argsort(lines.len, |a, b| {
                let order = keys[at(a)].cmp(&keys[at(b)]);
                if self.largest { order.reverse() } else { order }
            });
            for (slot, &position) in target.indices(to).zip(&order) {
                sources[slot] = at(position);
                indices[slot] = position as i64;
            }
        }
        let values = with_bits!(x.dtype().size(), T => {
            let elements = x.bits::<T>()?;
            Tensor::from_bits(x.dtype(), shape.clone(), sources.iter().map(|&source| elements[source]).collect())?
        });
        Ok(vec![values, Tensor::new(shape, indices)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).flag("largest", self.largest).flag("sorted", self.sorted)
    }
}

/// A number for each element that grows with it, with NaN last and zeros of either sign alike.
fn keys(x: &Tensor) -> Result<Vec<u64>> {
    const SIGN: u64 = 1 << 63;
    Ok(match x.dtype() {
        DType::U64 => x.as_slice::<u64>()?.to_vec(),
        dtype if dtype.is_float() => {
            let key = |v: f64| match v.to_bits() {
                _ if v.is_nan() => u64::MAX,
                _ if v == 0.0 => SIGN,
                bits if bits & SIGN == 0 => bits | SIGN,
                bits => !bits,
            };
            x.to_f64_vec()?.into_iter().map(key).collect()
        }
        _ => x.to_i64_vec()?.into_iter().map(|v| v as u64 ^ SIGN).collect(),
    })
}
