//! `Expand` and `Tile`: elements said again.

use super::arithmetic::{length, lengths_of, list_len, output_shape};
use super::strided::{signed_strides, strided};
use crate::error::{Result, ensure};
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// Broadcasts x with the shape that input 1 lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expand;

impl Expand {
    pub(super) fn read(_: &mut NodeReader) -> Result<Reading> {
        Ok(Expand.into())
    }
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, list) = (inputs.require(0)?, inputs.require(1)?);
        let (Some(dims), Some(target)) = (x.dims(), lengths_of(list)?) else {
            return Ok(vec![Fact::unranked(x.dtype)]);
        };
        let rank = dims.len().max(target.len());
        let padded = |dims: &[Dim], axis: usize| {
            (axis + dims.len()).checked_sub(rank).map_or(Dim::Known(1), |axis| dims[axis].clone())
        };
        let dims: Result<Vec<Dim>> =
            (0..rank).map(|axis| padded(dims, axis).broadcast(&padded(&target, axis))).collect();
        Ok(vec![Fact::new(x.dtype, dims.map_err(|e| e.at(format!("{x} expanded to {target:?}")))?)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        let mut strides = vec![0isize; shape.rank() - x.rank()];
        strides
            .extend(signed_strides(x.shape()).into_iter().zip(x.shape().iter()).map(|(s, &n)| s * isize::from(n != 1)));
        Ok(vec![strided(x, shape, 0, &strides)?])
    }
}

/// Repeats x along each axis as often as input 1 lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile;

impl Tile {
    pub(super) fn read(_: &mut NodeReader) -> Result<Reading> {
        Ok(Tile.into())
    }
}

impl Op for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, list) = (inputs.require(0)?, inputs.require(1)?);
        let repeats = lengths_of(list)?;
        let Some(dims) = x.dims() else {
            return Ok(vec![match list_len(list)? {
                Some(rank) => Fact::new(x.dtype, vec![Dim::Unknown; rank]),
                None => Fact::unranked(x.dtype),
            }]);
        };
        let repeats = repeats.unwrap_or_else(|| vec![Dim::Unknown; dims.len()]);
        ensure!(repeats.len() == dims.len(), Shape, "{} repeats are given for {x}", repeats.len());
        let tile = |(dim, repeat): (&Dim, &Dim)| {
            let tiled = dim.times(repeat);
            let overflow = tiled == Dim::Unknown && dim.known().is_some() && repeat.known().is_some();
            ensure!(!overflow, Limit, "{repeat} repeats of {dim} elements are too many");
            Ok(tiled)
        };
        Ok(vec![Fact::new(x.dtype, dims.iter().zip(&repeats).map(tile).collect::<Result<_>>()?)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let repeats = inputs.require(1)?.to_i64_vec()?;
        let shape = output_shape(self, inputs)?;
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        // Each axis counts as two: the repeats, which stand still in x, and the elements.
        let mut pairs = Vec::with_capacity(2 * x.rank());
        let mut strides = Vec::with_capacity(2 * x.rank());
        for ((&n, stride), &repeat) in x.shape().iter().zip(signed_strides(x.shape())).zip(&repeats) {
            pairs.extend([length(repeat)?, n]);
            strides.extend([0, stride]);
        }
        Ok(vec![strided(x, pairs.into(), 0, &strides)?.reshaped(shape)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::testing::{infer_one, run_one};

    fn list(values: &[i64]) -> Tensor {
        Tensor::vector(values.to_vec())
    }

    #[test]
    fn expansion_broadcasts_both_ways() {
        let x = Tensor::new([2, 1], vec![1.0f32, 2.0]).unwrap();
        let y = run_one(&Expand, &[&x, &list(&[2, 1, 2])]).unwrap();
        assert_eq!(y, Tensor::new([2, 2, 2], vec![1.0f32, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]).unwrap());
        assert_eq!(run_one(&Expand, &[&x, &list(&[1])]).unwrap(), x);
        assert_eq!(run_one(&Expand, &[&x, &list(&[0])]).unwrap().shape().to_vec(), [2, 0]);
        assert!(run_one(&Expand, &[&x, &list(&[3, 1])]).is_err());
        assert!(run_one(&Expand, &[&x, &list(&[-1, 1])]).is_err());
    }

    #[test]
    fn tiles_repeat_each_axis() {
        let x = Tensor::new([2, 2], vec![1u8, 2, 3, 4]).unwrap();
        let y = run_one(&Tile, &[&x, &list(&[2, 2])]).unwrap();
        assert_eq!(y.as_slice::<u8>().unwrap(), [1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4]);
        assert_eq!(run_one(&Tile, &[&x, &list(&[0, 1])]).unwrap().shape().to_vec(), [0, 2]);
        assert!(run_one(&Tile, &[&x, &list(&[2])]).is_err());
        assert!(run_one(&Tile, &[&x, &list(&[2, -2])]).is_err());
        assert!(run_one(&Tile, &[&x, &list(&[i64::MAX, i64::MAX])]).is_err());
    }

    #[test]
    fn huge_results_are_known_before_they_are_made() {
        let x = Fact::concrete(DType::F32, &[1]);
        for op in [&Expand as &dyn Op, &Tile] {
            let fact = infer_one(op, &[&x, &Fact::constant(list(&[1 << 50]))]).unwrap();
            assert_eq!(fact.bytes(), Some(4 << 50));
        }
    }
}
