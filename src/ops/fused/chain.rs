//! Two operators in one step: what the second makes of the first's output.

use super::arity;
use crate::error::Result;
use crate::ops::registry::OWN_DOMAIN;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};
use std::sync::Arc;

/// `second(first(a, b, ..), y, z, ..)`: the inputs are the first operator's, [`arity`](Chain::arity) of them, then those
/// of the second from its input 1 on.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The operator that computes the second's input 0.
    pub first: Arc<dyn Op>,
    /// How many inputs belong to the first operator, absent ones included.
    pub arity: usize,
    /// The operator whose first output is the node's.
    pub second: Arc<dyn Op>,
}

impl Chain {
    fn run<T>(
        &self,
        inputs: Inputs<'_, T>,
        apply: impl Fn(&dyn Op, Inputs<'_, T>) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let own: Vec<Option<&T>> = (0..self.arity).map(|i| inputs.get(i)).collect();
        let made = apply(self.first.as_ref(), Inputs::new(&own))?;
        let rest = (self.arity..inputs.count()).map(|i| inputs.get(i));
        let operands: Vec<Option<&T>> = std::iter::once(made.first()).chain(rest).collect();
        let mut outputs = apply(self.second.as_ref(), Inputs::new(&operands))?;
        outputs.truncate(1);
        Ok(outputs)
    }
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    Ok(Chain { first: node.op("first")?, arity: arity(node)?, second: node.op("second")? }.into())
}

impl Op for Chain {
    fn name(&self) -> &'static str {
        "Chain"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        // The second reads the value between them element by element: it is as long as the output.
        self.first.macs(inputs, output)
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        self.run(inputs, |op, inputs| op.infer(inputs))
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        self.run(inputs, |op, inputs| op.eval(inputs, budget))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().op("first", &self.first).int("arity", self.arity as i64).op("second", &self.second)
    }

    fn is_pure(&self) -> bool {
        self.first.is_pure() && self.second.is_pure()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};

    #[test]
    fn the_second_takes_what_the_first_makes() {
        let op = Chain { first: Arc::new(Unary(UnaryKind::Neg)), arity: 1, second: Arc::new(Binary(BinaryKind::Sub)) };
        let (x, y) = (Tensor::vector(vec![1.0f32, -2.0]), Tensor::scalar(1.0f32));
        let z = op.eval(Inputs::new(&[Some(&x), Some(&y)]), &Budget::generous()).unwrap();
        assert_eq!(z[0].as_slice::<f32>().unwrap(), [-2.0, 1.0]);
    }
}
