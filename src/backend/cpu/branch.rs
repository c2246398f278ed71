//! `If` whose branches are programs of static shapes: the condition picks which one runs.

use super::CpuExecutable;
use super::arena::Io;
use super::kernel::{Context, Kernel, Spec};
use crate::backend::{Buffers, Executable, Ports, Program, State};
use crate::error::{Result, bail, err};
use crate::kernels::arch::Isa;
use crate::ops::control::If;

#[derive(Debug)]
pub(super) struct Branch {
    /// `None` where a branch cannot run at these shapes.
    branches: Vec<Option<CpuExecutable>>,
    /// Element sizes of the captures and of the outputs.
    captures: Vec<usize>,
    outputs: Vec<usize>,
}

impl Branch {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        if spec.op::<If>().is_none() || spec.instruction.bodies.len() != 2 {
            return Ok(None);
        }
        let compile = |body: &Option<Program>| {
            body.as_ref().map(|body| CpuExecutable::new(body.clone(), spec.weights, isa)).transpose()
        };
        let branches = spec.instruction.bodies.iter().map(compile).collect::<Result<Vec<_>>>()?;
        let captures: Option<Vec<usize>> =
            (1..spec.instruction.inputs.len()).map(|i| Some(spec.input(i)?.dtype.size())).collect();
        let outputs: Option<Vec<usize>> =
            (0..spec.instruction.outputs.len()).map(|i| Some(spec.output(i)?.dtype.size())).collect();
        match (captures, outputs) {
            (Some(captures), Some(outputs)) => Ok(Some(Branch { branches, captures, outputs })),
            _ => Ok(None),
        }
    }
}

fn input_bytes<'a>(io: &Io<'a>, index: usize, size: usize) -> Result<&'a [u8]> {
    Ok(match size {
        1 => io.input::<u8>(index)?,
        2 => bytemuck::cast_slice(io.input::<u16>(index)?),
        4 => bytemuck::cast_slice(io.input::<u32>(index)?),
        _ => bytemuck::cast_slice(io.input::<u64>(index)?),
    })
}

fn output_bytes<'a>(io: &Io<'a>, index: usize, size: usize) -> Result<&'a mut [u8]> {
    Ok(match size {
        1 => io.output::<u8>(index)?,
        2 => bytemuck::cast_slice_mut(io.output::<u16>(index)?),
        4 => bytemuck::cast_slice_mut(io.output::<u32>(index)?),
        _ => bytemuck::cast_slice_mut(io.output::<u64>(index)?),
    })
}

impl Kernel for Branch {
    fn name(&self) -> String {
        "branch".to_owned()
    }

    fn state(&self) -> Result<Option<State>> {
        let state = |branch: &Option<CpuExecutable>| branch.as_ref().map(CpuExecutable::scratch).transpose();
        let states: Vec<Option<State>> = self.branches.iter().map(state).collect::<Result<_>>()?;
        Ok(Some(Box::new(states)))
    }

    fn state_bytes(&self) -> usize {
        self.branches.iter().flatten().map(CpuExecutable::scratch_bytes).fold(0, usize::saturating_add)
    }

    fn fallbacks(&self, _name: &str, _operator: &str) -> Vec<String> {
        self.branches.iter().flatten().flat_map(CpuExecutable::fallbacks).collect()
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let &[condition] = io.input::<u8>(0)? else { bail!(InvalidInput, "the condition is not one element") };
        let which = usize::from(condition == 0);
        let states = context.state.as_mut().and_then(|s| s.downcast_mut::<Vec<Option<State>>>());
        let states = states.ok_or_else(|| err!(Internal, "the branches have no state"))?;
        let inputs = self.captures.iter().enumerate().map(|(i, size)| input_bytes(io, i + 1, *size));
        let inputs = inputs.collect::<Result<Ports<&[u8]>>>()?;
        let outputs = self.outputs.iter().enumerate().map(|(i, size)| output_bytes(io, i, *size));
        let mut outputs = outputs.collect::<Result<Ports<&mut [u8]>>>()?;
        let buffers = Buffers { inputs: &inputs, outputs: &mut outputs, checkpoint: None, threads: None };
        match (&self.branches[which], &mut states[which]) {
            (Some(branch), Some(state)) => branch.run(state, buffers, context.budget),
            _ => bail!(InvalidInput, "the condition picks a branch that cannot run on inputs of these shapes"),
        }
    }
}
