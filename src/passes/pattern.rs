//! Small questions that patterns ask of a graph, and the walk that every rule makes over it.

use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Patch, ValueId};
use crate::ops::Op;
use crate::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use crate::ops::layout::{Concat, Flatten, Reshape, Squeeze, Transpose, Unsqueeze};
use crate::tensor::{Dim, Tensor};

/// Applies what `rule` makes of each node, in topological order, and says how often it made something.
pub(super) fn each(graph: &mut Graph, rule: impl Fn(&Graph, NodeId, &Node) -> Option<Patch>) -> Result<usize> {
    let mut changed = 0;
    for id in graph.node_ids()? {
        let Some(patch) = graph.get(id).and_then(|node| rule(graph, id, node)) else { continue };
        graph.apply(patch)?;
        changed += 1;
    }
    Ok(changed)
}

/// How many steps in a row that only [move](moves) numbers a rule looks past: a file may have any number of them.
pub(super) const MOST_MOVES: usize = 16;

/// Whether the result has the elements of the first input, perhaps elsewhere.
pub(super) fn moves(op: &dyn Op) -> bool {
    let reshapes = op.is::<Reshape>() || op.is::<Flatten>() || op.is::<Squeeze>() || op.is::<Unsqueeze>();
    reshapes || op.is::<Transpose>()
}

/// The tensor of a constant.
pub(super) fn constant(graph: &Graph, value: ValueId) -> Option<&Tensor> {
    graph.constant_of(value)
}

/// True where every length in a list is known in terms of the lengths of the inputs, so that each request's own shapes
/// tell whether it fits. Of any other list only the run can tell.
pub(super) fn told(graph: &Graph, list: ValueId) -> bool {
    let fact = graph.fact(list);
    if fact.value.is_some() || fact.content.as_ref().is_some_and(|lengths| !lengths.contains(&Dim::Unknown)) {
        return true;
    }
    // A wildcard among lengths is the one thing that content does not tell.
    let Some((_, node)) = graph.producer(list) else { return false };
    node.op().is::<Concat>() && node.inputs().iter().flatten().all(|part| told(graph, *part))
}

/// The elements of a constant of integers.
pub(super) fn integers(graph: &Graph, value: ValueId) -> Option<Vec<i64>> {
    let tensor = constant(graph, value)?;
    if !tensor.dtype().is_integer() {
        return None;
    }
    tensor.to_i64_vec().ok()
}

/// The number that a constant of a single element is.
pub(super) fn scalar(graph: &Graph, value: ValueId) -> Option<f64> {
    let tensor = constant(graph, value)?;
    if tensor.len() != 1 {
        return None;
    }
    tensor.to_f64_vec().ok()?.first().copied()
}

/// The same for one that leaves the shape of `x` as it is when both are broadcast.
pub(super) fn scalar_beside(graph: &Graph, value: ValueId, x: ValueId) -> Option<f64> {
    let rank = constant(graph, value)?.rank();
    if rank > graph.fact(x).rank().unwrap_or(0) {
        return None;
    }
    scalar(graph, value)
}

/// True where two values have the same shape for every request.
pub(super) fn same_dims(graph: &Graph, a: ValueId, b: ValueId) -> bool {
    match (graph.fact(a).dims(), graph.fact(b).dims()) {
        (Some(a), Some(b)) => a == b && !a.contains(&Dim::Unknown),
        _ => false,
    }
}

/// The two operands of a node that is this function of two.
pub(super) fn binary(node: &Node, kind: BinaryKind) -> Option<[ValueId; 2]> {
    let is = node.op().downcast_ref::<Binary>()?.0 == kind;
    is.then_some([node.input(0)?, node.input(1)?])
}

/// The function of one element that a node is.
pub(super) fn unary(node: &Node) -> Option<UnaryKind> {
    node.op().downcast_ref::<Unary>().map(|unary| unary.0)
}

/// The operand of the node that yields `value`, where that node is this function of one element.
pub(super) fn unary_operand(graph: &Graph, value: ValueId, kind: UnaryKind) -> Option<(NodeId, ValueId)> {
    let (id, node) = graph.producer(value)?;
    if unary(node)? != kind {
        return None;
    }
    Some((id, node.input(0)?))
}

/// True where nothing but these nodes and `root` takes what these nodes yield.
pub(super) fn sealed(graph: &Graph, inner: &[NodeId], root: NodeId) -> bool {
    inner.iter().filter_map(|id| graph.get(*id)).flat_map(|node| node.outputs().iter().flatten()).all(|value| {
        let within = |user: &NodeId| *user == root || inner.contains(user);
        !graph.is_output(*value) && graph.value(*value).users().iter().all(within)
    })
}

/// True where `old` may be replaced by a value that exists. Outputs of a graph keep names of their own, and are made by
/// nodes.
pub(super) fn replaceable(graph: &Graph, old: ValueId, new: ValueId) -> bool {
    if graph.is_output(old) {
        return graph.producer(new).is_some() && !graph.is_output(new);
    }
    !graph.value(old).users().is_empty()
}
