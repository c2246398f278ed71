//! Running a cell over sequences: one row of the batch after the other, all of it in `f64`.

use super::{Activation, Recurrence, input};
use crate::error::{Result, bail, ensure};
use crate::ops::{Budget, Inputs};
use crate::tensor::{DType, Tensor};

/// The weights of one direction.
pub(super) struct Weights<'a> {
    /// `[gates * hidden, input]`.
    w: &'a [f64],
    /// `[gates * hidden, hidden]`.
    r: &'a [f64],
    /// `[gates * hidden]`, added to the product with `w`.
    pub(super) w_bias: &'a [f64],
    /// `[gates * hidden]`, added to the product with `r`.
    pub(super) r_bias: &'a [f64],
    /// `[3 * hidden]`, empty where there are none.
    pub(super) peepholes: &'a [f64],
    /// Those of this direction.
    pub(super) activations: &'a [Activation],
    clip: f64,
    hidden: usize,
}

impl Weights<'_> {
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// Activation `index` of the cell, on what has been clipped.
    pub(super) fn activate(&self, index: usize, x: f64) -> f64 {
        self.activations[index].apply(x.clamp(-self.clip, self.clip))
    }

    /// Row `row` of W times `x`, without bias.
    pub(super) fn input_row(&self, row: usize, x: &[f64]) -> f64 {
        dot(&self.w[row * x.len()..], x)
    }

    /// Row `row` of R times `h`, without bias.
    pub(super) fn hidden_row(&self, row: usize, h: &[f64]) -> f64 {
        dot(&self.r[row * h.len()..], h)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The state of one row: `h`, and `c` where the cell has one.
pub(super) struct State {
    pub(super) h: Vec<f64>,
    pub(super) c: Vec<f64>,
}

impl Recurrence {
    /// Y, the last h and the last c. `cell` takes the weights, one element of a sequence, and the state to change.
    pub(super) fn unroll(
        &self,
        inputs: Inputs<'_, Tensor>,
        gates: usize,
        budget: &Budget,
        cell: &dyn Fn(&Weights<'_>, &[f64], &mut State),
    ) -> Result<Vec<Tensor>> {
        let x = inputs.require(input::X)?;
        let (shape, r_shape) = (x.shape(), inputs.require(input::R)?.shape());
        ensure!(shape.rank() == 3 && r_shape.rank() == 3, Shape, "X {shape} and R {r_shape} are not of rank 3");
        let (length, batch) = if self.batch_first { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
        let (width, hidden, directions) = (shape[2], r_shape[2], self.direction.count());
        let elements: usize = (0..inputs.count()).filter_map(|i| inputs.get(i)).map(Tensor::len).sum();
        let y_len = length.saturating_mul(directions).saturating_mul(batch).saturating_mul(hidden);
        let mut held = budget.hold();
        held.set(elements.saturating_add(y_len).saturating_mul(size_of::<f64>()))?;

        let read = |index: usize, missing: usize| match inputs.get(index) {
            Some(value) => value.to_f64_vec(),
            None => Ok(vec![0.0; missing]),
        };
        let rows = gates * hidden;
        let sequences = read(input::X, 0)?;
        let (w, r) = (read(input::W, 0)?, read(input::R, 0)?);
        let bias = read(input::B, directions * 2 * rows)?;
        let peepholes = read(input::PEEPHOLES, 0)?;
        let first_h = read(input::INITIAL_H, directions * batch * hidden)?;
        let first_c = read(input::INITIAL_C, directions * batch * hidden)?;
        let lengths = self.lengths(inputs, length, batch)?;

        let mut y = vec![0.0; y_len];
        let mut last_h = vec![0.0; directions * batch * hidden];
        let mut last_c = last_h.clone();
        for direction in 0..directions {
            let part = |all: &'_ [f64], len: usize| -> std::ops::Range<usize> {
                if all.is_empty() { 0..0 } else { direction * len..(direction + 1) * len }
            };
            let bias = &bias[part(&bias, 2 * rows)];
            let per_cell = self.activations.len() / directions;
            let weights = Weights {
                w: &w[part(&w, rows * width)],
                r: &r[part(&r, rows * hidden)],
                w_bias: &bias[..rows],
                r_bias: &bias[rows..],
                peepholes: &peepholes[part(&peepholes, 3 * hidden)],
                activations: &self.activations[direction * per_cell..(direction + 1) * per_cell],
                clip: self.clip.map_or(f64::INFINITY, f64::from),
                hidden,
            };
            let backwards = direction == 1 || self.direction == super::Direction::Reverse;
            for (row, &steps) in lengths.iter().enumerate().take(batch) {
                let state_at =
                    if self.batch_first { row * directions + direction } else { direction * batch + row } * hidden;
                let state_range = state_at..state_at + hidden;
                let mut state =
                    State { h: first_h[state_range.clone()].to_vec(), c: first_c[state_range.clone()].to_vec() };
                for step in 0..steps {
                    let t = if backwards { steps - 1 - step } else { step };
                    let (x_at, y_at) = if self.batch_first {
                        (row * length + t, (row * length + t) * directions + direction)
                    } else {
                        (t * batch + row, (t * directions + direction) * batch + row)
                    };
                    cell(&weights, &sequences[x_at * width..(x_at + 1) * width], &mut state);
                    y[y_at * hidden..(y_at + 1) * hidden].copy_from_slice(&state.h);
                }
                last_h[state_range.clone()].copy_from_slice(&state.h);
                last_c[state_range].copy_from_slice(&state.c);
            }
        }
        let (y_shape, last_shape) = if self.batch_first {
            ([batch, length, directions, hidden], [batch, directions, hidden])
        } else {
            ([length, directions, batch, hidden], [directions, batch, hidden])
        };
        let typed = |shape: &[usize], elements: Vec<f64>| typed(x.dtype(), shape, elements);
        Ok(vec![typed(&y_shape, y)?, typed(&last_shape, last_h)?, typed(&last_shape, last_c)?])
    }

    fn lengths(&self, inputs: Inputs<'_, Tensor>, longest: usize, batch: usize) -> Result<Vec<usize>> {
        let Some(lengths) = inputs.get(input::LENGTHS) else { return Ok(vec![longest; batch]) };
        let lengths = lengths.to_i64_vec()?;
        ensure!(lengths.len() == batch, InvalidInput, "{} lengths for {batch} sequences", lengths.len());
        let checked = |&length: &i64| usize::try_from(length).ok().filter(|&n| n <= longest);
        match lengths.iter().map(checked).collect() {
            Some(lengths) => Ok(lengths),
            None => bail!(InvalidInput, "sequence lengths {lengths:?} are not all within 0..={longest}"),
        }
    }
}

fn typed(dtype: DType, shape: &[usize], elements: Vec<f64>) -> Result<Tensor> {
    Tensor::new(shape, elements)?.cast(dtype)
}
