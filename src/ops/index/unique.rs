//! `Unique`: each value, or each slice along an axis, once.

use super::nonzero::{axis_first, take_rows};
use crate::error::Result;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::order::{argsort, sort_by};
use crate::tensor::{DType, Dim, Fact, Tensor, normalize_axis};

/// The distinct values; further outputs are where each first stands, which of them each element is, and how often
/// each occurs. NaN equals itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The axis whose slices are compared, counted from the end when negative; without it, the elements are.
    pub axis: Option<i64>,
    /// Whether the result is sorted; otherwise it keeps the order of first occurrence.
    pub sorted: bool,
}

impl Unique {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Unique { axis: node.int("axis")?, sorted: node.flag_or("sorted", true)? }.into())
    }
}

/// Numbers in the order of the elements; equal elements have equal numbers.
fn keys(x: &Tensor) -> Result<Vec<u64>> {
    const SIGN: u64 = 1 << 63;
    Ok(match x.dtype() {
        DType::U64 => x.to_i64_vec()?.into_iter().map(|v| v as u64).collect(),
        dtype if dtype.is_float() => {
            let key = |v: f64| match v.to_bits() {
                _ if v.is_nan() => u64::MAX,
                _ if v == 0.0 => SIGN,
                bits if bits & SIGN != 0 => !bits,
                bits => bits | SIGN,
            };
            x.to_f64_vec()?.into_iter().map(key).collect()
        }
        _ => x.to_i64_vec()?.into_iter().map(|v| v as u64 ^ SIGN).collect(),
    })
}

impl Op for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let list = || Fact::new(DType::I64, vec![Dim::Unknown]);
        let values = match (self.axis, x.dims()) {
            (None, _) => Fact::new(x.dtype, vec![Dim::Unknown]),
            (Some(_), None) => Fact::unranked(x.dtype),
            (Some(axis), Some(dims)) => {
                let mut dims = dims.to_vec();
                let axis = normalize_axis(axis, dims.len())?;
                dims[axis] = Dim::Unknown;
                Fact::new(x.dtype, dims)
            }
        };
        Ok(vec![values, list(), list(), list()])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let flat = x.reshaped([x.len()])?;
        let (x, axis) = match self.axis {
            Some(axis) => (x, x.shape().axis(axis)?),
            None => (&flat, 0),
        };
        let rows = x.shape()[axis];
        // Rows without elements cost as well.
        budget.admit_bytes(x.len().max(rows).saturating_mul(64))?;
        let keys = keys(&axis_first(x, axis)?)?;
        let row = keys.len().checked_div(rows).unwrap_or(0);
        let key = |i: usize| &keys[i * row..(i + 1) * row];
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for i in argsort(rows, |a, b| key(a).cmp(key(b))) {
            match groups.last_mut() {
                Some(group) if key(group[0]) == key(i) => group.push(i),
                _ => groups.push(vec![i]),
            }
        }
        if !self.sorted {
            sort_by(&mut groups, |a, b| a[0].cmp(&b[0]));
        }
        let first: Vec<usize> = groups.iter().map(|group| group[0]).collect();
        let mut inverse = vec![0i64; rows];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|&i| inverse[i] = number as i64);
        }
        Ok(vec![
            take_rows(x, axis, &first)?,
            Tensor::vector(first.iter().map(|&i| i as i64).collect()),
            Tensor::vector(inverse),
            Tensor::vector(groups.iter().map(|group| group.len() as i64).collect()),
        ])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int_opt("axis", self.axis).flag("sorted", self.sorted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    #[test]
    fn values_are_told_once() {
        let x = Tensor::vector(vec![2.0f32, f32::NAN, -1.0, 2.0, f32::NAN]);
        let sorted = run(&Unique { axis: None, sorted: true }, &[Some(&x)]).unwrap();
        assert_eq!(sorted[0].as_slice::<f32>().unwrap()[..2], [-1.0, 2.0]);
        let integers: Vec<_> = sorted[1..].iter().map(|t| t.to_i64_vec().unwrap()).collect();
        assert_eq!(integers, [vec![2, 0, 1], vec![1, 2, 0, 1, 2], vec![1, 2, 2]]);
        let unsorted = run(&Unique { axis: None, sorted: false }, &[Some(&x)]).unwrap();
        assert_eq!(unsorted[1].to_i64_vec().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn slices_are_compared_along_an_axis() {
        let x = Tensor::new([2, 3], vec![2u64, 1, 2, u64::MAX, 4, u64::MAX]).unwrap();
        let y = run(&Unique { axis: Some(1), sorted: true }, &[Some(&x)]).unwrap();
        assert_eq!(y[0], Tensor::new([2, 2], vec![1u64, 2, 4, u64::MAX]).unwrap());
        let empty = Tensor::new([0, 3], Vec::<u8>::new()).unwrap();
        assert_eq!(run(&Unique { axis: Some(0), sorted: true }, &[Some(&empty)]).unwrap()[0], empty);
        let columns = run(&Unique { axis: Some(1), sorted: true }, &[Some(&empty)]).unwrap();
        assert_eq!(columns[0].shape().to_vec(), [0, 1]);
    }
}
