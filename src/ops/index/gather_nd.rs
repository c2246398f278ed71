//! `GatherND`: slices by tuples of indices.

use super::gather::{check_indices, index_of};
use crate::error::{Result, ensure};
use crate::ops::layout::arithmetic::{length, output_shape};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor, with_bits};

/// Takes slices of x: the last axis of input 1 holds tuples of indices into the axes of x after the batch axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatherNd {
    /// How many leading axes x and the indices have in common.
    pub batch_dims: usize,
}

impl GatherNd {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(GatherNd { batch_dims: length(node.int_or("batch_dims", 0)?)? }.into())
    }
}

/// For each tuple of indices into the axes of `x` after the first `batch` axes, where its slice of x starts; and how
/// many elements a slice has. `x` and `indices` have passed [`check_tuples`].
pub(super) fn slice_starts(x: &Shape, indices: &Tensor, batch: usize) -> Result<(Vec<usize>, usize)> {
    let tuple = indices.shape().last().copied().unwrap_or(0);
    let strides = x.strides();
    let slice = x.get(batch + tuple..).unwrap_or(&[]).iter().product::<usize>();
    let batches = indices.shape()[..batch].iter().product::<usize>();
    let tuples = indices.shape()[..indices.rank() - 1].iter().product::<usize>();
    let indices = indices.to_i64_vec()?;
    let batch_stride = x[batch..].iter().product::<usize>();
    let starts: Result<Vec<usize>> = (0..tuples)
        .map(|t| {
            let start = t / (tuples / batches) * batch_stride;
            let mut axes = indices[t * tuple..(t + 1) * tuple].iter().zip(&x[batch..]).zip(&strides[batch..]);
            axes.try_fold(start, |at, ((&index, &length), stride)| Ok(at + index_of(index, length)? * stride))
        })
        .collect();
    Ok((starts?, slice))
}

/// Checks that the last axis of `indices` holds tuples that fit in x after `batch` axes; yields how long the tuples
/// are, where that is known.
pub(super) fn check_tuples(x: &[Dim], indices: &[Dim], batch: usize) -> Result<Option<usize>> {
    let Some((tuple, rows)) = indices.split_last() else {
        crate::error::bail!(Shape, "indices of rank 0 hold no tuples")
    };
    ensure!(batch <= rows.len() && batch < x.len(), Shape, "{batch} batch axes of {x:?} by indices {indices:?}");
    for (own, named) in x[..batch].iter().zip(rows) {
        own.unify(named).map_err(|e| e.at("the batch axes"))?;
    }
    let Some(tuple) = tuple.known() else { return Ok(None) };
    ensure!(tuple <= x.len() - batch, Shape, "tuples of {tuple} indices for the shape {x:?}");
    Ok(Some(tuple))
}

impl Op for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?);
        check_indices(indices)?;
        let (Some(dims), Some(places)) = (x.dims(), indices.dims()) else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let Some(tuple) = check_tuples(dims, places, self.batch_dims)? else {
            return Ok(vec![Fact::unranked(x.dtype)]);
        };
        let shape = [&places[..places.len() - 1], &dims[self.batch_dims + tuple..]].concat();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, indices) = (inputs.require(0)?, inputs.require(1)?);
        let shape = output_shape(self, inputs)?;
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        let (starts, slice) = slice_starts(x.shape(), indices, self.batch_dims)?;
        Ok(vec![with_bits!(x.dtype().size(), T => {
            let elements = x.bits::<T>()?;
            let mut out: Vec<T> = Vec::with_capacity(shape.elements());
            starts.iter().for_each(|&start| out.extend_from_slice(&elements[start..start + slice]));
            Tensor::from_bits(x.dtype(), shape, out)?
        })])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("batch_dims", self.batch_dims as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn tuples_name_slices() {
        let x = Tensor::new([2, 2, 2], (0..8u8).collect()).unwrap();
        for (batch_dims, shape, indices, expected_shape, expected) in [
            (0, vec![2, 1], vec![1i64, -2], vec![2, 2, 2], vec![4u8, 5, 6, 7, 0, 1, 2, 3]),
            (0, vec![1, 3], vec![1, 0, -1], vec![1], vec![5]),
            (1, vec![2, 1], vec![1, 0], vec![2, 2], vec![2, 3, 4, 5]),
            (1, vec![2, 1, 2], vec![0, 1, 1, 1], vec![2, 1], vec![1, 7]),
            (0, vec![3, 0], vec![], vec![3, 2, 2, 2], [0, 1, 2, 3, 4, 5, 6, 7].repeat(3)),
        ] {
            let y = run_one(&GatherNd { batch_dims }, &[&x, &Tensor::new(shape, indices).unwrap()]).unwrap();
            assert_eq!(y, Tensor::new(expected_shape, expected).unwrap());
        }
        for (batch_dims, shape, indices) in [
            (0, vec![1, 4], vec![0i64; 4]),
            (0, vec![], vec![0]),
            (0, vec![1], vec![2]),
            (2, vec![2, 1], vec![0, 0]),
            (1, vec![3, 1], vec![0, 0, 0]),
        ] {
            assert!(run_one(&GatherNd { batch_dims }, &[&x, &Tensor::new(shape, indices).unwrap()]).is_err());
        }
    }
}
