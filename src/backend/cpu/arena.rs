//! The memory of a run: which bytes each step reads and writes. The one place of the backend with `unsafe`.
//!
//! A program says where each slot lives. [`Layout::new`] checks, once, that the outputs of a step overlap neither each
//! other nor an input of that step, except for one input that is exactly the first output (done in place). On that
//! check rest the slices that [`Io`] gives out.

use crate::backend::{Buffers, Place, Ports, Program, SlotId};
use crate::error::{Result, bail, ensure, err};
use crate::tensor::{Buffer, DType, Shape, Tensor};
use bytemuck::{AnyBitPattern, NoUninit};
use bytes::Bytes;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

const ALIGN: usize = 64;

/// What an operand of a step is bound to.
#[derive(Debug)]
struct Operand {
    place: Place,
    dtype: DType,
    shape: Option<Shape>,
    bytes: usize,
}

#[derive(Debug)]
struct StepOperands {
    inputs: Vec<Option<Operand>>,
    outputs: Vec<Option<Operand>>,
    /// The input that the first output overwrites.
    in_place: Option<usize>,
}

/// The operands of every step, checked.
#[derive(Debug)]
pub(super) struct Layout {
    steps: Vec<StepOperands>,
    inputs: Vec<usize>,
    outputs: Vec<Operand>,
    arena_bytes: usize,
    dynamics: usize,
}

/// The bytes that steps share, and the values whose shapes depend on data.
pub(super) struct Arena {
    bytes: Buffer,
    workspace: Buffer,
    dynamics: Vec<Cell<Option<Tensor>>>,
}

impl Layout {
    /// The layout of a program.
    pub(super) fn new(program: &Program) -> Result<Self> {
        let operand = |id: SlotId| -> Result<Operand> {
            let slot = program.slots.get(id.index()).ok_or_else(|| err!(Internal, "a slot that does not exist"))?;
            if let Place::Arena(offset) = slot.place {
                let fits = offset % ALIGN == 0
                    && offset.checked_add(slot.bytes()).is_some_and(|end| end <= program.arena_bytes);
                ensure!(fits, Internal, "a slot past the end of the arena");
            }
            if let Place::Dynamic(index) = slot.place {
                ensure!(index < program.dynamics, Internal, "a dynamic slot past the end");
            }
            let bytes = slot.bytes();
            Ok(Operand { place: slot.place.clone(), dtype: slot.dtype, shape: slot.shape.clone(), bytes })
        };
        let mut steps = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            let bind = |ids: &[Option<SlotId>]| -> Result<Vec<Option<Operand>>> {
                ids.iter().map(|id| id.map(operand).transpose()).collect()
            };
            let (inputs, outputs) = (bind(&step.inputs)?, bind(&step.outputs)?);
            let in_place = disjoint(&inputs, &outputs)?;
            steps.push(StepOperands { inputs, outputs, in_place });
        }
        let inputs = program.inputs.iter().map(|id| program.slot(*id).bytes()).collect();
        let outputs = program.outputs.iter().map(|id| operand(*id)).collect::<Result<Vec<_>>>()?;
        for (index, output) in outputs.iter().enumerate() {
            let own =
                matches!(output.place, Place::Output(n) if n == index) || matches!(output.place, Place::Dynamic(_));
            ensure!(own, Internal, "output {index} does not live in its own place");
        }
        let layout = Layout { steps, inputs, outputs, arena_bytes: program.arena_bytes, dynamics: program.dynamics };
        layout.check_ports()?;
        Ok(layout)
    }

    /// Every operand at an input or output is as long as that input or output.
    fn check_ports(&self) -> Result<()> {
        let operands = self.steps.iter().flat_map(|s| s.inputs.iter().chain(&s.outputs)).flatten();
        for operand in operands {
            let same = match operand.place {
                Place::Input(n) => self.inputs.get(n) == Some(&operand.bytes),
                Place::Output(n) => self.outputs.get(n).is_some_and(|o| o.bytes == operand.bytes),
                _ => true,
            };
            ensure!(same, Internal, "an operand is not as long as the input or output that it stands for");
        }
        let written = self.steps.iter().flat_map(|s| &s.outputs).flatten();
        let writable = written.into_iter().all(|o| !matches!(o.place, Place::Input(_) | Place::Constant(_)));
        ensure!(writable, Internal, "a step writes to an input or a constant");
        Ok(())
    }

    /// Fresh memory for one worker.
    pub(super) fn arena(&self, workspace: usize) -> Arena {
        Arena {
            bytes: Buffer::zeroed(self.arena_bytes),
            workspace: Buffer::zeroed(workspace),
            dynamics: (0..self.dynamics).map(|_| Cell::new(None)).collect(),
        }
    }

    pub(super) fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    pub(super) fn dynamic_output(&self, arena: &Arena, index: usize) -> Option<Tensor> {
        match self.outputs.get(index)?.place {
            Place::Dynamic(n) => peek(arena.dynamics.get(n)?),
            _ => None,
        }
    }

    /// Binds the operands to memory for one run.
    pub(super) fn bind<'a>(&'a self, arena: &'a mut Arena, buffers: Buffers<'a, '_>) -> Result<Memory<'a>> {
        let Buffers { inputs, outputs, .. } = buffers;
        let fits = inputs.len() == self.inputs.len() && inputs.iter().zip(&self.inputs).all(|(i, n)| i.len() == *n);
        ensure!(fits, InvalidInput, "the buffers of the inputs do not have the lengths of the plan");
        let fits = outputs.len() == self.outputs.len()
            && outputs.iter().zip(&self.outputs).all(|(o, operand)| o.len() == operand.bytes);
        ensure!(fits, InvalidInput, "the buffers of the outputs do not have the lengths of the plan");
        let Arena { bytes, workspace, dynamics } = arena;
        let bytes = bytes.as_mut_slice().ok_or_else(|| err!(Internal, "the arena is shared"))?;
        ensure!(bytes.len() == self.arena_bytes, Internal, "the arena is of another plan");
        let workspace = workspace.as_mut_slice().ok_or_else(|| err!(Internal, "the workspace is shared"))?;
        Ok(Memory {
            layout: self,
            arena: NonNull::from(bytes).cast(),
            workspace: NonNull::from(workspace),
            inputs: inputs.iter().map(|i| NonNull::from(*i).cast()).collect(),
            outputs: outputs.iter_mut().map(|o| NonNull::from(&mut **o).cast()).collect(),
            dynamics,
            borrow: PhantomData,
        })
    }
}

/// Checks that outputs overlap nothing of their step but one input that is the first output, and says which.
fn disjoint(inputs: &[Option<Operand>], outputs: &[Option<Operand>]) -> Result<Option<usize>> {
    let mut in_place = None;
    for (position, output) in outputs.iter().enumerate() {
        let Some(output) = output else { continue };
        for other in outputs[position + 1..].iter().flatten() {
            ensure!(!overlap(output, other), Internal, "two outputs of a step overlap");
        }
        for (index, input) in inputs.iter().enumerate() {
            let Some(input) = input else { continue };
            if !overlap(output, input) {
                continue;
            }
            let same = start(&output.place) == start(&input.place) && output.bytes == input.bytes;
            ensure!(position == 0 && same && in_place.is_none(), Internal, "an output overlaps an input");
            in_place = Some(index);
        }
    }
    Ok(in_place)
}

fn start(place: &Place) -> usize {
    if let Place::Arena(offset) = place { *offset } else { 0 }
}

fn overlap(a: &Operand, b: &Operand) -> bool {
    let range = |o: &Operand| -> Range<usize> { start(&o.place)..start(&o.place) + o.bytes };
    match (&a.place, &b.place) {
        (Place::Arena(_), Place::Arena(_)) => {
            let (a, b) = (range(a), range(b));
            !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
        }
        (Place::Output(a), Place::Output(b)) | (Place::Dynamic(a), Place::Dynamic(b)) => a == b,
        _ => false,
    }
}

/// A layout bound to the memory of one run.
pub(super) struct Memory<'a> {
    layout: &'a Layout,
    arena: NonNull<u8>,
    workspace: NonNull<[u8]>,
    inputs: Ports<NonNull<u8>>,
    outputs: Ports<NonNull<u8>>,
    dynamics: &'a [Cell<Option<Tensor>>],
    borrow: PhantomData<&'a mut [u8]>,
}

impl Memory<'_> {
    /// The operands and the workspace of step `index`.
    pub(super) fn step(&mut self, index: usize) -> (Io<'_>, &mut [u8]) {
        let mut workspace = self.workspace;
        // SAFETY: the workspace is borrowed exclusively for the lifetime of `Memory` and no operand lies in it; the
        // borrow of `self` ends before the next step's slice is made.
        let workspace = unsafe { workspace.as_mut() };
        (Io { memory: self, step: &self.layout.steps[index], taken: Cell::new(0) }, workspace)
    }

    fn pointer(&self, operand: &Operand) -> Option<NonNull<u8>> {
        match &operand.place {
            Place::Constant(tensor) => NonNull::new(tensor.as_bytes().as_ptr().cast_mut()),
            Place::Input(n) => self.inputs.get(*n).copied(),
            Place::Output(n) => self.outputs.get(*n).copied(),
            // SAFETY: `Layout::new` checked that the slot lies within the arena.
            Place::Arena(offset) => Some(unsafe { self.arena.add(*offset) }),
            Place::Dynamic(_) => None,
        }
    }
}

/// The inputs and outputs of one step.
pub(crate) struct Io<'a> {
    memory: &'a Memory<'a>,
    step: &'a StepOperands,
    /// Bit `n` is set once output `n` was given out.
    taken: Cell<u64>,
}

impl<'a> Io<'a> {
    /// The input that output 0 overwrites: it cannot be read by [`input`](Io::input); its elements are in the output.
    pub(crate) fn in_place(&self) -> Option<usize> {
        self.step.in_place
    }

    pub(crate) fn input_count(&self) -> usize {
        self.step.inputs.len()
    }

    pub(crate) fn output_count(&self) -> usize {
        self.step.outputs.len()
    }

    /// The elements of input `index`; its shape must be static and it must not be the one done in place.
    /// A `bool` is read as `u8`.
    pub(crate) fn input<T: AnyBitPattern>(&self, index: usize) -> Result<&'a [T]> {
        let Some(Some(operand)) = self.step.inputs.get(index) else { bail!(Internal, "input {index} is absent") };
        ensure!(self.step.in_place != Some(index), Internal, "input {index} is overwritten by the output");
        ensure!(operand.dtype.size() == size_of::<T>(), Internal, "input {index} is {}", operand.dtype);
        let Some(pointer) = self.memory.pointer(operand) else { bail!(Internal, "input {index} is dynamic") };
        debug_assert_eq!(pointer.as_ptr() as usize % align_of::<T>(), 0);
        ensure!(pointer.cast::<T>().is_aligned(), Internal, "input {index} is not aligned");
        // SAFETY: the operand's bytes are inside live memory borrowed for 'a (checked by `Layout`), aligned (checked
        // here), of a type for which every bit pattern is a value, and overlap no output of this step (checked by
        // `disjoint`; the exception is refused above). Nothing else writes while the step runs.
        Ok(unsafe { std::slice::from_raw_parts(pointer.cast::<T>().as_ptr(), operand.bytes / size_of::<T>()) })
    }

    /// The elements of output `index`, to be written; given out once a run. Where input [`in_place`](Io::in_place) is
    /// overwritten, output 0 holds its elements.
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn output<T: AnyBitPattern + NoUninit>(&self, index: usize) -> Result<&'a mut [T]> {
        let Some(Some(operand)) = self.step.outputs.get(index) else { bail!(Internal, "output {index} is absent") };
        ensure!(operand.dtype.size() == size_of::<T>(), Internal, "output {index} is {}", operand.dtype);
        let bit = 1u64.checked_shl(index as u32).ok_or_else(|| err!(Internal, "more than 64 outputs"))?;
        ensure!(self.taken.get() & bit == 0, Internal, "output {index} was given out before");
        self.taken.set(self.taken.get() | bit);
        let Some(pointer) = self.memory.pointer(operand) else { bail!(Internal, "output {index} is dynamic") };
        ensure!(pointer.cast::<T>().is_aligned(), Internal, "output {index} is not aligned");
        // SAFETY: as in `input`; exclusive because outputs of a step are disjoint from each other and from every input
        // that `input` gives out, each is given out once, and the memory is borrowed mutably by `Memory`.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast::<T>().as_ptr(), operand.bytes / size_of::<T>()) })
    }

    /// Input `index` as a tensor: shared for a constant and a dynamic value, copied otherwise.
    pub(crate) fn tensor(&self, index: usize) -> Result<Option<Tensor>> {
        let Some(Some(operand)) = self.step.inputs.get(index) else { return Ok(None) };
        match (&operand.place, &operand.shape) {
            (Place::Constant(tensor), _) => Ok(Some(tensor.clone())),
            (Place::Dynamic(n), _) => match peek(&self.memory.dynamics[*n]) {
                Some(tensor) => Ok(Some(tensor)),
                None => bail!(Internal, "a dynamic value is used before it is made"),
            },
            (_, Some(shape)) => {
                Tensor::from_bytes(operand.dtype, shape.clone(), self.copied(operand, index)?).map(Some)
            }
            _ => bail!(Internal, "input {index} has no shape"),
        }
    }

    /// A copy of the bytes of an operand; also of the one done in place, as long as output 0 was not given out.
    fn copied(&self, operand: &Operand, index: usize) -> Result<Bytes> {
        let overwritten = self.step.in_place == Some(index) && self.taken.get() & 1 != 0;
        ensure!(!overwritten, Internal, "input {index} is overwritten by the output");
        let Some(pointer) = self.memory.pointer(operand) else { bail!(Internal, "input {index} is dynamic") };
        // SAFETY: the operand's bytes are inside live memory borrowed for 'a (checked by `Layout`), and nobody holds a
        // slice to write them: outputs overlap no input but the one done in place, and output 0 is not given out.
        let bytes = unsafe { std::slice::from_raw_parts(pointer.as_ptr(), operand.bytes) };
        Ok(Bytes::copy_from_slice(bytes))
    }

    /// Stores a tensor as output `index`: keeps a dynamic one, copies the bytes of any other.
    pub(crate) fn store(&self, index: usize, tensor: Tensor) -> Result<()> {
        let Some(Some(operand)) = self.step.outputs.get(index) else { return Ok(()) };
        ensure!(tensor.dtype() == operand.dtype, Internal, "output {index} is {}", tensor.dtype());
        if let Place::Dynamic(n) = operand.place {
            self.memory.dynamics[n].set(Some(tensor));
            return Ok(());
        }
        let expected = operand.shape.as_ref();
        ensure!(
            expected.is_some_and(|s| s == tensor.shape()),
            Internal,
            "output {index} has the shape {}, not the inferred {expected:?}",
            tensor.shape()
        );
        match operand.dtype.size() {
            1 => self.output::<u8>(index)?.copy_from_slice(tensor.bits()?),
            2 => self.output::<u16>(index)?.copy_from_slice(tensor.bits()?),
            4 => self.output::<u32>(index)?.copy_from_slice(tensor.bits()?),
            _ => self.output::<u64>(index)?.copy_from_slice(tensor.bits()?),
        }
        Ok(())
    }
}

/// A copy of what a cell holds.
fn peek(cell: &Cell<Option<Tensor>>) -> Option<Tensor> {
    let value = cell.take();
    cell.set(value.clone());
    value
}
