//! Between real numbers and bytes: `QuantizeLinear`, `DequantizeLinear`, `DynamicQuantizeLinear`.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, ensure};
use crate::kernels::arch::Isa;
use crate::kernels::quantize::{dequantize, dequantize_i32, dynamic_parameters, min_max, quantize};
use crate::ops::quant::{DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear};
use crate::tensor::DType;

/// Elements that share a scale, and how many scales follow each other.
#[derive(Debug, Clone, Copy)]
struct Runs {
    inner: usize,
    scales: usize,
}

impl Runs {
    /// One scale for all, or one an index of an axis.
    fn new(spec: &Spec<'_>, axis: i64, block_size: usize) -> Option<Self> {
        let (shape, scale) = (spec.shape(0)?, spec.shape(1)?);
        if block_size > 0 || spec.input(1)?.dtype != DType::F32 {
            return None;
        }
        if scale.elements() == 1 {
            return Some(Runs { inner: shape.elements(), scales: 1 });
        }
        let axis = shape.axis(axis).ok()?;
        let fits = scale.rank() == 1 && scale.elements() == shape[axis];
        fits.then(|| Runs { inner: shape[axis + 1..].iter().product(), scales: shape[axis] })
    }

    /// Elements that have the scale in common can be divided.
    fn division(self) -> Division {
        if self.scales == 1 { Division::units(self.inner, 4096) } else { Division::Whole }
    }

    /// The elements of the input that the step's share is made of.
    fn own<'a, T>(self, io: &Io<'_>, x: &'a [T]) -> &'a [T] {
        if self.scales == 1 { &x[io.share()] } else { x }
    }

    /// Calls `run(range, scale, zero point)` for each run of `len` elements.
    fn each(
        self,
        len: usize,
        scales: &[f32],
        zeros: impl Fn(usize) -> i32,
        mut run: impl FnMut(std::ops::Range<usize>, f32, i32),
    ) -> Result<()> {
        ensure!(scales.len() == self.scales, Internal, "{} scales for {}", scales.len(), self.scales);
        let bad = scales.iter().find(|scale| scale.is_nan() || **scale == 0.0);
        ensure!(bad.is_none(), InvalidInput, "a scale is {}", bad.unwrap_or(&0.0));
        if len == 0 {
            return Ok(());
        }
        for (index, start) in (0..len).step_by(self.inner.max(1)).enumerate() {
            let index = index % self.scales;
            run(start..len.min(start + self.inner), scales[index], zeros(index));
        }
        Ok(())
    }
}

/// The zero points of a step as integers, read from input 2 where there is one.
fn zero_points<'a>(io: &Io<'a>, present: bool, dtype: DType) -> Result<impl Fn(usize) -> i32 + use<'a>> {
    let bytes: &[u8] = if present { io.input(2)? } else { &[] };
    let signed = dtype == DType::I8;
    Ok(move |index: usize| match bytes.get(index) {
        Some(&byte) if signed => i32::from(byte as i8),
        Some(&byte) => i32::from(byte),
        None => 0,
    })
}

/// `QuantizeLinear` of f32 to bytes.
#[derive(Debug)]
pub(super) struct Quantize {
    isa: Isa,
    runs: Runs,
    zeros: bool,
    to: DType,
}

impl Quantize {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<QuantizeLinear>() else { return Ok(None) };
        let float = spec.input(0).is_some_and(|slot| slot.dtype == DType::F32);
        let to = spec.output(0).map(|slot| slot.dtype).filter(|to| matches!(to, DType::U8 | DType::I8));
        let (Some(runs), Some(to), true) = (Runs::new(spec, op.axis, op.block_size), to, float && spec.is_static())
        else {
            return Ok(None);
        };
        Ok(Some(Quantize { isa, runs, zeros: spec.input(2).is_some(), to }))
    }
}

impl Kernel for Quantize {
    fn name(&self) -> String {
        format!("quantize to {}", self.to)
    }

    fn division(&self) -> Division {
        self.runs.division()
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (x, scales): (&[f32], &[f32]) = (self.runs.own(io, io.input(0)?), io.input(1)?);
        let zeros = zero_points(io, self.zeros, self.to)?;
        if self.to == DType::I8 {
            let y: &mut [i8] = io.output(0)?;
            self.runs.each(x.len(), scales, zeros, |range, scale, zero| {
                quantize(self.isa, &x[range.clone()], scale, zero, &mut y[range]);
            })
        } else {
            let y: &mut [u8] = io.output(0)?;
            self.runs.each(x.len(), scales, zeros, |range, scale, zero| {
                quantize(self.isa, &x[range.clone()], scale, zero, &mut y[range]);
            })
        }
    }
}

/// `DequantizeLinear` of bytes and of sums to f32.
#[derive(Debug)]
pub(super) struct Dequantize {
    isa: Isa,
    runs: Runs,
    zeros: bool,
    from: DType,
}

impl Dequantize {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<DequantizeLinear>() else { return Ok(None) };
        let float = spec.output(0).is_some_and(|slot| slot.dtype == DType::F32) && spec.is_static();
        let from = spec.input(0).map(|slot| slot.dtype);
        let zero_sums = match (spec.input(2), spec.constant(2)) {
            (None, _) => true,
            (_, Some(zeros)) => zeros.to_i64_vec()?.iter().all(|&zero| zero == 0),
            _ => false,
        };
        let known = matches!(from, Some(DType::U8 | DType::I8)) || from == Some(DType::I32) && zero_sums;
        let (Some(runs), Some(from), true) = (Runs::new(spec, op.axis, op.block_size), from, float && known) else {
            return Ok(None);
        };
        Ok(Some(Dequantize { isa, runs, zeros: spec.input(2).is_some() && from != DType::I32, from }))
    }
}

impl Kernel for Dequantize {
    fn name(&self) -> String {
        format!("dequantize {}", self.from)
    }

    fn division(&self) -> Division {
        self.runs.division()
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (scales, y): (&[f32], &mut [f32]) = (io.input(1)?, io.output(0)?);
        let zeros = zero_points(io, self.zeros, self.from)?;
        match self.from {
            DType::I8 => {
                let x: &[i8] = self.runs.own(io, io.input(0)?);
                self.runs.each(x.len(), scales, zeros, |range, scale, zero| {
                    dequantize(self.isa, &x[range.clone()], scale, zero, &mut y[range]);
                })
            }
            DType::U8 => {
                let x: &[u8] = self.runs.own(io, io.input(0)?);
                self.runs.each(x.len(), scales, zeros, |range, scale, zero| {
                    dequantize(self.isa, &x[range.clone()], scale, zero, &mut y[range]);
                })
            }
            _ => {
                let x: &[i32] = self.runs.own(io, io.input(0)?);
                self.runs.each(x.len(), scales, zeros, |range, scale, _| {
                    dequantize_i32(self.isa, &x[range.clone()], scale, &mut y[range]);
                })
            }
        }
    }
}

/// `DynamicQuantizeLinear`: the range of the whole tensor gives the scale.
#[derive(Debug)]
pub(super) struct DynamicQuantize {
    isa: Isa,
    outputs: [bool; 2],
}

impl DynamicQuantize {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let known = spec.op::<DynamicQuantizeLinear>().is_some() && spec.is_static() && spec.output(0).is_some();
        Ok(known.then(|| DynamicQuantize { isa, outputs: [1, 2].map(|index| spec.output(index).is_some()) }))
    }
}

impl Kernel for DynamicQuantize {
    fn name(&self) -> String {
        "quantize by range".to_owned()
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (x, y): (&[f32], &mut [u8]) = (io.input(0)?, io.output(0)?);
        let (low, high) = min_max(self.isa, x);
        let (scale, zero) = dynamic_parameters(low, high);
        quantize(self.isa, x, scale, i32::from(zero), y);
        if self.outputs[0] {
            io.output::<f32>(1)?.fill(scale);
        }
        if self.outputs[1] {
            io.output::<u8>(2)?.fill(zero);
        }
        Ok(())
    }
}
