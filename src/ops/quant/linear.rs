//! `QuantizeLinear` and `DequantizeLinear`: between real numbers and integers with a scale and a zero point.

use super::scale::{Granularity, check, range, round, zero_points};
use crate::error::{Result, bail, ensure};
use crate::ops::numeric::{from_f64, from_i64};
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor};

/// `saturate(round(x / scale) + zero point)`: x, its scale, an optional zero point; halves round to even.
///
/// The scale is a scalar, or one number for each index of `axis`, or one for each block along it. It is a float, or of
/// `i32` as x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizeLinear {
    /// The axis that scales lie along; negative counts from the end. Without meaning for a scalar scale.
    pub axis: i64,
    /// How many elements of the axis share a scale; 0 where scales are not blocked.
    pub block_size: usize,
    /// Whether out-of-range values saturate: ONNX asks only for 8-bit floats; integers always do.
    pub saturate: bool,
    /// The dtype of the output, where there is no zero point to tell it.
    pub output_dtype: Option<DType>,
}

/// `(x - zero point) * scale`: integers x, their scale, an optional zero point, laid out as in [`QuantizeLinear`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DequantizeLinear {
    /// The axis that scales lie along; negative counts from the end. Without meaning for a scalar scale.
    pub axis: i64,
    /// How many elements of the axis share a scale; 0 where scales are not blocked.
    pub block_size: usize,
    /// The dtype of the output, where it is not that of the scale.
    pub output_dtype: Option<DType>,
}

impl Default for QuantizeLinear {
    fn default() -> Self {
        QuantizeLinear { axis: 1, block_size: 0, saturate: true, output_dtype: None }
    }
}

impl Default for DequantizeLinear {
    fn default() -> Self {
        DequantizeLinear { axis: 1, block_size: 0, output_dtype: None }
    }
}

fn read_block_size(node: &mut NodeReader) -> Result<usize> {
    let size = node.int_or("block_size", 0)?;
    match usize::try_from(size) {
        Ok(size) => Ok(size),
        Err(_) => bail!(InvalidModel, "block_size is {size}"),
    }
}

/// A dtype attribute where 0 means that it is not given.
fn read_dtype(node: &mut NodeReader, name: &str) -> Result<Option<DType>> {
    Ok(match node.int_or(name, 0)? {
        0 => None,
        number => Some(crate::ops::reader::dtype_from_onnx(number)?),
    })
}

impl QuantizeLinear {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let precision = read_dtype(node, "precision")?;
        ensure!(
            precision.is_none_or(|p| p == DType::F32),
            Unsupported,
            "QuantizeLinear divides in f32, but precision asks for another dtype"
        );
        Ok(QuantizeLinear {
            axis: node.int_or("axis", 1)?,
            block_size: read_block_size(node)?,
            saturate: node.flag_or("saturate", true)?,
            output_dtype: read_dtype(node, "output_dtype")?,
        }
        .into())
    }

    fn output(&self, zero_point: Option<DType>) -> Result<DType> {
        let dtype = match (self.output_dtype, zero_point) {
            (Some(stated), Some(zero)) if stated != zero => {
                bail!(InvalidModel, "output_dtype is {stated}, but the zero point is {zero}")
            }
            (stated, zero) => stated.or(zero).unwrap_or(DType::U8),
        };
        range(dtype)?;
        Ok(dtype)
    }
}

impl Op for QuantizeLinear {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, scale, zero) = (inputs.require(0)?, inputs.require(1)?, inputs.get(2));
        ensure!(x.dtype.is_float() || x.dtype == DType::I32, InvalidModel, "QuantizeLinear of {}", x.dtype);
        check(x, scale, zero, self.axis, self.block_size)?;
        let dtype = self.output(zero.map(|z| z.dtype))?;
        Ok(vec![Fact { dtype, shape: x.shape.clone(), value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, scale, zero) = (inputs.require(0)?, inputs.require(1)?, inputs.get(2));
        let dtype = self.output(zero.map(Tensor::dtype))?;
        let granularity = Granularity::new(x.shape(), scale.shape(), self.axis, self.block_size)?;
        let (scales, zeros, limits) = (scale.to_f32_vec()?, zero_points(zero)?, range(dtype)?);
        let quantize = |(index, value): (usize, f32)| {
            let at = granularity.of(index);
            round(value / scales[at], if zero.is_some() { zeros[at] } else { 0 }, limits)
        };
        let values = if scale.dtype() == DType::I32 {
            // The quotient of integers, which single precision would not hold.
            let divisors = scale.to_f64_vec()?;
            let quantize = |(index, value): (usize, f64)| {
                let at = granularity.of(index);
                let zero = if zero.is_some() { zeros[at] } else { 0 };
                ((value / divisors[at]).round_ties_even() as i64).saturating_add(zero).clamp(limits.0, limits.1)
            };
            x.to_f64_vec()?.into_iter().enumerate().map(quantize).collect()
        } else {
            x.to_f32_vec()?.into_iter().enumerate().map(quantize).collect()
        };
        Ok(vec![from_i64(dtype, x.shape().clone(), values)?])
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().int("axis", self.axis).flag("saturate", self.saturate);
        let attrs = attrs.int_opt("block_size", (self.block_size > 0).then_some(self.block_size as i64));
        attrs.int_opt("output_dtype", self.output_dtype.map(dtype_to_onnx))
    }
}

impl DequantizeLinear {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(DequantizeLinear {
            axis: node.int_or("axis", 1)?,
            block_size: read_block_size(node)?,
            output_dtype: read_dtype(node, "output_dtype")?,
        }
        .into())
    }
}

impl Op for DequantizeLinear {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, scale, zero) = (inputs.require(0)?, inputs.require(1)?, inputs.get(2));
        range(x.dtype)?;
        ensure!(scale.dtype.is_float(), InvalidModel, "the scale is {scale}, not a float");
        check(x, scale, zero, self.axis, self.block_size)?;
        if let Some(zero) = zero {
            ensure!(zero.dtype == x.dtype, InvalidModel, "the zero point is {}, but x is {}", zero.dtype, x.dtype);
        }
        let dtype = self.output_dtype.unwrap_or(scale.dtype);
        ensure!(dtype.is_float(), InvalidModel, "DequantizeLinear to {dtype}");
        Ok(vec![Fact { dtype, shape: x.shape.clone(), value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, scale, zero) = (inputs.require(0)?, inputs.require(1)?, inputs.get(2));
        let granularity = Granularity::new(x.shape(), scale.shape(), self.axis, self.block_size)?;
        let (scales, zeros) = (scale.to_f32_vec()?, zero_points(zero)?);
        let dequantize = |(index, value): (usize, i64)| {
            let at = granularity.of(index);
            let centered = value - if zero.is_some() { zeros[at] } else { 0 };
            f64::from(centered as f32 * scales[at])
        };
        let values = x.to_i64_vec()?.into_iter().enumerate().map(dequantize).collect();
        Ok(vec![from_f64(self.output_dtype.unwrap_or(scale.dtype()), x.shape().clone(), values)?])
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().int("axis", self.axis);
        let attrs = attrs.int_opt("block_size", (self.block_size > 0).then_some(self.block_size as i64));
        attrs.int_opt("output_dtype", self.output_dtype.map(dtype_to_onnx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: &dyn Op, tensors: &[&Tensor]) -> Result<Tensor> {
        let facts: Vec<Fact> = tensors.iter().map(|t| Fact::concrete(t.dtype(), t.shape())).collect();
        op.infer(Inputs::new(&facts.iter().map(Some).collect::<Vec<_>>()))?;
        let tensors: Vec<Option<&Tensor>> = tensors.iter().copied().map(Some).collect();
        Ok(op.eval(Inputs::new(&tensors), &Budget::generous())?.remove(0))
    }

    #[test]
    fn per_axis_there_and_back() {
        let x = Tensor::new([2, 2], vec![1.0f32, 2.0, 30.0, -40.0]).unwrap();
        let (scale, zero) = (Tensor::vector(vec![1.0f32, 10.0]), Tensor::vector(vec![0i8, 5]));
        let q = run(&QuantizeLinear { axis: 0, ..Default::default() }, &[&x, &scale, &zero]).unwrap();
        assert_eq!(q.as_slice::<i8>().unwrap(), [1, 2, 8, 1]);
        let back = run(&DequantizeLinear { axis: 0, ..Default::default() }, &[&q, &scale, &zero]).unwrap();
        assert_eq!(back, x);
    }

    #[test]
    fn the_division_is_in_single_precision() {
        // In f32 the quotient is 3.5 and rounds to the even 4; in f64 it lies below and would give 3.
        let (x, scale) = (Tensor::vector(vec![0.35f32]), Tensor::scalar(0.1f32));
        assert_eq!(run(&QuantizeLinear::default(), &[&x, &scale]).unwrap().as_slice::<u8>().unwrap(), [4]);
    }

    #[test]
    fn integers_are_divided_by_integers() {
        let x = Tensor::vector(vec![7i32, -7, 5, -5, 1000, (1 << 24) + 1]);
        let (scale, zero) = (Tensor::scalar(2i32), Tensor::scalar(1i8));
        let q = run(&QuantizeLinear::default(), &[&x, &scale, &zero]).unwrap();
        assert_eq!(q.as_slice::<i8>().unwrap(), [5, -3, 3, -1, 127, 127]);
        let op = QuantizeLinear { output_dtype: Some(DType::I32), ..QuantizeLinear::default() };
        assert_eq!(run(&op, &[&x, &Tensor::scalar(1i32)]).unwrap(), x);
        assert!(run(&QuantizeLinear::default(), &[&Tensor::scalar(1.0f32), &scale]).is_err());
        assert!(run(&DequantizeLinear::default(), &[&x, &scale]).is_err());
    }

    #[test]
    fn dtypes_saturate_at_their_limits() {
        let (x, scale) = (Tensor::vector(vec![1e9f32, -1e9]), Tensor::scalar(1.0f32));
        for (dtype, expected) in [
            (DType::U8, [255, 0]),
            (DType::I8, [127, -128]),
            (DType::U16, [65_535, 0]),
            (DType::I16, [32_767, -32_768]),
        ] {
            let op = QuantizeLinear { output_dtype: Some(dtype), ..Default::default() };
            assert_eq!(run(&op, &[&x, &scale]).unwrap().to_i64_vec().unwrap(), expected);
        }
    }

    #[test]
    fn contradictions_are_errors() {
        let x = Tensor::vector(vec![1.0f32, 2.0]);
        let (scale, zero) = (Tensor::vector(vec![1.0f32, 1.0, 1.0]), Tensor::scalar(0u8));
        assert!(run(&QuantizeLinear { axis: 0, ..Default::default() }, &[&x, &scale]).is_err());
        let op = QuantizeLinear { output_dtype: Some(DType::I8), ..Default::default() };
        assert!(run(&op, &[&x, &Tensor::scalar(1.0f32), &zero]).is_err());
        assert!(run(&DequantizeLinear::default(), &[&Tensor::scalar(0i8), &Tensor::scalar(1.0f32), &zero]).is_err());
    }
}
