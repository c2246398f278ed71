//! Building the several nodes that one node is read into.

use super::reader::Operand;
use super::{NodeReader, Op, Reading};
use std::sync::Arc;

/// Nodes in order; the last one's outputs are those of the node that they stand for.
#[derive(Debug, Default)]
pub(crate) struct Sequence(Vec<(Arc<dyn Op>, Vec<Operand>)>);

impl Sequence {
    /// Appends a node; answers its first output.
    pub(crate) fn push(&mut self, op: impl Op, inputs: impl IntoIterator<Item = Operand>) -> Operand {
        self.push_shared(Arc::new(op), inputs)
    }

    /// The same with an operator that has been read already.
    pub(crate) fn push_shared(&mut self, op: Arc<dyn Op>, inputs: impl IntoIterator<Item = Operand>) -> Operand {
        self.0.push((op, inputs.into_iter().collect()));
        self.output(0)
    }

    /// Output `output` of the last node.
    pub(crate) fn output(&self, output: usize) -> Operand {
        Operand::Output { node: self.0.len().saturating_sub(1), output }
    }

    /// The nodes as a reading.
    pub(crate) fn finish(self) -> Reading {
        Reading::Nodes(self.0)
    }
}

/// Input `index`, where the node has it.
pub(crate) fn input_if_present(node: &NodeReader, index: usize) -> Option<Operand> {
    node.has_input(index).then_some(Operand::Input(index))
}
