//! A cast to half precision moved into the product before it, which stores what is rounded.
//!
//! What only moves the numbers between the two moves half the bytes then.

use super::pattern::{MOST_MOVES, each, moves};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::elementwise::Cast;
use crate::ops::fused::{Chain, Epilogue, Quantized};
use crate::ops::matrix::{Gemm, MatMul};
use crate::tensor::DType;
use std::sync::Arc;

pub(super) fn store_halves(graph: &mut Graph) -> Result<usize> {
    each(graph, rule)
}

fn rule(graph: &Graph, _: NodeId, node: &Node) -> Option<Patch> {
    let cast = node.op().downcast_ref::<Cast>()?;
    if !matches!(cast.to, DType::F16 | DType::BF16) {
        return None;
    }
    let (product, moved) = product(graph, node.input(0)?)?;
    let mut patch = Patch::new();
    let op = Chain { first: product.op().clone(), arity: product.inputs().len(), second: node.op().clone() };
    let inputs: Vec<Option<Operand>> = product.inputs().iter().map(|input| input.map(Into::into)).collect();
    let mut made = patch.node(product.name(), Arc::new(op), &inputs, 1)[0];
    for step in moved.iter().rev() {
        let rest = step.inputs().iter().skip(1).map(|input| input.map(Into::into));
        let inputs: Vec<Option<Operand>> = std::iter::once(Some(made)).chain(rest).collect();
        made = patch.node(step.name(), step.op().clone(), &inputs, 1)[0];
    }
    patch.replace(node.output(0)?, made);
    Some(patch)
}

/// The product of f32 whose elements `value` has, for one user alone, and what moves them, the last first.
fn product(graph: &Graph, mut value: ValueId) -> Option<(&Node, Vec<&Node>)> {
    let mut moved = Vec::new();
    while moved.len() < MOST_MOVES {
        graph.single_user(value)?;
        let (_, node) = graph.producer(value)?;
        if !moves(node.op().as_ref()) {
            let float = graph.fact(value).dtype == DType::F32 && node.outputs().len() == 1;
            return (float && multiplies(node.op().as_ref())).then_some((node, moved));
        }
        moved.push(node);
        value = node.input(0)?;
    }
    None
}

fn multiplies(op: &dyn Op) -> bool {
    let quantized = op.downcast_ref::<Quantized>().filter(|quantized| quantized.output.is_none());
    let inner = quantized.map_or(op, |quantized| quantized.op.as_ref());
    let inner = inner.downcast_ref::<Epilogue>().map_or(inner, |epilogue| epilogue.op.as_ref());
    inner.is::<MatMul>() || (quantized.is_some() && inner.is::<Gemm>())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::ops::layout::Transpose;

    #[test]
    fn a_product_is_stored_as_halves() {
        for to in [DType::F16, DType::BF16] {
            let (mut graph, x) = graph_of(&[2, 3, 6]);
            let w = graph.constant("w", ramp(&[6, 4])).unwrap();
            let y = graph.op("y", MatMul, &[x, w]).unwrap();
            let turned = graph.op("turned", Transpose { perm: Some(vec![2, 0, 1]) }, &[y]).unwrap();
            let half = graph.op("half", Cast { to }, &[turned]).unwrap();
            graph.output(half).unwrap();
            check(&mut graph, store_halves, &[ramp(&[2, 3, 6])], 2);
            assert_eq!(store_halves(&mut graph).unwrap(), 0);
        }
    }

    #[test]
    fn what_others_read_stays_wide() {
        let (mut graph, x) = graph_of(&[2, 6]);
        let w = graph.constant("w", ramp(&[6, 4])).unwrap();
        let y = graph.op("y", MatMul, &[x, w]).unwrap();
        for to in [DType::F16, DType::F64] {
            let made = graph.op("cast", Cast { to }, &[y]).unwrap();
            graph.output(made).unwrap();
        }
        check(&mut graph, store_halves, &[ramp(&[2, 6])], 3);
    }
}
