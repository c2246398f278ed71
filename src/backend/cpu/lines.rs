//! What goes along one axis, line by line: running sums, and the places of extremes.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::reduce::{arg_extreme, running_sum};
use crate::ops::reduce::{ArgExtreme, CumSum};
use crate::tensor::{DType, Shape};

/// `[outer, n, inner]` around an axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    outer: usize,
    n: usize,
    inner: usize,
}

impl Axis {
    /// None where there is no element.
    fn of(shape: &Shape, axis: i64) -> Result<Option<Self>> {
        let axis = shape.axis(axis)?;
        let product = |lengths: &[usize]| lengths.iter().product();
        let around = Axis { outer: product(&shape[..axis]), n: shape[axis], inner: product(&shape[axis + 1..]) };
        Ok((shape.elements() > 0).then_some(around))
    }
}

/// `CumSum`.
#[derive(Debug)]
pub(super) struct RunningSum {
    op: CumSum,
    axis: Axis,
    dtype: DType,
}

impl RunningSum {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (Some(op), Some(x), Some(axis)) = (spec.op::<CumSum>(), spec.input(0), spec.constant(1)) else {
            return Ok(None);
        };
        let (Some(shape), &[axis]) = (&x.shape, &axis.to_i64_vec()?[..]) else { return Ok(None) };
        let known = matches!(x.dtype, DType::F32 | DType::I32 | DType::I64) && spec.is_static();
        let axis = Axis::of(shape, axis)?;
        Ok(axis.filter(|_| known).map(|axis| RunningSum { op: *op, axis, dtype: x.dtype }))
    }
}

impl Kernel for RunningSum {
    fn name(&self) -> String {
        format!("running sum {}", self.axis.n)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (CumSum { exclusive, reverse }, Axis { n, inner, .. }) = (self.op, self.axis);
        match self.dtype {
            DType::F32 => running_sum::<f32>(exclusive, reverse, n, inner, io.input(0)?, io.output(0)?),
            DType::I32 => running_sum::<i32>(exclusive, reverse, n, inner, io.input(0)?, io.output(0)?),
            _ => running_sum::<i64>(exclusive, reverse, n, inner, io.input(0)?, io.output(0)?),
        }
        Ok(())
    }
}

/// `ArgMax` and `ArgMin`.
#[derive(Debug)]
pub(super) struct Places {
    op: ArgExtreme,
    axis: Axis,
    dtype: DType,
}

impl Places {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (Some(op), Some(x)) = (spec.op::<ArgExtreme>(), spec.input(0)) else { return Ok(None) };
        // Of several NaN the first is meant, even where of equals it is the last.
        let known = match x.dtype {
            DType::F32 => !op.select_last,
            DType::I32 | DType::I64 => true,
            _ => false,
        };
        let Some(shape) = x.shape.as_ref().filter(|_| known && spec.is_static()) else { return Ok(None) };
        Ok(Axis::of(shape, op.axis)?.map(|axis| Places { op: *op, axis, dtype: x.dtype }))
    }
}

impl Kernel for Places {
    fn name(&self) -> String {
        format!("place of the extreme of {}", self.axis.n)
    }

    fn division(&self) -> Division {
        Division::units(self.axis.outer, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (ArgExtreme { max, select_last, .. }, Axis { n, inner, .. }) = (self.op, self.axis);
        let share = io.share();
        let range = share.start * n * inner..share.end * n * inner;
        match self.dtype {
            DType::F32 => arg_extreme::<f32>(max, select_last, n, inner, &io.input(0)?[range], io.output(0)?),
            DType::I32 => arg_extreme::<i32>(max, select_last, n, inner, &io.input(0)?[range], io.output(0)?),
            _ => arg_extreme::<i64>(max, select_last, n, inner, &io.input(0)?[range], io.output(0)?),
        }
        Ok(())
    }
}
