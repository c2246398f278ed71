//! `Resize` over two neighboring axes, in either layout: to the nearest element, and linear in f32.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::movement::{Axis, resize_linear, resize_nearest};
use crate::ops::image::{Filter, Resize};
use crate::tensor::{DType, with_bits};

/// The tables of a resize whose scales or sizes are constants.
#[derive(Debug)]
pub(super) struct Resizing {
    isa: Isa,
    size: usize,
    linear: bool,
    vertical: Axis,
    horizontal: Axis,
    rows: usize,
    /// Elements that stay together: those of the axes behind.
    channels: usize,
}

impl Resizing {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(op), Some(from), Some(to)) = (spec.op::<Resize>(), spec.shape(0), spec.output_shape(0)) else {
            return Ok(None);
        };
        let dtype = spec.input(0).map(|slot| slot.dtype);
        let linear = match op.filter {
            Filter::Nearest(_) => false,
            Filter::Linear if dtype == Some(DType::F32) && !op.antialias && !op.exclude_outside => true,
            _ => return Ok(None),
        };
        let told = (1..4).all(|index| spec.input(index).is_none() || spec.constant(index).is_some());
        let (Some(dtype), true) = (dtype, told && from.rank() == to.rank()) else { return Ok(None) };
        if from.elements().min(to.elements()) == 0 {
            return Ok(None);
        }
        let constants = [None, spec.constant(1), spec.constant(2), spec.constant(3)];
        let Some(places) = op.places(from, to, &constants)? else { return Ok(None) };
        let stays = |axis: usize| {
            from[axis] == to[axis] && places[axis].iter().enumerate().all(|(at, place)| at as f64 == *place)
        };
        let changed: Vec<usize> = (0..from.rank()).filter(|axis| !stays(*axis)).collect();
        let Some(first) = changed.first().copied().or(from.rank().checked_sub(1)) else { return Ok(None) };
        let end = changed.last().map_or(first, |last| *last) + 1;
        // The innermost of one or two axes is the horizontal one.
        if end - first > 2 {
            return Ok(None);
        }
        let across = end - 1;
        let down = (end - first == 2).then_some(first);
        let axis = |length: usize, places: &[f64]| match linear {
            true => Axis::linear(length, places.iter().map(|place| *place as f32)),
            false => Axis::nearest(length, places.iter().map(|place| *place as usize)),
        };
        Ok(Some(Resizing {
            isa,
            size: dtype.size(),
            linear,
            vertical: down.map_or_else(|| axis(1, &[0.0]), |down| axis(from[down], &places[down])),
            horizontal: axis(from[across], &places[across]),
            rows: to[..across].iter().product(),
            channels: to[end..].iter().product(),
        }))
    }
}

impl Kernel for Resizing {
    fn name(&self) -> String {
        format!("resize to {}x{}", self.vertical.len(), self.horizontal.len())
    }

    fn workspace(&self) -> usize {
        if self.linear { self.horizontal.source_len() * self.channels * size_of::<f32>() } else { 0 }
    }

    fn division(&self) -> Division {
        Division::units(self.rows, 1)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (vertical, horizontal) = (&self.vertical, &self.horizontal);
        if self.linear {
            let (x, y) = (io.input(0)?, io.output(0)?);
            let row = bytemuck::cast_slice_mut(&mut context.workspace[..self.workspace()]);
            resize_linear(self.isa, vertical, horizontal, self.channels, x, io.share(), y, row);
        } else {
            with_bits!(self.size, T => {
                let x: &[T] = io.input(0)?;
                resize_nearest(vertical, horizontal, self.channels, x, io.share(), io.output(0)?);
            });
        }
        Ok(())
    }
}
