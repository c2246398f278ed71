//! `Resize` over the last two axes: to the nearest element, and linear in f32.

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
        let (Some(dtype), Some(leading), true) = (dtype, from.rank().checked_sub(2), told) else { return Ok(None) };
        let elements = from.elements().min(to.elements());
        if elements == 0 || from[..leading] != to[..leading] {
            return Ok(None);
        }
        let constants = [None, spec.constant(1), spec.constant(2), spec.constant(3)];
        let Some(places) = op.places(from, to, &constants)? else { return Ok(None) };
        let stays = |places: &Vec<f64>| places.iter().enumerate().all(|(at, place)| at as f64 == *place);
        let (outer, [vertical, horizontal]) = places.split_at(leading) else { return Ok(None) };
        if !outer.iter().all(stays) {
            return Ok(None);
        }
        let axis = |length: usize, places: &[f64]| match linear {
            true => Axis::linear(length, places.iter().map(|place| *place as f32)),
            false => Axis::nearest(length, places.iter().map(|place| *place as usize)),
        };
        Ok(Some(Resizing {
            isa,
            size: dtype.size(),
            linear,
            vertical: axis(from[leading], vertical),
            horizontal: axis(from[leading + 1], horizontal),
            rows: to[..=leading].iter().product(),
        }))
    }
}

impl Kernel for Resizing {
    fn name(&self) -> String {
        format!("resize to {}x{}", self.vertical.len(), self.horizontal.len())
    }

    fn division(&self) -> Division {
        Division::units(self.rows, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (vertical, horizontal) = (&self.vertical, &self.horizontal);
        if self.linear {
            resize_linear(self.isa, vertical, horizontal, 1, io.input(0)?, io.share(), io.output(0)?);
        } else {
            with_bits!(self.size, T => {
                let x: &[T] = io.input(0)?;
                resize_nearest(vertical, horizontal, 1, x, io.share(), io.output(0)?);
            });
        }
        Ok(())
    }
}
