//! Convolutions and matrix products of a quantized operand with constant quantized weights, and matrix products of two
//! quantized operands.

use super::builder::Builder;
use super::source::{Source, source, target};
use crate::graph::{Graph, Node, Patch, ValueId};
use crate::ops::fused::Epilogue;
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::nn::Conv;
use crate::passes::pattern::constant;
use crate::tensor::{DType, normalize_axis};

pub(super) fn product(graph: &Graph, node: &Node) -> Option<Patch> {
    let epilogue = node.op().downcast_ref::<Epilogue>();
    let inner = epilogue.map_or(node.op(), |e| &e.op);
    let (x, w) = (source(graph, node.input(0)?)?, source(graph, node.input(1)?)?);
    let Some(weight) = constant(graph, w.value) else { return computed(graph, node, x, w) };
    let (rank, columns) = if inner.is::<Conv>() {
        (graph.fact(x.value).rank().filter(|rank| (3..=4).contains(rank))?, 0)
    } else if inner.is::<MatMul>() {
        (2, 1)
    } else {
        let gemm = inner.downcast_ref::<Gemm>().filter(|g| g.alpha == 1.0 && g.beta == 1.0 && !g.trans_a)?;
        (2, usize::from(!gemm.trans_b))
    };
    let along = w.is_uniform(graph) || normalize_axis(w.axis, weight.rank()).ok()? == columns;
    if weight.rank() != rank || !along || !w.is_known(graph) || !x.is_uniform(graph) {
        return None;
    }
    let output = node.output(0)?;
    if graph.fact(output).dtype != DType::F32 {
        return None;
    }
    let n = weight.shape()[columns];
    let mut builder = Builder::new(graph);
    builder.quantized(x).quantized(w);
    let residual = epilogue.and_then(Epilogue::residual_index);
    for (index, input) in node.inputs().iter().enumerate().skip(2) {
        match (*input, residual == Some(index)) {
            (Some(value), true) => match source(graph, value).filter(|s| s.is_plain(graph)) {
                Some(bytes) => builder.quantized(bytes),
                None => builder.plain(Some(value)),
            },
            (Some(value), false) => match bias(graph, value, n)? {
                Bias::Fits => builder.plain(Some(value)),
                Bias::Flat(vector) => {
                    let vector = builder.patch.constant("bias", vector);
                    builder.plain(Some(vector))
                }
            },
            (None, _) => builder.plain(None::<ValueId>),
        };
    }
    let wanted = target(graph, output);
    let (mut patch, made) = builder.node(node.name(), node.op().clone(), wanted)?;
    patch.replace(wanted.map_or(output, |Source { value, .. }| value), made);
    Some(patch)
}

/// A product of two operands with one scale each, quantized at once.
fn computed(graph: &Graph, node: &Node, x: Source, w: Source) -> Option<Patch> {
    let matrix = |source: &Source| graph.fact(source.value).rank().is_some_and(|rank| rank >= 2);
    let wanted = target(graph, node.output(0)?)?;
    if !node.op().is::<MatMul>() || ![x, w].iter().all(|source| matrix(source) && source.is_plain(graph)) {
        return None;
    }
    let mut builder = Builder::new(graph);
    builder.quantized(x).quantized(w);
    let (mut patch, made) = builder.node(node.name(), node.op().clone(), Some(wanted))?;
    patch.replace(wanted.value, made);
    Some(patch)
}

enum Bias {
    Fits,
    Flat(crate::tensor::Tensor),
}

/// A constant with an element for each of `n` columns.
fn bias(graph: &Graph, value: ValueId, n: usize) -> Option<Bias> {
    let bias = constant(graph, value)?;
    let vector = bias.len() == n && bias.shape().last() == Some(&n) && bias.dtype() == DType::F32;
    match bias.rank() {
        _ if !vector => None,
        1 => Some(Bias::Fits),
        _ => bias.reshaped([n]).ok().map(Bias::Flat),
    }
}
