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

/// Maxima or means of windows.
#[derive(Debug)]
pub(super) struct Window {
    isa: Isa,
    kind: k::PoolKind,
    pool: k::Pool,
    images: usize,
    last: bool,
    /// Of a volume: the pool of the slices' results.
    slices: Option<k::Pool>,
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

/// A pool of volumes as one of each slice, and one of the slices' results, whose places are the columns of an image as high
/// as the volume is deep. A mean of means is the mean: how many elements count is a product.
fn volume(op: &Pool, input: &Shape, output: &Shape, last: bool) -> Result<Option<[k::Pool; 2]>> {
    let spatial = if last { 1..4 } else { 2..5 };
    let (&[d, h, w], &[od, oh, ow]) = (&input[spatial.clone()], &output[spatial]) else { return Ok(None) };
    let (begin, end) = op.padding.resolve(&[d, h, w], &op.kernel, &op.strides, &op.dilations)?;
    let three = |list: &[usize]| <[usize; 3]>::try_from(list).unwrap_or([1; 3]);
    let pads = |list: &[i64]| -> Option<[usize; 3]> {
        let list: Option<Vec<usize>> = list.iter().map(|&p| usize::try_from(p).ok()).collect();
        list?.try_into().ok()
    };
    let (Some(begin), Some(end)) = (pads(&begin), pads(&end)) else { return Ok(None) };
    let (kernel, strides, dilations) = (three(&op.kernel), three(&op.strides), three(&op.dilations));
    let channels = input[if last { 4 } else { 1 }];
    let across = |of: [usize; 3]| [of[1], of[2]];
    let pool = k::Pool {
        channels,
        input: [h, w],
        output: [oh, ow],
        kernel: across(kernel),
        strides: across(strides),
        dilations: across(dilations),
        begin: across(begin),
        end: across(end),
    };
    let slices = k::Pool {
        channels,
        input: [d, oh * ow],
        output: [od, oh * ow],
        kernel: [kernel[0], 1],
        strides: [strides[0], 1],
        dilations: [dilations[0], 1],
        begin: [begin[0], 0],
        end: [end[0], 0],
    };
    Ok(Some([pool, slices]))
}

impl Window {
    /// Rows or planes that a pool of all images is computed in.
    fn parts(&self, pool: &k::Pool, images: usize) -> usize {
        images * if self.last { pool.output[0] } else { pool.channels }
    }

    fn pool(&self, pool: &k::Pool, x: &[f32], parts: std::ops::Range<usize>, y: &mut [f32]) {
        if self.last {
            pool_channels_last(self.isa, self.kind, pool, x, parts, y);
        } else {
            pool_channels_first(self.isa, self.kind, pool, x, parts, y);
        }
    }

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
        if input.rank() == 5 {
            let Some([pool, slices]) = volume(op, input, output, last)? else { return Ok(None) };
            return Ok(Some(Window { isa, kind, pool, images: input[0], last, slices: Some(slices) }));
        }
        let Some(pool) = window(op, input, output, last)? else { return Ok(None) };
        Ok(Some(Window { isa, kind, pool, images: input[0], last, slices: None }))
    }
}

impl Kernel for Window {
    fn name(&self) -> String {
        let [h, w] = self.pool.kernel;
        let depth = self.slices.map(|slices| format!("{}x", slices.kernel[0])).unwrap_or_default();
        format!("pool {depth}{h}x{w}{}", if self.last { " channels last" } else { "" })
    }

    fn workspace(&self) -> usize {
        let of = |slices: &k::Pool| [self.images, slices.input[0], slices.input[1], slices.channels, 4];
        self.slices.as_ref().map_or(0, |slices| of(slices).into_iter().fold(1, usize::saturating_mul))
    }

    fn division(&self) -> Division {
        match self.slices {
            Some(_) => Division::Whole,
            None => Division::units(self.parts(&self.pool, self.images), 1),
        }
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (x, y) = (io.input(0)?, io.output(0)?);
        let Some(slices) = &self.slices else {
            self.pool(&self.pool, x, io.share(), y);
            return Ok(());
        };
        let between: &mut [f32] = bytemuck::cast_slice_mut(&mut context.workspace[..self.workspace()]);
        let depth = slices.input[0];
        self.pool(&self.pool, x, 0..self.parts(&self.pool, self.images * depth), between);
        self.pool(slices, between, 0..self.parts(slices, self.images), y);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::nn::{Conv, Padding};
    use crate::tensor::{Fact, Tensor};
    use crate::{CompileOptions, Model};
    use std::sync::Arc;

    #[test]
    fn volumes_are_pooled_and_convolved_in_both_layouts() {
        let shape = [2, 4, 5, 6, 7];
        let x = Tensor::new(shape, (0..1680).map(|i| ((i * 7919) % 31) as f32 - 15.0).collect::<Vec<f32>>()).unwrap();
        let ones = || Padding::Explicit { begin: vec![1; 3], end: vec![1, 0, 1] };
        for kind in [
            PoolKind::Max { storage_order: Default::default() },
            PoolKind::Average { count_include_pad: false },
            PoolKind::Average { count_include_pad: true },
        ] {
            for convolves in [false, true] {
                let mut graph = Graph::new("volumes");
                let mut y = graph.input("x", Fact::concrete(DType::F32, &shape)).unwrap();
                if convolves {
                    let w: Vec<f32> = (0..3 * 4 * 18).map(|i| ((i * 13) % 7) as f32 - 3.0).collect();
                    let w = graph.constant("w", Tensor::new([3, 4, 2, 3, 3], w).unwrap()).unwrap();
                    y = graph.op("conv", Conv { padding: ones(), ..Conv::default() }, &[y, w]).unwrap();
                }
                let pool = Pool {
                    kind,
                    kernel: vec![2, 3, 2],
                    strides: vec![1, 2, 2],
                    dilations: vec![],
                    padding: ones(),
                    ceil_mode: false,
                };
                y = graph.node("pool", Arc::new(pool), &[Some(y)], &[Some("y")]).unwrap()[0].unwrap();
                graph.output(y).unwrap();
                let expected = graph.interpret(std::slice::from_ref(&x)).unwrap();
                let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
                assert_eq!(model.plan(&[x.shape().clone()]).unwrap().fallbacks(), Vec::<String>::new());
                let found = model.run([x.clone()]).unwrap();
                for (a, b) in found[0].to_f64_vec().unwrap().iter().zip(expected[0].to_f64_vec().unwrap()) {
                    assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} against {b}: {kind:?}");
                }
            }
        }
    }
}
