//! An operator that also tells the range of what it yields, and the quantization that takes it from there.
//!
//! `DynamicQuantizeLinear` needs the least and the greatest element of a whole tensor before it can begin. Whoever computes
//! that tensor has each element at hand once, and the parts of a divided tensor have ranges of their own.

use crate::error::{Result, bail, ensure};
use crate::ops::quant::dynamic;
use crate::ops::registry::OWN_DOMAIN;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Shape, Tensor};
use std::sync::Arc;

/// `op`, whose first output is the node's, and as output 1 ranges `[PARTS, 2]`: the least and the greatest number of zero
/// and each part of the output, NaN left out.
///
/// What a part is, is left to who computes it; of a part without elements both are zero.
#[derive(Debug, Clone)]
pub struct Ranged {
    /// What yields real numbers.
    pub op: Arc<dyn Op>,
}

impl Ranged {
    /// The most parts that have a range of their own.
    pub const PARTS: usize = 32;
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    Ok(Ranged { op: node.op("op")? }.into())
}

impl Op for Ranged {
    fn name(&self) -> &'static str {
        "Ranged"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        self.op.macs(inputs, output)
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let mut facts = self.op.infer(inputs)?;
        facts.truncate(1);
        let Some(output) = facts.first_mut() else { bail!(Internal, "{} has no output", self.op.name()) };
        ensure!(output.dtype == DType::F32, InvalidModel, "the range of {}", output.dtype);
        (output.value, output.content) = (None, None);
        facts.push(Fact::concrete(DType::F32, &[Self::PARTS, 2]));
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let mut outputs = self.op.eval(inputs, budget)?;
        outputs.truncate(1);
        let Some(output) = outputs.first() else { bail!(Internal, "{} has no output", self.op.name()) };
        let (low, high) = dynamic::range(output.as_slice()?);
        let mut ranges = vec![0.0f32; Self::PARTS * 2];
        (ranges[0], ranges[1]) = (low, high);
        outputs.push(Tensor::new([Self::PARTS, 2], ranges)?);
        Ok(outputs)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().op("op", &self.op)
    }

    fn is_pure(&self) -> bool {
        self.op.is_pure()
    }
}

/// `DynamicQuantizeLinear` of input 0, whose range the ranges of input 1 join to: the same three outputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuantizeRanged;

impl Op for QuantizeRanged {
    fn name(&self) -> &'static str {
        "QuantizeRanged"
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let ranges = inputs.require(1)?;
        let fits = ranges.dtype == DType::F32 && ranges.rank().is_none_or(|rank| rank == 2);
        ensure!(fits, InvalidModel, "{ranges} are no ranges");
        dynamic::DynamicQuantizeLinear.infer(Inputs::new(&[Some(inputs.require(0)?)]))
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (low, high) = dynamic::range(inputs.require(1)?.as_slice()?);
        dynamic::quantized(inputs.require(0)?, low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};

    #[test]
    fn a_range_quantizes_as_the_tensor_itself() {
        let budget = Budget::generous();
        for values in [vec![-1.5f32, 3.0, f32::NAN, 0.25], vec![2.0, 7.0], vec![-3.0, -0.5], vec![], vec![f32::NAN]] {
            let x = Tensor::vector(values);
            let made = Ranged { op: Arc::new(Unary(UnaryKind::Neg)) }.eval(Inputs::new(&[Some(&x)]), &budget).unwrap();
            let dynamic = dynamic::DynamicQuantizeLinear.eval(Inputs::new(&[Some(&made[0])]), &budget).unwrap();
            let inputs = [Some(&made[0]), Some(&made[1])];
            assert_eq!(QuantizeRanged.eval(Inputs::new(&inputs), &budget).unwrap(), dynamic);
        }
    }
}
