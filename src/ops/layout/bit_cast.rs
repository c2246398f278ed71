//! `BitCast`: the same bits under another dtype of the same width.

use crate::error::{Result, ensure, err};
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor};
use bytes::Bytes;

/// Reads the bits of x as another dtype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitCast {
    /// The dtype, as wide as that of x.
    pub to: DType,
}

impl BitCast {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let to = node.dtype("to")?.ok_or_else(|| err!(InvalidModel, "attribute to is missing"))?;
        Ok(BitCast { to }.into())
    }
}

impl Op for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype.size() == self.to.size(), InvalidModel, "{} and {} differ in width", x.dtype, self.to);
        Ok(vec![Fact { dtype: self.to, shape: x.shape.clone(), value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        Ok(vec![Tensor::from_bytes(self.to, x.shape().clone(), Bytes::copy_from_slice(x.as_bytes()))?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("to", dtype_to_onnx(self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn bits_stay() {
        let x = Tensor::vector(vec![1.0f32, -0.0]);
        let y = run_one(&BitCast { to: DType::U32 }, &[&x]).unwrap();
        assert_eq!(y.as_slice::<u32>().unwrap(), [0x3f80_0000, 0x8000_0000]);
        assert!(run_one(&BitCast { to: DType::U16 }, &[&x]).is_err());
        assert!(run_one(&BitCast { to: DType::Bool }, &[&Tensor::scalar(7u8)]).is_err());
    }
}
