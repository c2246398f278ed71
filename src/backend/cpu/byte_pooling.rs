//! Pools of quantized images, channels last; a global one has the whole image as its window.

use super::arena::Io;
use super::integer::known;
use super::kernel::{Context, Division, Kernel, Spec};
use super::pooling::{unwrapped, window};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::pool::{self as k, average_bytes, max_bytes};
use crate::kernels::quantize::Byte;
use crate::ops::fused::Quantized;
use crate::ops::nn::{GlobalPool, GlobalPoolKind, Pool, PoolKind};
use crate::tensor::DType;
use bytemuck::{AnyBitPattern, NoUninit};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Max,
    Average { include_padding: bool, scales: k::Requantize },
}

#[derive(Debug)]
pub(super) struct ByteWindow {
    isa: Isa,
    kind: Kind,
    pool: k::Pool,
    images: usize,
    signed: bool,
}

impl ByteWindow {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(input), Some(output), Some(slot)) = (spec.shape(0), spec.output_shape(0), spec.output(0)) else {
            return Ok(None);
        };
        let bytes = matches!(slot.dtype, DType::U8 | DType::I8)
            && spec.input(0).is_some_and(|x| x.dtype == slot.dtype)
            && spec.instruction.outputs.iter().skip(1).all(Option::is_none);
        if !bytes {
            return Ok(None);
        }
        let found = if let Some((op, true)) = unwrapped::<Pool>(spec) {
            let max = matches!(op.kind, PoolKind::Max { .. });
            window(op, input, output, true)?.filter(|_| max).map(|pool| (Kind::Max, pool))
        } else if let Some((quantized, true)) = unwrapped::<Quantized>(spec) {
            let scales = scales(spec, quantized);
            let op = &quantized.op;
            let sized = if let Some(op) = op.downcast_ref::<Pool>() {
                let kind =
                    if let PoolKind::Average { count_include_pad } = op.kind { Some(count_include_pad) } else { None };
                kind.zip(window(op, input, output, true)?)
            } else if op.downcast_ref::<GlobalPool>().is_some_and(|op| op.kind == GlobalPoolKind::Average) {
                global(input).map(|pool| (false, pool))
            } else {
                None
            };
            sized.zip(scales).map(|((include_padding, pool), scales)| (Kind::Average { include_padding, scales }, pool))
        } else {
            None
        };
        Ok(found.map(|(kind, pool)| ByteWindow { isa, kind, pool, images: input[0], signed: slot.dtype == DType::I8 }))
    }

    fn pool<T: Byte + AnyBitPattern + NoUninit>(&self, io: &Io<'_>) -> Result<()> {
        let (x, y): (&[T], &mut [T]) = (io.input(0)?, io.output(0)?);
        let rows = io.share();
        match self.kind {
            Kind::Max => max_bytes(self.isa, &self.pool, x, rows, y),
            Kind::Average { include_padding, scales } => {
                average_bytes(self.isa, &self.pool, include_padding, scales, x, rows, y);
            }
        }
        Ok(())
    }
}

/// From the input's scale to the output's.
fn scales(spec: &Spec<'_>, quantized: &Quantized) -> Option<k::Requantize> {
    let ((x_scale, x_zero), (y_scale, y_zero)) = (known(spec, quantized.input(0)?)?, known(spec, quantized.output?)?);
    Some(k::Requantize { x_scale, x_zero, y_scale, y_zero })
}

/// One window over an image of one or two spatial axes.
fn global(input: &[usize]) -> Option<k::Pool> {
    let size = match *input {
        [_, width, _] => [1, width],
        [_, height, width, _] => [height, width],
        _ => return None,
    };
    Some(k::Pool {
        channels: *input.last()?,
        input: size,
        output: [1, 1],
        kernel: size,
        strides: [1, 1],
        dilations: [1, 1],
        begin: [0, 0],
        end: [0, 0],
    })
}

impl Kernel for ByteWindow {
    fn name(&self) -> String {
        let [h, w] = self.pool.kernel;
        format!("pool bytes {h}x{w}")
    }

    fn division(&self) -> Division {
        Division::units(self.images * self.pool.output[0], 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        if self.signed { self.pool::<i8>(io) } else { self.pool::<u8>(io) }
    }
}
