//! Attention reads heads where a projection left them: the transposes around it, which only move heads before rows and back,
//! go.

use super::pattern::each;
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::attention::Attention;
use crate::ops::layout::{Reshape, Transpose};
use crate::tensor::{Dim, Tensor};
use std::sync::Arc;

/// Swaps heads and rows.
const SWAP: [usize; 4] = [0, 2, 1, 3];

/// Queries, keys and values.
const OPERANDS: usize = 3;

pub(super) fn keep_heads_in_rows(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| within_rows(graph, node))
}

/// What a transpose that swaps heads and rows takes: `[batch, rows, heads, size]`.
fn swapped(graph: &Graph, node: &Node) -> Option<ValueId> {
    let transpose = node.op().downcast_ref::<Transpose>()?;
    let x = node.input(0)?;
    let swaps = graph.fact(x).rank()? == SWAP.len() && transpose.permutation(SWAP.len()).ok()? == SWAP;
    swaps.then_some(x)
}

/// The number of heads and the size of each in `[batch, rows, heads, size]`.
fn heads(graph: &Graph, x: ValueId) -> Option<(usize, usize)> {
    match graph.fact(x).dims()?[2..] {
        [Dim::Known(heads), Dim::Known(size)] if heads > 0 && size > 0 => Some((heads, size)),
        _ => None,
    }
}

fn within_rows(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<Attention>()?;
    let past = node.inputs().iter().skip(OPERANDS + 1).any(Option::is_some);
    let more = node.outputs().iter().skip(1).any(Option::is_some);
    if op.q_num_heads.is_some() || op.kv_num_heads.is_some() || past || more {
        return None;
    }
    let y = node.output(0)?;
    let (_, after) = graph.single_user(y)?;
    swapped(graph, after)?;
    let mut sources = Vec::with_capacity(OPERANDS);
    for index in 0..OPERANDS {
        let x = swapped(graph, graph.producer(node.input(index)?)?.1)?;
        sources.push((x, heads(graph, x)?));
    }
    let [(_, (q_heads, size)), (_, (kv_heads, k_size)), (_, (v_heads, v_size))] = sources[..] else { return None };
    if size != k_size || kv_heads != v_heads {
        return None;
    }
    let mut patch = Patch::new();
    let joined = patch.constant("joined", Tensor::vector(vec![0i64, 0, -1]));
    let split = [0, 0, i64::try_from(q_heads).ok()?, i64::try_from(v_size).ok()?];
    let split = patch.constant("split", Tensor::vector(split.to_vec()));
    let mut inputs: Vec<Option<Operand>> = Vec::new();
    for (x, _) in sources {
        inputs.push(Some(patch.op("rows", Reshape::default(), &[x.into(), joined])));
    }
    inputs.extend(node.input(OPERANDS).map(|mask| Some(mask.into())));
    let op = Attention { q_num_heads: Some(q_heads), kv_num_heads: Some(kv_heads), ..op.clone() };
    let made = patch.node(node.name(), Arc::new(op), &inputs, 1);
    let heads = patch.op("heads", Reshape::default(), &[*made.first()?, split]);
    patch.replace(after.output(0)?, heads);
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, ramp};
    use super::*;
    use crate::tensor::{DType, Fact};

    /// Attention of three heads whose operands stand as these permutations of `[batch, heads, rows, size]`.
    fn graph(perms: [[usize; 4]; 3], mask: bool, back: [usize; 4]) -> (Graph, Vec<Tensor>) {
        let mut graph = Graph::new("test");
        let mut inputs = Vec::new();
        let mut operands = Vec::new();
        for (perm, shape) in perms.iter().zip([[2, 3, 6, 4], [2, 3, 5, 4], [2, 3, 5, 7]]) {
            let mut before = [0; 4];
            for (&axis, length) in perm.iter().zip(shape) {
                before[axis] = length;
            }
            inputs.push(ramp(&before));
            let x = graph.input("x", Fact::concrete(DType::F32, &before)).unwrap();
            operands.push(graph.op("t", Transpose { perm: Some(perm.to_vec()) }, &[x]).unwrap());
        }
        if mask {
            inputs.push(ramp(&[2, 1, 6, 5]));
            operands.push(graph.input("mask", Fact::concrete(DType::F32, &[2, 1, 6, 5])).unwrap());
        }
        let op = Attention {
            is_causal: true,
            q_num_heads: None,
            kv_num_heads: None,
            scale: Some(0.3),
            softcap: 0.0,
            softmax_precision: None,
            qk_output: None,
            left_window: None,
            right_window: None,
        };
        let y = graph.op("attention", op, &operands).unwrap();
        let y = graph.op("back", Transpose { perm: Some(back.to_vec()) }, &[y]).unwrap();
        graph.output(y).unwrap();
        (graph, inputs)
    }

    #[test]
    fn transposes_that_swap_heads_and_rows_go() {
        for mask in [false, true] {
            let (mut graph, inputs) = graph([SWAP; 3], mask, SWAP);
            check(&mut graph, keep_heads_in_rows, &inputs, 5);
            assert!(graph.node_ids().unwrap().iter().all(|&id| !graph.get(id).unwrap().op().is::<Transpose>()));
        }
    }

    #[test]
    fn another_order_keeps_them() {
        let (mut graph_, inputs) = graph([SWAP, [0, 1, 2, 3], SWAP], false, SWAP);
        check(&mut graph_, keep_heads_in_rows, &inputs, 5);
        let (mut graph_, inputs) = graph([SWAP; 3], true, [0, 2, 3, 1]);
        check(&mut graph_, keep_heads_in_rows, &inputs, 5);
        assert!(graph_.node_ids().unwrap().iter().any(|&id| graph_.get(id).unwrap().op().is::<Transpose>()));
    }
}
