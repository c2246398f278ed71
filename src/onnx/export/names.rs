//! Names for values: unique over the graph and all its bodies, as ONNX asks, and otherwise as they were.

use crate::onnx::names;
use crate::tensor::{DType, Shape, Tensor};

/// The names that are given out.
#[derive(Default)]
pub(super) struct Names {
    taken: names::Names,
    nodes: names::Names,
    graphs: usize,
}

impl Names {
    /// A name for a value: `wanted`, or where that is taken or empty something like it.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        self.taken.fresh(if wanted.is_empty() { "value" } else { wanted })
    }

    /// A name for a node: `wanted`, or something like it; some readers refuse two nodes of one name.
    pub(super) fn node(&mut self, wanted: &str) -> String {
        if wanted.is_empty() { String::new() } else { self.nodes.fresh(wanted) }
    }

    /// The name of a graph, which must not be empty.
    pub(super) fn graph(&mut self, wanted: &str) -> String {
        self.graphs += 1;
        if wanted.is_empty() { format!("graph_{}", self.graphs) } else { wanted.to_owned() }
    }
}

/// A tensor by where its elements lie: equal for two constants that share them.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(super) struct Memory(usize, DType, Shape);

impl Memory {
    pub(super) fn of(tensor: &Tensor) -> Self {
        Memory(tensor.as_bytes().as_ptr() as usize, tensor.dtype(), tensor.shape().clone())
    }
}
