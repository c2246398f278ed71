//! The step of last resort: the operator's own plain evaluation, on copies of its inputs.

use super::arena::Io;
use super::kernel::{Context, Kernel};
use crate::error::{Result, ensure};
use crate::ops::{Inputs, Op};
use crate::tensor::{Fact, Tensor};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Reference {
    pub(super) op: Arc<dyn Op>,
}

impl Kernel for Reference {
    fn name(&self) -> String {
        "reference".to_owned()
    }

    fn fallbacks(&self, name: &str, operator: &str) -> Vec<String> {
        vec![format!("{name} ({operator})")]
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        context.budget.step()?;
        let inputs: Vec<Option<Tensor>> = (0..io.input_count()).map(|i| io.tensor(i)).collect::<Result<_>>()?;
        let facts: Vec<Option<Fact>> = inputs.iter().map(|v| v.clone().map(Fact::constant)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let mut bytes = 0usize;
        for fact in self.op.infer(Inputs::new(&facts))? {
            bytes = bytes.saturating_add(fact.bytes().unwrap_or(0));
        }
        context.budget.admit_bytes(bytes)?;
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        let outputs = self.op.eval(Inputs::new(&inputs), context.budget)?;
        let (named, made) = (io.output_count(), outputs.len());
        ensure!(made >= named, InvalidModel, "{named} outputs are named, {made} exist");
        for (index, output) in outputs.into_iter().enumerate() {
            io.store(index, output)?;
        }
        Ok(())
    }
}
