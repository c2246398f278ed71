//! Pools of f32 images in either layout; a global pool is a reduction.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::pool::{self as k, pool_channels_first, pool_channels_last};
use crate::kernels::reduce::{Reduction, reduce};
use crate::ops::Op;
use crate::ops::fused::ChannelsLast;
use crate::ops::nn::{GlobalPool, GlobalPoolKind, Pool, PoolKind};
use crate::tensor::{DType, Shape};

#[derive(Debug)]
pub(super) struct Window {
    isa: Isa,
    kind: k::PoolKind,
    pool: k::Pool,
    images: usize,
    last: bool,
}

/// The operator inside, and whether its images are channels last.
pub(super) fn unwrapped<'a, T: Op>(spec: &Spec<'a>) -> Option<(&'a T, bool)> {
    match spec.op::<ChannelsLast>() {
        Some(last) => Some((last.op.downcast_ref()?, true)),
        None => Some((spec.op::<T>()?, false)),
    }
}

/// The sizes of a pool of one or two spatial axes.
pub(super) fn window(op: &Pool, input: &Shape, output: &Shape, last: bool) -> Result<Option<k::Pool>> {
    let spatial = input.rank().saturating_sub(2);
    if !(1..=2).contains(&spatial) {
        return Ok(None);
    }
    let first = if last { 1 } else { 2 };
    let (size, places) = (&input[first..first + spatial], &output[first..first + spatial]);
    let (begin, end) = op.padding.resolve(size, &op.kernel, &op.strides, &op.dilations)?;
    let pads = |list: &[i64]| -> Option<Vec<usize>> { list.iter().map(|&p| usize::try_from(p).ok()).collect() };
    let (Some(begin), Some(end)) = (pads(&begin), pads(&end)) else { return Ok(None) };
    let pair = |list: &[usize], missing: usize| match list {
        [] => [missing, missing],
        [w] => [missing, *w],
        [h, w, ..] => [*h, *w],
    };
    let channels = input[if last { spatial + 1 } else { 1 }];
    Ok(Some(k::Pool {
        channels,
        input: pair(size, 1),
        output: pair(places, 1),
        kernel: pair(&op.kernel, 1),
        strides: pair(&op.strides, 1),
        dilations: pair(&op.dilations, 1),
        begin: pair(&begin, 0),
        end: pair(&end, 0),
    }))
}

impl Window {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some((op, last)) = unwrapped::<Pool>(spec) else { return Ok(None) };
        let more = spec.instruction.outputs.iter().skip(1).any(Option::is_some);
        let (Some(input), Some(output)) = (spec.shape(0), spec.output_shape(0)) else { return Ok(None) };
        if more || !spec.all(DType::F32) {
            return Ok(None);
        }
        let kind = match op.kind {
            PoolKind::Max { .. } => k::PoolKind::Max,
            PoolKind::Average { count_include_pad } => k::PoolKind::Average { include_padding: count_include_pad },
            _ => return Ok(None),
        };
        let Some(pool) = window(op, input, output, last)? else { return Ok(None) };
        Ok(Some(Window { isa, kind, pool, images: input[0], last }))
    }
}

impl Kernel for Window {
    fn name(&self) -> String {
        let [h, w] = self.pool.kernel;
        format!("pool {h}x{w}{}", if self.last { " channels last" } else { "" })
    }

    fn division(&self) -> Division {
        Division::units(self.images * if self.last { self.pool.output[0] } else { self.pool.channels }, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (x, y) = (io.input(0)?, io.output(0)?);
        if self.last {
            pool_channels_last(self.isa, self.kind, &self.pool, x, io.share(), y);
        } else {
            pool_channels_first(self.isa, self.kind, &self.pool, x, io.share(), y);
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Global {
    isa: Isa,
    reduction: Reduction,
    pixels: usize,
    inner: usize,
}

impl Global {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some((op, last)) = unwrapped::<GlobalPool>(spec) else { return Ok(None) };
        let Some(input) = spec.shape(0).filter(|s| spec.all(DType::F32) && s.rank() > 2) else { return Ok(None) };
        let reduction = match op.kind {
            GlobalPoolKind::Average => Reduction::Mean,
            GlobalPoolKind::Max => Reduction::Max,
            _ => return Ok(None),
        };
        let spatial = if last { &input[1..input.rank() - 1] } else { &input[2..] };
        let inner = if last { input[input.rank() - 1] } else { 1 };
        Ok(Some(Global { isa, reduction, pixels: spatial.iter().product(), inner }))
    }
}

impl Kernel for Global {
    fn name(&self) -> String {
        format!("global pool of {}", self.pixels)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        reduce(self.isa, self.reduction, self.pixels, self.inner, io.input(0)?, io.output(0)?);
        Ok(())
    }
}
