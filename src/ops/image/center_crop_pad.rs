//! `CenterCropPad`: the middle of a tensor, or a tensor in the middle of zeros.

use crate::error::{Result, ensure};
use crate::ops::layout::arithmetic::{distinct_axes, lengths_of, output_shape};
use crate::ops::layout::strided::{FILL, mapped};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// Crops or pads axes of x to the lengths that input 1 lists, evenly on both sides; an odd element more is cropped or
/// padded at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CenterCropPad {
    /// The axes, counted from the end when negative; without them, all.
    pub axes: Option<Vec<i64>>,
}

impl CenterCropPad {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(CenterCropPad { axes: node.ints("axes")? }.into())
    }
}

impl Op for CenterCropPad {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, shape) = (inputs.require(0)?, inputs.require(1)?);
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let axes = match &self.axes {
            Some(axes) => distinct_axes(axes, dims.len())?,
            None => (0..dims.len()).collect(),
        };
        let lengths = lengths_of(shape)?.unwrap_or_else(|| vec![Dim::Unknown; axes.len()]);
        ensure!(lengths.len() == axes.len(), Shape, "{} lengths for {} axes", lengths.len(), axes.len());
        let mut dims = dims.to_vec();
        axes.into_iter().zip(lengths).for_each(|(axis, length)| dims[axis] = length);
        Ok(vec![Fact::new(x.dtype, dims)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        let map = |(&from, &to): (&usize, &usize)| -> Vec<usize> {
            let (cropped, padded) = (from.saturating_sub(to) / 2, to.saturating_sub(from) / 2);
            let source = |i: usize| i.checked_sub(padded).filter(|&i| i < from).map_or(FILL, |i| i + cropped);
            (0..to).map(source).collect()
        };
        let maps: Vec<Vec<usize>> = x.shape().iter().zip(shape.iter()).map(map).collect();
        Ok(vec![mapped(x, &maps, &Tensor::zeros(x.dtype(), [1])?)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().ints_opt("axes", self.axes.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn the_middle_stays() {
        let x = Tensor::new([1, 4], vec![1u8, 2, 3, 4]).unwrap();
        for (length, expected) in
            [(4, vec![1u8, 2, 3, 4]), (1, vec![2]), (2, vec![2, 3]), (7, vec![0, 1, 2, 3, 4, 0, 0])]
        {
            let op = CenterCropPad { axes: Some(vec![-1]) };
            let y = run_one(&op, &[&x, &Tensor::vector(vec![length])]).unwrap();
            assert_eq!(y, Tensor::new([1, expected.len()], expected).unwrap());
        }
        let y = run_one(&CenterCropPad { axes: None }, &[&x, &Tensor::vector(vec![2, 0])]).unwrap();
        assert_eq!(y.shape().to_vec(), [2, 0]);
        assert!(run_one(&CenterCropPad { axes: None }, &[&x, &Tensor::vector(vec![2])]).is_err());
        assert!(run_one(&CenterCropPad { axes: None }, &[&x, &Tensor::vector(vec![2, -2])]).is_err());
    }
}
