//! Graph to bytes: every operator in its newest form, at the oldest opset that has all of these forms.
//!
//! What was a capture of a body becomes an outer name again. All constants stand in the outermost graph, so that one
//! which several bodies share is written once.

mod attributes;
mod batch_scan;
mod names;
mod opsets;
mod remarks;

use super::proto::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::tensors::to_proto;
use crate::error::{At, Result, bail, ensure, err};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::control::BatchScan;
use crate::ops::image::Resize;
use crate::ops::reader::dtype_to_onnx;
use crate::ops::registry;
use crate::tensor::{Dim, Fact, Tensor};
use names::{Memory, Names};
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The oldest opset that is written; what is older reads differently in too many places.
const OLDEST: u32 = 17;

/// The file format that came with each opset: (opset, format) from that opset on.
const IR_VERSIONS: &[(u32, i64)] = &[(17, 8), (19, 9), (21, 10), (23, 11), (24, 12), (25, 13)];

/// Protobuf's own limit, which readers in other languages hold.
const MAX_FILE_BYTES: usize = i32::MAX as usize;

/// The bytes of an ONNX model that computes what `graph` does, with its [metadata](Graph::metadata). Constants lie within.
///
/// Export a graph as it was imported: what the fusing passes make has no name in a file.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) for an operator that no domain names,
/// [`Limit`](crate::ErrorKind::Limit) when the file would pass 2 GiB.
pub fn export(graph: &Graph) -> Result<Vec<u8>> {
    let mut exporter = Exporter::default();
    let mut proto = exporter.graph(graph, None)?;
    proto.initializer = exporter.initializers;
    let opset = exporter.opsets.entry("").or_default();
    *opset = OLDEST.max(*opset);
    let ir_version = IR_VERSIONS.iter().rev().find(|(from, _)| from <= opset).map_or(8, |(_, version)| *version);
    let metadata = graph.metadata();
    let own = metadata.producer_name.is_empty();
    let (producer, version) = match own {
        true => (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
        false => (metadata.producer_name.as_str(), metadata.producer_version.as_str()),
    };
    let model = ModelProto {
        ir_version,
        producer_name: producer.to_owned(),
        producer_version: version.to_owned(),
        domain: metadata.domain.clone(),
        model_version: metadata.model_version,
        doc_string: metadata.doc_string.clone(),
        graph: Some(proto),
        opset_import: exporter
            .opsets
            .iter()
            .map(|(domain, version)| OperatorSetIdProto { domain: (*domain).to_owned(), version: i64::from(*version) })
            .collect(),
        metadata_props: remarks::pairs(&metadata.properties),
        ..ModelProto::default()
    };
    let length = model.encoded_len();
    ensure!(length <= MAX_FILE_BYTES, Limit, "a file of {length} bytes; protobuf allows {MAX_FILE_BYTES}");
    Ok(model.encode_to_vec())
}

#[derive(Default)]
struct Exporter {
    names: Names,
    initializers: Vec<TensorProto>,
    /// The names of the initializers by their elements.
    constants: HashMap<Memory, String>,
    /// The newest form used of each domain.
    opsets: BTreeMap<&'static str, u32>,
}

impl Exporter {
    /// A graph. A body takes its last inputs from the values around it that have the names `captured`.
    fn graph(&mut self, graph: &Graph, captured: Option<&[String]>) -> Result<GraphProto> {
        let names = captured.unwrap_or_default();
        let formal = graph.inputs().len().saturating_sub(names.len());
        let (inputs, captures) = graph.inputs().split_at(formal);
        let mut values: HashMap<ValueId, String> = captures.iter().copied().zip(names.iter().cloned()).collect();
        let mut outer: HashSet<ValueId> = captures.iter().copied().collect();
        for id in inputs {
            values.insert(*id, self.names.fresh(graph.value(*id).name()));
        }
        let constants = constants(graph)?;
        if captured.is_some() {
            for (id, tensor) in &constants {
                values.insert(*id, self.shared_constant(graph.value(*id).name(), tensor));
                outer.insert(*id);
            }
        }
        for id in graph.outputs() {
            values.entry(*id).or_insert_with(|| self.names.fresh(graph.value(*id).name()));
        }
        if captured.is_none() {
            for (id, tensor) in &constants {
                let name = values.entry(*id).or_insert_with(|| self.names.fresh(graph.value(*id).name())).clone();
                self.constants.insert(Memory::of(tensor), name.clone());
                self.initializers.push(to_proto(&name, tensor));
            }
        }
        let mut proto = GraphProto { name: self.names.graph(graph.name()), ..GraphProto::default() };
        proto.input = inputs.iter().map(|id| value_info(&values[id], graph.fact(*id))).collect();
        for (_, node) in graph.nodes()? {
            let node_proto = self.node(graph, node, &mut values).at(|| node.to_string())?;
            proto.node.push(node_proto);
        }
        let mut listed = Vec::new();
        for id in graph.outputs() {
            let mut name = named(&values, *id)?;
            // A body may not yield a value of the graph around it, and no graph the same value twice.
            if outer.contains(id) || listed.contains(id) {
                let copy = self.names.fresh(graph.value(*id).name());
                proto.node.push(self.identity(&name, &copy)?);
                name = copy;
            }
            listed.push(*id);
            // Checkers want the shape of every output, as far as there is one.
            let declared = graph.metadata().declared.get(graph.value(*id).name());
            let declared = declared.map(|dims| Fact::new(graph.fact(*id).dtype, dims.clone()));
            proto.output.push(value_info(&name, declared.as_ref().unwrap_or(graph.fact(*id))));
        }
        let initializers = if captured.is_none() { self.initializers.as_mut_slice() } else { &mut [] };
        remarks::write(graph, &values, &mut proto, initializers);
        Ok(proto)
    }

    fn node(&mut self, graph: &Graph, node: &Node, values: &mut HashMap<ValueId, String>) -> Result<NodeProto> {
        let op = node.op().as_ref();
        if let Some(op) = op.downcast_ref::<BatchScan>() {
            return self.batch_scan(graph, node, op, values);
        }
        let Some(def) = registry::find(op.domain(), op.name()) else {
            bail!(
                Unsupported,
                "the operator has no name in a model file; export the graph as it was before optimizing"
            );
        };
        self.use_opset(def.domain, opsets::needed(graph, node, def));
        let captures = op.captures();
        let own = node.inputs().len().saturating_sub(captures);
        let mut input = Vec::with_capacity(own);
        for index in 0..own {
            input.push(match written(graph, node, index) {
                Some(id) => named(values, id)?,
                None => String::new(),
            });
        }
        let captured: Result<Vec<String>> = node.inputs()[own..]
            .iter()
            .map(|id| named(values, id.ok_or_else(|| err!(Internal, "a capture is absent"))?))
            .collect();
        let attribute = self.attributes(op, &captured?)?;
        let mut output = Vec::with_capacity(node.outputs().len());
        for id in node.outputs() {
            output.push(match id {
                Some(id) => values.entry(*id).or_insert_with(|| self.names.fresh(graph.value(*id).name())).clone(),
                None => String::new(),
            });
        }
        trim(&mut input, *def.inputs.start());
        trim(&mut output, 0);
        Ok(NodeProto {
            input,
            output,
            name: self.names.node(node.name()),
            op_type: def.name.to_owned(),
            domain: def.domain.to_owned(),
            attribute,
            ..NodeProto::default()
        })
    }

    /// The name of an initializer with the elements of a body's constant.
    fn shared_constant(&mut self, wanted: &str, tensor: &Tensor) -> String {
        let memory = Memory::of(tensor);
        if let Some(name) = self.constants.get(&memory) {
            return name.clone();
        }
        let name = self.names.fresh(wanted);
        self.initializers.push(to_proto(&name, tensor));
        self.constants.insert(memory, name.clone());
        name
    }

    fn identity(&mut self, from: &str, to: &str) -> Result<NodeProto> {
        let Some(def) = registry::find("", "Identity") else { bail!(Unsupported, "Identity is not known") };
        self.use_opset(def.domain, def.opset);
        Ok(NodeProto {
            input: vec![from.to_owned()],
            output: vec![to.to_owned()],
            op_type: def.name.to_owned(),
            ..NodeProto::default()
        })
    }

    fn use_opset(&mut self, domain: &'static str, opset: u32) {
        let newest = self.opsets.entry(domain).or_default();
        *newest = opset.max(*newest);
    }
}

/// The constants that something takes, in the order of their ids.
fn constants(graph: &Graph) -> Result<Vec<(ValueId, &Tensor)>> {
    let mut ids: Vec<ValueId> = graph.outputs().to_vec();
    for (_, node) in graph.nodes()? {
        ids.extend((0..node.inputs().len()).filter_map(|index| written(graph, node, index)));
    }
    crate::order::sort(&mut ids);
    ids.dedup();
    let made = |id: &ValueId| graph.value(*id).producer().is_some() || graph.inputs().contains(id);
    Ok(ids.into_iter().filter(|id| !made(id)).filter_map(|id| Some((id, graph.constant_of(id)?))).collect())
}

fn named(values: &HashMap<ValueId, String>, id: ValueId) -> Result<String> {
    values.get(&id).cloned().ok_or_else(|| err!(Internal, "a value is used before it is made"))
}

/// Input `index` as it is written: a region, scales or sizes without elements stand for none, but not to all readers.
fn written(graph: &Graph, node: &Node, index: usize) -> Option<ValueId> {
    let empty = |id: &ValueId| graph.fact(*id).dims().is_some_and(|dims| dims.contains(&Dim::Known(0)));
    node.input(index).filter(|id| index == 0 || !node.op().is::<Resize>() || !empty(id))
}

/// Leaves out absent names at the end, but for the first `least`.
fn trim(names: &mut Vec<String>, least: usize) {
    while names.len() > least && names.last().is_some_and(String::is_empty) {
        names.pop();
    }
}

fn value_info(name: &str, fact: &Fact) -> ValueInfoProto {
    let dim = |dim: &Dim| match dim {
        Dim::Known(n) => DimensionProto { dim_value: Some(*n as i64), dim_param: None },
        Dim::Symbol(symbol) => DimensionProto { dim_value: None, dim_param: Some(symbol.name().to_owned()) },
        Dim::Unknown => DimensionProto::default(),
    };
    let shape = fact.dims().map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let elem_type = dtype_to_onnx(fact.dtype) as i32;
    let tensor_type = Some(TensorTypeProto { elem_type, shape });
    let r#type = Some(TypeProto { tensor_type, ..TypeProto::default() });
    ValueInfoProto { name: name.to_owned(), r#type, ..ValueInfoProto::default() }
}
