//! Matrix products of integers: with the sums as they are (`MatMulInteger`), or quantized again (`QLinearMatMul`).

use super::convolution::check_bytes;
use super::scale::{check_scale, range, round};
use crate::error::{Result, ensure};
use crate::ops::matrix::{batched_product, infer_product};
use crate::ops::numeric::from_i64;
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Shape, Tensor, broadcast_index, broadcast_shapes};

/// a and b and their optional zero points (a scalar; or one a row of a, one a column of b) to sums in `i32`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatMulInteger;

/// a, its scale and zero point; b, its scale and zero point; scale and zero point of the output. Parameters are
/// scalars; or one a row (a and the output), one a column (b).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QLinearMatMul;

impl MatMulInteger {
    pub(super) fn read(_node: &mut NodeReader) -> Result<Reading> {
        Ok(MatMulInteger.into())
    }
}

impl QLinearMatMul {
    pub(super) fn read(_node: &mut NodeReader) -> Result<Reading> {
        Ok(QLinearMatMul.into())
    }
}

/// The shape with which a parameter broadcasts: a list of rows stands upright.
fn parameter_shape(shape: &[usize], rows: bool) -> Shape {
    match shape {
        [length] if rows && *length != 1 => Shape::from([*length, 1]),
        _ => Shape::from(shape),
    }
}

/// A parameter spread over the elements of `shape`.
fn spread<T: Copy>(values: &[T], own: &[usize], rows: bool, shape: &[usize]) -> Result<Vec<T>> {
    let own = parameter_shape(own, rows);
    ensure!(
        broadcast_shapes(&[&own, shape])?[..] == *shape,
        Shape,
        "a scale or zero point of {own} does not fit {shape:?}"
    );
    Ok(broadcast_index(&own, shape).map(|i| values[i]).collect())
}

/// Bytes less their zero point; exact in `f64`, and so are the sums of their products.
fn centered(x: &Tensor, zero: Option<&Tensor>, rows: bool) -> Result<Vec<f64>> {
    let mut values = x.to_f64_vec()?;
    if let Some(zero) = zero {
        let offsets = spread(&zero.to_f64_vec()?, zero.shape(), rows, x.shape())?;
        values.iter_mut().zip(offsets).for_each(|(v, offset)| *v -= offset);
    }
    Ok(values)
}

impl Op for MatMulInteger {
    fn name(&self) -> &'static str {
        "MatMulInteger"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        inputs.get(0)?.last()?.checked_mul(output.elements())
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (a, b) = (inputs.require(0)?, inputs.require(1)?);
        check_bytes("a", a)?;
        check_bytes("b", b)?;
        Ok(vec![Fact { dtype: DType::I32, shape: infer_product(a, b)?, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (a, b) = (inputs.require(0)?, inputs.require(1)?);
        let (left, right) = (centered(a, inputs.get(2), true)?, centered(b, inputs.get(3), false)?);
        let (shape, sums) = batched_product(&left, a.shape(), &right, b.shape())?;
        Ok(vec![from_i64(DType::I32, shape, sums.into_iter().map(|v| v as i64).collect())?])
    }
}

impl Op for QLinearMatMul {
    fn name(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        inputs.get(0)?.last()?.checked_mul(output.elements())
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (a, b, y_zero) = (inputs.require(0)?, inputs.require(3)?, inputs.require(7)?);
        for (name, fact) in [("a", a), ("b", b), ("the zero point of y", y_zero)] {
            check_bytes(name, fact)?;
        }
        for index in [1, 4, 6] {
            check_scale(inputs.require(index)?, false)?;
        }
        Ok(vec![Fact { dtype: y_zero.dtype, shape: infer_product(a, b)?, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (a, b, y_zero) = (inputs.require(0)?, inputs.require(3)?, inputs.require(7)?);
        let (left, right) = (centered(a, inputs.get(2), true)?, centered(b, inputs.get(5), false)?);
        let (shape, sums) = batched_product(&left, a.shape(), &right, b.shape())?;
        let over_output = |index: usize, rows: bool| {
            let tensor = inputs.require(index)?;
            spread(&tensor.to_f32_vec()?, tensor.shape(), rows, &shape)
        };
        let (a_scale, b_scale, y_scale) = (over_output(1, true)?, over_output(4, false)?, over_output(6, true)?);
        let zeros = spread(&y_zero.to_i64_vec()?, y_zero.shape(), true, &shape)?;
        let limits = range(y_zero.dtype())?;
        let requantize = |(index, sum): (usize, f64)| {
            let multiplier = a_scale[index] * b_scale[index] / y_scale[index];
            round(sum as f32 * multiplier, zeros[index], limits)
        };
        Ok(vec![from_i64(y_zero.dtype(), shape.clone(), sums.into_iter().enumerate().map(requantize).collect())?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_of_rows_and_columns() {
        let a = Tensor::new([2, 2], vec![1u8, 2, 3, 4]).unwrap();
        let b = Tensor::new([2, 2], vec![1i8, 2, 3, 4]).unwrap();
        let (rows, columns) = (Tensor::vector(vec![1u8, 3]), Tensor::vector(vec![1i8, 2]));
        let inputs = [&a, &b, &rows, &columns].map(Some);
        let y = MatMulInteger.eval(Inputs::new(&inputs), &Budget::generous()).unwrap();
        // [[0, 1], [0, 1]] · [[0, 0], [2, 2]]
        assert_eq!(y[0].as_slice::<i32>().unwrap(), [2, 2, 2, 2]);
    }

    #[test]
    fn sums_are_requantized_by_column() {
        let a = Tensor::new([1, 2], vec![10u8, 20]).unwrap();
        let b = Tensor::new([2, 2], vec![1i8, -1, 2, -2]).unwrap();
        let (one, zero) = (Tensor::scalar(1.0f32), Tensor::scalar(0u8));
        let (scales, zeros) = (Tensor::vector(vec![0.5f32, 0.25]), Tensor::vector(vec![0i8, 0]));
        let y_zero = Tensor::scalar(100u8);
        let inputs = [&a, &one, &zero, &b, &scales, &zeros, &one, &y_zero].map(Some);
        let y = QLinearMatMul.eval(Inputs::new(&inputs), &Budget::generous()).unwrap();
        assert_eq!(y[0].as_slice::<u8>().unwrap(), [125, 88]);
    }

    #[test]
    fn parameters_that_do_not_fit_are_errors() {
        let a = Tensor::new([1, 2], vec![10u8, 20]).unwrap();
        let b = Tensor::new([2, 2], vec![1i8, -1, 2, -2]).unwrap();
        let zeros = Tensor::vector(vec![0i8; 3]);
        let zero = Tensor::scalar(0u8);
        let inputs = [&a, &b, &zero, &zeros].map(Some);
        assert!(MatMulInteger.eval(Inputs::new(&inputs), &Budget::generous()).is_err());
    }
}
