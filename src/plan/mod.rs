//! A graph at concrete shapes, lowered to steps over one memory arena; frozen, and shared by all who run it.
//!
//! What may overwrite what is asked of the backend; how a step computes is the backend's alone.

mod join;
mod lower;
mod memory;
mod micro;
mod rows;
mod scratch;
mod split;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_casts;
#[cfg(test)]
mod tests_elementwise;
#[cfg(test)]
mod tests_joins;
#[cfg(test)]
mod tests_ranges;

pub use scratch::Scratch;

use crate::backend::{Backend, Buffers, Checkpoint, Executable, Ports, Profile, Program, Weights, Work};
use crate::error::{At, Result, bail, ensure};
use crate::graph::Graph;
use crate::ops::Budget;
use crate::tensor::{DType, Shape, Tensor};
use crate::threads::Threads;
use micro::Choice;
use rows::Label;
use scratch::Working;
use split::{Part, Sharing, Split};
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
        self.shape.as_ref().map_or(0, |s| s.elements().saturating_mul(self.dtype.size()))
    }
}

/// A model at concrete shapes, ready to run.
///
/// Immutable and `Send + Sync`; everything that a run changes is in a [`Scratch`], one for each thread.
#[derive(Debug)]
pub struct Plan {
    course: Course,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    limits: RunLimits,
    threads: Threads,
}

/// How the rows of a run go through.
#[derive(Debug)]
enum Course {
    /// All at once.
    Whole(Arc<dyn Executable>),
    /// Few at a time.
    Split(Split),
}

/// Which threads a plan may use, and how many rows it takes at once where that is not left to it.
#[derive(Debug, Clone)]
pub(crate) struct Division {
    pub(crate) threads: Threads,
    pub(crate) micro_batch: Option<usize>,
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
        division: &Division,
    ) -> Result<Self> {
        let concrete = graph.specialized(shapes)?;
        let program = lower::lower(&concrete, backend, limits.bytes)?;
        let port = |id: &crate::graph::ValueId| {
            let value = concrete.value(*id);
            Port { name: value.name().to_owned(), dtype: value.fact().dtype, shape: value.fact().concrete_shape() }
        };
        let inputs = concrete.inputs().iter().map(port).collect();
        let outputs = concrete.outputs().iter().map(port).collect();
        let making = Making { graph, shapes, backend, weights, limits, division };
        let course = match making.split(&concrete, &program)? {
            Some(split) => Course::Split(split),
            None => Course::Whole(backend.compile(program, weights)?.into()),
        };
        let plan = Plan { course, inputs, outputs, limits, threads: division.threads.clone() };
        let (needed, most) = (plan.scratch_bytes(), limits.bytes);
        ensure!(needed <= most, Limit, "a run needs {needed} bytes of working memory and outputs; the limit is {most}");
        Ok(plan)
    }

    /// How many rows go through at once, where the batch is divided into micro-batches.
    #[must_use]
    pub fn micro_batch(&self) -> Option<usize> {
        match &self.course {
            Course::Whole(_) => None,
            Course::Split(split) => Some(split.large.rows),
        }
    }

    /// The mutable part of a run, for one thread: [`scratch_bytes`](Plan::scratch_bytes) of memory, allocated now.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when the system does not give the memory.
    pub fn scratch(&self) -> Result<Scratch> {
        let working = match &self.course {
            Course::Whole(executable) => Working::Whole(executable.scratch()?),
            Course::Split(split) => Working::Split(split.workers()?),
        };
        Scratch::new(working, &self.outputs)
    }

    /// Names and shapes of the inputs.
    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Names and shapes of the outputs.
    pub(crate) fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Bytes that one [`Scratch`] of this plan holds when one thread runs it; never more than the
    /// [limit](crate::CompileOptions::max_run_bytes) that the model was compiled with.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        let own = match &self.course {
            Course::Whole(executable) => executable.scratch_bytes(),
            Course::Split(split) => split.scratch_bytes(),
        };
        self.outputs.iter().map(Port::bytes).fold(own, usize::saturating_add)
    }

    /// The steps that run by reference evaluation, as `name (operator)`.
    #[must_use]
    pub fn fallbacks(&self) -> Vec<String> {
        match &self.course {
            Course::Whole(executable) => executable.fallbacks(),
            Course::Split(split) => split.large.executable.fallbacks(),
        }
    }

    /// Runs on `inputs`, in the order of the model's inputs. The outputs stay in the scratch until its next run:
    /// [`Scratch::output`]. Uses the threads that the model was compiled for where that pays. On one thread it allocates
    /// nothing when warm, if every step has a kernel and a shape that does not depend on data; a step among the
    /// [`fallbacks`](Plan::fallbacks) makes tensors of its own. Each thread that helps costs a small allocation.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for inputs of other shapes or dtypes than the plan's, or
    /// values that an operator forbids.
    pub fn run(&self, scratch: &mut Scratch, inputs: &[Tensor]) -> Result<()> {
        self.check(inputs)?;
        self.with_bytes(scratch, inputs, None, Some(&self.threads), None)
    }

    /// As [`run`](Plan::run), asking before each step on this thread whether to go on.
    pub(crate) fn run_asking(
        &self,
        scratch: &mut Scratch,
        inputs: &[Tensor],
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        self.check(inputs)?;
        self.with_bytes(scratch, inputs, Some(checkpoint), Some(&self.threads), None)
    }

    /// As [`run`](Plan::run) on this thread alone, adding the time of each step to `profile`.
    ///
    /// # Errors
    /// As [`run`](Plan::run).
    pub fn run_profiled(&self, scratch: &mut Scratch, inputs: &[Tensor], profile: &mut Profile) -> Result<()> {
        self.check(inputs)?;
        self.with_bytes(scratch, inputs, None, None, Some(profile))
    }

    /// As [`run_asking`](Plan::run_asking), on the bytes of the inputs and writes the outputs to the bytes given for them; both
    /// have been checked against [`inputs`](Plan::inputs) and [`outputs`](Plan::outputs) by the caller's own
    /// construction.
    pub(crate) fn run_bytes<'b>(
        &self,
        scratch: &mut Scratch,
        inputs: &[&'b [u8]],
        outputs: &mut [&'b mut [u8]],
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        let buffers = Buffers { inputs, outputs, checkpoint: Some(checkpoint), threads: Some(&self.threads) };
        self.go(&mut scratch.working, buffers, None)
    }

    fn go(&self, working: &mut Working, buffers: Buffers<'_, '_>, profile: Option<&mut Profile>) -> Result<()> {
        let budget = Budget::new(self.limits.bytes, self.limits.steps);
        let threads = buffers.threads;
        match (&self.course, working, profile) {
            (Course::Whole(executable), Working::Whole(state), None) => executable.run(state, buffers, &budget),
            (Course::Whole(executable), Working::Whole(state), Some(profile)) => {
                executable.run_profiled(state, buffers, &budget, profile)
            }
            (Course::Split(split), Working::Split(workers), None) => split.run(workers, buffers, &budget, threads),
            (Course::Split(split), Working::Split(workers), Some(profile)) => {
                split.run_profiled(workers, buffers, &budget, profile)
            }
            _ => bail!(InvalidInput, "the scratch was made by another plan"),
        }
    }

    fn with_bytes(
        &self,
        scratch: &mut Scratch,
        inputs: &[Tensor],
        checkpoint: Option<Checkpoint<'_>>,
        threads: Option<&Threads>,
        profile: Option<&mut Profile>,
    ) -> Result<()> {
        let bytes: Ports<&[u8]> = inputs.iter().map(Tensor::as_bytes).collect();
        let Scratch { working, outputs, dynamic, made } = scratch;
        *made = false;
        let mut slices: Ports<&mut [u8]> = outputs.iter_mut().map(|o| o.bytes_mut()).collect();
        self.go(working, Buffers { inputs: &bytes, outputs: &mut slices, checkpoint, threads }, profile)?;
        *made = true;
        let (Course::Whole(executable), Working::Whole(state)) = (&self.course, &*working) else { return Ok(()) };
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

/// The axis of the rows of each output, where it is proven that one row's outputs depend on that row of the inputs alone.
/// `axes` are those of the rows of the inputs, and `shapes` the inputs' shapes at so many rows.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) with the node or output at which the proof ends.
pub(crate) fn output_axes(
    graph: &Graph,
    axes: &[Option<usize>],
    shapes: impl Fn(usize) -> Vec<Shape>,
) -> Result<Vec<usize>> {
    rows::output_axes(graph, axes, shapes)
}

/// What a plan is made from.
struct Making<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    backend: &'a dyn Backend,
    weights: &'a Weights,
    limits: RunLimits,
    division: &'a Division,
}

impl Making<'_> {
    /// The division into micro-batches, where the rows are known to keep apart and it is of use. `whole` and `program`
    /// are those of the whole batch.
    fn split(&self, whole: &Graph, program: &Program) -> Result<Option<Split>> {
        let Some(labels) = rows::input_labels(self.graph) else { return Ok(None) };
        let Some(rows) = rows::rows_of(&labels, self.shapes).filter(|rows| *rows > 1) else { return Ok(None) };
        let estimate = program.steps.iter().map(|step| Work::of(step, program).nanoseconds()).sum();
        let sharing = Sharing::of(rows, estimate, &self.division.threads);
        let threads = if sharing == Sharing::Rows { self.division.threads.count() } else { 1 };
        let count = micro::count(program, rows, Choice { threads, micro_batch: self.division.micro_batch });
        if count <= 1 {
            return Ok(None);
        }
        let each = rows.div_ceil(count);
        let smalls = each * count - rows;
        let Some(large) = self.part(whole, &labels, rows, each)? else { return Ok(None) };
        let small = if smalls > 0 { self.part(whole, &labels, rows, each - 1)? } else { None };
        if smalls > 0 && small.is_none() {
            return Ok(None);
        }
        let bytes = |part: &Part| part.executable.scratch_bytes();
        let worker = bytes(&large).saturating_add(small.as_ref().map_or(0, bytes));
        if worker.saturating_mul(threads.min(count)) > self.limits.bytes {
            return Ok(None);
        }
        let row = |bytes: usize| bytes / rows;
        let inputs = self.shapes.iter().zip(whole.inputs()).zip(&labels).map(|((shape, id), label)| match label {
            Label::Rows { .. } => Some(row(shape.elements() * whole.fact(*id).dtype.size())),
            _ => None,
        });
        let outputs = whole.outputs().iter().map(|id| row(whole.fact(*id).bytes().unwrap_or(0)));
        Ok(Some(Split {
            large,
            small,
            larges: count - smalls,
            smalls,
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            sharing,
        }))
    }

    /// The executable for `each` of the `rows` rows, where the proof succeeds that they keep apart.
    fn part(&self, whole: &Graph, labels: &[Label], rows: usize, each: usize) -> Result<Option<Part>> {
        // A graph that has no meaning at so few rows cannot be divided.
        let Ok(few) = self.graph.specialize(&rows::with_rows(labels, self.shapes, each)) else { return Ok(None) };
        if !rows::keep_apart(whole, &few, (rows, each), labels) {
            return Ok(None);
        }
        let program = lower::lower(&few, self.backend, self.limits.bytes)?;
        Ok(Some(Part { rows: each, executable: self.backend.compile(program, self.weights)?.into() }))
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
