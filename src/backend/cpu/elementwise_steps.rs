//! Several elementwise operators in one step, bound to a program over blocks.

use super::arena::Io;
use super::elementwise::{Pairing, bounds, function_of, operand, pairing_of, variadic};
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::elementwise::{
    self as k, Broadcast, Compare, MAX_CONDITIONS, MAX_CONSTANTS, MAX_OPERANDS, MAX_REGISTERS, Operand,
};
use crate::ops::elementwise::{Binary, Clip, Unary, Variadic, Where};
use crate::ops::fused::{Elementwise, ElementwiseStep, Source};
use crate::tensor::{DType, Shape};

const _: () = assert!(Elementwise::MAX_OPERANDS <= MAX_OPERANDS && Elementwise::MAX_CONDITIONS <= MAX_CONDITIONS);
const _: () = assert!(Elementwise::MAX_LIVE <= MAX_REGISTERS && 2 * Elementwise::MAX_STEPS <= MAX_CONSTANTS);

/// An input with its place among the node's, and how it is spread.
type Spread = (usize, Broadcast);

/// [`Elementwise`] on f32.
#[derive(Debug)]
pub(super) struct Steps {
    isa: Isa,
    program: k::Program,
    count: usize,
    numbers: Vec<Spread>,
    conditions: Vec<Spread>,
    division: Division,
}

impl Steps {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(op), Some(out)) = (spec.op::<Elementwise>(), spec.output_shape(0)) else { return Ok(None) };
        let float = spec.output(0).is_some_and(|slot| slot.dtype == DType::F32);
        let mut builder = Builder { spec, out, numbers: Vec::new(), conditions: Vec::new() };
        let steps: Option<Vec<k::Step>> = op.steps().iter().map(|step| builder.step(step)).collect();
        let Builder { numbers, conditions, .. } = builder;
        let program = steps.filter(|_| float).and_then(|s| k::Program::new(numbers.len(), conditions.len(), &s));
        let (count, division) = (op.steps().len(), Division::elements(Some(out)));
        Ok(program.map(|program| Steps { isa, program, count, numbers, conditions, division }))
    }
}

struct Builder<'a> {
    spec: &'a Spec<'a>,
    out: &'a Shape,
    numbers: Vec<Spread>,
    conditions: Vec<Spread>,
}

impl Builder<'_> {
    fn step(&mut self, step: &ElementwiseStep) -> Option<k::Step> {
        let op = step.op.as_ref();
        let source = |index: usize| step.operands.get(index).copied().flatten();
        if let Some(Unary(kind)) = op.downcast_ref() {
            return Some(k::Step::Unary(function_of(*kind)?, self.source(source(0)?)?));
        }
        if op.is::<Clip>() {
            let input = |index: usize| match source(index) {
                None => Some(None),
                Some(Source::Input(input)) => Some(Some(input)),
                Some(Source::Step(_)) => None,
            };
            let (low, high) = bounds(self.spec, input(1)?, input(2)?)?;
            return Some(k::Step::Unary(k::Unary::Clip { low, high }, self.source(source(0)?)?));
        }
        let (a, b) = (self.source(source(0)?)?, self.source(source(1)?)?);
        if op.is::<Where>() {
            return Some(k::Step::Select(a, b, self.source(source(2)?)?));
        }
        let pairing = match (op.downcast_ref(), op.downcast_ref()) {
            (Some(Binary(kind)), _) => pairing_of(*kind, DType::F32)?,
            (_, Some(Variadic(kind))) if step.operands.len() == 2 => variadic(*kind, DType::F32)?,
            _ => return None,
        };
        Some(match pairing {
            Pairing::Float(op) => k::Step::Binary(op, a, b),
            Pairing::Compare(Compare::Equal) => k::Step::Binary(k::Binary::Equal, a, b),
            Pairing::Compare(Compare::Less) => k::Step::Binary(k::Binary::Less, a, b),
            Pairing::Compare(Compare::LessOrEqual) => k::Step::Binary(k::Binary::LessOrEqual, a, b),
            Pairing::Compare(Compare::Greater) => k::Step::Binary(k::Binary::Less, b, a),
            Pairing::Compare(Compare::GreaterOrEqual) => k::Step::Binary(k::Binary::LessOrEqual, b, a),
            _ => return None,
        })
    }

    fn source(&mut self, source: Source) -> Option<k::Source> {
        let index = match source {
            Source::Step(step) => return Some(k::Source::Step(step)),
            Source::Input(index) => index,
        };
        let (slot, spec) = (self.spec.input(index)?, self.spec);
        let spread = || Broadcast::of(slot.shape.as_ref()?, self.out);
        let place = |among: &mut Vec<Spread>| -> Option<usize> {
            if let Some(place) = among.iter().position(|(other, _)| *other == index) {
                return Some(place);
            }
            among.push((index, spread()?));
            Some(among.len() - 1)
        };
        match slot.dtype {
            DType::Bool => place(&mut self.conditions).map(k::Source::Condition),
            DType::F32 => match spec.constant(index).filter(|tensor| tensor.len() == 1) {
                Some(number) => number.to_f32_vec().ok()?.first().copied().map(k::Source::Constant),
                None => place(&mut self.numbers).map(k::Source::Operand),
            },
            _ => None,
        }
    }
}

impl Kernel for Steps {
    fn name(&self) -> String {
        format!("{} steps", self.count)
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let mut numbers = [Operand::Scalar(0.0); MAX_OPERANDS];
        for (operand_of, (index, spread)) in numbers.iter_mut().zip(&self.numbers) {
            *operand_of = operand(io, *index, spread)?;
        }
        let mut conditions = [Operand::Scalar(0u8); MAX_CONDITIONS];
        for (operand_of, (index, spread)) in conditions.iter_mut().zip(&self.conditions) {
            *operand_of = operand(io, *index, spread)?;
        }
        let (numbers, conditions) = (&numbers[..self.numbers.len()], &conditions[..self.conditions.len()]);
        self.program.run(self.isa, numbers, conditions, io.share().start, io.output(0)?);
        Ok(())
    }
}
