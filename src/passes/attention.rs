//! Scaled dot-product attention out of its two products and the softmax between them.
//!
//! A mask of minus infinity over a whole row yields zeros here and NaN in the parts, which no model can want.

use super::pattern::{binary, constant, each, scalar_beside};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::attention::Attention;
use crate::ops::elementwise::BinaryKind;
use crate::ops::layout::Transpose;
use crate::ops::matrix::MatMul;
use crate::ops::nn::Softmax;
use crate::tensor::Dim;
use std::sync::Arc;

pub(super) fn recognize_attention(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| attention(graph, node))
}

/// Queries, keys, values and weights are `[batch, heads, length, size]`.
const RANK: usize = 4;

/// The node that yields `value` to one user alone.
fn sole_producer(graph: &Graph, value: ValueId) -> Option<&Node> {
    graph.single_user(value)?;
    graph.producer(value).map(|(_, node)| node)
}

/// A value without the scalar factors that stand before it, and their product.
fn unscaled(graph: &Graph, mut value: ValueId) -> (ValueId, f64) {
    let mut factor = 1.0;
    while let Some((inner, by)) = scaled(graph, value) {
        (value, factor) = (inner, factor * by);
    }
    (value, factor)
}

fn scaled(graph: &Graph, value: ValueId) -> Option<(ValueId, f64)> {
    let node = sole_producer(graph, value)?;
    if let Some([a, b]) = binary(node, BinaryKind::Div) {
        return Some((a, scalar_beside(graph, b, a)?.recip())).filter(|(_, factor)| factor.is_finite());
    }
    let [a, b] = binary(node, BinaryKind::Mul)?;
    scalar_beside(graph, b, a).map(|c| (a, c)).or_else(|| scalar_beside(graph, a, b).map(|c| (b, c)))
}

/// The keys whose transpose `value` is: what is transposed, and the order of axes that makes keys of it.
fn keys(graph: &Graph, value: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let (_, node) = graph.producer(value)?;
    let transpose = node.op().downcast_ref::<Transpose>()?;
    let mut perm = transpose.permutation(RANK).ok()?;
    perm.swap(2, 3);
    Some((node.input(0)?, perm))
}

/// The two operands of the product that yields `value` to one user alone.
fn product(graph: &Graph, value: ValueId) -> Option<[ValueId; 2]> {
    let node = sole_producer(graph, value)?;
    if !node.op().is::<MatMul>() {
        return None;
    }
    Some([node.input(0)?, node.input(1)?])
}

/// Scores as a product times a factor plus a mask.
fn scores(graph: &Graph, value: ValueId) -> Option<([ValueId; 2], f64, Option<ValueId>)> {
    let (bare, factor) = unscaled(graph, value);
    if let Some(operands) = product(graph, bare) {
        return Some((operands, factor, None));
    }
    let [a, b] = binary(sole_producer(graph, value)?, BinaryKind::Add)?;
    [(a, b), (b, a)].into_iter().find_map(|(value, mask)| {
        let (bare, factor) = unscaled(graph, value);
        let operands = product(graph, bare)?;
        fits(graph, mask, bare).then_some((operands, factor, Some(mask)))
    })
}

/// True where the mask has one entry for each key, and broadcasts to the scores without making them more.
fn fits(graph: &Graph, mask: ValueId, scores: ValueId) -> bool {
    let (Some(mask), Some(scores)) = (graph.fact(mask).dims(), graph.fact(scores).dims()) else { return false };
    let pairs = mask.iter().rev().zip(scores.iter().rev());
    let known = |(place, (own, wanted)): (usize, (&Dim, &Dim))| {
        *own != Dim::Unknown && own == wanted || place > 0 && *own == Dim::Known(1)
    };
    !mask.is_empty() && mask.len() <= scores.len() && pairs.enumerate().all(known)
}

fn attention(graph: &Graph, node: &Node) -> Option<Patch> {
    if !node.op().is::<MatMul>() {
        return None;
    }
    let (weights, v) = (node.input(0)?, node.input(1)?);
    let softmax = sole_producer(graph, weights)?;
    let axis = softmax.op().downcast_ref::<Softmax>()?.axis;
    if axis != -1 && axis != RANK as i64 - 1 {
        return None;
    }
    let ([q, k_transposed], factor, mask) = scores(graph, softmax.input(0)?)?;
    let (q, q_factor) = unscaled(graph, q);
    let (k_transposed, k_factor) = unscaled(graph, k_transposed);
    let (k_source, k_perm) = keys(graph, k_transposed)?;
    // Batch and heads must be equal: a product broadcasts them, and attention shares heads in a way of its own.
    let [q_dims, k_dims, v_dims] = [graph.fact(q).dims()?, graph.fact(k_transposed).dims()?, graph.fact(v).dims()?];
    let ranks = [q_dims, k_dims, v_dims].iter().all(|dims| dims.len() == RANK);
    let known =
        |axis: usize| q_dims[axis] != Dim::Unknown && q_dims[axis] == k_dims[axis] && q_dims[axis] == v_dims[axis];
    if !ranks || !known(0) || !known(1) || !graph.fact(q).dtype.is_float() || constant(graph, v).is_some() {
        return None;
    }
    let op = Attention {
        is_causal: false,
        q_num_heads: None,
        kv_num_heads: None,
        scale: Some((factor * q_factor * k_factor) as f32),
        softcap: 0.0,
        softmax_precision: None,
        qk_output: None,
        left_window: None,
        right_window: None,
    };
    let mut patch = Patch::new();
    let k: Operand = if k_perm.iter().copied().eq(0..RANK) {
        k_source.into()
    } else {
        patch.op("keys", Transpose { perm: Some(k_perm) }, &[k_source.into()])
    };
    let mut inputs: Vec<Option<Operand>> = vec![Some(q.into()), Some(k), Some(v.into())];
    inputs.extend(mask.map(|mask| Some(mask.into())));
    let made = patch.node(node.name(), Arc::new(op), &inputs, 1);
    patch.replace(node.output(0)?, made[0]);
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, number, ramp};
    use super::*;
    use crate::ops::elementwise::Binary;
    use crate::tensor::{DType, Fact};

    /// What differs between the spellings.
    struct Case {
        /// The order in which k stands in the graph, and what makes `[batch, heads, size, keys]` of it.
        k: ([usize; 4], [usize; 4]),
        mask: Option<Vec<usize>>,
        divided: bool,
        scaled_operands: bool,
        axis: i64,
    }

    impl Case {
        fn plain() -> Self {
            Case { k: ([2, 3, 5, 4], [0, 1, 3, 2]), mask: None, divided: true, scaled_operands: false, axis: -1 }
        }

        fn check(self, nodes: usize) {
            let mut graph = Graph::new("test");
            let shapes: [&[usize]; 3] = [&[2, 3, 6, 4], &self.k.0, &[2, 3, 5, 7]];
            let mut inputs: Vec<_> = shapes.iter().map(|shape| ramp(shape)).collect();
            let [mut q, k, v] = shapes.map(|shape| graph.input("x", Fact::concrete(DType::F32, shape)).unwrap());
            let (c, root) = (number(&mut graph, 2.0), number(&mut graph, 0.5));
            let mut k = graph.op("k", Transpose { perm: Some(self.k.1.to_vec()) }, &[k]).unwrap();
            if self.scaled_operands {
                q = graph.op("q scaled", Binary(BinaryKind::Mul), &[q, root]).unwrap();
                k = graph.op("k scaled", Binary(BinaryKind::Mul), &[root, k]).unwrap();
            }
            let mut s = graph.op("scores", MatMul, &[q, k]).unwrap();
            if self.divided {
                s = graph.op("divided", Binary(BinaryKind::Div), &[s, c]).unwrap();
            }
            if let Some(mask) = &self.mask {
                inputs.push(ramp(mask));
                let mask = graph.input("mask", Fact::concrete(DType::F32, mask)).unwrap();
                s = graph.op("masked", Binary(BinaryKind::Add), &[mask, s]).unwrap();
            }
            let w = graph.op("weights", Softmax { axis: self.axis }, &[s]).unwrap();
            let y = graph.op("y", MatMul, &[w, v]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, recognize_attention, &inputs, nodes);
        }
    }

    #[test]
    fn scores_with_scale_and_mask_become_one_node() {
        Case::plain().check(1);
        Case { divided: false, ..Case::plain() }.check(1);
        Case { scaled_operands: true, ..Case::plain() }.check(1);
        for mask in [vec![2, 1, 1, 5], vec![6, 5], vec![5], vec![2, 3, 6, 5]] {
            Case { mask: Some(mask), ..Case::plain() }.check(1);
        }
        // Keys that stand as [batch, keys, heads, size] keep one transpose.
        Case { k: ([2, 5, 3, 4], [0, 2, 3, 1]), ..Case::plain() }.check(2);
    }

    #[test]
    fn another_axis_or_mask_keeps_the_parts() {
        Case { axis: 2, ..Case::plain() }.check(5);
        Case { mask: Some(vec![2, 3, 6, 1]), ..Case::plain() }.check(6);
    }
}
