//! Functions of one quantized value: whatever stands between a byte and the byte that is made of it, as a table.
//!
//! From a `QuantizeLinear` the walk goes back through nodes that work element by element, with constants of one element
//! beside them, until one value of bytes is left that everything depends on. Its 256 possible elements, put through the
//! nodes by reference evaluation, are the table.

use super::source::quantization;
use crate::graph::{Graph, Node, NodeId, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary};
use crate::ops::fused::ByteTable;
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::ops::{Budget, Inputs, Op};
use crate::passes::pattern::constant;
use crate::tensor::{DType, Dim, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that one table may stand for.
const LONGEST: usize = 32;

/// The rule for a `QuantizeLinear`.
pub(super) fn of_quantization(graph: &Graph, node: &Node) -> Option<Patch> {
    table(graph, node, quantization(graph, node)?.value)
}

/// The rule for a table of what another table alone yields to it.
pub(super) fn of_table(graph: &Graph, node: &Node) -> Option<Patch> {
    let between = node.input(0)?;
    let (_, before) = graph.producer(between)?;
    graph.single_user(between)?;
    let both = node.op().is::<ByteTable>() && before.op().is::<ByteTable>();
    if both { table(graph, node, node.output(0)?) } else { None }
}

fn table(graph: &Graph, node: &Node, root: ValueId) -> Option<Patch> {
    let (from, cone) = cone(graph, root)?;
    let entries = entries(graph, from, root, &cone)?;
    let mut patch = Patch::new();
    let table = patch.constant("table", entries);
    let made = patch.op(node.name(), ByteTable, &[from.into(), table]);
    patch.replace(root, made);
    Some(patch)
}

/// True for an operator whose output elements depend on one element of each input that is no constant.
fn elementwise(op: &dyn Op) -> bool {
    use BinaryKind::{Add, Div, Mul, Pow, Sub};
    let arithmetic = op.downcast_ref::<Binary>().is_some_and(|b| matches!(b.0, Add | Sub | Mul | Div | Pow));
    let converts = op.is::<QuantizeLinear>() || op.is::<DequantizeLinear>();
    arithmetic || converts || op.is::<Unary>() || op.is::<Clip>() || op.is::<ByteTable>()
}

/// The constants of a node that are the same for each element.
fn beside(graph: &Graph, node: &Node, value: ValueId) -> bool {
    constant(graph, value).is_some_and(|c| c.len() == 1 || node.op().is::<ByteTable>())
}

/// The byte value that `root` is a function of, and the nodes between.
fn cone(graph: &Graph, root: ValueId) -> Option<(ValueId, BTreeSet<NodeId>)> {
    let dims = graph.fact(root).dims().filter(|dims| !dims.contains(&Dim::Unknown))?;
    let (mut open, mut nodes) = (vec![root], BTreeSet::new());
    // Of the values that are still to be explained the one that is computed last is opened next.
    let order = graph.order().ok()?;
    let place = |value: ValueId| graph.producer(value).and_then(|(id, _)| order.iter().position(|n| *n == id));
    loop {
        let latest = match open[..] {
            [only] => only,
            _ => open.iter().copied().max_by_key(|value| place(*value))?,
        };
        let (id, node) = graph.producer(latest)?;
        if !elementwise(node.op().as_ref()) || nodes.len() == LONGEST || graph.fact(latest).dims()? != dims {
            return None;
        }
        nodes.insert(id);
        open.retain(|value| *value != latest);
        for value in node.inputs().iter().flatten() {
            if !beside(graph, node, *value) && !open.contains(value) {
                open.push(*value);
            }
        }
        // Two at least, or a table would stand for itself.
        if let [from] = open[..]
            && nodes.len() > 1
            && matches!(graph.fact(from).dtype, DType::U8 | DType::I8)
            && graph.fact(from).dims()? == dims
            && constant(graph, from).is_none()
        {
            return Some((from, nodes));
        }
        if open.is_empty() {
            return None;
        }
    }
}

/// What the nodes make of each byte.
fn entries(graph: &Graph, from: ValueId, root: ValueId, cone: &BTreeSet<NodeId>) -> Option<Tensor> {
    let bits: Vec<u8> = (0..=255).collect();
    let bytes = Tensor::from_bits(graph.fact(from).dtype, [256], bits).ok()?;
    let mut made: BTreeMap<ValueId, Tensor> = BTreeMap::from([(from, bytes)]);
    for id in graph.order().ok()?.iter().filter(|id| cone.contains(id)) {
        let node = graph.get(*id)?;
        let operands: Vec<Option<Tensor>> = node
            .inputs()
            .iter()
            .map(|input| match input {
                None => Some(None),
                Some(value) => match made.get(value) {
                    Some(tensor) => Some(Some(tensor.clone())),
                    None => {
                        let constant = constant(graph, *value)?;
                        let shape: &[usize] = if constant.len() == 1 { &[] } else { constant.shape() };
                        constant.reshaped(shape).ok().map(Some)
                    }
                },
            })
            .collect::<Option<_>>()?;
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        let output = node.op().eval(Inputs::new(&operands), &Budget::generous()).ok()?.into_iter().next()?;
        made.insert(node.output(0)?, output);
    }
    made.remove(&root).filter(|table| table.len() == 256)
}
