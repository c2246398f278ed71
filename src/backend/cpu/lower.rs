//! Which kernel computes a step: the first family that takes it, and the reference evaluation where none does.

use super::branch::Branch;
use super::kernel::{Kernel, Spec};
use super::product::Product;
use super::reference::Reference;
use crate::backend::Slot;
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::ops::Op;
use crate::ops::fused::Epilogue;
use crate::tensor::DType;

type Family = fn(&Spec<'_>, Isa) -> Result<Option<Box<dyn Kernel>>>;

/// The families in the order in which they are asked.
const FAMILIES: &[Family] = &[|spec, isa| boxed(Product::new(spec, isa)?), |spec, isa| boxed(Branch::new(spec, isa)?)];

fn boxed<K: Kernel + 'static>(kernel: Option<K>) -> Result<Option<Box<dyn Kernel>>> {
    Ok(kernel.map(|kernel| Box::new(kernel) as Box<dyn Kernel>))
}

pub(super) fn lower(spec: &Spec<'_>, isa: Isa) -> Result<Box<dyn Kernel>> {
    for family in FAMILIES {
        if let Some(kernel) = family(spec, isa)? {
            return Ok(kernel);
        }
    }
    Ok(Box::new(Reference { op: spec.instruction.op.clone() }))
}

/// The input that a step may overwrite, of those kernels that can work in place.
pub(super) fn in_place(op: &dyn Op, _inputs: &[Option<&Slot>], outputs: &[Option<&Slot>]) -> Option<usize> {
    let output = outputs.first().copied().flatten()?;
    if output.dtype != DType::F32 {
        return None;
    }
    op.downcast_ref::<Epilogue>().and_then(Epilogue::residual_index)
}
