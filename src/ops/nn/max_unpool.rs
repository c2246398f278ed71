//! `MaxUnpool`: the elements of a pooled tensor put back where they came from.

use super::padding::{Padding, entry, read_positive, write_lengths};
use crate::error::{Result, bail, ensure, err};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor, with_bits};

/// x `[batch, channels, spatial..]`, the second output of a max pool, and an optional output shape; zeros elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxUnpool {
    /// The pool's window.
    pub kernel: Vec<usize>,
    /// The pool's step along each axis; empty means ones.
    pub strides: Vec<usize>,
    /// The pool's padding, given explicitly.
    pub padding: Padding,
}

impl MaxUnpool {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let kernel = read_positive(node, "kernel_shape")?;
        ensure!(!kernel.is_empty(), InvalidModel, "attribute kernel_shape is missing");
        Ok(MaxUnpool { kernel, strides: read_positive(node, "strides")?, padding: Padding::read(node)? }.into())
    }

    /// The shape that the pool read: indices count in it.
    fn pooled_from(&self, x: &[usize]) -> Result<Shape> {
        let rank = x.len().saturating_sub(2);
        ensure!(self.kernel.len() == rank, Shape, "a kernel of {} axes on {rank} spatial axes", self.kernel.len());
        let mut shape = x[..2].to_vec();
        for (axis, &kernel) in self.kernel.iter().enumerate() {
            let stride = entry(&self.strides, axis, rank, "strides")?;
            let (begin, end) = self.padding.axis(axis, rank, x[axis + 2], kernel, stride, 1)?;
            let length = (x[axis + 2] as i128 - 1) * stride as i128 + kernel as i128;
            let length = length - i128::from(begin) - i128::from(end);
            shape.push(usize::try_from(length).map_err(|_| err!(Shape, "unpooling yields {length} elements"))?);
        }
        Ok(Shape::from(shape))
    }
}

impl Op for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(x.dtype.is_float(), InvalidModel, "MaxUnpool of {} is not defined", x.dtype);
        ensure!(indices.dtype == DType::I64, InvalidModel, "the indices are {}, not i64", indices.dtype);
        if let (Some(a), Some(b)) = (x.concrete_shape(), indices.concrete_shape()) {
            ensure!(a == b, Shape, "indices {b} for x {a}");
        }
        ensure!(x.rank().is_none_or(|r| r >= 3), Shape, "x is {x}, but needs batch, channels and a spatial axis");
        if let Some(stated) = inputs.get(2) {
            let rank = x.rank().unwrap_or(self.kernel.len() + 2);
            let dims = stated.lengths().unwrap_or_else(|| vec![Dim::Unknown; rank]);
            ensure!(dims.len() == rank, Shape, "output_shape has {} entries for rank {rank}", dims.len());
            return Ok(vec![Fact::new(x.dtype, dims)]);
        }
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let mut shape = dims[..2].to_vec();
        match dims[2..].iter().map(Dim::known).collect::<Option<Vec<usize>>>() {
            Some(spatial) => {
                let probe: Vec<usize> = [1, 1].into_iter().chain(spatial).collect();
                shape.extend(self.pooled_from(&probe)?[2..].iter().map(|&d| Dim::Known(d)));
            }
            None => shape.resize(dims.len(), Dim::Unknown),
        }
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?.as_slice::<i64>()?);
        let from = self.pooled_from(x.shape())?;
        let limit = from.checked_len()?;
        let shape = match inputs.get(2) {
            None => from.clone(),
            Some(stated) => {
                let lengths = stated.to_i64_vec()?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
                Shape::from(lengths.map_err(|_| err!(InvalidInput, "output_shape has a negative entry"))?)
            }
        };
        let fits = shape.rank() == from.rank() && shape.iter().zip(from.iter()).all(|(a, b)| a >= b);
        ensure!(fits, InvalidInput, "output_shape {shape} is smaller than {from}");
        let len = shape.checked_len()?;
        budget.admit_bytes(len.saturating_mul(x.dtype().size()))?;
        let strides = shape.strides();
        with_bits!(x.dtype().size(), T => {
            let mut out = vec![T::default(); len];
            for (&value, &index) in x.bits::<T>()?.iter().zip(indices) {
                let Some(mut rest) = usize::try_from(index).ok().filter(|&i| i < limit) else {
                    bail!(InvalidInput, "index {index} is outside the {limit} elements of {from}")
                };
                let mut at = 0;
                for axis in (0..from.rank()).rev() {
                    at += rest % from[axis] * strides[axis];
                    rest /= from[axis];
                }
                out[at] = value;
            }
            Ok(vec![Tensor::from_bits(x.dtype(), shape, out)?])
        })
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().lengths("kernel_shape", &self.kernel);
        self.padding.write(write_lengths(attrs, "strides", &self.strides))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_count_in_the_shape_that_was_pooled() {
        let x = Tensor::new([1, 1, 2], vec![5.0f32, 6.0]).unwrap();
        let op = MaxUnpool { kernel: vec![2], strides: vec![2], padding: Padding::none() };
        let run = |indices: [i64; 2], shape: Option<Vec<i64>>| {
            let (indices, shape) = (Tensor::new([1, 1, 2], indices.to_vec()).unwrap(), shape.map(Tensor::vector));
            op.eval(Inputs::new(&[Some(&x), Some(&indices), shape.as_ref()]), &Budget::generous())
        };
        assert_eq!(run([1, 2], None).unwrap()[0].as_slice::<f32>().unwrap(), [0.0, 5.0, 6.0, 0.0]);
        assert_eq!(run([1, 2], Some(vec![1, 1, 5])).unwrap()[0].len(), 5);
        assert!(run([1, 4], None).is_err());
        assert!(run([-1, 0], None).is_err());
        assert!(run([1, 2], Some(vec![1, 1, 3])).is_err());
        assert!(run([1, 2], Some(vec![1, 1, -5])).is_err());
    }
}
