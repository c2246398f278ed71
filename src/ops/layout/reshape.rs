//! `Reshape` and `Flatten`: the same elements, counted by other axes.

use super::arithmetic::{list_len, output_shape, product, quotient};
use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// Gives x the shape that input 1 lists; 0 copies the length of x's axis at that place, and one -1 takes what is left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reshape {
    /// Whether 0 means an axis of length 0 and copies nothing.
    pub allow_zero: bool,
}

impl Reshape {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Reshape { allow_zero: node.flag_or("allowzero", false)? }.into())
    }

    /// The shape that `target` makes of `dims`: the wildcard, if there is one, is at `wildcard`.
    fn resolve(&self, dims: &[Dim], mut target: Vec<Dim>, wildcard: Option<usize>) -> Result<Vec<Dim>> {
        // Axes that are copied cancel whatever they are, so that what is left can be known.
        let mut copied = vec![false; dims.len().max(target.len())];
        if !self.allow_zero {
            for (axis, length) in target.iter_mut().enumerate() {
                if *length == Dim::Known(0) {
                    let Some(own) = dims.get(axis) else {
                        bail!(Shape, "the shape copies axis {axis} of a tensor of rank {}", dims.len())
                    };
                    (*length, copied[axis]) = (own.clone(), true);
                }
            }
        }
        let free = match wildcard {
            Some(axis) => Some(axis),
            // One length that only a run can tell is told by all the others.
            None => {
                let mut unknown = (0..target.len()).filter(|&axis| target[axis] == Dim::Unknown && !copied[axis]);
                unknown.next().filter(|_| unknown.next().is_none())
            }
        };
        let left = |dims: &[Dim], skip: Option<usize>| -> Vec<Dim> {
            let kept = dims.iter().enumerate().filter(|(axis, _)| !copied[*axis] && Some(*axis) != skip);
            kept.map(|(_, dim)| dim.clone()).collect()
        };
        let (own, named) = (left(dims, None), left(&target, free));
        match free {
            Some(axis) => target[axis] = quotient(&own, &named)?,
            None => {
                // A product that overflows is not known, and is no length of a tensor either.
                let all = |dims: &[Dim]| dims.iter().all(|d| d.known().is_some());
                let differ = product(&own).known() != product(&named).known();
                ensure!(!(all(&own) && all(&named) && differ), Shape, "{dims:?} does not reshape to {target:?}");
            }
        }
        Ok(target)
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, shape) = (inputs.require(0)?, inputs.require(1)?);
        let len = list_len(shape)?;
        let nothing = (len == Some(0)).then(Vec::new);
        let Some(target) = shape.lengths().or(nothing) else {
            return Ok(vec![match len {
                Some(rank) => Fact::new(x.dtype, vec![Dim::Unknown; rank]),
                None => Fact::unranked(x.dtype),
            }]);
        };
        let mut wildcard = None;
        if let Some(integers) = shape.value.as_ref().and(shape.integers()) {
            for (axis, &length) in integers.iter().enumerate().filter(|(_, length)| **length < 0) {
                ensure!(length == -1, Shape, "a length of {length} in the shape {integers:?}");
                ensure!(wildcard.is_none(), Shape, "more than one -1 in the shape {integers:?}");
                wildcard = Some(axis);
            }
            let both = self.allow_zero && wildcard.is_some() && integers.contains(&0);
            ensure!(!both, Shape, "0 and -1 in the shape {integers:?}, which allowzero forbids");
        }
        let dims = match x.dims() {
            Some(dims) => self.resolve(dims, target, wildcard).map_err(|e| e.at(format!("{x} by shape {shape:?}")))?,
            None if self.allow_zero => target,
            None => target.into_iter().map(|d| if d == Dim::Known(0) { Dim::Unknown } else { d }).collect(),
        };
        let content = x.content.clone().filter(|_| dims.len() <= 1);
        Ok(vec![Fact { content, ..Fact::new(x.dtype, dims) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.require(0)?.reshaped(output_shape(self, inputs)?)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("allowzero", self.allow_zero)
    }
}

/// Makes x a matrix: the axes before `axis` are its rows, the others its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flatten {
    /// Where the columns begin, in `-rank..=rank`.
    pub axis: i64,
}

impl Flatten {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Flatten { axis: node.int_or("axis", 1)? }.into())
    }
}

impl Op for Flatten {
    fn name(&self) -> &'static str {
        "Flatten"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let Some(dims) = x.dims() else { return Ok(vec![Fact::new(x.dtype, vec![Dim::Unknown; 2])]) };
        let rank = dims.len() as i64;
        ensure!((-rank..=rank).contains(&self.axis), Shape, "axis {} is outside {x}", self.axis);
        let (rows, columns) = dims.split_at((if self.axis < 0 { self.axis + rank } else { self.axis }) as usize);
        Ok(vec![Fact::new(x.dtype, vec![product(rows), product(columns)])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.require(0)?.reshaped(output_shape(self, inputs)?)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::testing::{infer_one, run_one, symbol};

    fn shape_of(x: &Tensor, target: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
        Ok(run_one(&Reshape { allow_zero }, &[x, &Tensor::vector(target.to_vec())])?.shape().to_vec())
    }

    #[test]
    fn zeros_copy_and_one_length_is_free() {
        let x = Tensor::new([2, 3, 4], vec![0u8; 24]).unwrap();
        for (target, expected) in [
            (vec![4, 2, 3], vec![4, 2, 3]),
            (vec![-1], vec![24]),
            (vec![0, -1], vec![2, 12]),
            (vec![2, 0, 1, -1], vec![2, 3, 1, 4]),
        ] {
            assert_eq!(shape_of(&x, &target, false).unwrap(), expected);
        }
        for bad in [vec![5, -1], vec![-1, -1], vec![-2, 12], vec![24, 1, 1, 0], vec![23], vec![i64::MAX, i64::MAX]] {
            assert!(shape_of(&x, &bad, false).is_err(), "{bad:?}");
        }
        let empty = Tensor::new([0, 3, 4], Vec::<u8>::new()).unwrap();
        assert_eq!(shape_of(&empty, &[3, 4, 0], true).unwrap(), [3, 4, 0]);
        assert!(shape_of(&empty, &[0, -1], true).is_err());
        assert_eq!(shape_of(&Tensor::scalar(1u8), &[], false).unwrap(), [0usize; 0]);
        // A list without lengths tells the shape before it is there.
        let list = Fact::concrete(DType::I64, &[0]);
        let infer = |shape: &[usize]| infer_one(&Reshape::default(), &[&Fact::concrete(DType::F32, shape), &list]);
        assert_eq!(infer(&[1, 1]).unwrap().dims().unwrap(), []);
        assert!(infer(&[2, 3]).is_err());
        assert!(shape_of(&Tensor::vector(vec![1u8]), &[0, 1 << 40, i64::MAX, 2], false).is_err());
    }

    #[test]
    fn symbols_survive() {
        let n = || symbol("N");
        let x = Fact::new(DType::F32, vec![n(), Dim::Known(4), Dim::Known(8)]);
        let op = Reshape::default();
        for target in [vec![0i64, 32], vec![-1, 32], vec![0, -1], vec![-1, 8, 4]] {
            let fact = infer_one(&op, &[&x, &Fact::constant(Tensor::vector(target.clone()))]).unwrap();
            assert_eq!(fact.dims().unwrap()[0], n(), "{target:?}");
            assert!(fact.dims().unwrap()[1].known().is_some(), "{target:?}");
        }
        let list = Fact::concrete(DType::I64, &[2]).with_content(vec![n(), Dim::Unknown]);
        assert_eq!(infer_one(&op, &[&x, &list]).unwrap().dims().unwrap(), [n(), Dim::Known(32)]);
    }

    #[test]
    fn flatten_splits_the_axes() {
        let x = Tensor::new([2, 3, 4], vec![0u8; 24]).unwrap();
        for (axis, expected) in [(0, [1, 24]), (1, [2, 12]), (-1, [6, 4]), (3, [24, 1])] {
            assert_eq!(&**run_one(&Flatten { axis }, &[&x]).unwrap().shape(), expected);
        }
        assert!(run_one(&Flatten { axis: 4 }, &[&x]).is_err());
    }
}
