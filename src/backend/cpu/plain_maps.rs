//! Maps of integers and truth values that stand on ids, positions and masks, by plain loops: limits, choice, negation.

use super::arena::Io;
use super::elementwise::operand;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, err};
use crate::kernels::arch::Isa;
use crate::kernels::elementwise::{self as k, Broadcast, Operand};
use crate::ops::elementwise::{Clip, Unary, UnaryKind, Where};
use crate::tensor::DType;
use bytemuck::{AnyBitPattern, NoUninit};

/// `Clip` of integers.
#[derive(Debug)]
pub(super) struct Limits {
    dtype: DType,
    given: [bool; 2],
    division: Division,
}

impl Limits {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let dtype = spec.input(0).map(|slot| slot.dtype).filter(|d| matches!(d, DType::I32 | DType::I64));
        let (Some(_), Some(dtype)) = (spec.op::<Clip>(), dtype) else { return Ok(None) };
        let single = |index: usize| spec.input(index).is_none() || spec.shape(index).is_some_and(|s| s.elements() == 1);
        let fits = spec.all(dtype) && single(1) && single(2);
        let given = [1, 2].map(|index| spec.input(index).is_some());
        Ok(fits.then(|| Limits { dtype, given, division: Division::elements(spec.output_shape(0)) }))
    }

    fn apply<T: k::Integer + AnyBitPattern + NoUninit>(&self, io: &Io<'_>, least: T, greatest: T) -> Result<()> {
        let bound = |index: usize, open: T| -> Result<T> {
            if !self.given[index - 1] {
                return Ok(open);
            }
            io.input(index)?.first().copied().ok_or_else(|| err!(Internal, "bound {index} is empty"))
        };
        let (low, high) = (bound(1, least)?, bound(2, greatest)?);
        k::integer_clip(&io.input(0)?[io.share()], low, high, io.output(0)?);
        Ok(())
    }
}

impl Kernel for Limits {
    fn name(&self) -> String {
        "limits".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        match self.dtype {
            DType::I32 => self.apply(io, i32::MIN, i32::MAX),
            _ => self.apply(io, i64::MIN, i64::MAX),
        }
    }
}

/// `Where` on elements of one, four or eight bytes that are no `f32`.
#[derive(Debug)]
pub(super) struct Choice {
    isa: Isa,
    size: usize,
    operands: [Broadcast; 3],
    division: Division,
}

impl Choice {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(_), Some(out), Some(slot)) = (spec.op::<Where>(), spec.output_shape(0), spec.output(0)) else {
            return Ok(None);
        };
        let size = slot.dtype.size();
        let spread = |index: usize| spec.shape(index).and_then(|shape| Broadcast::of(shape, out));
        let (Some(c), Some(a), Some(b), true) = (spread(0), spread(1), spread(2), [1, 4, 8].contains(&size)) else {
            return Ok(None);
        };
        Ok(Some(Choice { isa, size, operands: [c, a, b], division: Division::elements(Some(out)) }))
    }

    fn apply<T: AnyBitPattern + NoUninit>(&self, io: &Io<'_>) -> Result<()> {
        let [c, a, b] = &self.operands;
        let condition: Operand<'_, u8> = operand(io, 0, c)?;
        let (a, b): (Operand<'_, T>, Operand<'_, T>) = (operand(io, 1, a)?, operand(io, 2, b)?);
        k::select(self.isa, condition, a, b, io.share().start, io.output(0)?);
        Ok(())
    }
}

impl Kernel for Choice {
    fn name(&self) -> String {
        "select".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        match self.size {
            1 => self.apply::<u8>(io),
            4 => self.apply::<f32>(io),
            _ => self.apply::<u64>(io),
        }
    }
}

/// `Not`.
#[derive(Debug)]
pub(super) struct Negation {
    division: Division,
}

impl Negation {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let not = spec.op::<Unary>() == Some(&Unary(UnaryKind::Not)) && spec.all(DType::Bool);
        Ok(not.then(|| Negation { division: Division::elements(spec.output_shape(0)) }))
    }
}

impl Kernel for Negation {
    fn name(&self) -> String {
        "not".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (x, y): (&[u8], &mut [u8]) = (&io.input(0)?[io.share()], io.output(0)?);
        k::not(x, y);
        Ok(())
    }
}
