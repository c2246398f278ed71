//! An operator on quantized tensors: what it would do to the real numbers that they stand for, in one step.
//!
//! `QuantizeLinear(op(DequantizeLinear(a), DequantizeLinear(b), ..))` as one node, so that a backend may compute it on
//! the integers. Its meaning is that of the parts; a backend that keeps exact sums and rounds once may differ from them
//! by one step of the output, where the parts' own rounding falls on a tie.

use super::arity;
use crate::error::{Result, bail, ensure};
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::ops::registry::OWN_DOMAIN;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};
use std::sync::Arc;

/// How one operand is quantized: where its scale and its zero point stand among the inputs of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// The index of the scale.
    pub scale: usize,
    /// The index of the zero point, whose dtype is that of the operand.
    pub zero_point: usize,
    /// The axis along which scales lie, where there is more than one.
    pub axis: i64,
}

/// `op` of quantized operands.
///
/// The inputs are those of the operator, [`arity`](Quantized::arity) of them, then scales and zero points.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// What is done to real numbers; its first output is the node's.
    pub op: Arc<dyn Op>,
    /// How many inputs belong to the operator, absent ones included.
    pub arity: usize,
    /// One entry an input of the operator; `None` where it is no quantized tensor and taken as it is.
    pub inputs: Vec<Option<Linear>>,
    /// How the output is quantized; `None` where it is real.
    pub output: Option<Linear>,
}

impl Quantized {
    /// How input `index` is quantized.
    #[must_use]
    pub fn input(&self, index: usize) -> Option<Linear> {
        self.inputs.get(index).copied().flatten()
    }
}

/// Scale, zero point and axis; -1 for the indices of what is not quantized.
fn to_ints(linear: Option<Linear>) -> [i64; 3] {
    linear.map_or([-1, -1, 0], |linear| [linear.scale as i64, linear.zero_point as i64, linear.axis])
}

fn from_ints(ints: &[i64]) -> Result<Option<Linear>> {
    match *ints {
        [-1, -1, 0] => Ok(None),
        [scale, zero_point, axis] if scale >= 0 && zero_point >= 0 => {
            Ok(Some(Linear { scale: scale as usize, zero_point: zero_point as usize, axis }))
        }
        _ => bail!(InvalidModel, "{ints:?} are no scale, zero point and axis"),
    }
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let inputs = node.ints("inputs")?.unwrap_or_default();
    let inputs = inputs.chunks(3).map(from_ints).collect::<Result<_>>()?;
    let output = from_ints(&node.ints("output")?.unwrap_or_default())?;
    Ok(Quantized { op: node.op("op")?, arity: arity(node)?, inputs, output }.into())
}

impl Op for Quantized {
    fn name(&self) -> &'static str {
        "Quantized"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        self.op.macs(inputs, output)
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let mut facts: Vec<Option<Fact>> = Vec::with_capacity(self.arity);
        for index in 0..self.arity {
            facts.push(match (inputs.get(index), self.input(index)) {
                (Some(fact), Some(Linear { scale, zero_point, axis })) => {
                    let operands = [Some(fact), Some(inputs.require(scale)?), Some(inputs.require(zero_point)?)];
                    let op = DequantizeLinear { axis, ..Default::default() };
                    op.infer(Inputs::new(&operands))?.into_iter().next()
                }
                (fact, _) => fact.cloned(),
            });
        }
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let mut outputs = self.op.infer(Inputs::new(&facts))?;
        outputs.truncate(1);
        let Some(output) = outputs.first_mut() else { bail!(Internal, "{} has no output", self.op.name()) };
        (output.value, output.content) = (None, None);
        if let Some(Linear { scale, zero_point, axis }) = self.output {
            let operands = [Some(&*output), Some(inputs.require(scale)?), Some(inputs.require(zero_point)?)];
            return QuantizeLinear { axis, ..Default::default() }.infer(Inputs::new(&operands));
        }
        Ok(outputs)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let mut reals: Vec<Option<Tensor>> = Vec::with_capacity(self.arity);
        for index in 0..self.arity {
            reals.push(match (inputs.get(index), self.input(index)) {
                (Some(tensor), Some(Linear { scale, zero_point, axis })) => {
                    let operands = [Some(tensor), Some(inputs.require(scale)?), Some(inputs.require(zero_point)?)];
                    let op = DequantizeLinear { axis, ..Default::default() };
                    op.eval(Inputs::new(&operands), budget)?.into_iter().next()
                }
                (tensor, _) => tensor.cloned(),
            });
        }
        let reals: Vec<Option<&Tensor>> = reals.iter().map(Option::as_ref).collect();
        let mut outputs = self.op.eval(Inputs::new(&reals), budget)?;
        outputs.truncate(1);
        if let Some(Linear { scale, zero_point, axis }) = self.output {
            let operands = [outputs.first(), Some(inputs.require(scale)?), Some(inputs.require(zero_point)?)];
            return QuantizeLinear { axis, ..Default::default() }.eval(Inputs::new(&operands), budget);
        }
        Ok(outputs)
    }

    fn attrs(&self) -> Attrs {
        let inputs = self.inputs.iter().flat_map(|linear| to_ints(*linear));
        let attrs = Attrs::new().op("op", &self.op).int("arity", self.arity as i64);
        attrs.ints("inputs", inputs).ints("output", to_ints(self.output))
    }

    fn is_pure(&self) -> bool {
        self.op.is_pure()
    }
}

/// A function of one byte, looked up: x of `u8` or `i8`, and a table of 256 bytes in the order of the bits of x.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ByteTable;

impl Op for ByteTable {
    fn name(&self) -> &'static str {
        "ByteTable"
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, table) = (inputs.require(0)?, inputs.require(1)?);
        for fact in [x, table] {
            ensure!(fact.dtype.size() == 1, InvalidModel, "a table of bytes on {fact}");
        }
        if let Some(shape) = table.concrete_shape() {
            ensure!(*shape == [256], Shape, "a table of bytes has the shape {shape}, not [256]");
        }
        Ok(vec![Fact { dtype: table.dtype, shape: x.shape.clone(), value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, table) = (inputs.require(0)?, inputs.require(1)?);
        let entries: &[u8] = table.bits()?;
        ensure!(entries.len() == 256, Shape, "a table of {} bytes", entries.len());
        let found: Vec<u8> = x.bits::<u8>()?.iter().map(|&bits| entries[usize::from(bits)]).collect();
        Ok(vec![Tensor::from_bits(table.dtype(), x.shape().clone(), found)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{Binary, BinaryKind};
    use crate::tensor::DType;

    #[test]
    fn real_numbers_are_added_and_quantized_again() {
        let op = Quantized {
            op: Arc::new(Binary(BinaryKind::Add)),
            arity: 2,
            inputs: vec![Some(Linear { scale: 2, zero_point: 3, axis: 0 }), None],
            output: Some(Linear { scale: 4, zero_point: 5, axis: 0 }),
        };
        let (x, y) = (Tensor::vector(vec![10u8, 20]), Tensor::vector(vec![1.0f32, -100.0]));
        let (half, zero) = (Tensor::scalar(0.5f32), Tensor::scalar(8u8));
        let (quarter, minus) = (Tensor::scalar(0.25f32), Tensor::scalar(-4i8));
        let inputs = [&x, &y, &half, &zero, &quarter, &minus].map(Some);
        let z = op.eval(Inputs::new(&inputs), &Budget::generous()).unwrap();
        assert_eq!(z[0].as_slice::<i8>().unwrap(), [4, -128]);
        let facts = inputs.map(|t| t.map(|t| Fact::concrete(t.dtype(), t.shape())));
        let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
        assert_eq!(op.infer(Inputs::new(&facts)).unwrap(), [Fact::concrete(DType::I8, &[2])]);
    }

    #[test]
    fn a_table_is_in_the_order_of_the_bits() {
        let table = Tensor::vector((0..=255u8).map(|b| b ^ 0x80).collect());
        let x = Tensor::vector(vec![-128i8, -1, 0, 127]);
        let y = ByteTable.eval(Inputs::new(&[Some(&x), Some(&table)]), &Budget::generous()).unwrap();
        assert_eq!(y[0].as_slice::<u8>().unwrap(), [0, 127, 128, 255]);
        let short = Tensor::vector(vec![0u8; 9]);
        assert!(ByteTable.eval(Inputs::new(&[Some(&x), Some(&short)]), &Budget::generous()).is_err());
    }
}
