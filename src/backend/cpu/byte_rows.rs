//! Functions of whole rows between bytes: softmax and normalization in f32, a few rows at a time.

use super::arena::Io;
use super::integer::known;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::norm::{Center, RowNorm, Rows, row_norm};
use crate::kernels::quantize::{Byte, dequantize, quantize};
use crate::kernels::softmax::{Form, softmax_in_place};
use crate::ops::fused::Quantized;
use crate::ops::nn::{LayerNormalization, Softmax};
use crate::tensor::DType;
use bytemuck::{AnyBitPattern, NoUninit};

/// Elements that are real numbers at one time: they stay in the first cache.
const CHUNK: usize = 4096;

#[derive(Debug, Clone, Copy)]
enum Function {
    Softmax,
    Norm { epsilon: f32, shift: bool },
}

#[derive(Debug)]
pub(super) struct ByteRows {
    isa: Isa,
    function: Function,
    /// Elements of a row.
    cols: usize,
    count: usize,
    signed: bool,
    x: (f32, i32),
    y: (f32, i32),
}

impl ByteRows {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        Ok(Self::of(spec, isa))
    }

    fn of(spec: &Spec<'_>, isa: Isa) -> Option<Self> {
        let quantized = spec.op::<Quantized>()?;
        let (shape, dtype) = (spec.shape(0)?, spec.output(0)?.dtype);
        let cols = *shape.last()?;
        let last = |axis: i64| shape.axis(axis).is_ok_and(|axis| axis + 1 == shape.rank());
        let whole = |index: usize| {
            spec.input(index)
                .is_none_or(|s| s.dtype == DType::F32 && s.shape.as_ref().is_some_and(|s| s.elements() == cols))
        };
        let function = if quantized.op.downcast_ref::<Softmax>().is_some_and(|op| last(op.axis)) {
            Function::Softmax
        } else {
            let op = quantized.op.downcast_ref::<LayerNormalization>().filter(|op| last(op.axis))?;
            let shift = quantized.arity > 2 && spec.input(2).is_some();
            if spec.input(1).is_none() || !whole(1) || shift && !whole(2) {
                return None;
            }
            Function::Norm { epsilon: op.epsilon, shift }
        };
        let (x, y) = (known(spec, quantized.input(0)?)?, known(spec, quantized.output?)?);
        let same = spec.input(0)?.dtype == dtype && spec.is_static();
        same.then_some(ByteRows {
            isa,
            function,
            cols,
            count: shape.elements().checked_div(cols).unwrap_or(0),
            signed: dtype == DType::I8,
            x,
            y,
        })
    }

    fn chunk(&self) -> usize {
        (CHUNK / self.cols.max(1)).max(1) * self.cols
    }

    fn rows<T: Byte + AnyBitPattern + NoUninit>(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (x, y): (&[T], &mut [T]) = (io.input(0)?, io.output(0)?);
        if y.is_empty() {
            return Ok(());
        }
        let share = io.share();
        let x = &x[share.start * self.cols..share.end * self.cols];
        let reals: &mut [f32] = &mut bytemuck::cast_slice_mut(context.workspace)[..self.chunk()];
        let norm = match self.function {
            Function::Softmax => None,
            Function::Norm { epsilon, shift } => Some(RowNorm {
                center: Center::Mean,
                cols: self.cols,
                epsilon,
                scale: Some(io.input(1)?),
                shift: if shift { Some(io.input(2)?) } else { None },
            }),
        };
        for (x, y) in x.chunks(self.chunk()).zip(y.chunks_mut(self.chunk())) {
            let reals = &mut reals[..x.len()];
            dequantize(self.isa, x, self.x.0, self.x.1, reals);
            match &norm {
                None => softmax_in_place(self.isa, Form::Softmax, self.cols, 1.0, None, 0, reals),
                Some(norm) => row_norm(self.isa, norm, Rows { x: None, ..Rows::default() }, None, reals),
            }
            quantize(self.isa, reals, self.y.0, self.y.1, y);
        }
        Ok(())
    }
}

impl Kernel for ByteRows {
    fn name(&self) -> String {
        let kind = if let Function::Softmax = self.function { "softmax" } else { "norm" };
        format!("{kind} of bytes over {}", self.cols)
    }

    fn workspace(&self) -> usize {
        self.chunk() * 4
    }

    fn division(&self) -> Division {
        Division::units(self.count, 1)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        if self.signed { self.rows::<i8>(io, context) } else { self.rows::<u8>(io, context) }
    }
}
