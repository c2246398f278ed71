//! Elementwise operators that only take from each other joined in one node, so that what lies between them is never
//! stored: a tree of them, or several uses of one result, as long as all are of one shape.

use super::pattern::{constant, same_dims, scalar};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Operand, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Variadic, Where};
use crate::ops::fused::{Elementwise, ElementwiseStep, Source};
use crate::tensor::DType;
use std::collections::HashMap;
use std::sync::Arc;

/// Elements below which several steps cost no more than one that does the work of all.
const FEW: usize = 1024;

pub(super) fn fuse_elementwise(graph: &mut Graph) -> Result<usize> {
    let order = graph.node_ids()?;
    let place: HashMap<NodeId, usize> = order.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let mut fused = 0;
    // From the end, so that each node finds those before it still by themselves.
    for &id in order.iter().rev() {
        let Some(patch) = graph.get(id).and_then(|node| joined(graph, &place, id, node)) else { continue };
        graph.apply(patch)?;
        fused += 1;
    }
    Ok(fused)
}

/// The node with as many of those before it as can be computed with it.
fn joined(graph: &Graph, place: &HashMap<NodeId, usize>, id: NodeId, node: &Node) -> Option<Patch> {
    let output = node.output(0)?;
    let few = graph.fact(output).concrete_shape().is_some_and(|shape| shape.elements() < FEW);
    if few || graph.fact(output).dtype != DType::F32 || !fits(graph, node, output) {
        return None;
    }
    let mut members = vec![id];
    let mut best: Option<Group> = None;
    let mut refused = Vec::new();
    while let Some(next) = candidate(graph, &members, &refused, output) {
        let mut wider = members.clone();
        wider.push(next);
        crate::order::sort_by(&mut wider, |a, b| place.get(a).cmp(&place.get(b)));
        match Group::of(graph, &wider) {
            Some(group) => (members, best) = (wider, Some(group)),
            None => refused.push(next),
        }
    }
    let Group { op, inputs } = best?;
    let inputs: Vec<Option<Operand>> = inputs.into_iter().map(|value| Some(value.into())).collect();
    let mut patch = Patch::new();
    let made = patch.node(node.name(), Arc::new(op), &inputs, 1)[0];
    patch.replace(output, made);
    Some(patch)
}

/// A node that yields to members alone, and can be one.
fn candidate(graph: &Graph, members: &[NodeId], refused: &[NodeId], output: ValueId) -> Option<NodeId> {
    let inputs = members.iter().filter_map(|id| graph.get(*id)).flat_map(|node| node.inputs().iter().flatten());
    inputs.copied().find_map(|value| {
        let (id, node) = graph.producer(value)?;
        let inside = graph.value(value).users().iter().all(|user| members.contains(user)) && !graph.is_output(value);
        (inside && !members.contains(&id) && !refused.contains(&id) && fits(graph, node, output)).then_some(id)
    })
}

/// Whether a node is an elementwise operator of numbers, all of whose results have the shape of `output`.
fn fits(graph: &Graph, node: &Node, output: ValueId) -> bool {
    let op = node.op();
    let (&[Some(own)], true) = (node.outputs(), Elementwise::takes(op.as_ref())) else { return false };
    let single = |index: usize| node.input(index).is_none_or(|value| scalar(graph, value).is_some());
    let limits = match op.downcast_ref() {
        Some(Binary(BinaryKind::Pow)) => single(1),
        _ if op.is::<Clip>() => single(1) && single(2),
        _ if op.is::<Variadic>() => node.inputs().len() == 2,
        _ => true,
    };
    let dtypes = node.inputs().iter().enumerate().all(|(index, value)| {
        let wanted = if op.is::<Where>() && index == 0 { DType::Bool } else { DType::F32 };
        value.is_none_or(|value| graph.fact(value).dtype == wanted)
    });
    limits && dtypes && (own == output || same_dims(graph, own, output))
}

/// Nodes as one operator.
struct Group {
    op: Elementwise,
    inputs: Vec<ValueId>,
}

impl Group {
    /// Of nodes in topological order; nothing where they are too many, or need too much at once.
    fn of(graph: &Graph, members: &[NodeId]) -> Option<Group> {
        let mut made: HashMap<ValueId, usize> = HashMap::new();
        let mut inputs: Vec<ValueId> = Vec::new();
        let mut steps = Vec::with_capacity(members.len());
        for (step, node) in members.iter().enumerate() {
            let node = graph.get(*node)?;
            let mut source = |value: ValueId| match made.get(&value) {
                Some(&step) => Source::Step(step),
                None => Source::Input(inputs.iter().position(|&input| input == value).unwrap_or_else(|| {
                    inputs.push(value);
                    inputs.len() - 1
                })),
            };
            let operands = node.inputs().iter().map(|value| value.map(&mut source)).collect();
            steps.push(ElementwiseStep { op: node.op().clone(), operands });
            made.insert(node.output(0)?, step);
        }
        let op = Elementwise::new(steps).ok()?;
        let single = |value: ValueId| constant(graph, value).is_some_and(|tensor| tensor.len() == 1);
        let (conditions, numbers): (Vec<ValueId>, Vec<ValueId>) =
            inputs.iter().partition(|value| graph.fact(**value).dtype == DType::Bool);
        let few = conditions.len() <= Elementwise::MAX_CONDITIONS
            && numbers.iter().filter(|value| !single(**value)).count() <= Elementwise::MAX_OPERANDS
            && op.live() <= Elementwise::MAX_LIVE;
        few.then_some(Group { op, inputs })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, number, ramp};
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};
    use crate::ops::layout::Transpose;
    use crate::tensor::Tensor;

    fn row(graph: &mut Graph, len: usize) -> ValueId {
        graph.constant("row", Tensor::vector((0..len).map(|i| i as f32 * 0.5 - 1.0).collect::<Vec<f32>>())).unwrap()
    }

    #[test]
    fn a_tree_becomes_one_node() {
        let (mut graph, x) = graph_of(&[300, 5]);
        let (scale, shift, two, zero) =
            (row(&mut graph, 5), row(&mut graph, 5), number(&mut graph, 2.0), number(&mut graph, 0.0));
        let a = graph.op("a", Binary(BinaryKind::Mul), &[x, scale]).unwrap();
        let b = graph.op("b", Binary(BinaryKind::Add), &[a, shift]).unwrap();
        let c = graph.op("c", Unary(UnaryKind::Sigmoid), &[b]).unwrap();
        let d = graph.op("d", Binary(BinaryKind::Mul), &[c, b]).unwrap();
        let e = graph.op("e", Binary(BinaryKind::Pow), &[d, two]).unwrap();
        let f = graph.op("f", Binary(BinaryKind::Less), &[x, zero]).unwrap();
        let g = graph.op("g", Where, &[f, e, x]).unwrap();
        let y = graph.op("y", Clip, &[g, zero, two]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, fuse_elementwise, &[ramp(&[300, 5])], 1);
        assert_eq!(fuse_elementwise(&mut graph).unwrap(), 0);
    }

    #[test]
    fn what_is_used_elsewhere_or_smaller_stays_outside() {
        let (mut graph, x) = graph_of(&[40, 40]);
        let (a_row, two) = (row(&mut graph, 40), number(&mut graph, 2.0));
        let input = graph.op("sum", Unary(UnaryKind::Exp), &[x]).unwrap();
        graph.output(input).unwrap();
        let turned = graph.op("turned", Transpose { perm: None }, &[x]).unwrap();
        let small = graph.op("small", Unary(UnaryKind::Abs), &[a_row]).unwrap();
        let a = graph.op("a", Binary(BinaryKind::Mul), &[input, small]).unwrap();
        let b = graph.op("b", Binary(BinaryKind::Add), &[a, turned]).unwrap();
        let y = graph.op("y", Binary(BinaryKind::Pow), &[b, two]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, fuse_elementwise, &[ramp(&[40, 40])], 4);
    }

    #[test]
    fn few_elements_stay_by_themselves() {
        let (mut graph, x) = graph_of(&[FEW - 1]);
        let a = graph.op("a", Unary(UnaryKind::Exp), &[x]).unwrap();
        let y = graph.op("y", Unary(UnaryKind::Neg), &[a]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, fuse_elementwise, &[ramp(&[FEW - 1])], 2);
    }

    #[test]
    fn a_long_chain_becomes_as_many_nodes_as_it_needs() {
        let (mut graph, x) = graph_of(&[FEW]);
        let mut y = x;
        for _ in 0..Elementwise::MAX_STEPS + 3 {
            y = graph.op("y", Unary(UnaryKind::Tanh), &[y]).unwrap();
        }
        graph.output(y).unwrap();
        check(&mut graph, fuse_elementwise, &[ramp(&[FEW])], 2);
        assert_eq!(fuse_elementwise(&mut graph).unwrap(), 0);
    }

    #[test]
    fn no_more_waits_than_fits() {
        // Sums of pairs of the results of all: the first ones wait for the last.
        let (mut graph, x) = graph_of(&[FEW]);
        let leaves: Vec<ValueId> =
            (0..2 * Elementwise::MAX_LIVE).map(|_| graph.op("leaf", Unary(UnaryKind::Abs), &[x]).unwrap()).collect();
        let (first, second) = leaves.split_at(Elementwise::MAX_LIVE);
        let mut sum = x;
        for (a, b) in first.iter().zip(second) {
            let pair = graph.op("pair", Binary(BinaryKind::Mul), &[*a, *b]).unwrap();
            sum = graph.op("sum", Binary(BinaryKind::Add), &[sum, pair]).unwrap();
        }
        graph.output(sum).unwrap();
        let before = graph.interpret(&[ramp(&[FEW])]).unwrap();
        assert!(fuse_elementwise(&mut graph).unwrap() > 0);
        assert_eq!(graph.interpret(&[ramp(&[FEW])]).unwrap(), before);
        for (_, node) in graph.nodes().unwrap() {
            assert!(node.op().downcast_ref::<Elementwise>().is_none_or(|op| op.live() <= Elementwise::MAX_LIVE));
        }
    }
}
