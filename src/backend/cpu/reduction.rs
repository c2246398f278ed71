//! Reductions of f32 over neighboring axes, and casts.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::elementwise::{bf16_from_f32, bf16_to_f32, f16_from_f32, f16_to_f32};
use crate::kernels::reduce::{Reduction, reduce};
use crate::ops::elementwise::Cast;
use crate::ops::reduce::{Reduce, ReduceKind};
use crate::tensor::{DType, Element};
use bytemuck::{AnyBitPattern, NoUninit};

#[derive(Debug)]
pub(super) struct Fold {
    isa: Isa,
    reduction: Reduction,
    n: usize,
    inner: usize,
    outer: usize,
}

impl Fold {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<Reduce>() else { return Ok(None) };
        let float = spec.input(0).is_some_and(|s| s.dtype == DType::F32) && spec.output_shape(0).is_some();
        let Some(shape) = spec.shape(0).filter(|_| float) else { return Ok(None) };
        let named: Vec<i64> = match (spec.input(1), spec.constant(1)) {
            (None, _) => Vec::new(),
            (_, Some(axes)) => axes.to_i64_vec()?,
            _ => return Ok(None),
        };
        let mut axes: Vec<usize> = named.iter().map(|&a| shape.axis(a)).collect::<Result<_>>()?;
        if axes.is_empty() {
            if op.noop_with_empty_axes {
                return Ok(None);
            }
            axes = (0..shape.rank()).collect();
        }
        // Axes of length one may lie between: they change nothing.
        let (Some(&first), Some(&last)) = (axes.iter().min(), axes.iter().max()) else { return Ok(None) };
        let together = (first..=last).all(|axis| axes.contains(&axis) || shape[axis] == 1);
        let reduction = match op.kind {
            ReduceKind::Sum => Reduction::Sum,
            ReduceKind::Mean => Reduction::Mean,
            ReduceKind::Max => Reduction::Max,
            ReduceKind::Min => Reduction::Min,
            ReduceKind::Prod => Reduction::Prod,
            ReduceKind::L1 => Reduction::L1,
            ReduceKind::L2 => Reduction::L2,
            ReduceKind::SumSquare => Reduction::SumSquare,
            ReduceKind::LogSum => Reduction::LogSum,
            ReduceKind::LogSumExp => Reduction::LogSumExp,
        };
        let n = shape[first..=last].iter().product();
        let inner = shape[last + 1..].iter().product();
        Ok((together && inner > 0).then_some(Fold { isa, reduction, n, inner, outer: shape[..first].iter().product() }))
    }
}

impl Kernel for Fold {
    fn name(&self) -> String {
        format!("reduce {}", self.n)
    }

    fn division(&self) -> Division {
        Division::units(self.outer, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (share, row) = (io.share(), self.n * self.inner);
        let x = &io.input(0)?[share.start * row..share.end * row];
        reduce(self.isa, self.reduction, self.n, self.inner, x, io.output(0)?);
        Ok(())
    }
}

/// `Cast` between the dtypes that models convert between while they run.
#[derive(Debug)]
pub(super) struct Convert {
    isa: Isa,
    from: DType,
    to: DType,
    division: Division,
}

impl Convert {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        use DType::{BF16, Bool, F16, F32, I32, I64, U8};
        let (Some(_), Some(from), Some(to)) = (spec.op::<Cast>(), spec.input(0), spec.output(0)) else {
            return Ok(None);
        };
        let known = matches!(
            (from.dtype, to.dtype),
            (I64 | I32 | Bool | U8 | F16 | BF16, F32)
                | (F32, I64 | I32 | F16 | BF16)
                | (I64, I32)
                | (I32, I64)
                | (Bool, I64 | I32)
        );
        let division = Division::elements(spec.output_shape(0));
        Ok((known && spec.is_static()).then_some(Convert { isa, from: from.dtype, to: to.dtype, division }))
    }
}

/// The elements that become those of the share.
fn own<'a, A: AnyBitPattern>(io: &Io<'a>) -> Result<&'a [A]> {
    let x: &[A] = io.input(0)?;
    // What has no elements is not divided.
    Ok(if x.is_empty() { x } else { &x[io.share()] })
}

fn convert<A: AnyBitPattern + Copy, B: Element + AnyBitPattern + NoUninit>(
    io: &Io<'_>,
    map: impl Fn(A) -> B,
) -> Result<()> {
    let (x, y): (&[A], &mut [B]) = (own(io)?, io.output(0)?);
    for (y, x) in y.iter_mut().zip(x) {
        *y = map(*x);
    }
    Ok(())
}

impl Kernel for Convert {
    fn name(&self) -> String {
        format!("cast {} to {}", self.from, self.to)
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        use DType::{BF16, Bool, F16, F32, I32, I64, U8};
        match (self.from, self.to) {
            (F16, F32) => f16_to_f32(self.isa, own(io)?, io.output(0)?),
            (F32, F16) => f16_from_f32(self.isa, own(io)?, io.output(0)?),
            (BF16, F32) => bf16_to_f32(self.isa, own(io)?, io.output(0)?),
            (F32, BF16) => bf16_from_f32(self.isa, own(io)?, io.output(0)?),
            (I64, F32) => convert(io, |x: i64| x as f32)?,
            (I32, F32) => convert(io, |x: i32| x as f32)?,
            (Bool | U8, F32) => convert(io, |x: u8| f32::from(x))?,
            (F32, I64) => convert(io, |x: f32| x as i64)?,
            (F32, I32) => convert(io, |x: f32| x as i32)?,
            (I64, I32) => convert(io, |x: i64| x as i32)?,
            (I32, I64) => convert(io, |x: i32| i64::from(x))?,
            (Bool, I64) => convert(io, |x: u8| i64::from(x))?,
            _ => convert(io, |x: u8| i32::from(x))?,
        }
        Ok(())
    }
}
