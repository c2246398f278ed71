//! Sums, products, averages and functions of rows between `DequantizeLinear` and `QuantizeLinear`.

use super::builder::Builder;
use super::source::{quantization, source};
use crate::graph::{Graph, Node, Patch};
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::nn::{GlobalPool, GlobalPoolKind, LayerNormalization, Pool, PoolKind, Softmax};
use crate::tensor::normalize_axis;

/// The rule for a `QuantizeLinear`.
pub(super) fn between(graph: &Graph, node: &Node) -> Option<Patch> {
    let target = quantization(graph, node)?;
    let real = node.input(0)?;
    let (_, inner) = graph.producer(real)?;
    graph.single_user(real)?;
    let count = operands(graph, inner)?;
    let mut builder = Builder::new(graph);
    for (index, input) in inner.inputs().iter().enumerate() {
        match *input {
            Some(value) if index < count => {
                let bytes = source(graph, value).filter(|s| s.is_plain(graph))?;
                if graph.fact(bytes.value).dtype != graph.fact(target.value).dtype {
                    return None;
                }
                builder.quantized(bytes);
            }
            input => {
                builder.plain(input);
            }
        }
    }
    let (mut patch, made) = builder.node(inner.name(), inner.op().clone(), Some(target))?;
    patch.replace(target.value, made);
    Some(patch)
}

/// How many operands of a node must be quantized for it to be computed on bytes; nothing where it has no such kernel.
fn operands(graph: &Graph, node: &Node) -> Option<usize> {
    let op = node.op();
    let rank = graph.fact(node.input(0)?).rank()?;
    if node.outputs().iter().skip(1).any(Option::is_some) {
        return None;
    }
    if let Some(Binary(kind)) = op.downcast_ref::<Binary>() {
        return matches!(kind, BinaryKind::Add | BinaryKind::Mul).then_some(2);
    }
    if let Some(pool) = op.downcast_ref::<Pool>() {
        let average = matches!(pool.kind, PoolKind::Average { .. });
        return (average && (3..=4).contains(&rank)).then_some(1);
    }
    if let Some(pool) = op.downcast_ref::<GlobalPool>() {
        return (pool.kind == GlobalPoolKind::Average && (3..=4).contains(&rank)).then_some(1);
    }
    let last = |axis: i64| normalize_axis(axis, rank).is_ok_and(|axis| axis + 1 == rank);
    let rows = op.downcast_ref::<Softmax>().is_some_and(|op| last(op.axis))
        || op.downcast_ref::<LayerNormalization>().is_some_and(|op| last(op.axis));
    rows.then_some(1)
}
