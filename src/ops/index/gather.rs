//! `Gather` and `GatherElements`: elements by their index along one axis.

use crate::error::{Result, ensure, err};
use crate::ops::layout::arithmetic::output_shape;
use crate::ops::layout::strided::offsets;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Element, Fact, Tensor, normalize_axis, with_bits};
use bytemuck::AnyBitPattern;

/// An index along an axis, counted from the end when negative.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it lies outside.
pub(super) fn index_of(index: i64, length: usize) -> Result<usize> {
    let signed = length.min(i64::MAX as usize) as i64;
    let place = if index < 0 { index.saturating_add(signed) } else { index };
    let place = usize::try_from(place).ok().filter(|&place| place < length);
    place.ok_or_else(|| err!(InvalidInput, "index {index} is outside an axis of length {length}"))
}

/// Checks that a tensor holds indices.
pub(super) fn check_indices(indices: &Fact) -> Result<()> {
    let fits = indices.dtype.is_integer();
    ensure!(fits, InvalidModel, "indices are {}, but must be integers", indices.dtype);
    Ok(())
}

/// Takes the entries of x along an axis that input 1 names: `[.., n, ..]` by `[i, j]` to `[.., i, j, ..]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// The axis, counted from the end when negative.
    pub axis: i64,
}

impl Gather {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Gather { axis: node.int_or("axis", 0)? }.into())
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?);
        check_indices(indices)?;
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let axis = normalize_axis(self.axis, dims.len())?;
        let Some(places) = indices.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let mut fact = Fact::new(x.dtype, [&dims[..axis], places, &dims[axis + 1..]].concat());
        if let ([_], Some(lengths)) = (dims, &x.content)
            && places.len() <= 1
            && let Some(indices) = indices.integers()
        {
            fact.content = indices.iter().map(|&i| Some(lengths[index_of(i, lengths.len()).ok()?].clone())).collect();
        }
        Ok(vec![fact])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?);
        let axis = x.shape().axis(self.axis)?;
        let shape = output_shape(self, inputs)?;
        let length = x.shape()[axis];
        let indices: Vec<usize> =
            indices.to_i64_vec()?.into_iter().map(|i| index_of(i, length)).collect::<Result<_>>()?;
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        let inner = x.shape()[axis + 1..].iter().product::<usize>();
        Ok(vec![with_bits!(x.dtype().size(), T => {
            let mut out: Vec<T> = Vec::with_capacity(shape.elements());
            for block in x.bits::<T>()?.chunks_exact(length * inner) {
                indices.iter().for_each(|i| out.extend_from_slice(&block[i * inner..(i + 1) * inner]));
            }
            Tensor::from_bits(x.dtype(), shape, out)?
        })])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis)
    }
}

/// For each element of a tensor of indices along `axis`, the offset in a tensor of shape `x` that it names.
pub(super) fn element_places(x: &[usize], indices: &Tensor, axis: usize) -> Result<Vec<usize>> {
    let mut strides = crate::tensor::Shape::from(x).strides();
    let along = std::mem::replace(&mut strides[axis], 0);
    let bases = offsets(indices.shape(), &strides);
    let named = indices.to_i64_vec()?;
    bases.zip(named).map(|(base, index)| Ok(base + index_of(index, x[axis])? * along)).collect()
}

/// Checks that a tensor of indices along `axis` names elements of x: equal ranks, and no other axis longer than x's.
pub(super) fn check_element_indices(x: &Fact, indices: &Fact, axis: i64) -> Result<()> {
    check_indices(indices)?;
    let (Some(dims), Some(places)) = (x.dims(), indices.dims()) else { return Ok(()) };
    let axis = normalize_axis(axis, dims.len())?;
    ensure!(dims.len() == places.len(), Shape, "indices {indices} for {x}: the ranks differ");
    for other in (0..dims.len()).filter(|&other| other != axis) {
        let fits = match (dims[other].known(), places[other].known()) {
            (Some(n), Some(named)) => named <= n,
            _ => true,
        };
        ensure!(fits, Shape, "indices {indices} reach past axis {other} of {x}");
    }
    Ok(())
}

/// Takes one element of x for each index: only the coordinate along the axis is replaced by the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatherElements {
    /// The axis, counted from the end when negative.
    pub axis: i64,
}

impl GatherElements {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(GatherElements { axis: node.int_or("axis", 0)? }.into())
    }
}

impl Op for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?);
        check_element_indices(x, indices, self.axis)?;
        let shape = indices.shape.clone().or_else(|| x.rank().map(|rank| vec![Dim::Unknown; rank]));
        Ok(vec![Fact { shape, ..Fact::unranked(x.dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?);
        let places = element_places(x.shape(), indices, x.shape().axis(self.axis)?)?;
        let shape = indices.shape().clone();
        Ok(vec![
            with_bits!(x.dtype().size(), T => Tensor::from_bits(x.dtype(), shape, pick(x.bits::<T>()?, &places)?)?),
        ])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis)
    }
}

/// The elements at these offsets.
pub(in crate::ops) fn pick<T: Element + AnyBitPattern>(x: &[T], places: &[usize]) -> Result<Vec<T>> {
    let picked: Option<Vec<T>> = places.iter().map(|&place| x.get(place).copied()).collect();
    picked.ok_or_else(|| err!(Internal, "an index outside the tensor was let through"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::ops::testing::{infer_one, run_one, symbol};
    use crate::tensor::DType;

    #[test]
    fn entries_are_taken_along_an_axis() {
        let x = Tensor::new([2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        let indices = Tensor::new([1, 2], vec![-1i32, 0]).unwrap();
        let y = run_one(&Gather { axis: 1 }, &[&x, &indices]).unwrap();
        assert_eq!(y, Tensor::new([2, 1, 2], vec![3u8, 1, 6, 4]).unwrap());
        let y = run_one(&Gather { axis: 0 }, &[&x, &Tensor::scalar(1i64)]).unwrap();
        assert_eq!(y, Tensor::vector(vec![4u8, 5, 6]));
        let empty = Tensor::new([0, 3], Vec::<u8>::new()).unwrap();
        for (x, index) in [(&x, 2i64), (&x, -3), (&x, i64::MIN), (&empty, 0)] {
            let error = run_one(&Gather { axis: 0 }, &[x, &Tensor::scalar(index)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn lengths_are_picked() {
        let shape = Fact::concrete(DType::I64, &[2]).with_content(vec![symbol("N"), Dim::Known(4)]);
        let op = Gather { axis: 0 };
        let n = infer_one(&op, &[&shape, &Fact::constant(Tensor::scalar(-2i64))]).unwrap();
        assert_eq!((n.rank(), n.lengths().unwrap()), (Some(0), vec![symbol("N")]));
        let bad = infer_one(&op, &[&shape, &Fact::constant(Tensor::scalar(2i64))]).unwrap();
        assert_eq!(bad.lengths(), None);
    }

    #[test]
    fn elements_are_taken_one_by_one() {
        let x = Tensor::new([2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        let indices = Tensor::new([2, 2], vec![0i64, -1, 1, 1]).unwrap();
        let y = run_one(&GatherElements { axis: -1 }, &[&x, &indices]).unwrap();
        assert_eq!(y, Tensor::new([2, 2], vec![1u8, 3, 5, 5]).unwrap());
        let y = run_one(&GatherElements { axis: 0 }, &[&x, &Tensor::new([1, 3], vec![1i64, 0, 1]).unwrap()]).unwrap();
        assert_eq!(y, Tensor::new([1, 3], vec![4u8, 2, 6]).unwrap());
        assert!(run_one(&GatherElements { axis: 1 }, &[&x, &Tensor::new([3, 1], vec![0i64; 3]).unwrap()]).is_err());
        assert!(run_one(&GatherElements { axis: 0 }, &[&x, &indices.reshaped([4]).unwrap()]).is_err());
        assert!(run_one(&GatherElements { axis: 0 }, &[&x, &Tensor::new([1, 1], vec![2i64]).unwrap()]).is_err());
    }
}
