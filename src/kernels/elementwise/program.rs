//! A chain of unary and binary steps and choices in one pass over cache-sized blocks.
//!
//! A step does to its block what the map of the same name does to a whole tensor, by the same loop, so that a program
//! yields the bits of its steps run one after the other; what lies between them stays in the first cache.

use super::super::arch::{Body, Isa, Simd};
use super::binary::{Binary, Lane, zip};
use super::broadcast::{BLOCK, Blocks, Operand, Room};
use super::unary::{Unary, map};
use std::mem::MaybeUninit;

/// Operands that one program can read.
pub const MAX_OPERANDS: usize = 8;
/// Conditions that one program can read.
pub const MAX_CONDITIONS: usize = 2;
/// Numbers that one program can hold.
pub const MAX_CONSTANTS: usize = 48;
/// Values that can be alive at once inside a program.
pub const MAX_REGISTERS: usize = 6;

/// Where a step reads from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source {
    /// The operand of this number.
    Operand(usize),
    /// The condition of this number, as 0 and 1.
    Condition(usize),
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
    /// The second where the first is not 0, else the third.
    Select(Source, Source, Source),
}

/// A verified chain of steps; the last one's result is the program's.
#[derive(Debug, Clone)]
pub struct Program {
    steps: Vec<Placed>,
    operands: usize,
    conditions: usize,
    /// Each number as many times as a vector may have lanes.
    constants: Vec<[f32; 16]>,
}

/// A step with the places of its sources among all lanes of a block, and the register that its result takes; the last
/// step writes the target.
#[derive(Debug, Clone, Copy)]
struct Placed {
    step: Step,
    sources: [usize; 3],
    register: usize,
}

/// The first lanes are those of the operands, then come conditions, registers and constants.
const CONDITIONS: usize = MAX_OPERANDS;
const REGISTERS: usize = CONDITIONS + MAX_CONDITIONS;
const CONSTANTS: usize = REGISTERS + MAX_REGISTERS;
const LANES: usize = CONSTANTS + MAX_CONSTANTS;

impl Step {
    fn sources(&self) -> [Option<Source>; 3] {
        match *self {
            Step::Unary(_, a) => [Some(a), None, None],
            Step::Binary(_, a, b) => [Some(a), Some(b), None],
            Step::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        }
    }
}

impl Program {
    /// The program of `steps` over `operands` operands and `conditions` conditions. `None` where there is no step, a
    /// source is not there yet, or more than [`MAX_OPERANDS`] operands, [`MAX_CONDITIONS`] conditions,
    /// [`MAX_CONSTANTS`] numbers or [`MAX_REGISTERS`] registers would be needed.
    #[must_use]
    pub fn new(operands: usize, conditions: usize, steps: &[Step]) -> Option<Program> {
        let last = steps.len().checked_sub(1)?;
        if operands > MAX_OPERANDS || conditions > MAX_CONDITIONS {
            return None;
        }
        let mut final_use = vec![0; steps.len()];
        for (i, step) in steps.iter().enumerate() {
            for source in step.sources().into_iter().flatten() {
                match source {
                    Source::Operand(k) if k >= operands => return None,
                    Source::Condition(k) if k >= conditions => return None,
                    Source::Step(k) if k >= i => return None,
                    Source::Step(k) => final_use[k] = i,
                    _ => {}
                }
            }
        }
        // A register is free again for the step that reads its value last: element i is read before it is written.
        let mut busy_until = [0usize; MAX_REGISTERS];
        let mut placed: Vec<Placed> = Vec::with_capacity(steps.len());
        let mut constants = Vec::new();
        for (i, &step) in steps.iter().enumerate() {
            let sources = step.sources().map(|source| match source {
                None => 0,
                Some(Source::Operand(k)) => k,
                Some(Source::Condition(k)) => CONDITIONS + k,
                Some(Source::Step(k)) => REGISTERS + placed[k].register,
                Some(Source::Constant(c)) => {
                    constants.push([c; 16]);
                    CONSTANTS + constants.len() - 1
                }
            });
            let register = if i == last { 0 } else { busy_until.iter().position(|&until| until <= i)? };
            if i != last {
                busy_until[register] = final_use[i];
            }
            placed.push(Placed { step, sources, register });
        }
        let few = constants.len() <= MAX_CONSTANTS;
        few.then_some(Program { steps: placed, operands, conditions, constants })
    }

    /// Operands that [`Program::run`] expects.
    #[must_use]
    pub fn operands(&self) -> usize {
        self.operands
    }

    /// Writes elements `start..start + y.len()` of the output to `y`. A condition holds where its byte is not zero.
    ///
    /// # Panics
    /// Where the number of operands or conditions is not the program's, one is too short for its broadcast, or a
    /// condition is [`Operand::Target`].
    pub fn run(
        &self,
        isa: Isa,
        operands: &[Operand<'_, f32>],
        conditions: &[Operand<'_, u8>],
        start: usize,
        y: &mut [f32],
    ) {
        assert_eq!(operands.len(), self.operands, "a program gets its operands");
        assert_eq!(conditions.len(), self.conditions, "a program gets its conditions");
        let target = conditions.iter().any(|condition| matches!(condition, Operand::Target));
        assert!(!target, "the target holds values, no condition");
        isa.dispatch(Run { program: self, operands, conditions, start, y });
    }
}

struct Run<'a> {
    program: &'a Program,
    operands: &'a [Operand<'a, f32>],
    conditions: &'a [Operand<'a, u8>],
    start: usize,
    y: &'a mut [f32],
}

/// The first `from.len()` of `to`, set to the blocks of as many operands.
#[inline(always)]
fn opened<'m, 'a, T: Copy, const N: usize>(
    from: &[Operand<'a, T>],
    target: *const T,
    to: &'m mut [MaybeUninit<Blocks<'a, T>>; N],
) -> &'m mut [Blocks<'a, T>] {
    assert!(from.len() <= N, "a program's operands fit");
    let mut i = 0;
    while i < from.len() {
        from[i].blocks_in(target, &mut to[i]);
        i += 1;
    }
    // SAFETY: as many have just been written; none owns anything that would have to be dropped.
    unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), from.len()) }
}

impl Body for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { program, operands, conditions, start, y } = self;
        let target = y.as_mut_ptr();
        let mut numbers = [const { MaybeUninit::<Blocks<'_, f32>>::uninit() }; MAX_OPERANDS];
        let numbers = opened(operands, target, &mut numbers);
        let mut bytes = [const { MaybeUninit::<Blocks<'_, u8>>::uninit() }; MAX_CONDITIONS];
        let bytes = opened(conditions, std::ptr::null(), &mut bytes);
        let mut truths = [const { Room::<f32>::new() }; MAX_CONDITIONS];
        let mut registers = [const { Room::<f32>::new() }; MAX_REGISTERS];
        let registers = registers.as_mut_ptr();
        let mut lanes = [Lane { from: std::ptr::null(), step: 0 }; LANES];
        for k in 0..MAX_REGISTERS {
            // SAFETY: every register is one of the array's.
            lanes[REGISTERS + k] = Lane { from: unsafe { registers.add(k) }.cast::<f32>().cast_const(), step: 1 };
        }
        let mut i = 0;
        while i < program.constants.len() {
            lanes[CONSTANTS + i] = Lane { from: program.constants[i].as_ptr(), step: 0 };
            i += 1;
        }
        let mut at = 0;
        while at < y.len() {
            let index = start + at;
            let mut n = BLOCK.min(y.len() - at);
            i = 0;
            while i < numbers.len() {
                n = n.min(numbers[i].reach(index));
                i += 1;
            }
            i = 0;
            while i < bytes.len() {
                n = n.min(bytes[i].reach(index));
                i += 1;
            }
            i = 0;
            while i < numbers.len() {
                lanes[i] = numbers[i].lane(index, at, n);
                i += 1;
            }
            i = 0;
            while i < bytes.len() {
                // SAFETY: n <= BLOCK.
                lanes[CONDITIONS + i] = unsafe { truth(bytes[i].lane(index, at, n), &mut truths[i], n) };
                i += 1;
            }
            i = 0;
            while i < program.steps.len() {
                let Placed { step, sources: [a, b, c], register } = program.steps[i];
                i += 1;
                // SAFETY: the target holds at + n elements; every register is one of the array's.
                let to = unsafe {
                    if i == program.steps.len() { target.add(at) } else { registers.add(register).cast::<f32>() }
                };
                let a = lanes[a];
                // SAFETY: n <= BLOCK elements lie at every source (sixteen where it does not move) and at `to`; a
                // source that shares memory with `to` is the same block.
                unsafe {
                    match step {
                        Step::Unary(op, _) => {
                            map(s, op, a.from, to, if a.step == 0 { 1 } else { n });
                            if a.step == 0 {
                                (1..n).for_each(|i| *to.add(i) = *to);
                            }
                        }
                        Step::Binary(op, ..) => zip(s, op, a, lanes[b], to, n),
                        Step::Select(..) => choose(s, a, lanes[b], lanes[c], to, n),
                    }
                }
            }
            at += n;
        }
    }
}

/// A condition as 0 and 1.
///
/// # Safety
/// `n` bytes (one where the lane does not move) are readable, and `n <= BLOCK`.
#[inline(always)]
unsafe fn truth(from: Lane<u8>, to: &mut Room<f32>, n: usize) -> Lane<f32> {
    let numbers = to.as_mut_ptr();
    let count = if from.step == 0 { 16 } else { n };
    for i in 0..count {
        // SAFETY: as the caller promises; a register holds more than sixteen numbers.
        unsafe { *numbers.add(i) = if *from.from.add(i * from.step) != 0 { 1.0 } else { 0.0 } };
    }
    Lane { from: numbers, step: from.step }
}

/// `y[i] = c[i] != 0 ? a[i] : b[i]`.
///
/// # Safety
/// `n` elements (sixteen where the step is 0) are readable at each operand, `n` writable at `y`; an operand's memory is
/// `y`'s or does not overlap it.
#[inline(always)]
unsafe fn choose<S: Simd>(s: S, c: Lane<f32>, a: Lane<f32>, b: Lane<f32>, y: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        let left = n - i;
        // SAFETY: every access is below n, or below sixteen where the operand does not move.
        unsafe {
            let [c, a, b] = [c.from.add(i * c.step), a.from.add(i * a.step), b.from.add(i * b.step)];
            if left >= S::LANES {
                s.store(y.add(i), s.select(s.eq(s.load(c), s.splat(0.0)), s.load(b), s.load(a)));
            } else {
                let zero = s.eq(s.load_part(c, left), s.splat(0.0));
                s.store_part(y.add(i), left, s.select(zero, s.load_part(b, left), s.load_part(a, left)));
            }
        }
        i += S::LANES;
    }
}
