//! Operators of this crate alone, which passes make out of several of ONNX.
//!
//! They wrap an operator of ONNX and take their meaning from it, so there is no second definition of convolution here.
//! They are not written to ONNX files: export the graph as it was imported. Compiled models keep them.

mod chain;
mod channels_last;
mod elementwise;
mod epilogue;
mod quantized;
mod ranged;

use super::registry::OWN_DOMAIN;
use super::{NodeReader, OpDef};
use crate::error::{Result, ensure};

pub use chain::Chain;
pub use channels_last::{ChannelsLast, to_first, to_last};
pub use elementwise::{Elementwise, ElementwiseStep, Source};
pub use epilogue::{Activation, Epilogue};
pub use quantized::{ByteTable, Linear, Quantized};
pub use ranged::{QuantizeRanged, Ranged};

/// Not among the operators that a model file may name: see [`registry::find_own`](super::registry::find_own).
pub(super) const OWN: &[OpDef] = &[
    OpDef::new("Chain", 1, 1..=MANY, chain::read).domain(OWN_DOMAIN),
    OpDef::new("ChannelsLast", 1, 1..=MANY, channels_last::read).domain(OWN_DOMAIN),
    OpDef::new("Elementwise", 1, 1..=MANY, elementwise::read).domain(OWN_DOMAIN),
    OpDef::new("Epilogue", 1, 1..=MANY, epilogue::read).domain(OWN_DOMAIN),
    OpDef::new("Quantized", 1, 1..=MANY, quantized::read).domain(OWN_DOMAIN),
    OpDef::new("Ranged", 1, 1..=MANY, ranged::read).domain(OWN_DOMAIN).outputs(2..=2),
    OpDef::new("QuantizeRanged", 1, 2..=2, |_| Ok(QuantizeRanged.into())).domain(OWN_DOMAIN).outputs(3..=3),
    OpDef::new("ByteTable", 1, 2..=2, |_| Ok(ByteTable.into())).domain(OWN_DOMAIN),
];

/// As many inputs as one of them may have.
const MANY: usize = 1 << 16;

/// How many inputs the wrapped operator takes.
fn arity(node: &mut NodeReader) -> Result<usize> {
    let arity = node.int_or("arity", -1)?;
    ensure!((0..=MANY as i64).contains(&arity), InvalidModel, "a wrapped operator of {arity} inputs");
    Ok(arity as usize)
}
