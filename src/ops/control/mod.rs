//! Control flow: operators that run a [`Body`](super::Body). What a body is made of is none of their business.

mod conditional;
mod facts;
mod loops;
mod scan;
mod scan_batched;
mod stack;
#[cfg(test)]
mod tests;

pub use conditional::If;
pub use loops::Loop;
pub use scan::{Scan, ScanAxis};
pub use scan_batched::BatchScan;

use super::registry::OWN_DOMAIN;
use super::{Inputs, Op, OpDef};
use crate::error::{Result, bail};

/// As many inputs or outputs as the bodies say.
const ANY: usize = usize::MAX;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("If", 25, 1..=1, conditional::read).outputs(1..=ANY),
    OpDef::new("Loop", 25, 2..=ANY, loops::read).outputs(1..=ANY),
    OpDef::new("Scan", 25, 1..=ANY, scan::read).since(8).outputs(1..=ANY),
];

/// Not among the operators that a model file may name: reading an old form makes it, and export says it in newer words.
pub(super) const OWN: &[OpDef] =
    &[OpDef::new("BatchScan", 1, 1..=ANY, scan_batched::read).domain(OWN_DOMAIN).outputs(1..=ANY)];

/// True for the operators that run bodies. Folding them while inferring would run every body once for each level of
/// nesting around it, so a few nested branches would take for ever.
pub(crate) fn has_bodies(op: &dyn Op) -> bool {
    let flex = op.is::<super::attention::FlexAttention>();
    flex || op.is::<If>() || op.is::<Loop>() || op.is::<Scan>() || op.is::<BatchScan>()
}

/// The captured values: the last `captures` inputs.
fn captured<T: Clone>(inputs: Inputs<'_, T>, captures: usize) -> Result<Vec<T>> {
    let Some(own) = inputs.count().checked_sub(captures) else {
        bail!(InvalidModel, "{} inputs are fewer than the {captures} captured values", inputs.count());
    };
    Ok(inputs.require_from(own)?.into_iter().cloned().collect())
}
