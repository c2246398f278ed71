//! `Concat`: tensors one after the other along an axis.

use super::arithmetic::{MAX_CONTENT, output_shape};
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Element, Fact, Shape, Tensor, normalize_axis, with_bits};
use bytemuck::AnyBitPattern;

/// Joins its inputs along an axis; they agree in dtype and in every other axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concat {
    /// The axis, counted from the end when negative.
    pub axis: i64,
}

impl Concat {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        match node.int("axis")? {
            Some(axis) => Ok(Concat { axis }.into()),
            None => Err(crate::error::err!(InvalidModel, "attribute axis is missing")),
        }
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let parts = inputs.require_from(0)?;
        let dtype = inputs.require(0)?.dtype;
        if let Some(other) = parts.iter().find(|p| p.dtype != dtype) {
            crate::error::bail!(Shape, "{dtype} is joined with {}", other.dtype);
        }
        let Some(rank) = parts.iter().find_map(|p| p.rank()) else { return Ok(vec![Fact::unranked(dtype)]) };
        let axis = normalize_axis(self.axis, rank)?;
        let mut dims = vec![Dim::Unknown; rank];
        let mut along = Dim::Known(0);
        for (index, part) in parts.iter().enumerate() {
            let Some(own) = part.dims() else {
                along = Dim::Unknown;
                continue;
            };
            ensure!(own.len() == rank, Shape, "input {index} is {part}, but another has rank {rank}");
            along = along.plus(&own[axis]);
            for other in (0..rank).filter(|&other| other != axis) {
                dims[other] =
                    dims[other].unify(&own[other]).map_err(|e| e.at(format!("axis {other} of input {index}")))?;
            }
        }
        dims[axis] = along;
        let mut fact = Fact::new(dtype, dims);
        if rank == 1 && dtype.is_integer() && parts.len() <= MAX_CONTENT {
            let content: Option<Vec<Dim>> = parts.iter().try_fold(Vec::new(), |mut all, part| {
                let small = part.dims().and_then(|d| d[0].known()).is_some_and(|n| n <= MAX_CONTENT);
                all.extend(part.lengths().filter(|_| small)?);
                Some(all)
            });
            fact.content = content;
        }
        Ok(vec![fact])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let parts = inputs.require_from(0)?;
        let shape = output_shape(self, inputs)?;
        let axis = shape.axis(self.axis)?;
        let dtype = inputs.require(0)?.dtype();
        Ok(vec![
            with_bits!(dtype.size(), T => Tensor::from_bits(dtype, shape.clone(), join::<T>(&parts, &shape, axis)?)?),
        ])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis)
    }
}

fn join<T: Element + AnyBitPattern>(parts: &[&Tensor], shape: &Shape, axis: usize) -> Result<Vec<T>> {
    let mut out: Vec<T> = Vec::with_capacity(shape.checked_len()?);
    if shape.contains(&0) {
        return Ok(out);
    }
    let rows = shape[..axis].iter().product::<usize>();
    let mut chunks = Vec::with_capacity(parts.len());
    for part in parts.iter().filter(|p| !p.is_empty()) {
        chunks.push(part.bits::<T>()?.chunks_exact(part.len() / rows));
    }
    for _ in 0..rows {
        for chunk in chunks.iter_mut().filter_map(Iterator::next) {
            out.extend_from_slice(chunk);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::testing::{infer_one, run_one, symbol};

    #[test]
    fn tensors_are_joined_along_any_axis() {
        let a = Tensor::new([2, 1], vec![1u16, 2]).unwrap();
        let b = Tensor::new([2, 2], vec![3u16, 4, 5, 6]).unwrap();
        let empty = Tensor::new([2, 0], Vec::<u16>::new()).unwrap();
        let y = run_one(&Concat { axis: -1 }, &[&a, &empty, &b]).unwrap();
        assert_eq!(y, Tensor::new([2, 3], vec![1u16, 3, 4, 2, 5, 6]).unwrap());
        let y = run_one(&Concat { axis: 0 }, &[&b, &b]).unwrap();
        assert_eq!(y, Tensor::new([4, 2], vec![3u16, 4, 5, 6, 3, 4, 5, 6]).unwrap());
        assert!(run_one(&Concat { axis: 0 }, &[&a, &b]).is_err());
        assert!(run_one(&Concat { axis: 2 }, &[&a]).is_err());
        assert!(run_one(&Concat { axis: 0 }, &[&a, &a.cast(DType::I16).unwrap()]).is_err());
    }

    #[test]
    fn lists_of_lengths_are_joined() {
        let n = Fact::concrete(DType::I64, &[1]).with_content(vec![symbol("N")]);
        let rest = Fact::constant(Tensor::vector(vec![4i64, -1]));
        let joined = infer_one(&Concat { axis: 0 }, &[&n, &rest]).unwrap();
        assert_eq!(joined.lengths().unwrap(), [symbol("N"), Dim::Known(4), Dim::Unknown]);
    }
}
