//! Recurrent networks: `LSTM`, `GRU` and `RNN`. What they share is in [`Recurrence`]; each adds its cell.

mod activation;
mod dynamic;
mod gru;
mod lstm;
mod rnn;
#[cfg(test)]
mod tests;
mod unroll;

pub use activation::Activation;
pub use gru::Gru;
pub use lstm::Lstm;
pub use rnn::Rnn;

use super::{Attrs, NodeReader, OpDef};
use crate::error::{Result, bail, ensure};
use crate::ops::Inputs;
use crate::tensor::{Dim, Fact, Shape};

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("LSTM", 22, 3..=8, lstm::read).outputs(1..=3),
    OpDef::new("GRU", 22, 3..=6, gru::read).outputs(1..=2),
    OpDef::new("RNN", 22, 3..=6, rnn::read).outputs(1..=2),
    dynamic::DYNAMIC_QUANTIZE_LSTM,
];

/// Inputs that the three operators share, by index.
pub(crate) mod input {
    pub(crate) const X: usize = 0;
    pub(crate) const W: usize = 1;
    pub(crate) const R: usize = 2;
    pub(crate) const B: usize = 3;
    pub(crate) const LENGTHS: usize = 4;
    pub(crate) const INITIAL_H: usize = 5;
    pub(crate) const INITIAL_C: usize = 6;
    pub(crate) const PEEPHOLES: usize = 7;
}

/// Which way a sequence is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From its first element to its last.
    Forward,
    /// From its last element to its first.
    Reverse,
    /// Both ways, with weights for each.
    Bidirectional,
}

impl Direction {
    /// How many sets of weights there are: two for [`Bidirectional`](Direction::Bidirectional), else one.
    #[must_use]
    pub fn count(self) -> usize {
        if self == Direction::Bidirectional { 2 } else { 1 }
    }

    fn name(self) -> &'static str {
        match self {
            Direction::Forward => "forward",
            Direction::Reverse => "reverse",
            Direction::Bidirectional => "bidirectional",
        }
    }
}

/// What the recurrent operators have in common.
///
/// Inputs: X `[length, batch, input]`, W `[directions, gates * hidden, input]`, R `[directions, gates * hidden,
/// hidden]`, B `[directions, 2 * gates * hidden]`?, lengths `[batch]`?, initial h `[directions, batch, hidden]`?.
/// Outputs: Y `[length, directions, batch, hidden]`, the last h `[directions, batch, hidden]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrence {
    /// The length of the hidden state, where the node says so; R says it too.
    pub hidden_size: Option<usize>,
    /// Which way a sequence is read.
    pub direction: Direction,
    /// True where the batch is axis 0 (ONNX's `layout` 1): X `[batch, length, input]`, Y `[batch, length, directions,
    /// hidden]`, states `[batch, directions, hidden]`.
    pub batch_first: bool,
    /// The activations of the cell, in ONNX's order, for one direction after the other.
    pub activations: Vec<Activation>,
    /// What goes into an activation is clipped to `-clip..=clip`.
    pub clip: Option<f32>,
}

impl Recurrence {
    /// Each step of each sequence meets every weight of W and R once.
    fn macs(&self, inputs: Inputs<'_, Shape>) -> Option<usize> {
        let x = inputs.get(0)?;
        let steps = x.elements().checked_div(*x.last()?)?;
        let weights = inputs.get(1)?.elements().checked_add(inputs.get(2)?.elements())?;
        steps.checked_mul(weights)
    }

    /// Reads what is common; `defaults` are the activations of one direction.
    fn read(node: &mut NodeReader, defaults: &[Activation]) -> Result<Self> {
        let direction = match node.str_or("direction", "forward")?.to_ascii_lowercase().as_str() {
            "forward" => Direction::Forward,
            "reverse" => Direction::Reverse,
            "bidirectional" => Direction::Bidirectional,
            other => bail!(InvalidModel, "direction {other:?} is none of forward, reverse, bidirectional"),
        };
        // Opset 1 asked by attribute for what today is asked by naming the output.
        node.int("output_sequence")?;
        let hidden_size = node.int("hidden_size")?.map(|n| usize::try_from(n).ok().filter(|&n| n > 0));
        ensure!(hidden_size != Some(None), InvalidModel, "hidden_size is not positive");
        let clip = node.float("clip")?;
        ensure!(clip.is_none_or(|c| c >= 0.0), InvalidModel, "clip is negative");
        Ok(Recurrence {
            hidden_size: hidden_size.flatten(),
            direction,
            batch_first: node.flag_or("layout", false)?,
            activations: activation::read(node, defaults, direction.count())?,
            clip: clip.filter(|&c| c > 0.0),
        })
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new()
            .int_opt("hidden_size", self.hidden_size.map(|n| n as i64))
            .str("direction", self.direction.name())
            .flag("layout", self.batch_first)
            .float_opt("clip", self.clip);
        activation::write(attrs, &self.activations)
    }

    /// The facts of Y, the last h and, for an LSTM, the last c, after checking every input against the others.
    fn infer(&self, inputs: Inputs<'_, Fact>, gates: usize) -> Result<Vec<Fact>> {
        let directions = self.direction.count();
        let x = inputs.require(input::X)?;
        inputs.require(input::W)?;
        inputs.require(input::R)?;
        ensure!(x.dtype.is_float(), InvalidModel, "a sequence of {} cannot be recurred over", x.dtype);
        let mut hidden = self.hidden_size.map_or(Dim::Unknown, Dim::Known);
        let [mut length, mut batch, mut width] = [Dim::Unknown, Dim::Unknown, Dim::Unknown];
        let (first, second) = if self.batch_first { (&mut batch, &mut length) } else { (&mut length, &mut batch) };
        check(inputs, input::X, x, &mut [first, second, &mut width])?;
        let mut count = Dim::Known(directions);
        check(inputs, input::R, x, &mut [&mut count, &mut Dim::Unknown, &mut hidden])?;
        let gate_rows = |times: usize| hidden.times(&Dim::Known(times * gates));
        check(inputs, input::W, x, &mut [&mut count, &mut gate_rows(1), &mut width])?;
        check(inputs, input::R, x, &mut [&mut count, &mut gate_rows(1), &mut Dim::Unknown])?;
        check(inputs, input::B, x, &mut [&mut count, &mut gate_rows(2)])?;
        check(inputs, input::PEEPHOLES, x, &mut [&mut count, &mut hidden.times(&Dim::Known(3))])?;
        if let Some(lengths) = inputs.get(input::LENGTHS) {
            ensure!(lengths.dtype.is_integer(), InvalidModel, "lengths of {} are no integers", lengths.dtype);
            check(inputs, input::LENGTHS, lengths, &mut [&mut batch])?;
        }
        for state in [input::INITIAL_H, input::INITIAL_C] {
            let (first, second) = if self.batch_first { (&mut batch, &mut count) } else { (&mut count, &mut batch) };
            check(inputs, state, x, &mut [first, second, &mut hidden])?;
        }
        let (y, last) = if self.batch_first {
            (vec![batch.clone(), length, count.clone(), hidden.clone()], vec![batch, count, hidden])
        } else {
            (vec![length, count.clone(), batch.clone(), hidden.clone()], vec![count, batch, hidden])
        };
        let last = Fact::new(x.dtype, last);
        Ok(vec![Fact::new(x.dtype, y), last.clone(), last])
    }
}

/// Joins the axes of input `index`, where it is present, with what is known of them from elsewhere.
fn check(inputs: Inputs<'_, Fact>, index: usize, like: &Fact, axes: &mut [&mut Dim]) -> Result<()> {
    let Some(fact) = inputs.get(index) else { return Ok(()) };
    ensure!(fact.dtype == like.dtype, InvalidModel, "input {index} is of {}, not {}", fact.dtype, like.dtype);
    let Some(dims) = fact.dims() else { return Ok(()) };
    ensure!(dims.len() == axes.len(), Shape, "input {index} is {fact}, not of rank {}", axes.len());
    for (axis, dim) in axes.iter_mut().zip(dims) {
        **axis = axis.unify(dim).map_err(|e| e.at(format!("input {index} {fact}")))?;
    }
    Ok(())
}
