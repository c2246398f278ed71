//! `Gemm` and `MatMul` with constant weights as one thing: a product with an epilogue that can take a bias.
//!
//! A `Gemm` with factors of 1 and a vector for C is a `MatMul` with a bias; its constant B is transposed here, once, so
//! that only one form of product is left behind.

use super::pattern::constant;
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch};
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::fused::Epilogue;
use crate::ops::layout::Transpose;
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::Dim;
use std::sync::Arc;

pub(super) fn fuse_bias(graph: &mut Graph) -> Result<usize> {
    let mut fused = 0;
    for id in graph.node_ids()? {
        let Some(node) = graph.get(id) else { continue };
        let Some(patch) = gemm(graph, node).or_else(|| matmul_bias(graph, node)) else { continue };
        graph.apply(patch)?;
        fused += 1;
    }
    Ok(fused)
}

fn gemm(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<Gemm>()?;
    if op.alpha != 1.0 || op.trans_a || !graph.fact(node.output(0)?).dtype.is_float() {
        return None;
    }
    let bias = match node.input(2) {
        Some(bias) if op.beta == 1.0 => {
            let columns = graph.fact(node.output(0)?).dims()?.last()?.known()?;
            Some(constant(graph, bias).filter(|b| b.len() == columns && b.shape().last() == Some(&columns))?)
        }
        Some(_) => return None,
        None => None,
    };
    let mut patch = Patch::new();
    let weight: Operand = if op.trans_b {
        let weight = constant(graph, node.input(1)?)?;
        let transpose = Transpose { perm: Some(vec![1, 0]) };
        let turned = transpose.eval(Inputs::new(&[Some(weight)]), &Budget::generous()).ok()?;
        patch.constant("weight", turned.into_iter().next()?)
    } else {
        node.input(1)?.into()
    };
    let mut inputs: Vec<Option<Operand>> = vec![Some(node.input(0)?.into()), Some(weight)];
    let op: Arc<dyn Op> = match bias {
        Some(bias) => {
            let flat = bias.reshaped([bias.len()]).ok()?;
            inputs.push(Some(patch.constant("bias", flat)));
            Arc::new(Epilogue { bias: true, ..Epilogue::of(Arc::new(MatMul), 2) })
        }
        None => Arc::new(MatMul),
    };
    let outputs = patch.node(node.name(), op, &inputs, 1);
    patch.replace(node.output(0)?, outputs[0]);
    Some(patch)
}

/// `Add(MatMul(a, b), bias)` with a constant vector along the last axis.
fn matmul_bias(graph: &Graph, node: &Node) -> Option<Patch> {
    if node.op().downcast_ref::<Binary>()?.0 != BinaryKind::Add {
        return None;
    }
    let (product, bias) = [(0, 1), (1, 0)].into_iter().find_map(|(product, bias)| {
        let (product, bias) = (node.input(product)?, node.input(bias)?);
        let (_, matmul) = graph.producer(product)?;
        (matmul.op().is::<MatMul>() && constant(graph, bias).is_some()).then_some((product, bias))
    })?;
    graph.single_user(product)?;
    let (_, matmul) = graph.producer(product)?;
    let fact = graph.fact(product);
    let columns = fact.dims()?.last()?;
    let value = constant(graph, bias)?;
    let vector =
        value.shape().last().is_some_and(|&n| *columns == Dim::Known(n)) && value.len() == *value.shape().last()?;
    if !fact.dtype.is_float() || !vector || value.rank() > fact.rank()? {
        return None;
    }
    let mut patch = Patch::new();
    let flat = patch.constant("bias", value.reshaped([value.len()]).ok()?);
    let inputs = [matmul.input(0).map(Into::into), matmul.input(1).map(Into::into), Some(flat)];
    let op = Epilogue { bias: true, ..Epilogue::of(Arc::new(MatMul), 2) };
    let outputs = patch.node(matmul.name(), Arc::new(op), &inputs, 1);
    patch.replace(node.output(0)?, outputs[0]);
    Some(patch)
}
