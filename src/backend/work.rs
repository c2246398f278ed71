//! What a step costs, estimated from its operator and its shapes: products, bytes of weights, bytes of values.
//!
//! Good to a factor of two or three, which is enough to tell what is worth dividing and how many rows to take at once.
//! What was measured is the business of the monitor.

use super::program::{Instruction, Place, Program};
use crate::ops::Op;
use crate::ops::attention::Attention;
use crate::ops::elementwise::{Unary, UnaryKind};
use crate::ops::fused::{Chain, ChannelsLast, Epilogue, Quantized};
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::nn::{Conv, ConvTranspose, Softmax};
use crate::ops::quant::{ConvInteger, MatMulInteger, MatMulNBits, QLinearConv, QLinearMatMul};
use crate::ops::recurrent::{Gru, Lstm, Rnn};
use crate::tensor::Shape;

/// Multiply-accumulates in f32 that one core does in a nanosecond; bytes count for four.
const MACS: f64 = 60.0;

/// Bytes that one core reads or writes in a nanosecond while it does little else.
const BYTES: f64 = 12.0;

/// What one step costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Work {
    /// Multiply-accumulates, in those of f32.
    pub(crate) macs: f64,
    /// Bytes of constants.
    pub(crate) weights: f64,
    /// Bytes of everything else that is read or written.
    pub(crate) values: f64,
    /// How much slower than a copy the values are gone through.
    pub(crate) effort: f64,
}

impl Work {
    /// The work of one step of a program.
    pub(crate) fn of(instruction: &Instruction, program: &Program) -> Self {
        let mut work = Work { effort: 1.0, ..Work::default() };
        for id in instruction.inputs.iter().chain(&instruction.outputs).flatten() {
            let slot = program.slot(*id);
            match slot.place {
                Place::Constant(_) => work.weights += slot.bytes() as f64,
                _ => work.values += slot.bytes() as f64,
            }
        }
        let (op, bytes) = unwrapped(instruction.op.as_ref());
        let shape = |ids: &[Option<_>], index: usize| -> Option<&Shape> {
            program.slot(ids.get(index).copied().flatten()?).shape.as_ref()
        };
        let input = |index: usize| shape(&instruction.inputs, index);
        work.macs = macs(op, &input, shape(&instruction.outputs, 0)).unwrap_or(0.0) / if bytes { 4.0 } else { 1.0 };
        if let Some(Unary(kind)) = op.downcast_ref::<Unary>() {
            work.effort =
                if matches!(kind, UnaryKind::Relu | UnaryKind::Identity | UnaryKind::Neg) { 1.0 } else { 2.0 };
        } else if op.is::<Softmax>() || bytes {
            work.effort = 2.0;
        } else if bodies_inside(op) {
            work.effort = 8.0;
        }
        work
    }

    /// Nanoseconds on one core, with everything in a near cache.
    pub(crate) fn nanoseconds(&self) -> f64 {
        // A table of weights that is gathered from is read in small part only.
        let weights = if self.macs > 0.0 { self.weights } else { self.weights.min(self.values) };
        self.macs / MACS + (self.values * self.effort + weights) / BYTES
    }

    /// Nanoseconds of arithmetic alone.
    pub(crate) fn arithmetic(&self) -> f64 {
        self.macs / MACS + self.values * (self.effort - 1.0) / BYTES
    }
}

/// The operator inside, and whether it works on bytes.
fn unwrapped(op: &dyn Op) -> (&dyn Op, bool) {
    if let Some(last) = op.downcast_ref::<ChannelsLast>() {
        unwrapped(last.op.as_ref())
    } else if let Some(chain) = op.downcast_ref::<Chain>() {
        unwrapped(chain.first.as_ref())
    } else if let Some(epilogue) = op.downcast_ref::<Epilogue>() {
        unwrapped(epilogue.op.as_ref())
    } else if let Some(quantized) = op.downcast_ref::<Quantized>() {
        (unwrapped(quantized.op.as_ref()).0, true)
    } else {
        (op, false)
    }
}

fn bodies_inside(op: &dyn Op) -> bool {
    op.is::<crate::ops::control::If>() || op.is::<crate::ops::control::Loop>() || op.is::<crate::ops::control::Scan>()
}

fn macs<'a>(op: &dyn Op, input: &dyn Fn(usize) -> Option<&'a Shape>, output: Option<&'a Shape>) -> Option<f64> {
    let len = |shape: &Shape| shape.iter().map(|&n| n as f64).product::<f64>();
    let out = len(output?);
    let filter = |index: usize| input(index).map(|w| len(w) / w.first().map_or(1, |&n| n.max(1)) as f64);
    let depth = |index: usize| input(index).and_then(|a| a.last().map(|&k| k as f64));
    let hidden = |w: usize, r: usize| -> Option<f64> {
        let steps = len(input(0)?) / depth(0)?.max(1.0);
        Some(steps * (len(input(w)?) + len(input(r)?)))
    };
    if op.is::<Conv>() {
        Some(out * filter(1)?)
    } else if op.is::<ConvInteger>() {
        Some(out * filter(1)? / 4.0)
    } else if op.is::<QLinearConv>() {
        Some(out * filter(3)? / 4.0)
    } else if op.is::<ConvTranspose>() {
        Some(len(input(0)?) * filter(1)?)
    } else if op.is::<MatMul>() || op.is::<MatMulNBits>() {
        Some(out * depth(0)?)
    } else if op.is::<MatMulInteger>() || op.is::<QLinearMatMul>() {
        Some(out * depth(0)? / 4.0)
    } else if let Some(gemm) = op.downcast_ref::<Gemm>() {
        let a = input(0)?;
        Some(out * *a.get(usize::from(!gemm.trans_a))? as f64)
    } else if op.is::<Attention>() {
        // Keys stand before the last axis, and every query meets them twice.
        let keys = input(1)?.iter().rev().nth(1).copied()? as f64;
        Some(2.0 * len(input(0)?) * keys)
    } else if op.is::<Lstm>() || op.is::<Gru>() || op.is::<Rnn>() {
        hidden(1, 2)
    } else {
        None
    }
}
