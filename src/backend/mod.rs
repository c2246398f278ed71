//! The boundary between what is computed and how: a [`Program`] goes in, an [`Executable`] comes out.
//!
//! The boundary is the whole plan and not the operator, so a backend is free to fuse, to record command buffers, or to
//! keep everything on its device. It never sees a graph: values are slots with dtype, shape and place.

pub mod cpu;
pub mod profile;
pub mod program;
pub mod weights;
mod work;

pub use profile::{Profile, StepProfile};
pub use program::{Instruction, Place, Program, Slot, SlotId};
pub use weights::{StoredWeight, Weights};
pub(crate) use work::Work;

use crate::error::Result;
use crate::ops::{Budget, Op};
use crate::tensor::Tensor;
use crate::threads::Threads;
use smallvec::SmallVec;
use std::any::Any;
use std::fmt::Debug;

/// Turns programs into something that runs.
pub trait Backend: Debug + Send + Sync {
    /// A short name for reports.
    fn name(&self) -> &'static str;

    /// Which input of a step its first output may overwrite, for the planner of memory; inputs and outputs are given
    /// with their concrete shapes.
    fn in_place(&self, op: &dyn Op, inputs: &[Option<&Slot>], outputs: &[Option<&Slot>]) -> Option<usize>;

    /// Whether the steps of a program, each of which alone takes the output of the one before, had better be one: a step
    /// whose operator is a [`Chain`](crate::ops::fused::Chain) of them, and whose body is the program.
    fn joins(&self, _run: &Program) -> bool {
        false
    }

    /// Compiles a program. Packed weights go into `weights`, where other programs of the same model find them.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) with the operators that the backend lacks.
    fn compile(&self, program: Program, weights: &Weights) -> Result<Box<dyn Executable>>;
}

/// One entry for each input or output of a run. With up to 64 of them nothing is allocated.
pub(crate) type Ports<T> = SmallVec<[T; 64]>;

/// Everything mutable of a run: one for each worker, made by [`Executable::scratch`] and used with that one alone.
pub type State = Box<dyn Any + Send>;

/// The buffers of one run: the bytes of each input and of each output of static shape, in order.
///
/// An output whose shape depends on data has an empty buffer; [`Executable::run`] returns it.
#[derive(Debug)]
pub struct Buffers<'a, 'b> {
    /// One slice an input.
    pub inputs: &'a [&'b [u8]],
    /// One slice an output.
    pub outputs: &'a mut [&'b mut [u8]],
    /// Asked before each step.
    pub checkpoint: Option<Checkpoint<'a>>,
    /// The threads that may help; without them the run keeps to its own.
    pub(crate) threads: Option<&'a Threads>,
}

/// Asked between the steps of a run whether to go on; an error ends the run. It may itself run something else first.
#[derive(Clone, Copy)]
pub struct Checkpoint<'a>(pub &'a (dyn Fn() -> Result<()> + Sync));

impl Debug for Checkpoint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checkpoint")
    }
}

/// A compiled program: immutable, shared by any number of threads, each with its own state.
pub trait Executable: Debug + Send + Sync {
    /// The mutable part for one worker.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when the system does not give the memory.
    fn scratch(&self) -> Result<State>;

    /// Runs. Allocates nothing once `state` is warm, unless a step ran by reference evaluation or has outputs whose
    /// shapes depend on data.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for values that an operator forbids, with the step's node as
    /// its place; [`Limit`](crate::ErrorKind::Limit) when the budget is spent.
    fn run(&self, state: &mut State, buffers: Buffers<'_, '_>, budget: &Budget) -> Result<()>;

    /// The output `index` of the last run, where its shape depends on data.
    fn dynamic_output(&self, state: &State, index: usize) -> Option<Tensor>;

    /// As [`run`](Executable::run), adding the time of each step to `profile`.
    ///
    /// # Errors
    /// As [`run`](Executable::run).
    fn run_profiled(
        &self,
        state: &mut State,
        buffers: Buffers<'_, '_>,
        budget: &Budget,
        profile: &mut Profile,
    ) -> Result<()>;

    /// The steps that run by reference evaluation, as `name (operator)`.
    fn fallbacks(&self) -> Vec<String>;

    /// Bytes that one state holds; `usize::MAX` where they are too many to count.
    fn scratch_bytes(&self) -> usize;
}
