//! What a step costs, estimated from its operator and its shapes: products, bytes of weights, bytes of values.
//!
//! Good to a factor of two or three, which is enough to tell what is worth dividing and how many rows to take at once.
//! What was measured is the business of the monitor.

use super::program::{Instruction, Place, Program};
use crate::ops::elementwise::{Unary, UnaryKind};
use crate::ops::fused::{Chain, ChannelsLast, Elementwise, Epilogue, Quantized, Ranged};
use crate::ops::nn::Softmax;
use crate::ops::quant::{ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul};
use crate::ops::{Inputs, Op};

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
        let shape = |id: &Option<_>| program.slot((*id)?).shape.as_ref();
        let inputs: Vec<_> = instruction.inputs.iter().map(shape).collect();
        if let (true, [Some(body)]) = (instruction.op.is::<Chain>(), &instruction.bodies[..]) {
            work.macs = body.steps.iter().map(|step| Work::of(step, body).macs).sum();
        } else if let Some(output) = instruction.outputs.first().and_then(shape)
            && let Some(macs) = instruction.op.macs(Inputs::new(&inputs), output)
        {
            work.macs = macs as f64 / if bytes { 4.0 } else { 1.0 };
        }
        if let Some(Unary(kind)) = op.downcast_ref::<Unary>() {
            work.effort = if is_light(*kind) { 1.0 } else { 2.0 };
        } else if let Some(several) = op.downcast_ref::<Elementwise>() {
            let heavy =
                several.steps().iter().filter(|step| step.op.downcast_ref().is_some_and(|Unary(k)| !is_light(*k)));
            work.effort = 1.0 + 0.25 * several.steps().len() as f64 + heavy.count() as f64;
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

fn is_light(kind: UnaryKind) -> bool {
    matches!(kind, UnaryKind::Relu | UnaryKind::Identity | UnaryKind::Neg)
}

/// The operator inside, and whether it works on bytes.
fn unwrapped(op: &dyn Op) -> (&dyn Op, bool) {
    if let Some(last) = op.downcast_ref::<ChannelsLast>() {
        unwrapped(last.op.as_ref())
    } else if let Some(ranged) = op.downcast_ref::<Ranged>() {
        unwrapped(ranged.op.as_ref())
    } else if let Some(chain) = op.downcast_ref::<Chain>() {
        unwrapped(chain.first.as_ref())
    } else if let Some(epilogue) = op.downcast_ref::<Epilogue>() {
        unwrapped(epilogue.op.as_ref())
    } else if let Some(quantized) = op.downcast_ref::<Quantized>() {
        (unwrapped(quantized.op.as_ref()).0, true)
    } else {
        let integer =
            op.is::<ConvInteger>() || op.is::<QLinearConv>() || op.is::<MatMulInteger>() || op.is::<QLinearMatMul>();
        (op, integer)
    }
}

fn bodies_inside(op: &dyn Op) -> bool {
    op.is::<crate::ops::control::If>() || op.is::<crate::ops::control::Loop>() || op.is::<crate::ops::control::Scan>()
}
