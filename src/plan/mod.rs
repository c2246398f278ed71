//! A graph at concrete shapes, lowered to steps over one memory arena; frozen, and shared by all who run it.
//!
//! What may overwrite what is asked of the backend; how a step computes is the backend's alone.

mod lower;
mod memory;
mod scratch;

pub use scratch::Scratch;

use crate::backend::{Backend, Buffers, Checkpoint, Executable, Profile, Weights};
use crate::error::{At, Result, ensure};
use crate::graph::Graph;
use crate::ops::Budget;
use crate::tensor::{DType, Shape, Tensor};
use std::sync::Arc;

/// An input or output of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// `None` for an output whose shape depends on data.
    pub(crate) shape: Option<Shape>,
}

impl Port {
    pub(crate) fn bytes(&self) -> usize {
        self.shape.as_ref().map_or(0, |s| s.len() * self.dtype.size())
    }
}

/// A model at concrete shapes, ready to run.
///
/// Immutable and `Send + Sync`; everything that a run changes is in a [`Scratch`], one for each thread.
#[derive(Debug)]
pub struct Plan {
    executable: Arc<dyn Executable>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    limits: RunLimits,
}

/// What one run may use for the steps whose memory or time depends on data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunLimits {
    pub(crate) bytes: usize,
    pub(crate) steps: u64,
}

impl Plan {
    /// Lowers and compiles `graph`, whose inputs have these shapes.
    pub(crate) fn new(
        graph: &Graph,
        shapes: &[Shape],
        backend: &dyn Backend,
        weights: &Weights,
        limits: RunLimits,
    ) -> Result<Self> {
        let concrete = graph.specialize(shapes)?;
        let program = lower::lower(&concrete, backend, limits.bytes)?;
        let port = |id: &crate::graph::ValueId| {
            let value = concrete.value(*id);
            Port { name: value.name().to_owned(), dtype: value.fact().dtype, shape: value.fact().concrete_shape() }
        };
        let inputs = concrete.inputs().iter().map(port).collect();
        let outputs = concrete.outputs().iter().map(port).collect();
        let executable = backend.compile(program, weights)?.into();
        Ok(Plan { executable, inputs, outputs, limits })
    }

    /// The mutable part of a run, for one thread.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.executable.scratch(), &self.outputs)
    }

    /// Names and shapes of the inputs.
    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Names and shapes of the outputs.
    pub(crate) fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Bytes that one [`Scratch`] of this plan holds.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        self.executable.scratch_bytes() + self.outputs.iter().map(Port::bytes).sum::<usize>()
    }

    /// The steps that run by reference evaluation, as `name (operator)`.
    #[must_use]
    pub fn fallbacks(&self) -> Vec<String> {
        self.executable.fallbacks()
    }

    /// Runs on `inputs`, in the order of the model's inputs. The outputs stay in the scratch until its next run:
    /// [`Scratch::output`]. Allocates nothing when warm.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for inputs of other shapes or dtypes than the plan's, or
    /// values that an operator forbids.
    pub fn run(&self, scratch: &mut Scratch, inputs: &[Tensor]) -> Result<()> {
        self.check(inputs)?;
        self.with_bytes(scratch, inputs, None, |executable, state, buffers, budget| {
            executable.run(state, buffers, budget)
        })
    }

    /// As [`run`](Plan::run), asking before each step whether to go on.
    pub(crate) fn run_asking(
        &self,
        scratch: &mut Scratch,
        inputs: &[Tensor],
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        self.check(inputs)?;
        self.with_bytes(scratch, inputs, Some(checkpoint), |executable, state, buffers, budget| {
            executable.run(state, buffers, budget)
        })
    }

    /// As [`run`](Plan::run), adding the time of each step to `profile`.
    ///
    /// # Errors
    /// As [`run`](Plan::run).
    pub fn run_profiled(&self, scratch: &mut Scratch, inputs: &[Tensor], profile: &mut Profile) -> Result<()> {
        self.check(inputs)?;
        self.with_bytes(scratch, inputs, None, |executable, state, buffers, budget| {
            executable.run_profiled(state, buffers, budget, profile)
        })
    }

    /// Runs on the bytes of the inputs and writes the outputs to the bytes given for them; both have been checked
    /// against [`inputs`](Plan::inputs) and [`outputs`](Plan::outputs) by the caller's own construction.
    pub(crate) fn run_bytes<'b>(
        &self,
        scratch: &mut Scratch,
        inputs: &[&'b [u8]],
        outputs: &mut [&'b mut [u8]],
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        let budget = Budget::new(self.limits.bytes, self.limits.steps);
        let buffers = Buffers { inputs, outputs, checkpoint: Some(checkpoint) };
        self.executable.run(&mut scratch.state, buffers, &budget)
    }

    fn with_bytes(
        &self,
        scratch: &mut Scratch,
        inputs: &[Tensor],
        checkpoint: Option<Checkpoint<'_>>,
        run: impl FnOnce(&dyn Executable, &mut crate::backend::State, Buffers<'_, '_>, &Budget) -> Result<()>,
    ) -> Result<()> {
        let bytes: smallvec::SmallVec<[&[u8]; 8]> = inputs.iter().map(Tensor::as_bytes).collect();
        let budget = Budget::new(self.limits.bytes, self.limits.steps);
        let Scratch { state, outputs, dynamic } = scratch;
        let mut slices: smallvec::SmallVec<[&mut [u8]; 8]> = outputs.iter_mut().map(|o| o.bytes_mut()).collect();
        let executable = self.executable.as_ref();
        run(executable, state, Buffers { inputs: &bytes, outputs: &mut slices, checkpoint }, &budget)?;
        for (index, (port, slot)) in self.outputs.iter().zip(dynamic.iter_mut()).enumerate() {
            if port.shape.is_none() {
                *slot = executable.dynamic_output(state, index);
            }
        }
        Ok(())
    }

    fn check(&self, inputs: &[Tensor]) -> Result<()> {
        ensure!(
            inputs.len() == self.inputs.len(),
            InvalidInput,
            "{} inputs are expected, {} were given",
            self.inputs.len(),
            inputs.len()
        );
        for (port, input) in self.inputs.iter().zip(inputs) {
            check_port(port, input).at(|| format!("input {:?}", port.name))?;
        }
        Ok(())
    }
}

fn check_port(port: &Port, input: &Tensor) -> Result<()> {
    ensure!(input.dtype() == port.dtype, InvalidInput, "{} is expected, not {}", port.dtype, input.dtype());
    if let Some(shape) = &port.shape {
        ensure!(input.shape() == shape, InvalidInput, "the plan was made for the shape {shape}, not {}", input.shape());
    }
    Ok(())
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Plan>();
    sent::<Scratch>();
};
