//! `MatMul`: numpy's matrix product, batched and broadcast.

use super::product::{Wide, multiply_add};
use crate::error::{Result, ensure};
use crate::ops::numeric::{from_f64, from_i64};
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor, broadcast_index, broadcast_shapes};

/// `a[.., m, k] · b[.., k, n]`; leading axes broadcast, and an operand of rank 1 is a row (left) or a column (right)
/// whose axis is dropped from the result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatMul;

impl MatMul {
    pub(super) fn read(_node: &mut NodeReader) -> Result<Reading> {
        Ok(MatMul.into())
    }
}

/// The axes of numpy's matrix product, or `None` where a rank is not known.
pub(crate) fn infer_product(a: &Fact, b: &Fact) -> Result<Option<Vec<Dim>>> {
    let (Some(a_dims), Some(b_dims)) = (a.dims(), b.dims()) else { return Ok(None) };
    ensure!(!a_dims.is_empty() && !b_dims.is_empty(), Shape, "a matrix product of {a} and {b}: a scalar has no rows");
    let (a_batch, m, k) = split(a_dims, true);
    let (b_batch, n, depth) = split(b_dims, false);
    k.unify(depth).map_err(|e| e.at(format!("the inner axes of {a} and {b}")))?;
    let rank = a_batch.len().max(b_batch.len());
    let axis =
        |batch: &[Dim], i: usize| (i + batch.len()).checked_sub(rank).map_or(Dim::Known(1), |i| batch[i].clone());
    let mut shape: Vec<Dim> =
        (0..rank).map(|i| axis(a_batch, i).broadcast(&axis(b_batch, i))).collect::<Result<_>>()?;
    shape.extend(m.cloned());
    shape.extend(n.cloned());
    Ok(Some(shape))
}

/// Leading axes, the kept axis (none for rank 1), the contracted axis. `dims` is not empty.
fn split(dims: &[Dim], left: bool) -> (&[Dim], Option<&Dim>, &Dim) {
    match dims {
        [.., _] if dims.len() == 1 => (&[], None, &dims[0]),
        [batch @ .., rows, columns] => {
            let (kept, contracted) = if left { (rows, columns) } else { (columns, rows) };
            (batch, Some(kept), contracted)
        }
        _ => unreachable!("checked by the caller"),
    }
}

/// The product of concrete operands: its shape, and the sums.
pub(crate) fn batched_product<T: Wide + Default>(
    a: &[T],
    a_shape: &[usize],
    b: &[T],
    b_shape: &[usize],
) -> Result<(Shape, Vec<T>)> {
    ensure!(!a_shape.is_empty() && !b_shape.is_empty(), Shape, "a matrix product of a scalar");
    let (a_batch, m, k) = match a_shape {
        [k] => (&[][..], 1, *k),
        [batch @ .., m, k] => (batch, *m, *k),
        [] => (&[][..], 1, 1),
    };
    let (b_batch, depth, n) = match b_shape {
        [k] => (&[][..], *k, 1),
        [batch @ .., k, n] => (batch, *k, *n),
        [] => (&[][..], 1, 1),
    };
    ensure!(k == depth, Shape, "a matrix product of {a_shape:?} and {b_shape:?}");
    let batch = broadcast_shapes(&[a_batch, b_batch])?;
    let mut shape = batch.to_vec();
    shape.extend((a_shape.len() > 1).then_some(m));
    shape.extend((b_shape.len() > 1).then_some(n));
    let shape = Shape::from(shape);
    let mut out = vec![T::default(); shape.checked_len()?];
    if !out.is_empty() && k > 0 {
        let pairs = broadcast_index(a_batch, &batch).zip(broadcast_index(b_batch, &batch));
        for (c, (i, j)) in out.chunks_exact_mut(m * n).zip(pairs) {
            multiply_add(m, k, n, &a[i * m * k..(i + 1) * m * k], &b[j * k * n..(j + 1) * k * n], c);
        }
    }
    Ok((shape, out))
}

/// The product of two tensors of one dtype.
pub(crate) fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype().is_float() {
        let (shape, sums) = batched_product(&a.to_f64_vec()?, a.shape(), &b.to_f64_vec()?, b.shape())?;
        from_f64(a.dtype(), shape, sums)
    } else {
        let (shape, sums) = batched_product(&a.to_i64_vec()?, a.shape(), &b.to_i64_vec()?, b.shape())?;
        from_i64(a.dtype(), shape, sums)
    }
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        inputs.get(0)?.last()?.checked_mul(output.elements())
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (a, b) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(a.dtype == b.dtype && a.dtype != DType::Bool, Shape, "MatMul of {} and {}", a.dtype, b.dtype);
        let shape = infer_product(a, b)?;
        Ok(vec![Fact { dtype: a.dtype, shape, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![multiply(inputs.require(0)?, inputs.require(1)?)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Symbol;

    fn ramp(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::new(shape, (0..n).map(|v| v as f32).collect()).unwrap()
    }

    #[test]
    fn shapes_follow_numpy() {
        type Case<'a> = (&'a [usize], &'a [usize], Option<&'a [usize]>);
        let cases: &[Case] = &[
            (&[3], &[3], Some(&[])),
            (&[2, 3], &[3], Some(&[2])),
            (&[3], &[3, 2], Some(&[2])),
            (&[4, 1, 2, 3], &[5, 3, 2], Some(&[4, 5, 2, 2])),
            (&[3], &[4, 3, 2], Some(&[4, 2])),
            (&[0, 3], &[3, 2], Some(&[0, 2])),
            (&[2, 0], &[0, 2], Some(&[2, 2])),
            (&[2, 3], &[2, 3], None),
            (&[], &[3], None),
            (&[2, 2, 3], &[3, 3, 2], None),
        ];
        for (a, b, expected) in cases {
            let fact = infer_product(&Fact::concrete(DType::F32, a), &Fact::concrete(DType::F32, b));
            let value = multiply(&ramp(a), &ramp(b));
            match expected {
                Some(shape) => {
                    assert_eq!(Fact::new(DType::F32, fact.unwrap().unwrap()).concrete_shape().unwrap()[..], **shape);
                    assert_eq!(value.unwrap().shape()[..], **shape);
                }
                None => assert!(fact.is_err() && value.is_err(), "{a:?} {b:?}"),
            }
        }
    }

    #[test]
    fn a_batch_symbol_survives() {
        let n = Dim::Symbol(Symbol::new("N"));
        let a = Fact::new(DType::F32, vec![n.clone(), Dim::Known(4), Dim::Known(3)]);
        let b = Fact::concrete(DType::F32, &[3, 5]);
        assert_eq!(infer_product(&a, &b).unwrap().unwrap(), [n, Dim::Known(4), Dim::Known(5)]);
    }

    #[test]
    fn integers_wrap_to_their_width() {
        let a = Tensor::new([1, 1], vec![200u8]).unwrap();
        assert_eq!(multiply(&a, &a).unwrap().as_slice::<u8>().unwrap(), [64]);
        let a = Tensor::new([1, 2], vec![i32::MAX, 1]).unwrap();
        let b = Tensor::new([2, 1], vec![1i32, 1]).unwrap();
        assert_eq!(multiply(&a, &b).unwrap().as_slice::<i32>().unwrap(), [i32::MIN]);
    }

    #[test]
    fn batches_broadcast() {
        let a = ramp(&[2, 1, 2]);
        let b = ramp(&[2, 1]);
        assert_eq!(multiply(&a, &b).unwrap().as_slice::<f32>().unwrap(), [1.0, 3.0]);
    }
}
