//! Residual additions and activations moved into the product before them, so that the result is stored once.
//!
//! Order matters: a product takes a residual only while it has no activation, and both only while nothing else reads
//! what it would no longer store.

use super::pattern::scalar;
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind};
use crate::ops::fused::{Activation, Epilogue, Quantized};
use crate::ops::matrix::MatMul;
use crate::ops::nn::{Conv, ConvTranspose};
use crate::ops::quant::MatMulNBits;
use crate::tensor::Dim;
use std::sync::Arc;

pub(super) fn fuse_epilogues(graph: &mut Graph) -> Result<usize> {
    let mut fused = 0;
    for id in graph.node_ids()? {
        let Some(node) = graph.get(id) else { continue };
        let Some(patch) = activation(graph, node).or_else(|| residual(graph, node)) else { continue };
        graph.apply(patch)?;
        fused += 1;
    }
    Ok(fused)
}

/// The product that yields `value` to one user alone, as an epilogue to extend.
fn product(graph: &Graph, value: ValueId) -> Option<(&Node, Epilogue)> {
    let (_, node) = graph.producer(value)?;
    graph.single_user(value)?;
    let op = node.op();
    if let Some(epilogue) = op.downcast_ref::<Epilogue>() {
        return Some((node, epilogue.clone()));
    }
    let takes = op.is::<Conv>() || op.is::<ConvTranspose>() || op.is::<MatMul>() || op.is::<MatMulNBits>();
    let float = graph.fact(value).dtype.is_float();
    (takes && float).then(|| (node, Epilogue::of(op.clone(), node.inputs().len())))
}

/// The activation of a product of quantized operands that yields real numbers to one user alone.
pub(super) fn of_quantized(graph: &Graph, node: &Node) -> Option<Patch> {
    let function = function_of(graph, node)?;
    let value = node.input(0)?;
    let (_, product) = graph.producer(value)?;
    graph.single_user(value)?;
    let quantized = product.op().downcast_ref::<Quantized>()?;
    let epilogue = match quantized.op.downcast_ref::<Epilogue>() {
        Some(epilogue) => epilogue.clone(),
        None => Epilogue::of(quantized.op.clone(), quantized.arity),
    };
    let takes = epilogue.op.is::<Conv>() || epilogue.op.is::<MatMul>();
    if !takes || quantized.output.is_some() || epilogue.activation.is_some() {
        return None;
    }
    let op = Arc::new(Epilogue { activation: Some(function), ..epilogue });
    let inputs: Vec<Option<Operand>> = product.inputs().iter().map(|v| v.map(Into::into)).collect();
    let mut patch = Patch::new();
    let outputs = patch.node(product.name(), Arc::new(Quantized { op, ..quantized.clone() }), &inputs, 1);
    patch.replace(node.output(0)?, outputs[0]);
    Some(patch)
}

fn rebuilt(graph_node: &Node, product: &Node, op: Epilogue, added: Option<Operand>) -> Option<Patch> {
    let mut inputs: Vec<Option<Operand>> = product.inputs().iter().map(|v| v.map(Into::into)).collect();
    inputs.extend(added.map(Some));
    let mut patch = Patch::new();
    let outputs = patch.node(product.name(), Arc::new(op), &inputs, 1);
    patch.replace(graph_node.output(0)?, outputs[0]);
    Some(patch)
}

fn activation(graph: &Graph, node: &Node) -> Option<Patch> {
    let function = function_of(graph, node)?;
    let (product, epilogue) = product(graph, node.input(0)?)?;
    if epilogue.activation.is_some() {
        return None;
    }
    rebuilt(node, product, Epilogue { activation: Some(function), ..epilogue }, None)
}

/// The activation that a node is, of those that kernels have at the end of a product.
fn function_of(graph: &Graph, node: &Node) -> Option<Activation> {
    if let Some(Unary(kind)) = node.op().downcast_ref::<Unary>() {
        use UnaryKind::*;
        let known =
            matches!(kind, Relu | Sigmoid | Tanh | HardSwish | LeakyRelu { .. } | HardSigmoid { .. } | Gelu { .. })
                || *kind == Swish { alpha: 1.0 };
        return known.then_some(Activation::Unary(*kind));
    }
    node.op().downcast_ref::<Clip>()?;
    let bound = |index: usize, open: f64| match node.input(index) {
        Some(value) => scalar(graph, value),
        None => Some(open),
    };
    let (lo, hi) = (bound(1, f64::NEG_INFINITY)? as f32, bound(2, f64::INFINITY)? as f32);
    (lo <= hi).then_some(Activation::Clip { lo, hi })
}

fn residual(graph: &Graph, node: &Node) -> Option<Patch> {
    if node.op().downcast_ref::<Binary>()?.0 != BinaryKind::Add {
        return None;
    }
    let (a, b) = (node.input(0)?, node.input(1)?);
    // Where both sides are products the later one takes the other. The other side cannot depend on the product, whose
    // one user is this sum.
    let sides = if a > b { [(a, b), (b, a)] } else { [(b, a), (a, b)] };
    sides.into_iter().find_map(|(value, other)| {
        if value == other {
            return None;
        }
        let (product, epilogue) = product(graph, value)?;
        let (sum, own, added) = (graph.fact(node.output(0)?), graph.fact(value), graph.fact(other));
        let same = own.dims()? == added.dims()? && own.dims()? == sum.dims()? && added.value.is_none();
        let distinct = !own.dims()?.contains(&Dim::Unknown);
        if epilogue.activation.is_some() || epilogue.residual || !same || !distinct {
            return None;
        }
        rebuilt(node, product, Epilogue { residual: true, ..epilogue }, Some(other.into()))
    })
}
