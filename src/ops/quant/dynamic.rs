//! `DynamicQuantizeLinear`: a tensor to bytes, with the scale that it needs.

use super::scale::round;
use crate::error::{Result, ensure};
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor};

/// x to `u8`; outputs 1 and 2 are the scale and the zero point, chosen so that the range of x and zero is covered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DynamicQuantizeLinear;

impl DynamicQuantizeLinear {
    pub(super) fn read(_node: &mut NodeReader) -> Result<Reading> {
        Ok(DynamicQuantizeLinear.into())
    }
}

/// The least and the greatest of the values and zero; NaN is left out.
pub(crate) fn range(values: &[f32]) -> (f32, f32) {
    (values.iter().copied().fold(0.0, f32::min), values.iter().copied().fold(0.0, f32::max))
}

/// Scale and zero point that cover a range with zero in it; 1 and 0 where it is zero alone.
fn parameters(low: f32, high: f32) -> (f32, u8) {
    let scale = if low == high { 1.0 } else { (high - low) / 255.0 };
    (scale, round(-low / scale, 0, (0, 255)) as u8)
}

impl Op for DynamicQuantizeLinear {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype == DType::F32, InvalidModel, "DynamicQuantizeLinear of {}", x.dtype);
        let y = Fact { dtype: DType::U8, shape: x.shape.clone(), value: None, content: None };
        Ok(vec![y, Fact::concrete(DType::F32, &[]), Fact::concrete(DType::U8, &[])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let (low, high) = range(x.as_slice()?);
        quantized(x, low, high)
    }
}

/// The three outputs for x whose values and zero have this range.
pub(crate) fn quantized(x: &Tensor, low: f32, high: f32) -> Result<Vec<Tensor>> {
    let (scale, zero) = parameters(low, high);
    let bytes = x.as_slice::<f32>()?.iter().map(|v| round(v / scale, i64::from(zero), (0, 255)) as u8);
    Ok(vec![Tensor::new(x.shape().clone(), bytes.collect::<Vec<u8>>())?, Tensor::scalar(scale), Tensor::scalar(zero)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_always_holds_zero() {
        let of = |values: &[f32]| {
            let (low, high) = range(values);
            parameters(low, high)
        };
        assert_eq!(of(&[2.55, 1.0]), (0.01, 0));
        assert_eq!(of(&[-2.55, -1.0]), (0.01, 255));
        assert_eq!(of(&[]), (1.0, 0));
    }
}
