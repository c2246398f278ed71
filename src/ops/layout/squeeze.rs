//! `Squeeze` and `Unsqueeze`: axes of length 1, gone and come.

use super::arithmetic::{axes_of, distinct_axes, ints_to_input, list_len, output_shape};
use crate::error::{Result, ensure};
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// Drops the axes that the optional input 1 lists, or else every axis of length 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Squeeze;

impl Squeeze {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        ints_to_input(node, "axes", 1)?;
        Ok(Squeeze.into())
    }
}

impl Op for Squeeze {
    fn name(&self) -> &'static str {
        "Squeeze"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let axes = match inputs.get(1) {
            // Which axes go is not known before all lengths are.
            None if dims.iter().any(|d| d.known().is_none()) => None,
            None => Some((0..dims.len()).filter(|&axis| dims[axis] == Dim::Known(1)).collect()),
            Some(list) => match axes_of(Some(list), dims.len())? {
                // As many as there are: all of them, in whatever order.
                None if list_len(list)? == Some(dims.len()) => Some((0..dims.len()).collect()),
                axes => axes,
            },
        };
        let Some(axes) = axes else {
            return Ok(vec![match inputs.get(1).map(list_len).transpose()?.flatten() {
                Some(count) if count <= dims.len() => Fact::new(x.dtype, vec![Dim::Unknown; dims.len() - count]),
                _ => Fact::unranked(x.dtype),
            }]);
        };
        for &axis in &axes {
            let length = dims[axis].known();
            ensure!(length.is_none_or(|n| n == 1), Shape, "axis {axis} of {x} is squeezed, but is longer than 1");
        }
        let kept = dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, d)| d.clone());
        let dims: Vec<Dim> = kept.collect();
        let content = x.content.clone().filter(|_| dims.len() <= 1);
        Ok(vec![Fact { content, ..Fact::new(x.dtype, dims) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.require(0)?.reshaped(output_shape(self, inputs)?)?])
    }
}

/// Adds axes of length 1 where input 1 says, counted in the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsqueeze;

impl Unsqueeze {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        ints_to_input(node, "axes", 1)?;
        Ok(Unsqueeze.into())
    }
}

impl Op for Unsqueeze {
    fn name(&self) -> &'static str {
        "Unsqueeze"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, list) = (inputs.require(0)?, inputs.require(1)?);
        let scalar = list.rank() == Some(0);
        let count = if scalar { Some(1) } else { list_len(list)? };
        let (Some(dims), Some(count)) = (x.dims(), count) else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let rank = dims.len() + count;
        let Some(axes) = list.integers() else { return Ok(vec![Fact::new(x.dtype, vec![Dim::Unknown; rank])]) };
        let axes = distinct_axes(&axes, rank)?;
        let mut rest = dims.iter();
        let dims: Vec<Dim> = (0..rank)
            .map(|axis| if axes.contains(&axis) { Dim::Known(1) } else { rest.next().cloned().unwrap_or(Dim::Unknown) })
            .collect();
        let content = x.content.clone().filter(|_| rank <= 1);
        Ok(vec![Fact { content, ..Fact::new(x.dtype, dims) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.require(0)?.reshaped(output_shape(self, inputs)?)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::testing::{infer_one, inputs_read, run_one, symbol};
    use crate::ops::{Attr, Op};

    #[test]
    fn axes_go_and_come() {
        let x = Tensor::new([1, 3, 1, 2], vec![0i32; 6]).unwrap();
        let list = |axes: &[i64]| Tensor::vector(axes.to_vec());
        let cases: [(&dyn Op, Vec<i64>, Vec<usize>); 4] = [
            (&Squeeze, vec![0], vec![3, 1, 2]),
            (&Squeeze, vec![-2, 0], vec![3, 2]),
            (&Unsqueeze, vec![0, -1], vec![1, 1, 3, 1, 2, 1]),
            (&Unsqueeze, vec![3, 1], vec![1, 1, 3, 1, 1, 2]),
        ];
        for (op, axes, expected) in cases {
            assert_eq!(run_one(op, &[&x, &list(&axes)]).unwrap().shape().to_vec(), expected, "{op:?} {axes:?}");
        }
        assert_eq!(run_one(&Squeeze, &[&x]).unwrap().shape().to_vec(), [3, 2]);
        assert!(run_one(&Squeeze, &[&x, &list(&[1])]).is_err());
        assert!(run_one(&Unsqueeze, &[&x, &list(&[0, 0])]).is_err());
        assert!(run_one(&Unsqueeze, &[&x, &list(&[5])]).is_err());
    }

    #[test]
    fn content_passes_and_old_attributes_become_inputs() {
        let scalar = Fact::concrete(DType::I64, &[]).with_content(vec![symbol("N")]);
        let axes = Fact::constant(Tensor::vector(vec![0i64]));
        let list = infer_one(&Unsqueeze, &[&scalar, &axes]).unwrap();
        assert_eq!(list.lengths().unwrap(), [symbol("N")]);
        assert_eq!(infer_one(&Squeeze, &[&list, &axes]).unwrap(), scalar);
        let added = inputs_read("Unsqueeze", 11, &[("axes", Attr::Ints(vec![0, 2]))], 1).unwrap();
        assert_eq!(added[&1].to_i64_vec().unwrap(), [0, 2]);
    }
}
