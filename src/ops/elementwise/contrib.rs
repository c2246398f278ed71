//! The GELU variants that ONNX Runtime's transformer tools write, read into the operators of ONNX.

use super::{Binary, BinaryKind, Unary, UnaryKind};
use crate::ops::reader::Operand;
use crate::ops::{NodeReader, OpDef, Reading};
use std::sync::Arc;

const DOMAIN: &str = "com.microsoft";

pub(super) const GELU: OpDef =
    OpDef::new("Gelu", 1, 1..=1, |_| Ok(Unary(UnaryKind::Gelu { tanh: false }).into())).domain(DOMAIN);

/// `x sigmoid(alpha x)`, which is Swish.
pub(super) const QUICK_GELU: OpDef = OpDef::new("QuickGelu", 1, 1..=1, |node| {
    Ok(Unary(UnaryKind::Swish { alpha: node.float_or("alpha", 1.702)? }).into())
})
.domain(DOMAIN);

pub(super) const BIAS_GELU: OpDef =
    OpDef::new("BiasGelu", 1, 2..=2, |node| Ok(with_bias(node, UnaryKind::Gelu { tanh: false }))).domain(DOMAIN);

pub(super) const FAST_GELU: OpDef =
    OpDef::new("FastGelu", 1, 1..=2, |node| Ok(with_bias(node, UnaryKind::Gelu { tanh: true }))).domain(DOMAIN);

/// `kind` of the sum of input 0 and, where there is one, the bias.
fn with_bias(node: &NodeReader, kind: UnaryKind) -> Reading {
    if !node.has_input(1) {
        return Unary(kind).into();
    }
    Reading::Nodes(vec![
        (Arc::new(Binary(BinaryKind::Add)), vec![Operand::Input(0), Operand::Input(1)]),
        (Arc::new(Unary(kind)), vec![Operand::Output { node: 0, output: 0 }]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_bias_is_optional_only_where_it_may_be() {
        for (def, inputs, nodes) in [(&FAST_GELU, 1, 1), (&FAST_GELU, 2, 2), (&BIAS_GELU, 2, 2)] {
            let mut reader = NodeReader::new(def.name, 1, BTreeMap::new(), vec![true; inputs], 1, 0);
            let read = match (def.read)(&mut reader).unwrap() {
                Reading::Op(op) => {
                    assert!(op.is::<Unary>());
                    1
                }
                Reading::Nodes(list) => list.len(),
            };
            assert_eq!(read, nodes, "{} of {inputs}", def.name);
        }
    }
}
