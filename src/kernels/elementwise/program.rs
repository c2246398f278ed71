//! A chain of unary and binary steps in one pass over cache-sized blocks.

use super::super::arch::{Body, Isa, Simd};
use super::binary::{Binary, Lane, zip};
use super::broadcast::{BLOCK, Blocks, Operand};
use super::unary::{Unary, map};
use std::mem::MaybeUninit;

/// Operands that one program can read.
pub const MAX_OPERANDS: usize = 8;
/// Values that can be alive at once inside a program.
pub const MAX_REGISTERS: usize = 6;

/// Where a step reads from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source {
    /// The operand of this number.
    Operand(usize),
    /// The result of an earlier step.
    Step(usize),
    /// The same value everywhere.
    Constant(f32),
}

/// One step; its result is known by its number.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A map of one source.
    Unary(Unary, Source),
    /// A map of two.
    Binary(Binary, Source, Source),
}

/// A verified chain of steps; the last one's result is the program's.
#[derive(Debug, Clone)]
pub struct Program {
    steps: Vec<Placed>,
    operands: usize,
}

/// A step with the register that its result takes; the last one writes the target.
#[derive(Debug, Clone, Copy)]
struct Placed {
    step: Step,
    register: usize,
}

impl Step {
    fn sources(&self) -> [Option<Source>; 2] {
        match *self {
            Step::Unary(_, a) => [Some(a), None],
            Step::Binary(_, a, b) => [Some(a), Some(b)],
        }
    }
}

impl Program {
    /// The program of `steps` over `operands` operands. `None` where there is no step, a source is not there yet, or
    /// more than [`MAX_OPERANDS`] operands or [`MAX_REGISTERS`] registers would be needed.
    #[must_use]
    pub fn new(operands: usize, steps: &[Step]) -> Option<Program> {
        let last = steps.len().checked_sub(1)?;
        if operands > MAX_OPERANDS {
            return None;
        }
        let mut final_use = vec![0; steps.len()];
        for (i, step) in steps.iter().enumerate() {
            for source in step.sources().into_iter().flatten() {
                match source {
                    Source::Operand(k) if k >= operands => return None,
                    Source::Step(k) if k >= i => return None,
                    Source::Step(k) => final_use[k] = i,
                    _ => {}
                }
            }
        }
        // A register is free again for the step that reads its value last: element i is read before it is written.
        let mut busy_until = [0usize; MAX_REGISTERS];
        let mut placed = Vec::with_capacity(steps.len());
        for (i, &step) in steps.iter().enumerate() {
            let register = if i == last { 0 } else { busy_until.iter().position(|&until| until <= i)? };
            if i != last {
                busy_until[register] = final_use[i];
            }
            placed.push(Placed { step, register });
        }
        Some(Program { steps: placed, operands })
    }

    /// Operands that [`Program::run`] expects.
    #[must_use]
    pub fn operands(&self) -> usize {
        self.operands
    }

    /// Writes elements `start..start + y.len()` of the output to `y`.
    ///
    /// # Panics
    /// Where the number of operands is not the program's, or one is too short for its broadcast.
    pub fn run(&self, isa: Isa, operands: &[Operand<'_, f32>], start: usize, y: &mut [f32]) {
        assert_eq!(operands.len(), self.operands, "a program gets its operands");
        isa.dispatch(Run { program: self, operands, start, y });
    }
}

struct Run<'a> {
    program: &'a Program,
    operands: &'a [Operand<'a, f32>],
    start: usize,
    y: &'a mut [f32],
}

impl Body for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { program, operands, start, y } = self;
        let target = y.as_mut_ptr();
        let mut blocks: [Option<Blocks<'_, f32>>; MAX_OPERANDS] =
            std::array::from_fn(|i| operands.get(i).map(|operand| operand.blocks(target)));
        let mut registers = [const { MaybeUninit::<[f32; BLOCK]>::uninit() }; MAX_REGISTERS];
        let registers = registers.as_mut_ptr().cast::<[f32; BLOCK]>();
        let mut at = 0;
        while at < y.len() {
            let index = start + at;
            let reach = blocks.iter().flatten().map(|b| b.reach(index)).min().unwrap_or(BLOCK);
            let n = reach.min(BLOCK).min(y.len() - at);
            let mut lanes = [Lane { from: std::ptr::null(), step: 0 }; MAX_OPERANDS];
            for (lane, blocks) in lanes.iter_mut().zip(blocks.iter_mut().flatten()) {
                *lane = blocks.lane(index, at, n);
            }
            for (i, placed) in program.steps.iter().enumerate() {
                let mut constants = [[0f32; 16]; 2];
                // SAFETY: every register is one of the array's.
                let register = |k: usize| unsafe { registers.add(k).cast::<f32>() };
                let mut source = |source: Source, slot: usize| match source {
                    Source::Operand(k) => lanes[k],
                    Source::Step(k) => Lane { from: register(program.steps[k].register).cast_const(), step: 1 },
                    Source::Constant(c) => {
                        constants[slot] = [c; 16];
                        Lane { from: constants[slot].as_ptr(), step: 0 }
                    }
                };
                let is_last = i + 1 == program.steps.len();
                // SAFETY: the target holds at + n elements.
                let to = if is_last { unsafe { target.add(at) } } else { register(placed.register) };
                // SAFETY: n <= BLOCK elements lie at every source (sixteen where it does not move) and at `to`; a
                // source that shares memory with `to` is the same block.
                unsafe {
                    match placed.step {
                        Step::Unary(op, a) => {
                            let a = source(a, 0);
                            map(s, op, a.from, to, if a.step == 0 { 1 } else { n });
                            if a.step == 0 {
                                (1..n).for_each(|i| *to.add(i) = *to);
                            }
                        }
                        Step::Binary(op, a, b) => {
                            let a = source(a, 0);
                            zip(s, op, a, source(b, 1), to, n);
                        }
                    }
                }
            }
            at += n;
        }
    }
}
