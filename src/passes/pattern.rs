//! Small questions that patterns ask of a graph.

use crate::graph::{Graph, ValueId};
use crate::tensor::Tensor;

/// The tensor of a constant.
pub(super) fn constant(graph: &Graph, value: ValueId) -> Option<&Tensor> {
    graph.constant_of(value)
}

/// The number that every element of a float constant is, for one of a single element.
pub(super) fn scalar(graph: &Graph, value: ValueId) -> Option<f64> {
    let tensor = constant(graph, value)?;
    if tensor.len() != 1 {
        return None;
    }
    tensor.to_f64_vec().ok()?.first().copied()
}
