//! What the tests of passes share: a rewritten graph answers as before, with as many nodes as it should have.

use super::Rewrite;
use crate::graph::{Graph, ValueId};
use crate::tensor::{DType, Fact, Tensor};

/// Runs the pass and holds the graph against what it was; the node count afterwards must be `nodes`.
pub(super) fn check(graph: &mut Graph, pass: Rewrite, inputs: &[Tensor], nodes: usize) {
    let before = graph.interpret(inputs).unwrap();
    pass(graph).unwrap();
    graph.verify().unwrap();
    let names: Vec<String> = graph.nodes().unwrap().map(|(_, node)| node.to_string()).collect();
    assert_eq!(graph.node_count(), nodes, "{names:?}");
    for (after, before) in graph.interpret(inputs).unwrap().iter().zip(&before) {
        assert_eq!(after.shape(), before.shape());
        assert_eq!(after.dtype(), before.dtype());
        for (a, b) in after.to_f64_vec().unwrap().iter().zip(before.to_f64_vec().unwrap()) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} against {b}");
        }
    }
}

/// An input `x` of `f32` in this shape.
pub(super) fn graph_of(shape: &[usize]) -> (Graph, ValueId) {
    let mut graph = Graph::new("test");
    let x = graph.input("x", Fact::concrete(DType::F32, shape)).unwrap();
    (graph, x)
}

/// Numbers between -4 and 4 in this shape, the same every time.
pub(super) fn ramp(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    let elements: Vec<f32> = (0..len).map(|i| ((i * 37 + 11) % 64) as f32 / 8.0 - 4.0).collect();
    Tensor::new(shape, elements).unwrap()
}

/// A constant scalar.
pub(super) fn number(graph: &mut Graph, value: f32) -> ValueId {
    graph.constant("c", Tensor::scalar(value)).unwrap()
}

/// A constant list of integers.
pub(super) fn list(graph: &mut Graph, values: &[i64]) -> ValueId {
    graph.constant("list", Tensor::vector(values.to_vec())).unwrap()
}
