//! Subgraphs: which outer values they use, and how those become inputs.

use super::Context;
use super::graph::{Builder, Frame};
use crate::error::{At, ErrorKind, Result, ensure};
use crate::graph::{Graph, ValueId};
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::tensor::{DType, Fact, Tensor};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// What the bodies of a node see of the graph around it.
pub(super) struct Outer<'o, 'c, 'm> {
    pub(super) frame: &'o Frame<'c, 'm>,
    /// Outer values that a body uses, in the order in which they follow the inputs of the node.
    pub(super) captures: Vec<Capture<'m>>,
    /// Outer constants that a body uses; they are shared and take no input.
    pub(super) constants: Vec<(&'m str, Tensor)>,
    /// Names that stand for nothing, within a function whose caller left an input out.
    pub(super) absent: Vec<&'m str>,
    op_type: &'o str,
    inputs: Vec<Option<Fact>>,
}

/// An outer value that a body uses.
pub(super) struct Capture<'m> {
    pub(super) name: &'m str,
    pub(super) id: ValueId,
    pub(super) fact: Fact,
}

impl Outer<'_, '_, '_> {
    /// What formal input `index` of a body is where the body does not say: the inputs of `Loop` and `Scan` stand in the
    /// same order as those of their body.
    pub(super) fn formal(&self, index: usize) -> Option<Fact> {
        match (self.op_type, index) {
            ("Loop", 0) => Some(Fact::concrete(DType::I64, &[])),
            ("Loop", 1) => Some(Fact::concrete(DType::Bool, &[])),
            ("Loop" | "Scan", _) => Some(Fact::unranked(self.inputs.get(index)?.as_ref()?.dtype)),
            _ => None,
        }
    }
}

impl<'c, 'm> Outer<'_, 'c, 'm> {
    /// A body. One that cannot run on the shapes around it may be a branch that is never taken, so it is built again
    /// without them, and judged when it runs.
    fn build(&self, context: &'c Context<'m>, proto: &'m GraphProto) -> Result<Graph> {
        let nodes = context.nodes.get();
        match Builder::body(context, proto, self, true) {
            Err(error) if error.kind() == ErrorKind::Shape && self.op_type == "If" && self.frame.depth == 0 => {
                context.nodes.set(nodes);
                Builder::body(context, proto, self, false).map_err(|_| error)
            }
            result => result,
        }
    }
}

/// The bodies of a node by attribute, and the values that they capture.
pub(super) type Bodies<'m> = (Vec<(&'m str, Arc<Graph>)>, Vec<ValueId>);

impl<'c, 'm> Builder<'c, 'm> {
    /// Builds the bodies of a node.
    pub(super) fn bodies(
        &self,
        frame: &Frame<'c, 'm>,
        node: &'m NodeProto,
        protos: &[(&'m str, &'m GraphProto)],
        inputs: &[Option<ValueId>],
    ) -> Result<Bodies<'m>> {
        if protos.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut outer = Outer {
            frame,
            captures: Vec::new(),
            constants: Vec::new(),
            absent: Vec::new(),
            op_type: &node.op_type,
            inputs: inputs.iter().map(|v| v.map(|id| self.graph.fact(id).clone())).collect(),
        };
        for name in captured_names(self.context, node) {
            let Some(id) = frame.get(name)? else {
                outer.absent.push(name);
                continue;
            };
            let fact = self.graph.fact(id);
            match &fact.value {
                Some(value) => outer.constants.push((name, value.clone())),
                None => {
                    let fact = Fact { content: None, ..fact.clone() };
                    outer.captures.push(Capture { name, id, fact });
                }
            }
        }
        let mut bodies = Vec::with_capacity(protos.len());
        for (attribute, proto) in protos {
            let body = outer.build(self.context, proto).at(|| format!("attribute {attribute:?}"))?;
            ensure!(
                bodies.iter().all(|(other, _)| other != attribute),
                InvalidModel,
                "attribute {attribute:?} is given twice"
            );
            bodies.push((*attribute, Arc::new(body)));
        }
        let captured = outer.captures.iter().map(|c| c.id).collect();
        Ok((bodies, captured))
    }
}

/// The outer names that the bodies of a node use, each once.
pub(super) fn captured_names<'m>(context: &Context<'m>, node: &'m NodeProto) -> Vec<&'m str> {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for graph in node.attribute.iter().filter_map(|a| a.g.as_deref()) {
        names.extend(free_names(context, graph).iter().filter(|name| seen.insert(**name)));
    }
    names
}

/// The names that nodes take, directly or in a body.
pub(super) fn taken_names<'m>(context: &Context<'m>, nodes: &'m [NodeProto]) -> impl Iterator<Item = &'m str> {
    nodes.iter().flat_map(|node| node.input.iter().map(String::as_str).chain(captured_names(context, node)))
}

/// The names that a graph uses and does not define, each once. Every body around asks for them, so they are kept.
pub(super) fn free_names<'m>(context: &Context<'m>, graph: &'m GraphProto) -> Rc<[&'m str]> {
    let key = std::ptr::from_ref(graph);
    if let Some(names) = context.free_names.borrow().get(&key) {
        return names.clone();
    }
    let mut defined: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    defined.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    defined.extend(graph.sparse_initializer.iter().flat_map(|s| &s.values).map(|t| t.name.as_str()));
    defined.extend(graph.node.iter().flat_map(|n| &n.output).map(String::as_str));
    let mut free = Vec::new();
    let mut seen = HashSet::new();
    let mut add = |name| {
        if !defined.contains(name) && seen.insert(name) {
            free.push(name);
        }
    };
    for node in &graph.node {
        node.input.iter().filter(|i| !i.is_empty()).for_each(|i| add(i.as_str()));
        captured_names(context, node).into_iter().for_each(&mut add);
    }
    graph.output.iter().for_each(|o| add(o.name.as_str()));
    let names: Rc<[&str]> = free.into();
    context.free_names.borrow_mut().insert(key, names.clone());
    names
}
