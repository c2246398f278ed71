//! Running programs on the CPU: each step holds its kernel, and the kernels share one arena.

mod arena;
mod attention;
mod branch;
mod byte_maps;
mod byte_pooling;
mod byte_rows;
mod cascade;
mod computed_integers;
mod convolution;
mod elementwise;
mod elementwise_steps;
mod indices;
mod integer;
mod integer_convolution;
mod integer_product;
mod kernel;
mod lines;
mod lower;
mod movement;
mod normalization;
mod plain_maps;
mod pooling;
mod product;
mod quantization;
mod ranged;
mod recurrent;
mod reduction;
mod reference;
mod resizing;
mod rounded;
mod rows;
mod told;
mod top;
mod transposed_convolution;
mod weight_only;

use super::{Backend, Buffers, Checkpoint, Executable, Profile, Program, Slot, State, StepProfile, Weights, Work};
use crate::error::{At, Error, Result, ensure, err};
use crate::kernels::arch::Isa;
use crate::ops::{Budget, Op};
use crate::tensor::Tensor;
use crate::threads::Threads;
use arena::{Arena, Io, Layout};
use kernel::{Context, Kernel, Spec};
use parking_lot::Mutex;
use std::time::Instant;

/// The CPU backend.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    isa: Isa,
}

impl Cpu {
    /// The backend with the best instruction set that this machine has, or the one that the environment forces.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when the environment forces one that this machine lacks.
    pub fn new() -> Result<Self> {
        Ok(Cpu { isa: Isa::chosen()? })
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn in_place(&self, op: &dyn Op, inputs: &[Option<&Slot>], outputs: &[Option<&Slot>]) -> Option<usize> {
        lower::in_place(op, inputs, outputs)
    }

    fn joins(&self, run: &Program) -> bool {
        cascade::joins(run)
    }

    fn compile(&self, program: Program, weights: &Weights) -> Result<Box<dyn Executable>> {
        Ok(Box::new(CpuExecutable::new(program, weights, self.isa)?))
    }
}

#[derive(Debug)]
struct Step {
    name: String,
    operator: &'static str,
    output: String,
    kernel: Box<dyn Kernel>,
    /// Nanoseconds on one thread, estimated.
    work: f64,
    /// Parts that it can be run in.
    parts: usize,
    /// Of a step that reads weights in sequence, the next such step.
    next: Option<usize>,
}

impl Step {
    /// In how many parts a team of `members` of `threads` runs it.
    fn parts(&self, threads: &Threads, members: usize) -> usize {
        let most = self.parts.min(members);
        // Parts of half of what is worth it: two of them make it whole.
        let worth = |parts: &usize| threads.are_worth(self.work, WORTH_DIVIDING / 2.0 * *parts as f64);
        (2..=most).rev().find(worth).unwrap_or(1)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        self.kernel.run(io, context).map_err(|error| error.at(format!("node {:?} ({})", self.name, self.operator)))
    }
}

/// A step is divided where one thread takes longer than this, in nanoseconds.
const WORTH_DIVIDING: f64 = 10_000.0;

/// Helpers are claimed for a run where they save one thread more than this, in nanoseconds.
const WORTH_A_TEAM: f64 = 60_000.0;

/// A program whose steps hold their kernels.
#[derive(Debug)]
struct CpuExecutable {
    steps: Vec<Step>,
    layout: Layout,
    workspace: usize,
    /// Nanoseconds in steps that can be divided, estimated.
    divisible: f64,
    /// Whether products copy rows together, where that is not left to their kernels.
    pack_rows: Option<bool>,
}

/// The mutable part of a run.
struct CpuState {
    arena: Arena,
    states: Vec<Option<State>>,
}

impl CpuExecutable {
    fn new(mut program: Program, weights: &Weights, isa: Isa) -> Result<Self> {
        rounded::keep_rounded(&mut program, weights);
        let mut layout = Layout::new(&program)?;
        let mut steps = Vec::with_capacity(program.steps.len());
        let (mut workspace, mut divisible) = (0, 0.0);
        for (index, instruction) in program.steps.iter().enumerate() {
            let spec = Spec::new(instruction, &program, weights);
            let place = || format!("node {:?} ({})", instruction.name, instruction.op.name());
            let kernel = lower::lower(&spec, isa).at(place)?;
            workspace = workspace.max(kernel.workspace());
            let output = spec.output(0).map_or(String::new(), |slot| match &slot.shape {
                Some(shape) => format!("{}{shape}", slot.dtype),
                None => format!("{}[..]", slot.dtype),
            });
            let parts = layout.divide(index, kernel.division()).at(place)?;
            let work = Work::of(instruction, &program).nanoseconds();
            if parts > 1 && work > WORTH_DIVIDING {
                divisible += work;
            }
            let (name, operator) = (instruction.name.clone(), instruction.op.name());
            steps.push(Step { name, operator, output, kernel, work, parts, next: None });
        }
        let mut next = None;
        for (index, step) in steps.iter_mut().enumerate().rev() {
            if !step.kernel.weights(0, 1).is_empty() {
                (step.next, next) = (next, Some(index));
            }
        }
        Ok(CpuExecutable { steps, layout, workspace, divisible, pack_rows: weights.pack_rows() })
    }

    fn go(
        &self,
        state: &mut State,
        buffers: Buffers<'_, '_>,
        budget: &Budget,
        mut profile: Option<&mut Profile>,
    ) -> Result<()> {
        let state = state.downcast_mut::<CpuState>().ok_or_else(|| err!(Internal, "a state of another backend"))?;
        let threads = buffers.threads.filter(|threads| profile.is_none() && self.is_worth(threads));
        if let Some(threads) = threads {
            return self.go_together(state, buffers, budget, threads);
        }
        let checkpoint = buffers.checkpoint;
        let mut memory = self.layout.bind(&mut state.arena, buffers)?;
        for (index, step) in self.steps.iter().enumerate() {
            if let Some(Checkpoint(pass)) = checkpoint {
                pass()?;
            }
            let start = profile.is_some().then(Instant::now);
            let (io, workspace) = memory.step(index);
            let next = self.weights_after(step, |_| (0, 1));
            let mut context = self.context(workspace, &mut state.states[index], budget, next);
            step.run(&io, &mut context)?;
            if let (Some(profile), Some(start)) = (profile.as_deref_mut(), start) {
                let describe = || StepProfile {
                    name: step.name.clone(),
                    operator: step.operator.to_owned(),
                    kernel: step.kernel.name(),
                    output: step.output.clone(),
                    nanoseconds: 0,
                };
                profile.record(index, describe, start.elapsed());
            }
        }
        if let Some(profile) = profile {
            profile.runs += 1;
        }
        Ok(())
    }
}

impl CpuExecutable {
    #[inline]
    fn context<'a>(
        &self,
        workspace: &'a mut [u8],
        state: &'a mut Option<State>,
        budget: &'a Budget,
        next: &'a [u8],
    ) -> Context<'a> {
        Context { workspace, state, budget, next, pack_rows: self.pack_rows, extremes: None }
    }

    /// What the product after a step will read, of the part that `part` makes of it.
    fn weights_after(&self, step: &Step, part: impl Fn(&Step) -> (usize, usize)) -> &[u8] {
        let Some(next) = step.next.and_then(|next| self.steps.get(next)) else { return &[] };
        let (part, of) = part(next);
        next.kernel.weights(part, of)
    }

    /// Whether helpers would save enough.
    fn is_worth(&self, threads: &Threads) -> bool {
        threads.are_worth(self.divisible * (1.0 - 1.0 / threads.count() as f64), WORTH_A_TEAM)
    }

    /// A run in which a team divides the steps that are worth it.
    fn go_together(
        &self,
        state: &mut CpuState,
        buffers: Buffers<'_, '_>,
        budget: &Budget,
        threads: &Threads,
    ) -> Result<()> {
        let CpuState { arena, states } = state;
        arena.reserve(threads.count(), self.workspace)?;
        let checkpoint = buffers.checkpoint;
        let mut memory = self.layout.bind(arena, buffers)?;
        let memory = memory.share();
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let work = |index: usize, part: usize| {
            let result = memory.part(index, part, |io, workspace| {
                let step = &self.steps[index];
                let next = self.weights_after(step, |next| {
                    let of = next.parts(threads, threads.count());
                    (part % of, of)
                });
                step.run(io, &mut self.context(workspace, &mut None, budget, next))
            });
            if let Err(error) = result {
                failed.lock().get_or_insert(error);
            }
        };
        threads.team(threads.count(), &work, |team| {
            for (index, (step, state)) in self.steps.iter().zip(states).enumerate() {
                if let Some(Checkpoint(pass)) = checkpoint {
                    pass()?;
                }
                let parts = step.parts(threads, team.members());
                memory.open(index, parts)?;
                if parts == 1 {
                    let next = self.weights_after(step, |next| (0, next.parts(threads, team.members())));
                    memory.part(index, 0, |io, workspace| {
                        step.run(io, &mut self.context(workspace, state, budget, next))
                    })?;
                    continue;
                }
                team.region(index, parts).at(|| format!("node {:?} ({})", step.name, step.operator))?;
                if let Some(error) = failed.lock().take() {
                    return Err(error);
                }
            }
            Ok(())
        })
    }
}

impl Executable for CpuExecutable {
    fn scratch(&self) -> Result<State> {
        Ok(Box::new(CpuState {
            arena: self.layout.arena(self.workspace)?,
            states: self.steps.iter().map(|step| step.kernel.state()).collect::<Result<_>>()?,
        }))
    }

    fn run(&self, state: &mut State, buffers: Buffers<'_, '_>, budget: &Budget) -> Result<()> {
        self.go(state, buffers, budget, None)
    }

    fn dynamic_output(&self, state: &State, index: usize) -> Option<Tensor> {
        let state = state.downcast_ref::<CpuState>()?;
        self.layout.dynamic_output(&state.arena, index)
    }

    fn run_profiled(
        &self,
        state: &mut State,
        buffers: Buffers<'_, '_>,
        budget: &Budget,
        profile: &mut Profile,
    ) -> Result<()> {
        ensure!(
            profile.steps.is_empty() || profile.steps.len() == self.steps.len(),
            InvalidInput,
            "the profile is of another plan; start a new one"
        );
        self.go(state, buffers, budget, Some(profile))
    }

    fn fallbacks(&self) -> Vec<String> {
        self.steps.iter().flat_map(|step| step.kernel.fallbacks(&step.name, step.operator)).collect()
    }

    fn scratch_bytes(&self) -> usize {
        let states = self.steps.iter().map(|step| step.kernel.state_bytes());
        states.fold(self.layout.arena_bytes().saturating_add(self.workspace), usize::saturating_add)
    }
}
