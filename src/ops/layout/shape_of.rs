//! `Shape` and `Size`: the lengths of a tensor as a tensor.

use super::arithmetic::product;
use crate::error::Result;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor};
use std::ops::Range;

/// ONNX's `Shape`: the lengths of the axes `start..end` as a list of `i64`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShapeOf {
    /// The first axis, counted from the end when negative, clamped to the rank.
    pub start: i64,
    /// The axis after the last; without it, the rank.
    pub end: Option<i64>,
}

impl ShapeOf {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(ShapeOf { start: node.int_or("start", 0)?, end: node.int("end")? }.into())
    }

    /// The axes of a tensor of this rank whose lengths are listed.
    #[must_use]
    pub fn axes(&self, rank: usize) -> Range<usize> {
        let signed = rank as i64;
        let clamp = |axis: i64| (if axis < 0 { axis.saturating_add(signed) } else { axis }).clamp(0, signed) as usize;
        let start = clamp(self.start);
        start..self.end.map_or(rank, clamp).max(start)
    }
}

impl Op for ShapeOf {
    fn name(&self) -> &'static str {
        "Shape"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let Some(dims) = inputs.require(0)?.dims() else { return Ok(vec![Fact::new(DType::I64, vec![Dim::Unknown])]) };
        let content = dims[self.axes(dims.len())].to_vec();
        Ok(vec![Fact::concrete(DType::I64, &[content.len()]).with_content(content)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let shape = inputs.require(0)?.shape();
        Ok(vec![Tensor::vector(shape[self.axes(shape.rank())].iter().map(|&n| n as i64).collect())])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("start", self.start).int_opt("end", self.end)
    }
}

/// The number of elements as an `i64` scalar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size;

impl Size {
    pub(super) fn read(_: &mut NodeReader) -> Result<Reading> {
        Ok(Size.into())
    }
}

impl Op for Size {
    fn name(&self) -> &'static str {
        "Size"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let size = inputs.require(0)?.dims().map_or(Dim::Unknown, product);
        Ok(vec![Fact::concrete(DType::I64, &[]).with_content(vec![size])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![Tensor::scalar(inputs.require(0)?.len() as i64)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn lengths_are_listed() {
        let x = Tensor::new([2, 3, 4], vec![0u8; 24]).unwrap();
        for (start, end, expected) in [
            (0, None, vec![2i64, 3, 4]),
            (1, None, vec![3, 4]),
            (-1, None, vec![4]),
            (0, Some(-1), vec![2, 3]),
            (-9, Some(9), vec![2, 3, 4]),
            (2, Some(1), vec![]),
            (i64::MIN, Some(i64::MAX), vec![2, 3, 4]),
        ] {
            assert_eq!(run_one(&ShapeOf { start, end }, &[&x]).unwrap().to_i64_vec().unwrap(), expected);
        }
        assert_eq!(run_one(&Size, &[&x]).unwrap(), Tensor::scalar(24i64));
        assert_eq!(run_one(&Size, &[&Tensor::scalar(1u8)]).unwrap(), Tensor::scalar(1i64));
    }
}
