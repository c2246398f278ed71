//! The memory of a run: which bytes each step reads and writes. The one place of the backend with `unsafe`.
//!
//! A program says where each slot lives. [`Layout::new`] checks, once, that the outputs of a step overlap neither each
//! other nor an input of that step, except for one input that is exactly the first output (done in place). On that
//! check rest the slices that [`Io`] gives out.
//!
//! A step whose outputs can be divided ([`Division`], checked by [`Layout::divide`]) may be run in parts by several
//! threads at once. [`Shared`] opens one step at a time and gives each of its parts to one taker; the parts' slices are
//! disjoint because [`Division::share`] divides the units or columns between them.

use super::kernel::Division;
use crate::backend::{Buffers, Place, Ports, Program, SlotId};
use crate::error::{Result, bail, ensure, err};
use crate::kernels::MatrixMut;
use crate::ops::fused::{QuantizeRanged, Ranged};
use crate::tensor::{Buffer, DType, Shape, Tensor};
use crate::threads::MOST_PARTS;
use bytemuck::{AnyBitPattern, NoUninit};
use bytes::Bytes;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

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
    division: Division,
    /// Who writes the outputs but the first.
    others: Others,
}

/// Whose the outputs of a step are that come after its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// Divided as the first.
    Divided,
    /// [`Ranged::PARTS`] runs of as many elements, of which each part has consecutive ones.
    OfParts,
    /// All the first part's.
    OfFirst,
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
    /// One for each part of a step that runs at one time.
    workspaces: Vec<Buffer>,
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
            let others = if step.op.is::<Ranged>() {
                let whole = |o: &Operand| (o.bytes / o.dtype.size()).is_multiple_of(Ranged::PARTS);
                ensure!(outputs.iter().skip(1).flatten().all(whole), Internal, "ranges that parts cannot share");
                Others::OfParts
            } else if step.op.is::<QuantizeRanged>() {
                Others::OfFirst
            } else {
                Others::Divided
            };
            steps.push(StepOperands { inputs, outputs, in_place, division: Division::Whole, others });
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

    /// Says how step `index` is divided; returns the number of parts that there can be.
    pub(super) fn divide(&mut self, index: usize, division: Division) -> Result<usize> {
        let Some(step) = self.steps.get_mut(index) else { bail!(Internal, "there is no step {index}") };
        let is_static = |o: &&Operand| o.shape.is_some() && !matches!(o.place, Place::Dynamic(_));
        let count = match division {
            Division::Whole => return Ok(1),
            Division::Units { units, .. } => units,
            Division::Columns { columns, .. } => columns,
        };
        let whole = |o: &Operand| (o.bytes / o.dtype.size()).is_multiple_of(count);
        let divided = if step.others == Others::Divided { usize::MAX } else { 1 };
        let fits = count == 0 || step.outputs.iter().take(divided).flatten().all(|o| is_static(&o) && whole(o));
        let fits = fits && step.outputs.iter().skip(divided).flatten().all(|o| is_static(&o));
        let outputs = step.outputs.iter().take(divided).flatten();
        let single = matches!(division, Division::Units { .. }) || outputs.count() == 1;
        if count == 0 {
            return Ok(1);
        }
        ensure!(fits && single, Internal, "the outputs of step {index} cannot be divided as {division:?}");
        step.division = division;
        Ok(division.most_parts().min(MOST_PARTS))
    }

    /// Fresh memory for one worker.
    pub(super) fn arena(&self, workspace: usize) -> Result<Arena> {
        Ok(Arena {
            bytes: Buffer::try_zeroed(self.arena_bytes)?,
            workspaces: vec![Buffer::try_zeroed(workspace)?],
            dynamics: (0..self.dynamics).map(|_| Cell::new(None)).collect(),
        })
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
        let Arena { bytes, workspaces, dynamics } = arena;
        let bytes = bytes.as_mut_slice().ok_or_else(|| err!(Internal, "the arena is shared"))?;
        ensure!(bytes.len() == self.arena_bytes, Internal, "the arena is of another plan");
        let workspaces: Option<_> = workspaces.iter_mut().map(|w| w.as_mut_slice().map(NonNull::from)).collect();
        Ok(Memory {
            layout: self,
            arena: NonNull::from(bytes).cast(),
            workspaces: workspaces.ok_or_else(|| err!(Internal, "a workspace is shared"))?,
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

impl Arena {
    /// Has workspaces of `bytes` for `parts` parts.
    pub(super) fn reserve(&mut self, parts: usize, bytes: usize) -> Result<()> {
        while self.workspaces.len() < parts {
            self.workspaces.push(Buffer::try_zeroed(bytes)?);
        }
        Ok(())
    }
}

/// A layout bound to the memory of one run.
pub(super) struct Memory<'a> {
    layout: &'a Layout,
    arena: NonNull<u8>,
    workspaces: smallvec::SmallVec<[NonNull<[u8]>; 4]>,
    inputs: Ports<NonNull<u8>>,
    outputs: Ports<NonNull<u8>>,
    dynamics: &'a [Cell<Option<Tensor>>],
    borrow: PhantomData<&'a mut [u8]>,
}

impl Memory<'_> {
    /// The operands and the workspace of step `index`.
    #[inline]
    pub(super) fn step(&mut self, index: usize) -> (Io<'_>, &mut [u8]) {
        // SAFETY: `self` is borrowed mutably until the slice is gone.
        let workspace = unsafe { self.workspace(0) };
        (self.io(index, 0, 1), workspace)
    }

    /// For several threads, which run one step at a time.
    pub(super) fn share(&mut self) -> Shared<'_> {
        Shared { memory: self, gate: AtomicU64::new(0) }
    }

    #[inline]
    fn io(&self, index: usize, part: usize, of: usize) -> Io<'_> {
        Io { memory: self, step: &self.layout.steps[index], taken: Cell::new(0), part, of }
    }

    /// # Safety
    /// While the slice lives nobody takes the same one.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    unsafe fn workspace(&self, index: usize) -> &mut [u8] {
        let mut workspace = self.workspaces[index];
        // SAFETY: the workspaces are borrowed exclusively for the lifetime of `Memory`, no operand lies in one, and the
        // caller promises the rest.
        unsafe { workspace.as_mut() }
    }

    #[inline]
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

/// The memory of a run that several threads share: a step is opened, its parts are taken, each once, and when all that
/// were taken have been given back the next step can be opened.
pub(super) struct Shared<'m> {
    memory: &'m Memory<'m>,
    /// From the low bits: 32 that say which parts were taken, how many are out in 6, of how many parts in 6, and the
    /// step in the rest.
    gate: AtomicU64,
}

const OUT: u64 = 1 << 32;
const OF_AT: u32 = 38;
const STEP_AT: u32 = 44;

// SAFETY: the memory is borrowed exclusively for as long as this lives, and reached through `part` alone. There the gate
// lets one taker have each part of one step. Parts write disjoint bytes, and read none that another part of the step
// writes: `Io` gives out no input that overlaps an output but as that output's share. The cells of dynamic values are
// reached from a step of one part only, so by one thread at a time, and the gate orders them.
unsafe impl Sync for Shared<'_> {}

/// Gives a part back, also when its kernel panics.
struct Out<'s>(&'s AtomicU64);

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(OUT, Ordering::Release);
    }
}

impl Shared<'_> {
    /// Opens step `index` in `of` parts.
    pub(super) fn open(&self, index: usize, of: usize) -> Result<()> {
        let Some(step) = self.memory.layout.steps.get(index) else { bail!(Internal, "there is no step {index}") };
        let most = step.division.most_parts().min(self.memory.workspaces.len()).min(MOST_PARTS);
        ensure!(of == 1 || (1..=most).contains(&of), Internal, "a step of {most} parts is opened in {of}");
        ensure!(index < 1 << (64 - STEP_AT), Limit, "a plan of more than a million steps");
        let next = (index as u64) << STEP_AT | (of as u64) << OF_AT;
        let gate = self.gate.load(Ordering::Acquire);
        let closed = gate >> 32 & 0x3f == 0;
        // Acquire: what the parts of the last step wrote is seen.
        let opened = closed && self.gate.compare_exchange(gate, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        ensure!(opened, Internal, "a step is opened while parts of another run");
        Ok(())
    }

    /// Calls `run` with part `part` of step `index`, which must be open, and a workspace.
    pub(super) fn part(
        &self,
        index: usize,
        part: usize,
        run: impl for<'x> FnOnce(&Io<'x>, &'x mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut gate = self.gate.load(Ordering::Acquire);
        loop {
            let of = gate >> OF_AT & 0x3f;
            let free = gate >> STEP_AT == index as u64 && (part as u64) < of && gate >> part & 1 == 0;
            ensure!(free, Internal, "part {part} of step {index} is not to be had");
            match self.gate.compare_exchange_weak(gate, (gate + OUT) | (1 << part), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => break,
                Err(now) => gate = now,
            }
        }
        let out = Out(&self.gate);
        let of = (gate >> OF_AT & 0x3f) as usize;
        // SAFETY: the workspace has the number of the part, which nobody else takes before this one is given back; `run`
        // cannot keep it, as it must do with any lifetime.
        let result = run(&self.memory.io(index, part, of), unsafe { self.memory.workspace(part) });
        drop(out);
        result
    }
}

/// The inputs and outputs of one step, or of a part of it.
pub(crate) struct Io<'a> {
    memory: &'a Memory<'a>,
    step: &'a StepOperands,
    /// Bit `n` is set once output `n` was given out.
    taken: Cell<u64>,
    part: usize,
    of: usize,
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

    /// The units or columns to compute: all of them, unless the step is divided.
    pub(crate) fn share(&self) -> Range<usize> {
        self.step.division.share(self.part, self.of)
    }

    /// The elements of input `index`; its shape must be static and it must not be the one done in place.
    /// A `bool` is read as `u8`.
    #[inline]
    pub(crate) fn input<T: AnyBitPattern>(&self, index: usize) -> Result<&'a [T]> {
        let (pointer, len) = self.source(index, size_of::<T>(), align_of::<T>())?;
        // SAFETY: the operand's bytes are inside live memory borrowed for 'a (checked by `Layout`), aligned (checked
        // by `source`), of a type for which every bit pattern is a value, and overlap no output of this step (checked by
        // `disjoint`; the exception is refused above). Nothing else than this step's parts writes while it runs.
        Ok(unsafe { std::slice::from_raw_parts(pointer.cast::<T>().as_ptr(), len) })
    }

    /// Where the elements of input `index` are, and how many there are, if they have this size and alignment.
    fn source(&self, index: usize, size: usize, align: usize) -> Result<(NonNull<u8>, usize)> {
        let Some(Some(operand)) = self.step.inputs.get(index) else { bail!(Internal, "input {index} is absent") };
        ensure!(self.step.in_place != Some(index), Internal, "input {index} is overwritten by the output");
        ensure!(operand.dtype.size() == size, Internal, "input {index} is {}", operand.dtype);
        let Some(pointer) = self.memory.pointer(operand) else { bail!(Internal, "input {index} is dynamic") };
        let aligned = (pointer.as_ptr() as usize).is_multiple_of(align);
        debug_assert!(aligned);
        ensure!(aligned, Internal, "input {index} is not aligned");
        Ok((pointer, operand.bytes / size))
    }

    /// Input `index` as bytes, where it is a constant that cannot be read as elements where it lies; [`input`](Io::input)
    /// would copy all of it, once.
    pub(crate) fn unaligned(&self, index: usize) -> Option<&'a [u8]> {
        let Some(Some(Operand { place: Place::Constant(tensor), .. })) = self.step.inputs.get(index) else {
            return None;
        };
        tensor.unaligned_bytes()
    }

    /// Where the elements of output `index` are, and how many there are; told once a run.
    fn target(&self, index: usize, size: usize, align: usize) -> Result<(NonNull<u8>, usize)> {
        let Some(Some(operand)) = self.step.outputs.get(index) else { bail!(Internal, "output {index} is absent") };
        ensure!(operand.dtype.size() == size, Internal, "output {index} is {}", operand.dtype);
        let bit = 1u64.checked_shl(index as u32).ok_or_else(|| err!(Internal, "more than 64 outputs"))?;
        ensure!(self.taken.get() & bit == 0, Internal, "output {index} was given out before");
        self.taken.set(self.taken.get() | bit);
        let Some(pointer) = self.memory.pointer(operand) else { bail!(Internal, "output {index} is dynamic") };
        let aligned = (pointer.as_ptr() as usize).is_multiple_of(align);
        ensure!(aligned, Internal, "output {index} is not aligned");
        Ok((pointer, operand.bytes / size))
    }

    /// The same, and which of the elements this part of the step writes.
    fn target_share(&self, index: usize, size: usize, align: usize) -> Result<(NonNull<u8>, Range<usize>)> {
        let (pointer, len) = self.target(index, size, align)?;
        let first = index == 0;
        let range = match self.step.division {
            _ if !first && self.step.others == Others::OfFirst => 0..if self.part == 0 { len } else { 0 },
            _ if !first && self.step.others == Others::OfParts => {
                let (share, unit) = (ranges(self.part, self.of), len / Ranged::PARTS);
                return Ok((pointer, share.start * unit..share.end * unit));
            }
            Division::Units { units, .. } => {
                let (share, unit) = (self.share(), len / units);
                share.start * unit..share.end * unit
            }
            _ => 0..len,
        };
        let columns = matches!(self.step.division, Division::Columns { .. });
        ensure!(self.of == 1 || !columns, Internal, "the part of output {index} is columns");
        Ok((pointer, range))
    }

    /// The elements of output `index`, to be written: those of the [`share`](Io::share), where outputs are divided into
    /// units. Given out once a run. Where input [`in_place`](Io::in_place) is overwritten, output 0 holds its elements.
    #[allow(clippy::mut_from_ref)]
    #[inline]
    pub(crate) fn output<T: AnyBitPattern + NoUninit>(&self, index: usize) -> Result<&'a mut [T]> {
        let (pointer, range) = self.target_share(index, size_of::<T>(), align_of::<T>())?;
        // SAFETY: as in `input`; exclusive because outputs of a step are disjoint from each other and from every input
        // that `input` gives out, each is given out once, shares of different parts are disjoint, and the memory is
        // borrowed mutably by `Memory`. The range ends at `units * unit`, which is `len`.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast::<T>().as_ptr().add(range.start), range.len()) })
    }

    /// The elements of output `index` that `run` wrote, those of the [`share`](Io::share), where it was not given out before.
    pub(crate) fn written<T: AnyBitPattern>(
        &self,
        index: usize,
        run: impl for<'x> FnOnce(&Io<'x>) -> Result<()>,
    ) -> Result<&'a [T]> {
        let (pointer, range) = self.target_share(index, size_of::<T>(), align_of::<T>())?;
        let bit = 1u64.checked_shl(index as u32).unwrap_or(0);
        let taken = Cell::new(self.taken.get() & !bit);
        let Io { memory, step, part, of, .. } = *self;
        run(&Io { memory, step, taken, part, of })?;
        // SAFETY: as in `output`, for reading. Whoever was given a slice of the output to write was given it by an `Io` of any
        // lifetime, and cannot have kept it; nobody is given another, as it is taken here.
        Ok(unsafe { std::slice::from_raw_parts(pointer.cast::<T>().as_ptr().add(range.start), range.len()) })
    }

    /// Output `index` as a matrix: the rows or the columns of the [`share`](Io::share), of `cols` columns in all.
    pub(crate) fn output_matrix<T: AnyBitPattern + NoUninit>(
        &self,
        index: usize,
        cols: usize,
    ) -> Result<MatrixMut<'a, T>> {
        let Division::Columns { columns, .. } = self.step.division else {
            let output = self.output(index)?;
            let rows = output.len().checked_div(cols).unwrap_or(0);
            return Ok(MatrixMut::dense(output, rows, cols));
        };
        let (pointer, len) = self.target(index, size_of::<T>(), align_of::<T>())?;
        ensure!(columns == cols, Internal, "output {index} has {columns} columns, not {cols}");
        let share = self.share();
        // SAFETY: as in `output`: rows of `columns` elements lie one behind the other, `columns` divides `len`, and
        // different parts have different columns.
        Ok(unsafe {
            MatrixMut::from_raw(pointer.cast::<T>().as_ptr().add(share.start), len / columns, share.len(), columns)
        })
    }

    /// Input `index` as a tensor: shared for a constant and a dynamic value, copied otherwise.
    pub(crate) fn tensor(&self, index: usize) -> Result<Option<Tensor>> {
        let Some(Some(operand)) = self.step.inputs.get(index) else { return Ok(None) };
        match (&operand.place, &operand.shape) {
            (Place::Constant(tensor), _) => Ok(Some(tensor.clone())),
            (Place::Dynamic(_), _) if self.of > 1 => bail!(Internal, "a part of a step reads a dynamic value"),
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
        let overwritten = self.step.in_place == Some(index) && (self.taken.get() & 1 != 0 || self.of > 1);
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
        ensure!(self.of == 1, Internal, "a part of a step stores a whole output");
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

/// Which ranges are those of a part.
fn ranges(part: usize, of: usize) -> Range<usize> {
    Division::units(Ranged::PARTS, 1).share(part, of)
}

const _: () = assert!(MOST_PARTS <= Ranged::PARTS, "each part has a range of its own");

/// A copy of what a cell holds.
fn peek(cell: &Cell<Option<Tensor>>) -> Option<Tensor> {
    let value = cell.take();
    cell.set(value.clone());
    value
}
