//! `OneHot`: each index as a row with one entry on.

use crate::error::{Result, ensure};
use crate::ops::layout::arithmetic::{length, output_shape};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor, normalize_axis, with_bits};

/// Indices, depth and the pair `[off, on]` to a tensor with one more axis, of length depth. An index outside
/// `-depth..depth` is off everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneHot {
    /// Where the new axis stands in the result, counted from the end when negative.
    pub axis: i64,
}

impl OneHot {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(OneHot { axis: node.int_or("axis", -1)? }.into())
    }
}

fn depth_of(depth: &Fact) -> Result<Dim> {
    if let Some(value) = &depth.value {
        let depth = value.to_i64_vec()?;
        let [depth] = depth.as_slice() else { crate::error::bail!(Shape, "a depth of {} numbers", depth.len()) };
        return Ok(Dim::Known(length(*depth)?));
    }
    Ok(depth.lengths().and_then(|lengths| lengths.first().cloned()).unwrap_or(Dim::Unknown))
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (indices, depth, values) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let numbers = indices.dtype != DType::Bool && depth.dtype != DType::Bool;
        ensure!(numbers, InvalidModel, "indices and depth are numbers");
        if let Some(dims) = values.dims() {
            let pair = matches!(dims, [dim] if dim.known().is_none_or(|n| n == 2));
            ensure!(pair, Shape, "values are {values}, but must be the pair off and on");
        }
        let Some(dims) = indices.dims() else { return Ok(vec![Fact::unranked(values.dtype)]) };
        let mut dims = dims.to_vec();
        dims.insert(normalize_axis(self.axis, dims.len() + 1)?, depth_of(depth)?);
        Ok(vec![Fact::new(values.dtype, dims)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (indices, values) = (inputs.require(0)?, inputs.require(2)?);
        let shape = output_shape(self, inputs)?;
        let axis = shape.axis(self.axis)?;
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(values.dtype(), shape)?]);
        }
        let depth = shape[axis];
        let inner = shape[axis + 1..].iter().product::<usize>();
        let indices = indices.to_i64_vec()?;
        Ok(vec![with_bits!(values.dtype().size(), T => {
            let [off, on] = *values.bits::<T>()? else { crate::error::bail!(Shape, "values must be a pair") };
            let mut out: Vec<T> = vec![off; shape.elements()];
            for (i, index) in indices.into_iter().enumerate() {
                let index = if index < 0 { index.saturating_add(depth as i64) } else { index };
                if (0..depth as i64).contains(&index) {
                    out[(i / inner * depth + index as usize) * inner + i % inner] = on;
                }
            }
            Tensor::from_bits(values.dtype(), shape, out)?
        })])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn one_entry_is_on() {
        let indices = Tensor::vector(vec![0.0f32, -1.0, 7.0]);
        let values = Tensor::vector(vec![1u8, 5]);
        let hot = |axis, depth: i64| run_one(&OneHot { axis }, &[&indices, &Tensor::scalar(depth), &values]);
        assert_eq!(hot(-1, 2).unwrap(), Tensor::new([3, 2], vec![5u8, 1, 1, 5, 1, 1]).unwrap());
        assert_eq!(hot(0, 2).unwrap(), Tensor::new([2, 3], vec![5u8, 1, 1, 1, 5, 1]).unwrap());
        assert_eq!(hot(0, 0).unwrap().shape().to_vec(), [0, 3]);
        assert!(hot(0, -1).is_err());
        assert!(hot(2, 1).is_err());
        assert!(hot(0, i64::MAX).is_err());
    }
}
