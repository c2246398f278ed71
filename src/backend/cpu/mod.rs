//! Running programs on the CPU: each step holds its kernel, and the kernels share one arena.

mod arena;
mod attention;
mod branch;
mod byte_maps;
mod byte_pooling;
mod byte_rows;
mod convolution;
mod elementwise;
mod integer;
mod integer_convolution;
mod integer_product;
mod kernel;
mod lower;
mod movement;
mod pooling;
mod product;
mod quantization;
mod recurrent;
mod reduction;
mod reference;
mod rows;

use super::{Backend, Buffers, Checkpoint, Executable, Profile, Program, Slot, State, StepProfile, Weights};
use crate::error::{At, Result, ensure, err};
use crate::kernels::arch::Isa;
use crate::ops::{Budget, Op};
use crate::tensor::Tensor;
use arena::{Arena, Layout};
use kernel::{Context, Kernel, Spec};
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
}

/// A program whose steps hold their kernels.
#[derive(Debug)]
struct CpuExecutable {
    steps: Vec<Step>,
    layout: Layout,
    workspace: usize,
}

/// The mutable part of a run.
struct CpuState {
    arena: Arena,
    states: Vec<Option<State>>,
}

impl CpuExecutable {
    fn new(program: Program, weights: &Weights, isa: Isa) -> Result<Self> {
        let layout = Layout::new(&program)?;
        let mut steps = Vec::with_capacity(program.steps.len());
        let mut workspace = 0;
        for instruction in &program.steps {
            let spec = Spec::new(instruction, &program, weights);
            let place = || format!("node {:?} ({})", instruction.name, instruction.op.name());
            let kernel = lower::lower(&spec, isa).at(place)?;
            workspace = workspace.max(kernel.workspace());
            let output = spec.output(0).map_or(String::new(), |slot| match &slot.shape {
                Some(shape) => format!("{}{shape}", slot.dtype),
                None => format!("{}[..]", slot.dtype),
            });
            steps.push(Step { name: instruction.name.clone(), operator: instruction.op.name(), output, kernel });
        }
        Ok(CpuExecutable { steps, layout, workspace })
    }

    fn go(
        &self,
        state: &mut State,
        buffers: Buffers<'_, '_>,
        budget: &Budget,
        mut profile: Option<&mut Profile>,
    ) -> Result<()> {
        let state = state.downcast_mut::<CpuState>().ok_or_else(|| err!(Internal, "a state of another backend"))?;
        let checkpoint = buffers.checkpoint;
        let mut memory = self.layout.bind(&mut state.arena, buffers)?;
        for (index, step) in self.steps.iter().enumerate() {
            if let Some(Checkpoint(pass)) = checkpoint {
                pass()?;
            }
            let start = profile.is_some().then(Instant::now);
            let (io, workspace) = memory.step(index);
            let mut context = Context { workspace, state: &mut state.states[index], budget };
            if let Err(error) = step.kernel.run(&io, &mut context) {
                return Err(error.at(format!("node {:?} ({})", step.name, step.operator)));
            }
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

impl Executable for CpuExecutable {
    fn scratch(&self) -> State {
        Box::new(CpuState {
            arena: self.layout.arena(self.workspace),
            states: self.steps.iter().map(|step| step.kernel.state()).collect(),
        })
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
        self.layout.arena_bytes() + self.workspace
    }
}
