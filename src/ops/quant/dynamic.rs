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

/// Scale and zero point that cover the values and zero; 1 and 0 where all values are zero.
pub(crate) fn parameters(values: &[f32]) -> (f32, u8) {
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(0.0, f32::max);
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
        let values = x.as_slice::<f32>()?;
        let (scale, zero) = parameters(values);
        let y: Vec<u8> = values.iter().map(|v| round(v / scale, i64::from(zero), (0, 255)) as u8).collect();
        Ok(vec![Tensor::new(x.shape().clone(), y)?, Tensor::scalar(scale), Tensor::scalar(zero)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_always_holds_zero() {
        assert_eq!(parameters(&[2.55, 1.0]), (0.01, 0));
        assert_eq!(parameters(&[-2.55, -1.0]), (0.01, 255));
        assert_eq!(parameters(&[]), (1.0, 0));
    }
}
