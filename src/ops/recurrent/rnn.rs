//! `RNN`: the plain recurrent network.

use super::unroll::{State, Weights};
use super::{Activation, Recurrence};
use crate::error::Result;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};

/// `h' = f(W x + R h + biases)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rnn {
    /// What it shares with the other recurrent operators.
    pub recurrence: Recurrence,
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    Ok(Rnn { recurrence: Recurrence::read(node, &[Activation::Tanh])? }.into())
}

impl Op for Rnn {
    fn name(&self) -> &'static str {
        "RNN"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, _output: &Shape) -> Option<usize> {
        self.recurrence.macs(inputs)
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let mut facts = self.recurrence.infer(inputs, 1)?;
        facts.truncate(2);
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let cell = |weights: &Weights<'_>, x: &[f64], state: &mut State| {
            let next = |k: usize| {
                let bias = weights.w_bias[k] + weights.r_bias[k];
                weights.activate(0, weights.input_row(k, x) + weights.hidden_row(k, &state.h) + bias)
            };
            state.h = (0..weights.hidden()).map(next).collect();
        };
        let mut outputs = self.recurrence.unroll(inputs, 1, budget, &cell)?;
        outputs.truncate(2);
        Ok(outputs)
    }

    fn attrs(&self) -> Attrs {
        self.recurrence.attrs()
    }
}
