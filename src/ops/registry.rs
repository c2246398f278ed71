//! Every operator by name: the one list that a new operator joins.

use super::reader::{NodeReader, Reading};
use crate::error::Result;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// The domain of this crate's own operators, which only compiled models name.
pub const OWN_DOMAIN: &str = "ai.onrush";

/// How an operator is named and read.
#[derive(Debug, Clone)]
pub struct OpDef {
    /// ONNX's `op_type`.
    pub name: &'static str,
    /// The domain; empty for ONNX's own.
    pub domain: &'static str,
    /// The oldest opset of the domain whose form is understood.
    pub since: u32,
    /// The opset whose form [`Op::attrs`](super::Op::attrs) and the inputs have when written.
    pub opset: u32,
    /// How many inputs a node may have, captures not counted.
    pub inputs: RangeInclusive<usize>,
    /// How many outputs a node may have.
    pub outputs: RangeInclusive<usize>,
    /// Reads a node; its arity has been checked.
    pub read: fn(&mut NodeReader) -> Result<Reading>,
}

impl OpDef {
    /// An operator of ONNX's own domain with one output, read from opset 1 on and written in the form of `opset`.
    pub(crate) const fn new(
        name: &'static str,
        opset: u32,
        inputs: RangeInclusive<usize>,
        read: fn(&mut NodeReader) -> Result<Reading>,
    ) -> Self {
        OpDef { name, domain: "", since: 1, opset, inputs, outputs: 1..=1, read }
    }

    /// The same in another domain.
    pub(crate) const fn domain(self, domain: &'static str) -> Self {
        OpDef { domain, ..self }
    }

    /// The same, read from opset `since` on.
    pub(crate) const fn since(self, since: u32) -> Self {
        OpDef { since, ..self }
    }

    /// The same with another number of outputs.
    pub(crate) const fn outputs(self, outputs: RangeInclusive<usize>) -> Self {
        OpDef { outputs, ..self }
    }
}

/// The families, one file each.
const FAMILIES: &[&[OpDef]] = &[
    super::elementwise::OPS,
    super::reduce::OPS,
    super::layout::OPS,
    super::index::OPS,
    super::create::OPS,
    super::matrix::OPS,
    super::nn::OPS,
    super::quant::OPS,
    super::recurrent::OPS,
    super::attention::OPS,
    super::control::OPS,
    super::image::OPS,
    super::signal::OPS,
];

static INDEX: LazyLock<HashMap<(&'static str, &'static str), &'static OpDef>> =
    LazyLock::new(|| FAMILIES.iter().copied().flatten().map(|def| ((def.domain, def.name), def)).collect());

/// The operator of this domain and name; `ai.onnx` is another name of the empty domain.
#[must_use]
pub fn find(domain: &str, name: &str) -> Option<&'static OpDef> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    INDEX.get(&(domain, name)).copied()
}

/// The operator of [`OWN_DOMAIN`] that only passes and readers make; no model file may name it, compiled models do.
#[must_use]
pub fn find_own(name: &str) -> Option<&'static OpDef> {
    super::fused::OWN.iter().chain(super::control::OWN).find(|def| def.name == name)
}

/// Every operator that a model file may name, in the order of the families.
pub fn all() -> impl Iterator<Item = &'static OpDef> {
    FAMILIES.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_stands_twice() {
        assert_eq!(all().count(), INDEX.len());
    }
}
