//! Graphs to entries of the index and back. Reading builds the graph node by node, so that inference checks it.

use super::index::{AttrEntry, DimEntry, GraphEntry, NodeEntry, OpEntry, PortEntry};
use super::tensors::{Table, Tensors};
use crate::error::{At, Result, bail, ensure, err};
use crate::graph::{Graph, ValueId};
use crate::ops::reader::{dtype_from_onnx, dtype_to_onnx};
use crate::ops::registry::{self, OWN_DOMAIN};
use crate::ops::{Attr, Body, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Symbol, Tensor};
use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The opset that nodes of ONNX's own domain are read as: the newest, whose forms are those that attributes are kept in.
const OPSET: u32 = 27;

/// A text of an entry that outlives what it was made of.
fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

/// The entry of a value that is no constant.
pub(super) fn port(name: &str, fact: &Fact, default: Option<usize>) -> PortEntry<'static> {
    let entry = |dim: &Dim| match dim {
        Dim::Known(n) => DimEntry::Known(*n),
        Dim::Symbol(symbol) => DimEntry::Symbol(owned(symbol.name())),
        Dim::Unknown => DimEntry::Unknown,
    };
    let dims = fact.shape.as_ref().map(|dims| dims.iter().map(entry).collect());
    PortEntry { name: owned(name), dtype: dtype_to_onnx(fact.dtype), dims, default }
}

/// What an entry says of a value.
pub(super) fn fact(entry: &PortEntry) -> Result<Fact> {
    let dim = |entry: &DimEntry| match entry {
        DimEntry::Known(n) => Dim::Known(*n),
        DimEntry::Symbol(name) => Dim::Symbol(Symbol::new(name)),
        DimEntry::Unknown => Dim::Unknown,
    };
    let shape = entry.dims.as_ref().map(|dims| dims.iter().map(dim).collect());
    Ok(Fact { dtype: dtype_from_onnx(entry.dtype)?, shape, value: None, content: None })
}

/// The entry of a graph, its constants in `table`.
pub(super) fn write(graph: &Graph, table: &mut Table) -> Result<GraphEntry<'static>> {
    let mut numbers: HashMap<ValueId, usize> = HashMap::new();
    let mut inputs = Vec::new();
    for id in graph.inputs() {
        numbers.insert(*id, numbers.len());
        inputs.push(port(graph.value(*id).name(), graph.fact(*id), None));
    }
    let used = graph.nodes()?.flat_map(|(_, node)| node.inputs().iter().flatten().copied());
    let used: Vec<ValueId> = used.chain(graph.outputs().iter().copied()).collect();
    let mut constants = Vec::new();
    for id in used {
        let value = graph.value(id);
        if let (None, Some(tensor)) = (value.producer(), graph.constant_of(id))
            && !numbers.contains_key(&id)
        {
            numbers.insert(id, numbers.len());
            constants.push((owned(value.name()), table.add(tensor)));
        }
    }
    let number = |numbers: &HashMap<ValueId, usize>, id: &ValueId| {
        numbers.get(id).copied().ok_or_else(|| err!(Internal, "a value is used before it is made"))
    };
    let mut nodes = Vec::new();
    for (_, node) in graph.nodes()? {
        let inputs: Result<Vec<_>> =
            node.inputs().iter().map(|id| id.as_ref().map(|id| number(&numbers, id)).transpose()).collect();
        let op = operator(node.op().as_ref(), table).at(|| node.to_string())?;
        let mut outputs = Vec::new();
        for id in node.outputs() {
            outputs.push(id.map(|id| {
                numbers.insert(id, numbers.len());
                owned(graph.value(id).name())
            }));
        }
        nodes.push(NodeEntry { name: owned(node.name()), op, inputs: inputs?, outputs });
    }
    let outputs: Result<Vec<_>> = graph.outputs().iter().map(|id| number(&numbers, id)).collect();
    let metadata = graph.metadata().clone();
    Ok(GraphEntry { name: owned(graph.name()), metadata, inputs, constants, nodes, outputs: outputs? })
}

fn operator(op: &dyn Op, table: &mut Table) -> Result<OpEntry<'static>> {
    let known = match op.domain() {
        OWN_DOMAIN => registry::find_own(op.name()),
        domain => registry::find(domain, op.name()),
    };
    ensure!(known.is_some(), Unsupported, "the operator {} has no name in a file", op.name());
    let mut attrs = Vec::new();
    for (name, attr) in op.attrs().iter() {
        let entry = match attr {
            Attr::Int(v) => AttrEntry::Int(*v),
            Attr::Float(v) => AttrEntry::Float(v.to_bits()),
            Attr::Str(v) => AttrEntry::Str(owned(v)),
            Attr::Tensor(v) => AttrEntry::Tensor(table.add(v)),
            Attr::Body(body) => match (body.as_ref() as &dyn Any).downcast_ref::<Graph>() {
                Some(graph) => AttrEntry::Graph(Box::new(write(graph, table)?)),
                None => bail!(Unsupported, "attribute {name:?}: a body that is no graph"),
            },
            Attr::Op(op) => AttrEntry::Op(Box::new(operator(op.as_ref(), table)?)),
            Attr::Ints(v) => AttrEntry::Ints(v.clone()),
            Attr::Floats(v) => AttrEntry::Floats(v.iter().map(|v| v.to_bits()).collect()),
            Attr::Strs(v) => AttrEntry::Strs(v.iter().map(|v| owned(v)).collect()),
        };
        attrs.push((owned(name), entry));
    }
    Ok(OpEntry { domain: owned(op.domain()), name: owned(op.name()), captures: op.captures(), attrs })
}

/// The graph of an entry.
pub(super) fn read(entry: &GraphEntry, tensors: &Tensors) -> Result<Graph> {
    let mut graph = Graph::new(&entry.name);
    graph.set_metadata(entry.metadata.clone());
    let mut values = Vec::new();
    for input in &entry.inputs {
        values.push(graph.input(&input.name, fact(input)?)?);
    }
    for (name, tensor) in &entry.constants {
        values.push(graph.constant(name, tensors.get(*tensor)?.clone())?);
    }
    let value = |values: &[ValueId], number: usize| {
        values.get(number).copied().ok_or_else(|| err!(Malformed, "value {number} is used before it is made"))
    };
    for node in &entry.nodes {
        let place = || format!("node {:?} ({})", node.name, node.op.name);
        let inputs: Result<Vec<Option<ValueId>>> =
            node.inputs.iter().map(|number| number.map(|number| value(&values, number)).transpose()).collect();
        let mut inputs = inputs.at(place)?;
        let captures = node.op.captures;
        let own =
            inputs.len().checked_sub(captures).ok_or_else(|| err!(Malformed, "{captures} captures").at(place()))?;
        let known = inputs[..own].iter().map(|id| id.map(|id| graph.fact(id).rank())).collect();
        let inside = Inside { inputs: known, outputs: node.outputs.len(), tensors };
        let (op, constants) = inside.operator(&node.op).at(place)?;
        for (index, tensor) in constants {
            let id = graph.constant(&format!("{}/{index}", node.name), tensor)?;
            let slot = inputs[..own].get_mut(index).filter(|slot| slot.is_none());
            *slot.ok_or_else(|| err!(Malformed, "input {index} is made twice").at(place()))? = Some(id);
        }
        let names: Vec<Option<&str>> = node.outputs.iter().map(Option::as_deref).collect();
        values.extend(graph.node(&node.name, op, &inputs, &names)?.into_iter().flatten());
    }
    for number in &entry.outputs {
        graph.output(value(&values, *number)?)?;
    }
    graph.verify()?;
    Ok(graph)
}

/// What an operator is read with: the ranks of the inputs that are there, captures not among them.
struct Inside<'a> {
    inputs: Vec<Option<Option<usize>>>,
    outputs: usize,
    tensors: &'a Tensors,
}

impl Inside<'_> {
    /// The operator, and constants that reading it adds to the inputs.
    fn operator(&self, entry: &OpEntry) -> Result<(Arc<dyn Op>, BTreeMap<usize, Tensor>)> {
        let def = match &*entry.domain {
            OWN_DOMAIN => registry::find_own(&entry.name),
            domain => registry::find(domain, &entry.name),
        };
        let def = def.ok_or_else(|| err!(Malformed, "the operator {}:{} is not known", entry.domain, entry.name))?;
        let mut attrs = BTreeMap::new();
        for (name, attr) in &entry.attrs {
            let floats = |v: &[u32]| v.iter().map(|v| f32::from_bits(*v)).collect();
            let attr = match attr {
                AttrEntry::Int(v) => Attr::Int(*v),
                AttrEntry::Float(v) => Attr::Float(f32::from_bits(*v)),
                AttrEntry::Str(v) => Attr::Str(v.to_string()),
                AttrEntry::Tensor(index) => Attr::Tensor(self.tensors.get(*index)?.clone()),
                AttrEntry::Graph(graph) => Attr::Body(Arc::new(read(graph, self.tensors)?) as Arc<dyn Body>),
                AttrEntry::Op(op) => {
                    let (op, constants) = self.operator(op)?;
                    ensure!(constants.is_empty(), Malformed, "a wrapped {} with inputs of its own", op.name());
                    Attr::Op(op)
                }
                AttrEntry::Ints(v) => Attr::Ints(v.clone()),
                AttrEntry::Floats(v) => Attr::Floats(floats(v)),
                AttrEntry::Strs(v) => Attr::Strs(v.iter().map(ToString::to_string).collect()),
            };
            attrs.insert(name.to_string(), attr);
        }
        let opset = if def.domain.is_empty() { OPSET } else { def.opset };
        let present = self.inputs.iter().map(Option::is_some).collect();
        let ranks = self.inputs.iter().map(|rank| rank.flatten()).collect();
        let mut reader =
            NodeReader::new(def.name, opset, attrs, present, self.outputs, entry.captures).with_ranks(ranks);
        match (def.read)(&mut reader)? {
            Reading::Op(op) => Ok((op, reader.finish()?)),
            Reading::Nodes(_) => bail!(Malformed, "{} is not in its newest form", entry.name),
        }
    }
}
