//! What a step of the CPU is, and what it is made from.

use super::arena::Io;
use crate::backend::{Instruction, Program, Slot, State, Weights};
use crate::error::Result;
use crate::ops::{Budget, Op};
use crate::tensor::{DType, Shape, Tensor};
use std::fmt::Debug;

/// One step, bound to its shapes and constants.
pub(crate) trait Kernel: Debug + Send + Sync {
    /// The name in a profile.
    fn name(&self) -> String;

    /// Bytes of workspace that a run needs beside its inputs and outputs.
    fn workspace(&self) -> usize {
        0
    }

    /// What a worker keeps for this step from run to run.
    fn state(&self) -> Option<State> {
        None
    }

    /// The reference evaluations inside, as `name (operator)`.
    fn fallbacks(&self, _name: &str, _operator: &str) -> Vec<String> {
        Vec::new()
    }

    /// Computes the outputs from the inputs.
    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()>;
}

/// What a step may use while it runs.
pub(crate) struct Context<'a> {
    /// At least [`Kernel::workspace`] bytes, aligned to 64, with any content.
    pub(crate) workspace: &'a mut [u8],
    /// What [`Kernel::state`] made.
    pub(crate) state: &'a mut Option<State>,
    /// The limits of this run.
    pub(crate) budget: &'a Budget,
}

/// One instruction of a program, as a kernel's constructor wants to see it.
pub(crate) struct Spec<'a> {
    pub(crate) instruction: &'a Instruction,
    pub(crate) weights: &'a Weights,
    program: &'a Program,
}

impl<'a> Spec<'a> {
    pub(crate) fn new(instruction: &'a Instruction, program: &'a Program, weights: &'a Weights) -> Self {
        Spec { instruction, weights, program }
    }

    /// The operator as a `T`, where it is one.
    pub(crate) fn op<T: Op>(&self) -> Option<&'a T> {
        self.instruction.op.downcast_ref::<T>()
    }

    pub(crate) fn input(&self, index: usize) -> Option<&'a Slot> {
        self.instruction.inputs.get(index).copied().flatten().map(|id| self.program.slot(id))
    }

    pub(crate) fn output(&self, index: usize) -> Option<&'a Slot> {
        self.instruction.outputs.get(index).copied().flatten().map(|id| self.program.slot(id))
    }

    /// The shape of input `index`, where it is present and static.
    pub(crate) fn shape(&self, index: usize) -> Option<&'a Shape> {
        self.input(index)?.shape.as_ref()
    }

    /// The shape of output `index`, where it is present and static.
    pub(crate) fn output_shape(&self, index: usize) -> Option<&'a Shape> {
        self.output(index)?.shape.as_ref()
    }

    /// The tensor of input `index`, where it is a constant.
    pub(crate) fn constant(&self, index: usize) -> Option<&'a Tensor> {
        self.input(index)?.constant()
    }

    /// True where every present input and output is of this dtype and of static shape.
    pub(crate) fn all(&self, dtype: DType) -> bool {
        let fits = |slot: &Slot| slot.dtype == dtype && slot.shape.is_some();
        let ids = self.instruction.inputs.iter().chain(&self.instruction.outputs);
        ids.flatten().all(|id| fits(self.program.slot(*id)))
    }

    /// True where every present input and output has a static shape.
    pub(crate) fn is_static(&self) -> bool {
        let ids = self.instruction.inputs.iter().chain(&self.instruction.outputs);
        ids.flatten().all(|id| self.program.slot(*id).shape.is_some())
    }
}
