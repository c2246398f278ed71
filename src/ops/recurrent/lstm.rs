//! `LSTM`: long short-term memory, with peepholes.

use super::unroll::{State, Weights};
use super::{Activation, Recurrence};
use crate::error::Result;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};

/// Gates in the order input, output, forget, cell; activations f (gates), g (candidate), h (output).
///
/// `i = f(W x + R h + P c)`, `o` and `f` alike (`o` sees the new `c`), `c' = f * c + i * g(..)`, `h' = o * h(c')`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lstm {
    /// What it shares with the other recurrent operators; input 6 is the initial c, input 7 the peepholes
    /// `[directions, 3 * hidden]` in the order input, output, forget; output 2 is the last c.
    pub recurrence: Recurrence,
    /// Couples the gates: the forget gate is one minus the input gate.
    pub input_forget: bool,
}

const GATES: usize = 4;

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let defaults = [Activation::Sigmoid, Activation::Tanh, Activation::Tanh];
    let recurrence = Recurrence::read(node, &defaults)?;
    Ok(Lstm { recurrence, input_forget: node.flag_or("input_forget", false)? }.into())
}

impl Op for Lstm {
    fn name(&self) -> &'static str {
        "LSTM"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, _output: &Shape) -> Option<usize> {
        self.recurrence.macs(inputs)
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        self.recurrence.infer(inputs, GATES)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let cell = |weights: &Weights<'_>, x: &[f64], state: &mut State| {
            let n = weights.hidden();
            let old_h = std::mem::take(&mut state.h);
            let gate = |row: usize| {
                let bias = weights.w_bias[row] + weights.r_bias[row];
                weights.input_row(row, x) + weights.hidden_row(row, &old_h) + bias
            };
            let peep = |block: usize, k: usize, c: f64| weights.peepholes.get(block * n + k).map_or(0.0, |p| p * c);
            state.h = (0..n)
                .map(|k| {
                    let c = state.c[k];
                    let i = weights.activate(0, gate(k) + peep(0, k, c));
                    let f =
                        if self.input_forget { 1.0 - i } else { weights.activate(0, gate(2 * n + k) + peep(2, k, c)) };
                    let c = f * c + i * weights.activate(1, gate(3 * n + k));
                    let o = weights.activate(0, gate(n + k) + peep(1, k, c));
                    state.c[k] = c;
                    // The state is not clipped on its way out; ONNX Runtime reads the text so, and models rely on it.
                    o * weights.activations[2].apply(c)
                })
                .collect();
        };
        self.recurrence.unroll(inputs, GATES, budget, &cell)
    }

    fn attrs(&self) -> Attrs {
        self.recurrence.attrs().flag("input_forget", self.input_forget)
    }
}
