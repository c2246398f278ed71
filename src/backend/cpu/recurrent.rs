//! `LSTM`, `GRU` and `RNN` in f32 with constant weights: products by packed matrices, gates in one pass over each step.
//!
//! The products with W are made for a block of steps at once, those with R step by step.

use super::arena::Io;
use super::kernel::{Context, Kernel, Spec};
use crate::error::{Result, ensure};
use crate::kernels::arch::Isa;
use crate::kernels::gemm::{self, Epilogue, Layout, PackedB, Residual, gemm};
use crate::kernels::recurrent::{Lstm, gru_reset, gru_step, lstm_step};
use crate::kernels::{Matrix, MatrixMut};
use crate::ops::recurrent::{self as ops, Activation, Direction, Recurrence, input};
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

/// Bytes of gates that one block of steps may take.
const BLOCK: usize = 256 * 1024;

/// Which cell steps, and its option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Lstm { input_forget: bool },
    Gru { linear_before_reset: bool },
    Rnn { relu: bool },
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Lstm { .. } => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn { .. } => 1,
        }
    }

    /// Whether what is added to the products with W and R may be added at once.
    fn joins_biases(self) -> bool {
        !matches!(self, Cell::Gru { .. })
    }

    /// The rows of R, in gates, that are multiplied by the same state.
    fn parts(self) -> &'static [usize] {
        match self {
            Cell::Lstm { .. } => &[4],
            Cell::Rnn { .. } => &[1],
            Cell::Gru { linear_before_reset: true } => &[3],
            Cell::Gru { linear_before_reset: false } => &[2, 1],
        }
    }
}

/// A recurrence over a whole sequence.
#[derive(Debug)]
pub(super) struct Recurrent {
    isa: Isa,
    cell: Cell,
    direction: Direction,
    batch_first: bool,
    clip: Option<f32>,
    length: usize,
    batch: usize,
    width: usize,
    hidden: usize,
    /// Steps whose products with W are made together.
    block: usize,
    /// The matrices of W and R, one direction after the other.
    w: Arc<Vec<PackedB>>,
    r: Arc<Vec<PackedB>>,
    /// What is added to the products with W and R, `[directions, gates * hidden]`; that with R is empty for an LSTM.
    w_bias: Vec<f32>,
    r_bias: Vec<f32>,
    inputs: [bool; 8],
    outputs: [bool; 3],
}

impl Recurrent {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (recurrence, cell) = if let Some(op) = spec.op::<ops::Lstm>() {
            (&op.recurrence, Cell::Lstm { input_forget: op.input_forget })
        } else if let Some(op) = spec.op::<ops::Gru>() {
            (&op.recurrence, Cell::Gru { linear_before_reset: op.linear_before_reset })
        } else if let Some(op) = spec.op::<ops::Rnn>() {
            (&op.recurrence, Cell::Rnn { relu: op.recurrence.activations.first() == Some(&Activation::Relu) })
        } else {
            return Ok(None);
        };
        let kind = |index: usize| if index == input::LENGTHS { DType::I32 } else { DType::F32 };
        let known = (0..spec.instruction.inputs.len()).all(|i| spec.input(i).is_none_or(|slot| slot.dtype == kind(i)));
        if !known || !spec.is_static() || !plain(recurrence, cell) {
            return Ok(None);
        }
        let (Some(x), Some(w), Some(r)) = (spec.shape(input::X), spec.constant(input::W), spec.constant(input::R))
        else {
            return Ok(None);
        };
        let (&[first, second, width], Some(&hidden)) = (&x[..], r.shape().last()) else { return Ok(None) };
        let (length, batch) = if recurrence.batch_first { (second, first) } else { (first, second) };
        let (directions, rows) = (recurrence.direction.count(), cell.gates() * hidden);
        let fits = w.len() == directions * rows * width && r.len() == directions * rows * hidden;
        if !fits || [length, batch, width, hidden].contains(&0) {
            return Ok(None);
        }
        let bias = match (spec.input(input::B), spec.constant(input::B)) {
            (None, _) => vec![0.0; directions * 2 * rows],
            (_, Some(bias)) => bias.to_f32_vec()?,
            _ => return Ok(None),
        };
        let (mut w_bias, mut r_bias) = (Vec::new(), Vec::new());
        for both in bias.chunks_exact(2 * rows) {
            let (of_w, of_r) = both.split_at(rows);
            if cell.joins_biases() {
                w_bias.extend(of_w.iter().zip(of_r).map(|(w, r)| w + r));
            } else {
                w_bias.extend_from_slice(of_w);
                r_bias.extend_from_slice(of_r);
            }
        }
        let pack = |columns: &'static [usize], depth: usize| {
            move |tensor: &Tensor| {
                let (mut left, mut packed): (&[f32], _) = (tensor.as_slice()?, Vec::new());
                for gates in columns.iter().cycle().take(columns.len() * directions) {
                    let (part, rest) = left.split_at(gates * hidden * depth);
                    let layout = Layout::Transposed { stride: depth };
                    packed.push(PackedB::pack(isa, part, depth, gates * hidden, layout));
                    left = rest;
                }
                Ok(packed)
            }
        };
        let whole: &'static [usize] = match cell {
            Cell::Lstm { .. } => &[4],
            Cell::Gru { .. } => &[3],
            Cell::Rnn { .. } => &[1],
        };
        let steps = if recurrence.batch_first { 1 } else { BLOCK / 4 / rows.saturating_mul(batch).max(1) };
        let weights =
            |tensor: &Tensor, variant: u64, parts: &'static [usize], depth: usize| -> Result<Arc<Vec<PackedB>>> {
                let packed = spec.weights.get_or_pack(tensor, variant, pack(parts, depth))?;
                let columns = parts.iter().cycle().take(parts.len() * directions).map(|gates| gates * hidden);
                let fits = packed.iter().map(|b| (b.k(), b.n())).eq(columns.map(|columns| (depth, columns)));
                ensure!(fits, Malformed, "the packed weights are those of another recurrence; compile the model again");
                Ok(packed)
            };
        Ok(Some(Recurrent {
            isa,
            cell,
            direction: recurrence.direction,
            batch_first: recurrence.batch_first,
            clip: recurrence.clip,
            length,
            batch,
            width,
            hidden,
            block: steps.clamp(1, length),
            w: weights(w, 0, whole, width)?,
            // A tensor might serve as W here and as R there.
            r: weights(r, cell.parts().len() as u64, cell.parts(), hidden)?,
            w_bias,
            r_bias,
            inputs: std::array::from_fn(|index| spec.input(index).is_some()),
            outputs: std::array::from_fn(|index| spec.output(index).is_some()),
        }))
    }

    /// Elements of the gates of one step.
    fn rows(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Where the state of a row of the batch lies among those of all directions.
    fn state_at(&self, direction: usize, row: usize) -> usize {
        let index =
            if self.batch_first { row * self.direction.count() + direction } else { direction * self.batch + row };
        index * self.hidden
    }

    /// `W x + b` of steps `first..first + steps` into `gates`.
    fn project(&self, direction: usize, x: &[f32], first: usize, gates: &mut [f32]) {
        let rows = self.rows();
        let x = if self.batch_first {
            Matrix::new(&x[first * self.width..], self.batch, self.width, self.length * self.width)
        } else {
            let count = gates.len() / rows;
            Matrix::dense(&x[first * self.batch * self.width..][..count * self.width], count, self.width)
        };
        let bias = Some(&self.w_bias[direction * rows..(direction + 1) * rows]);
        let out = MatrixMut::dense(gates, x.rows(), rows);
        gemm(self.isa, x, &self.w[direction], out, &Epilogue { bias, ..Epilogue::default() });
    }

    /// How many elements of each sequence count, where that is said.
    fn lengths<'a>(&self, io: &Io<'a>) -> Result<Option<&'a [i32]>> {
        if !self.inputs[input::LENGTHS] {
            return Ok(None);
        }
        let lengths: &[i32] = io.input(input::LENGTHS)?;
        let within = |length: &i32| usize::try_from(*length).is_ok_and(|length| length <= self.length);
        ensure!(
            lengths.iter().all(within),
            InvalidInput,
            "sequence lengths {lengths:?} are not all within 0..={}",
            self.length
        );
        Ok(Some(lengths))
    }

    /// Puts by the states of sequences that are over, or puts them back.
    fn hold(&self, over: &impl Fn(usize) -> bool, kept: &mut [f32], h: &mut [f32], c: &mut [f32], back: bool) {
        if kept.is_empty() {
            return;
        }
        let (kept_h, kept_c) = kept.split_at_mut(self.batch * self.hidden);
        for (state, kept) in [(h, kept_h), (c, kept_c)] {
            for row in (0..self.batch).filter(|row| over(*row)) {
                let row = row * self.hidden..(row + 1) * self.hidden;
                if back {
                    state[row.clone()].copy_from_slice(&kept[row])
                } else {
                    kept[row.clone()].copy_from_slice(&state[row])
                }
            }
        }
    }

    /// One step from the products with x in `gates`; `more` is scratch of a step's gates.
    fn step(&self, direction: usize, peepholes: Option<&[f32]>, gates: &mut [f32], state: &mut State<'_>) {
        let (isa, batch, hidden, rows) = (self.isa, self.batch, self.hidden, self.rows());
        let State { h, c, more } = state;
        let old = Matrix::dense(h, batch, hidden);
        match self.cell {
            Cell::Lstm { input_forget } => {
                let epilogue = Epilogue { residual: Some(Residual::OutputBefore), ..Epilogue::default() };
                gemm(isa, old, &self.r[direction], MatrixMut::dense(gates, batch, rows), &epilogue);
                let lstm = Lstm { hidden, peepholes, clip: self.clip, input_forget };
                lstm_step(isa, &lstm, gates, c, h);
            }
            Cell::Gru { linear_before_reset } => {
                let bias = &self.r_bias[direction * rows..(direction + 1) * rows];
                let with = |bias| Epilogue { bias: Some(bias), ..Epilogue::default() };
                if linear_before_reset {
                    gemm(isa, old, &self.r[direction], MatrixMut::dense(more, batch, rows), &with(bias));
                } else {
                    let (gated, candidate) = bias.split_at(2 * hidden);
                    let out = MatrixMut::new(&mut more[..], batch, 2 * hidden, rows);
                    gemm(isa, old, &self.r[2 * direction], out, &with(gated));
                    gru_reset(isa, hidden, self.clip, gates, more, h, c);
                    let out = MatrixMut::new(&mut more[2 * hidden..], batch, hidden, rows);
                    gemm(isa, Matrix::dense(c, batch, hidden), &self.r[2 * direction + 1], out, &with(candidate));
                }
                gru_step(isa, hidden, self.clip, !linear_before_reset, gates, more, h);
            }
            Cell::Rnn { relu } => {
                let activation = if relu { gemm::Activation::Relu } else { gemm::Activation::Tanh };
                let residual = Some(Residual::OutputBefore);
                let epilogue = Epilogue { residual, activation, ..Epilogue::default() };
                gemm(isa, old, &self.r[direction], MatrixMut::dense(gates, batch, rows), &epilogue);
                h.copy_from_slice(gates);
            }
        }
    }
}

/// What a step changes: h, the cell (of a GRU: the reset state), and room for the gates of a step.
struct State<'a> {
    h: &'a mut [f32],
    c: &'a mut [f32],
    more: &'a mut [f32],
}

/// True where the cells have the activations that the kernels have.
fn plain(recurrence: &Recurrence, cell: Cell) -> bool {
    let defaults: &[Activation] = match cell {
        Cell::Lstm { .. } => &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        Cell::Gru { .. } => &[Activation::Sigmoid, Activation::Tanh],
        // What goes into an activation is not clipped by a product.
        Cell::Rnn { .. } if recurrence.clip.is_some() => return false,
        Cell::Rnn { relu: true } => &[Activation::Relu],
        Cell::Rnn { relu: false } => &[Activation::Tanh],
    };
    recurrence.activations.chunks(defaults.len()).all(|cell| cell == defaults)
}

impl Kernel for Recurrent {
    fn name(&self) -> String {
        let kind = match self.cell {
            Cell::Lstm { .. } => "lstm",
            Cell::Gru { .. } => "gru",
            Cell::Rnn { .. } => "rnn",
        };
        format!("{kind} {}x{}x{}x{}", self.length, self.batch, self.width, self.hidden)
    }

    fn workspace(&self) -> usize {
        let gates = self.rows().saturating_mul(self.batch);
        let states = self.batch.saturating_mul(if self.inputs[input::LENGTHS] { 4 } else { 2 } * self.hidden);
        gates.saturating_mul(self.block + 1).saturating_add(states).saturating_mul(4)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let given = |index: usize| -> Result<Option<&[f32]>> {
            if self.inputs[index] { io.input(index).map(Some) } else { Ok(None) }
        };
        let taken = |index: usize| -> Result<Option<&mut [f32]>> {
            if self.outputs[index] { io.output(index).map(Some) } else { Ok(None) }
        };
        let x: &[f32] = io.input(input::X)?;
        let starts = [given(input::INITIAL_H)?, given(input::INITIAL_C)?];
        let peepholes = given(input::PEEPHOLES)?;
        let (mut y, mut ends) = (taken(0)?, [taken(1)?, taken(2)?]);
        let (batch, hidden, directions) = (self.batch, self.hidden, self.direction.count());
        let step_len = self.rows() * batch;
        let workspace: &mut [f32] = bytemuck::cast_slice_mut(&mut context.workspace[..self.workspace()]);
        let (gates, rest) = workspace.split_at_mut(step_len * self.block);
        let (more, states) = rest.split_at_mut(step_len);
        let (h, states) = states.split_at_mut(batch * hidden);
        let (c, kept) = states.split_at_mut(batch * hidden);
        let lengths = self.lengths(io)?;
        for direction in 0..directions {
            let backwards = direction == 1 || self.direction == Direction::Reverse;
            for (state, start) in [&mut *h, &mut *c].into_iter().zip(starts) {
                for (row, state) in state.chunks_exact_mut(hidden).enumerate() {
                    match start {
                        Some(start) => state.copy_from_slice(&start[self.state_at(direction, row)..][..hidden]),
                        None => state.fill(0.0),
                    }
                }
            }
            let peepholes = peepholes.map(|p| &p[direction * 3 * hidden..][..3 * hidden]);
            let mut done = 0;
            while done < self.length {
                let steps = self.block.min(self.length - done);
                let first = if backwards { self.length - done - steps } else { done };
                self.project(direction, x, first, &mut gates[..steps * step_len]);
                for step in 0..steps {
                    let within = if backwards { steps - 1 - step } else { step };
                    let gates = &mut gates[within * step_len..(within + 1) * step_len];
                    let t = first + within;
                    let over = |row: usize| lengths.is_some_and(|lengths| t >= lengths[row] as usize);
                    self.hold(&over, kept, h, c, false);
                    self.step(direction, peepholes, gates, &mut State { h, c, more });
                    self.hold(&over, kept, h, c, true);
                    let Some(y) = &mut y else { continue };
                    for (row, h) in h.chunks_exact(hidden).enumerate() {
                        let at = if self.batch_first {
                            (row * self.length + t) * directions + direction
                        } else {
                            (t * directions + direction) * batch + row
                        };
                        let y = &mut y[at * hidden..(at + 1) * hidden];
                        if over(row) { y.fill(0.0) } else { y.copy_from_slice(h) }
                    }
                }
                done += steps;
            }
            for (state, end) in [&*h, &*c].into_iter().zip(&mut ends) {
                let Some(end) = end else { continue };
                for (row, state) in state.chunks_exact(hidden).enumerate() {
                    end[self.state_at(direction, row)..][..hidden].copy_from_slice(state);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::Op;
    use crate::tensor::Fact;
    use crate::{CompileOptions, Model};

    const HIDDEN: usize = 5;

    fn numbers(shape: &[usize], scale: f32) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::new(shape, (0..n).map(|i| ((i * 7919 + 11) % 97) as f32 / 97.0 * scale - scale / 2.0).collect())
            .unwrap()
    }

    /// The compiled recurrence answers as the interpreted one does, and without it.
    fn agrees(op: Arc<dyn Op>, gates: usize, directions: usize, outputs: usize, lengths: Option<[i32; 3]>) {
        let mut graph = Graph::new("test");
        let x = graph.input("x", Fact::concrete(DType::F32, &[7, 3, 4])).unwrap();
        let mut inputs = vec![Some(x)];
        for shape in [
            &[directions, gates * HIDDEN, 4][..],
            &[directions, gates * HIDDEN, HIDDEN],
            &[directions, 2 * gates * HIDDEN],
        ] {
            inputs.push(Some(graph.constant("w", numbers(shape, 1.0)).unwrap()));
        }
        let mut tensors = vec![numbers(&[7, 3, 4], 4.0)];
        if let Some(lengths) = lengths {
            inputs.push(Some(graph.input("lengths", Fact::concrete(DType::I32, &[3])).unwrap()));
            tensors.push(Tensor::vector(lengths.to_vec()));
        }
        let names = [Some("y"), Some("h"), Some("c")];
        for y in graph.node("r", op, &inputs, &names[..outputs]).unwrap().into_iter().flatten() {
            graph.output(y).unwrap();
        }
        let expected = graph.interpret(&tensors).unwrap();
        let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
        let shapes: Vec<_> = tensors.iter().map(|t| t.shape().clone()).collect();
        assert_eq!(model.plan(&shapes).unwrap().fallbacks(), Vec::<String>::new());
        for (found, expected) in model.run(tensors.clone()).unwrap().into_vec().iter().zip(&expected) {
            for (a, b) in found.to_f64_vec().unwrap().iter().zip(expected.to_f64_vec().unwrap()) {
                assert!((a - b).abs() <= 1e-5, "{a} against {b}");
            }
        }
        if lengths.is_some() {
            tensors[1] = Tensor::vector(vec![8i32, 0, 0]);
            assert!(model.run(tensors).is_err(), "longer than the sequences");
        }
    }

    #[test]
    fn every_cell_in_every_direction_with_and_without_lengths() {
        use Activation::{Relu, Sigmoid, Tanh};
        for direction in [Direction::Forward, Direction::Reverse, Direction::Bidirectional] {
            for lengths in [None, Some([7, 3, 0])] {
                let count = direction.count();
                let recurrence = |activations: &[Activation]| Recurrence {
                    hidden_size: Some(HIDDEN),
                    direction,
                    batch_first: false,
                    activations: activations.repeat(count),
                    clip: None,
                };
                let lstm = ops::Lstm { recurrence: recurrence(&[Sigmoid, Tanh, Tanh]), input_forget: false };
                agrees(Arc::new(lstm), 4, count, 3, lengths);
                for linear_before_reset in [false, true] {
                    let gru = ops::Gru { recurrence: recurrence(&[Sigmoid, Tanh]), linear_before_reset };
                    agrees(Arc::new(gru), 3, count, 2, lengths);
                }
                for activation in [Relu, Tanh] {
                    let rnn = ops::Rnn { recurrence: recurrence(&[activation]) };
                    agrees(Arc::new(rnn), 1, count, 2, lengths);
                }
            }
        }
    }
}
