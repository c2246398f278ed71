//! Dynamic quantization takes the range of a tensor from where it is computed, and need not go through it first.

use super::pattern::{MOST_MOVES, each, moves};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::attention::Attention;
use crate::ops::fused::{ChannelsLast, Elementwise, Epilogue, QuantizeRanged, Quantized, Ranged};
use crate::ops::matrix::MatMul;
use crate::ops::nn::{Conv, LayerNormalization, RmsNormalization};
use crate::ops::quant::DynamicQuantizeLinear;
use crate::tensor::DType;
use std::sync::Arc;

pub(super) fn take_ranges(graph: &mut Graph) -> Result<usize> {
    each(graph, rule)
}

fn rule(graph: &Graph, _: NodeId, node: &Node) -> Option<Patch> {
    node.op().downcast_ref::<DynamicQuantizeLinear>()?;
    let x = node.input(0)?;
    let (root, maker) = root(graph, x)?;
    let mut patch = Patch::new();
    let (x, ranges) = if maker.op().is::<Ranged>() {
        (x.into(), maker.output(1)?.into())
    } else if computes(maker) {
        let op = Arc::new(Ranged { op: maker.op().clone() });
        let inputs: Vec<Option<Operand>> = maker.inputs().iter().map(|input| input.map(Into::into)).collect();
        let made = patch.node(maker.name(), op, &inputs, 2);
        patch.replace(root, made[0]);
        // What stands between reads the new value as soon as the old one is replaced.
        (if x == root { made[0] } else { x.into() }, made[1])
    } else {
        return None;
    };
    let made = patch.node(node.name(), Arc::new(QuantizeRanged), &[Some(x), Some(ranges)], 3);
    for (old, new) in node.outputs().iter().zip(made) {
        if let Some(old) = *old {
            patch.replace(old, new);
        }
    }
    Some(patch)
}

/// The value whose elements `value` has, perhaps elsewhere, and the node that computes it.
fn root(graph: &Graph, mut value: ValueId) -> Option<(ValueId, &Node)> {
    for _ in 0..MOST_MOVES {
        let (_, node) = graph.producer(value)?;
        if !moves(node.op().as_ref()) {
            let float = node.output(0) == Some(value) && graph.fact(value).dtype == DType::F32;
            return float.then_some((value, node));
        }
        value = node.input(0)?;
    }
    None
}

/// What goes through its result anyway.
fn computes(node: &Node) -> bool {
    let op: &dyn Op = node.op().as_ref();
    let op = op.downcast_ref::<ChannelsLast>().map_or(op, |last| last.op.as_ref());
    let inner = op.downcast_ref::<Epilogue>().map_or(op, |epilogue| epilogue.op.as_ref());
    let product = inner.is::<MatMul>() || inner.is::<Conv>() || op.is::<Quantized>();
    let rows = op.is::<LayerNormalization>() || op.is::<RmsNormalization>() || op.is::<Attention>();
    (product || rows || op.is::<Elementwise>()) && node.outputs().len() == 1
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};
    use crate::ops::layout::Reshape;
    use crate::tensor::Tensor;

    /// A product, what stands between, and as many quantizations as there are names.
    fn quantized(names: &[&str], view: bool) -> Graph {
        let (mut graph, x) = graph_of(&[2, 6]);
        let w = graph.constant("w", ramp(&[6, 4])).unwrap();
        let mut y = graph.op("y", MatMul, &[x, w]).unwrap();
        if view {
            let shape = graph.constant("shape", Tensor::vector(vec![4i64, 2])).unwrap();
            y = graph.op("view", Reshape { allow_zero: false }, &[y, shape]).unwrap();
        }
        for name in names {
            let outputs = [Some(*name), Some("scale"), Some("zero")];
            for value in graph.node("q", Arc::new(DynamicQuantizeLinear), &[Some(y)], &outputs).unwrap() {
                graph.output(value.unwrap()).unwrap();
            }
        }
        graph
    }

    #[test]
    fn a_product_tells_its_range() {
        for view in [false, true] {
            let mut graph = quantized(&["a", "b"], view);
            let nodes = graph.node_count();
            check(&mut graph, take_ranges, &[ramp(&[2, 6])], nodes);
            assert!(graph.nodes().unwrap().all(|(_, node)| !node.op().is::<DynamicQuantizeLinear>()));
            assert_eq!(graph.nodes().unwrap().filter(|(_, node)| node.op().is::<Ranged>()).count(), 1);
        }
    }

    #[test]
    fn the_range_of_an_input_is_not_known() {
        let (mut graph, x) = graph_of(&[8]);
        let y = graph.op("y", Unary(UnaryKind::Abs), &[x]).unwrap();
        let outputs = [Some("q"), Some("scale"), Some("zero")];
        let made = graph.node("q", Arc::new(DynamicQuantizeLinear), &[Some(y)], &outputs).unwrap();
        graph.output(made[0].unwrap()).unwrap();
        check(&mut graph, take_ranges, &[ramp(&[8])], 2);
    }
}
