//! Steps that tell the range of what they compute, and the quantization that begins with it.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use super::lower::lower;
use crate::backend::State;
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::gemm::Extremes;
use crate::kernels::quantize::{dynamic_parameters, min_max, quantize};
use crate::ops::fused::{self, QuantizeRanged};
use crate::tensor::{DType, Shape};

/// Elements up to which a step tells nothing, and the quantization goes through them: they are in the first cache.
const FEW: usize = 2048;

/// Any kernel of f32, and the range of each part: told by the kernel, or read while what it wrote is in a near cache.
#[derive(Debug)]
struct Ranged {
    isa: Isa,
    kernel: Box<dyn Kernel>,
}

/// The kernel of a [`fused::Ranged`].
pub(super) fn ranged(spec: &Spec<'_>, isa: Isa) -> Result<Option<Box<dyn Kernel>>> {
    let Some(fused::Ranged { op }) = spec.op::<fused::Ranged>() else { return Ok(None) };
    let float = spec.output(0).is_some_and(|slot| slot.dtype == DType::F32);
    let (Some(shape), Some(_), true) = (spec.output_shape(0), spec.output(1), float) else { return Ok(None) };
    let mut instruction = spec.instruction.clone();
    instruction.op = op.clone();
    instruction.outputs.truncate(1);
    let kernel = lower(&spec.of(&instruction), isa)?;
    Ok(Some(if shape.elements() <= FEW { kernel } else { Box::new(Ranged { isa, kernel }) }))
}

impl Kernel for Ranged {
    fn name(&self) -> String {
        format!("{} with its range", self.kernel.name())
    }

    fn workspace(&self) -> usize {
        self.kernel.workspace()
    }

    fn division(&self) -> Division {
        match self.kernel.division() {
            // What a part wrote lies apart, and nobody but the kernel has seen it.
            Division::Columns { .. } if !self.kernel.tells_extremes() => Division::Whole,
            division => division,
        }
    }

    fn state(&self) -> Result<Option<State>> {
        self.kernel.state()
    }

    fn state_bytes(&self) -> usize {
        self.kernel.state_bytes()
    }

    fn weights(&self, part: usize, of: usize) -> &[u8] {
        self.kernel.weights(part, of)
    }

    fn fallbacks(&self, name: &str, operator: &str) -> Vec<String> {
        self.kernel.fallbacks(name, operator)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let ranges: &mut [f32] = io.output(1)?;
        let (low, high) = if self.kernel.tells_extremes() {
            let extremes = Extremes::default();
            self.kernel.run(io, &mut context.telling(&extremes))?;
            extremes.get()
        } else {
            min_max(self.isa, io.written(0, |io| self.kernel.run(io, context))?)
        };
        ranges.fill(0.0);
        if let [least, greatest, ..] = ranges {
            (*least, *greatest) = (low.min(0.0), high.max(0.0));
        }
        Ok(())
    }
}

/// [`QuantizeRanged`] of f32.
#[derive(Debug)]
pub(super) struct QuantizeInRange {
    isa: Isa,
    len: usize,
    outputs: [bool; 2],
}

impl QuantizeInRange {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let known = spec.op::<QuantizeRanged>().is_some() && spec.is_static() && spec.output(0).is_some();
        let len = spec.shape(0).map_or(0, Shape::elements);
        Ok(known.then(|| QuantizeInRange { isa, len, outputs: [1, 2].map(|index| spec.output(index).is_some()) }))
    }
}

impl Kernel for QuantizeInRange {
    fn name(&self) -> String {
        "quantize in a range".to_owned()
    }

    fn division(&self) -> Division {
        if self.len <= FEW { Division::Whole } else { Division::units(self.len, 4096) }
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (x, y): (&[f32], &mut [u8]) = (io.input(0)?, io.output(0)?);
        let (own, (low, high)) = if self.len <= FEW {
            (x, min_max(self.isa, x))
        } else {
            // Each range holds zero, so that the least of all their numbers is the least of the first ones.
            (&x[io.share()], min_max(self.isa, io.input(1)?))
        };
        let (scale, zero) = dynamic_parameters(low, high);
        quantize(self.isa, own, scale, i32::from(zero), y);
        if self.outputs[0] {
            io.output::<f32>(1)?.fill(scale);
        }
        if self.outputs[1] {
            io.output::<u8>(2)?.fill(zero);
        }
        Ok(())
    }
}
