//! `NonZero` and `Compress`: what is chosen depends on the data, so only a run knows how much it is.

use crate::error::{Result, ensure};
use crate::ops::layout::strided::strided;
use crate::ops::numeric::read_floats;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor, normalize_axis, with_bits};

/// The coordinates of the elements that are not zero, in row-major order: `[rank, count]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonZero;

impl NonZero {
    pub(super) fn read(_: &mut NodeReader) -> Result<Reading> {
        Ok(NonZero.into())
    }
}

impl Op for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let rank = inputs.require(0)?.rank().map_or(Dim::Unknown, |rank| Dim::Known(rank.max(1)));
        Ok(vec![Fact::new(DType::I64, vec![rank, Dim::Unknown])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        // A scalar counts as a list of one element.
        let shape = if x.rank() == 0 { Shape::from([1]) } else { x.shape().clone() };
        let read = read_floats(x)?;
        let found: Vec<usize> = (0..x.len()).filter(|&place| read(place) != 0.0).collect();
        let total = shape.rank().saturating_mul(found.len());
        budget.admit_bytes(total.saturating_mul(8))?;
        let mut coordinates = Vec::with_capacity(total);
        for (length, stride) in shape.iter().zip(shape.strides()) {
            coordinates.extend(found.iter().map(|i| (i / stride % length) as i64));
        }
        Ok(vec![Tensor::new([shape.rank(), found.len()], coordinates)?])
    }
}

/// The entries of x along an axis for which input 1 is true, or the elements of x laid flat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// The axis, counted from the end when negative; without it, x counts as a list.
    pub axis: Option<i64>,
}

impl Compress {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Compress { axis: node.int("axis")? }.into())
    }
}

impl Op for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, condition) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(condition.dtype == DType::Bool, InvalidModel, "the condition is {}, not bool", condition.dtype);
        ensure!(
            condition.rank().is_none_or(|rank| rank == 1),
            Shape,
            "the condition is {condition}, but must be a list"
        );
        let Some(axis) = self.axis else { return Ok(vec![Fact::new(x.dtype, vec![Dim::Unknown])]) };
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let mut dims = dims.to_vec();
        let axis = normalize_axis(axis, dims.len())?;
        dims[axis] = Dim::Unknown;
        Ok(vec![Fact::new(x.dtype, dims)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, condition) = (inputs.require(0)?, inputs.require(1)?);
        budget.admit_bytes(x.as_bytes().len())?;
        let flat = x.reshaped([x.len()])?;
        let (x, axis) = match self.axis {
            Some(axis) => (x, x.shape().axis(axis)?),
            None => (&flat, 0),
        };
        let chosen: Vec<usize> =
            condition.as_slice::<bool>()?.iter().enumerate().filter(|(_, chosen)| **chosen).map(|(i, _)| i).collect();
        let length = x.shape()[axis];
        let last = chosen.last().copied();
        ensure!(last.is_none_or(|i| i < length), InvalidInput, "entry {last:?} of an axis of length {length}");
        Ok(vec![take_rows(x, axis, &chosen)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int_opt("axis", self.axis)
    }
}

/// The entries of an axis at these places, all of which exist.
pub(super) fn take_rows(x: &Tensor, axis: usize, places: &[usize]) -> Result<Tensor> {
    let shape = x.shape().replaced(axis..axis + 1, &[places.len()]);
    if shape.checked_len()? == 0 {
        return Tensor::zeros(x.dtype(), shape);
    }
    let inner = x.shape()[axis + 1..].iter().product::<usize>();
    with_bits!(x.dtype().size(), T => {
        let mut out: Vec<T> = Vec::with_capacity(shape.elements());
        for block in x.bits::<T>()?.chunks_exact(x.shape()[axis] * inner) {
            places.iter().for_each(|i| out.extend_from_slice(&block[i * inner..(i + 1) * inner]));
        }
        Tensor::from_bits(x.dtype(), shape, out)
    })
}

/// The axes of x reordered so that `axis` comes first, the others keeping their order.
pub(super) fn axis_first(x: &Tensor, axis: usize) -> Result<Tensor> {
    let strides = crate::ops::layout::strided::signed_strides(x.shape());
    let order: Vec<usize> = std::iter::once(axis).chain((0..x.rank()).filter(|&a| a != axis)).collect();
    let moved: Vec<isize> = order.iter().map(|&a| strides[a]).collect();
    strided(x, order.iter().map(|&a| x.shape()[a]).collect(), 0, &moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn coordinates_of_what_is_not_zero() {
        let x = Tensor::new([2, 2], vec![1.0f32, -0.0, f32::NAN, 2.0]).unwrap();
        assert_eq!(run_one(&NonZero, &[&x]).unwrap(), Tensor::new([2, 3], vec![0i64, 1, 1, 0, 0, 1]).unwrap());
        assert_eq!(run_one(&NonZero, &[&Tensor::scalar(true)]).unwrap(), Tensor::new([1, 1], vec![0i64]).unwrap());
        let empty = Tensor::new([0, 2], Vec::<u8>::new()).unwrap();
        assert_eq!(run_one(&NonZero, &[&empty]).unwrap().shape().to_vec(), [2, 0]);
    }

    #[test]
    fn chosen_entries_stay() {
        let x = Tensor::new([2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        let choose = |axis, chosen: &[bool]| run_one(&Compress { axis }, &[&x, &Tensor::vector(chosen.to_vec())]);
        assert_eq!(choose(Some(-1), &[false, true, true]).unwrap(), Tensor::new([2, 2], vec![2u8, 3, 5, 6]).unwrap());
        assert_eq!(choose(Some(0), &[false, true]).unwrap(), Tensor::new([1, 3], vec![4u8, 5, 6]).unwrap());
        assert_eq!(choose(None, &[true, false, false, true]).unwrap(), Tensor::vector(vec![1u8, 4]));
        assert!(choose(Some(0), &[false, false, true]).is_err());
    }
}
