//! Instance and group normalization of f32 images in either layout.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use super::pooling::unwrapped;
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::norm::{group_norm, group_norm_channels_last};
use crate::ops::nn::{GroupNormalization, InstanceNormalization};
use crate::tensor::DType;

/// Each group of channels of each image brought to unit scale.
#[derive(Debug)]
pub(super) struct GroupRows {
    isa: Isa,
    images: usize,
    channels: usize,
    groups: usize,
    plane: usize,
    epsilon: f32,
    last: bool,
}

impl GroupRows {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let instance = unwrapped::<InstanceNormalization>(spec).map(|(op, last)| (op.epsilon, None, last));
        let group = unwrapped::<GroupNormalization>(spec).map(|(op, last)| (op.epsilon, Some(op.num_groups), last));
        let Some((epsilon, groups, last)) = instance.or(group) else { return Ok(None) };
        let Some(shape) = spec.shape(0).filter(|s| spec.all(DType::F32) && s.rank() >= 2) else { return Ok(None) };
        let axis = if last { shape.rank() - 1 } else { 1 };
        let (images, channels) = (shape[0], shape[axis]);
        let groups = groups.unwrap_or(channels);
        let each = |index: usize| spec.shape(index).is_some_and(|s| s.elements() == channels);
        let plane = shape.elements().checked_div(images * channels);
        let Some(plane) = plane.filter(|&n| n > 0 && channels.is_multiple_of(groups) && each(1) && each(2)) else {
            return Ok(None);
        };
        Ok(Some(GroupRows { isa, images, channels, groups, plane, epsilon, last }))
    }
}

impl Kernel for GroupRows {
    fn name(&self) -> String {
        format!("norm of {} groups{}", self.groups, if self.last { " channels last" } else { "" })
    }

    fn workspace(&self) -> usize {
        if self.last { 2 * self.channels * size_of::<f32>() } else { 0 }
    }

    fn division(&self) -> Division {
        Division::units(self.images * if self.last { 1 } else { self.groups }, 1)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let GroupRows { isa, groups, plane, epsilon, .. } = *self;
        let (share, scale, shift, y) = (io.share(), io.input(1)?, io.input(2)?, io.output(0)?);
        let unit = plane * self.channels / if self.last { 1 } else { groups };
        let x: &[f32] = &io.input(0)?[share.start * unit..share.end * unit];
        if self.last {
            let work = bytemuck::cast_slice_mut(&mut context.workspace[..self.workspace()]);
            group_norm_channels_last(isa, groups, plane, epsilon, scale, shift, x, y, work);
        } else {
            group_norm(isa, groups, share.start % groups, plane, epsilon, scale, shift, x, y);
        }
        Ok(())
    }
}
