//! Cast, CastLike and BitCast: the same elements in another dtype, by value or by bits.

use super::lengths::{held, tracked};
use crate::error::{Result, bail, ensure};
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor, with_bits};

/// Constants up to this many elements are cast while inferring.
const FOLDED_ELEMENTS: usize = 16;

/// Input 0 converted to the dtype `to`.
///
/// Float to integer truncates and saturates, NaN becomes 0; integers wrap; anything but zero becomes `true`; into a
/// narrower float rounds to nearest, ties to even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cast {
    /// The dtype of the output.
    pub to: DType,
}

/// Input 0 converted like [`Cast`] to the dtype of input 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CastLike;

/// The bits of input 0 read as the dtype `to`, which has the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BitCast {
    /// The dtype of the output.
    pub to: DType,
}

/// `saturate` and `round_mode` speak of 8-bit floats alone.
fn read_eight_bit_options(node: &mut NodeReader) -> Result<()> {
    node.int("saturate")?;
    node.str("round_mode")?;
    Ok(())
}

fn read_to(node: &mut NodeReader) -> Result<DType> {
    match node.dtype("to")? {
        Some(to) => Ok(to),
        None => bail!(InvalidModel, "attribute to is missing"),
    }
}

pub(super) fn read_cast(node: &mut NodeReader) -> Result<Reading> {
    read_eight_bit_options(node)?;
    Ok(Cast { to: read_to(node)? }.into())
}

pub(super) fn read_cast_like(node: &mut NodeReader) -> Result<Reading> {
    read_eight_bit_options(node)?;
    Ok(CastLike.into())
}

pub(super) fn read_bit_cast(node: &mut NodeReader) -> Result<Reading> {
    Ok(BitCast { to: read_to(node)? }.into())
}

/// The fact of `x` as `to`, with small constants converted and lengths kept.
fn cast_fact(x: &Fact, to: DType) -> Result<Fact> {
    if x.dtype == to {
        return Ok(x.clone());
    }
    if let Some(value) = x.value.as_ref().filter(|v| v.len() <= FOLDED_ELEMENTS) {
        return Ok(Fact::constant(value.cast(to)?));
    }
    let content = match to {
        DType::I32 | DType::I64 => tracked(x).map(|c| c.into_iter().map(|d| held(d, to)).collect()),
        _ => None,
    };
    Ok(Fact { dtype: to, shape: x.shape.clone(), value: None, content })
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        Ok(vec![cast_fact(inputs.require(0)?, self.to)?])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.require(0)?.cast(self.to)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("to", dtype_to_onnx(self.to))
    }
}

impl Op for CastLike {
    fn name(&self) -> &'static str {
        "CastLike"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        Ok(vec![cast_fact(inputs.require(0)?, inputs.require(1)?.dtype)?])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.require(0)?.cast(inputs.require(1)?.dtype())?])
    }
}

impl Op for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype.size() == self.to.size(), InvalidModel, "{} and {} differ in size", x.dtype, self.to);
        Ok(vec![Fact { dtype: self.to, shape: x.shape.clone(), value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let result = with_bits!(x.dtype().size(), B => {
            Tensor::from_bits(self.to, x.shape().clone(), x.bits::<B>()?.to_vec())?
        });
        Ok(vec![result])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("to", dtype_to_onnx(self.to))
    }
}
