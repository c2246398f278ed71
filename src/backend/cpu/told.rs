//! Operators that are told while they run what shape they make, where inference could tell it without that.
//!
//! A `Reshape` to a list of one length can only make one shape, and an `Expand` cannot shorten an axis: so the plan knows
//! the shape before the run knows the list. Whether the list agrees is found here, before the kernel inside goes by the
//! plan alone.

use super::arena::Io;
use super::elementwise::Copy;
use super::kernel::{Context, Division, Kernel, Spec};
use super::movement::Strided;
use crate::error::{Result, ensure};
use crate::kernels::arch::Isa;
use crate::ops::layout::{Expand, Reshape, Squeeze, Unsqueeze};
use crate::ops::{Inputs, Op};
use crate::tensor::{Fact, Shape};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Told {
    op: Arc<dyn Op>,
    x: Fact,
    made: Shape,
    inner: Box<dyn Kernel>,
}

impl Told {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let told = (1..spec.instruction.inputs.len()).any(|i| spec.input(i).is_some() && spec.constant(i).is_none());
        if !told || !spec.is_static() {
            return Ok(None);
        }
        let op = &spec.instruction.op;
        let (Some(x), Some(shape), Some(made)) = (spec.input(0), spec.shape(0), spec.output_shape(0)) else {
            return Ok(None);
        };
        let inner: Option<Box<dyn Kernel>> = if op.is::<Reshape>() || op.is::<Squeeze>() || op.is::<Unsqueeze>() {
            Some(Box::new(Copy::of(x.dtype)))
        } else if op.is::<Expand>() {
            Strided::new(spec, isa)?.map(|kernel| Box::new(kernel) as Box<dyn Kernel>)
        } else {
            None
        };
        let x = Fact::concrete(x.dtype, shape);
        Ok(inner.map(|inner| Told { op: op.clone(), x, made: made.clone(), inner }))
    }
}

impl Kernel for Told {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn workspace(&self) -> usize {
        self.inner.workspace()
    }

    fn division(&self) -> Division {
        self.inner.division()
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let told = (1..io.input_count()).map(|i| Ok(io.tensor(i)?.map(Fact::constant)));
        let told = told.collect::<Result<Vec<Option<Fact>>>>()?;
        let facts: Vec<Option<&Fact>> = std::iter::once(Some(&self.x)).chain(told.iter().map(Option::as_ref)).collect();
        let made = self.op.infer(Inputs::new(&facts))?;
        let shape = made.first().and_then(Fact::concrete_shape);
        ensure!(shape.as_ref() == Some(&self.made), Shape, "{made:?} is asked for, where only {} fits", self.made);
        self.inner.run(io, context)
    }
}
