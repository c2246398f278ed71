//! `GRU`: gated recurrent units.

use super::unroll::{State, Weights};
use super::{Activation, Recurrence};
use crate::error::Result;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};

/// Gates in the order update, reset, hidden; activations f (gates) and g (candidate).
///
/// `h' = (1 - z) * g(..) + z * h`; the candidate is `g(W x + R (r * h))`, or `g(W x + r * (R h))` with
/// `linear_before_reset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gru {
    /// What it shares with the other recurrent operators.
    pub recurrence: Recurrence,
    /// Multiplies by the reset gate after the product with R and its bias, not before.
    pub linear_before_reset: bool,
}

const GATES: usize = 3;

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let recurrence = Recurrence::read(node, &[Activation::Sigmoid, Activation::Tanh])?;
    Ok(Gru { recurrence, linear_before_reset: node.flag_or("linear_before_reset", false)? }.into())
}

impl Op for Gru {
    fn name(&self) -> &'static str {
        "GRU"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, _output: &Shape) -> Option<usize> {
        self.recurrence.macs(inputs)
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let mut facts = self.recurrence.infer(inputs, GATES)?;
        facts.truncate(2);
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let cell = |weights: &Weights<'_>, x: &[f64], state: &mut State| {
            let n = weights.hidden();
            let h = &state.h;
            let gate = |row: usize| {
                let bias = weights.w_bias[row] + weights.r_bias[row];
                weights.activate(0, weights.input_row(row, x) + weights.hidden_row(row, h) + bias)
            };
            let reset: Vec<f64> = (0..n).map(|k| gate(n + k)).collect();
            let reset_h: Vec<f64> = reset.iter().zip(h).map(|(r, h)| r * h).collect();
            let next = (0..n)
                .map(|k| {
                    let row = 2 * n + k;
                    let recurrent = if self.linear_before_reset {
                        reset[k] * (weights.hidden_row(row, h) + weights.r_bias[row])
                    } else {
                        weights.hidden_row(row, &reset_h) + weights.r_bias[row]
                    };
                    let candidate = weights.activate(1, weights.input_row(row, x) + recurrent + weights.w_bias[row]);
                    let z = gate(k);
                    (1.0 - z) * candidate + z * h[k]
                })
                .collect();
            state.h = next;
        };
        let mut outputs = self.recurrence.unroll(inputs, GATES, budget, &cell)?;
        outputs.truncate(2);
        Ok(outputs)
    }

    fn attrs(&self) -> Attrs {
        self.recurrence.attrs().flag("linear_before_reset", self.linear_before_reset)
    }
}
