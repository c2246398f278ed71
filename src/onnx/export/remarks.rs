//! What a graph's metadata say of its parts, beside those parts wherever they still are.

use super::value_info;
use crate::graph::{Graph, Remark, ValueId};
use crate::onnx::proto::{GraphProto, StringStringEntryProto, TensorProto};
use std::collections::HashMap;

/// Adds the remarks on `graph` to its message and to those of `initializers` that it names; `names` are those that its
/// values have in the file.
pub(super) fn write(
    graph: &Graph,
    names: &HashMap<ValueId, String>,
    proto: &mut GraphProto,
    initializers: &mut [TensorProto],
) {
    let metadata = graph.metadata();
    (proto.doc_string, proto.metadata_props) = parts(&metadata.graph);
    if metadata.nodes.is_empty() && metadata.values.is_empty() {
        return;
    }
    // The remarks go by the names that the values had before.
    let before: HashMap<&str, ValueId> = names.iter().map(|(id, name)| (name.as_str(), *id)).collect();
    let of_value = |name: &str| before.get(name).and_then(|id| metadata.values.get(graph.value(*id).name()));
    for node in &mut proto.node {
        let id = node.output.iter().find(|output| !output.is_empty()).and_then(|output| before.get(output.as_str()));
        if let Some(remark) = id.and_then(|id| metadata.nodes.get(graph.value(*id).name())) {
            (node.doc_string, node.metadata_props) = parts(remark);
        }
    }
    for info in proto.input.iter_mut().chain(&mut proto.output) {
        if let Some(remark) = of_value(&info.name) {
            (info.doc_string, info.metadata_props) = parts(remark);
        }
    }
    for tensor in initializers {
        if let Some(remark) = of_value(&tensor.name) {
            (tensor.doc_string, tensor.metadata_props) = parts(remark);
        }
    }
    for name in proto.node.iter().flat_map(|node| &node.output) {
        let Some((remark, id)) = of_value(name).zip(before.get(name.as_str())) else { continue };
        if !graph.is_output(*id) {
            let mut info = value_info(name, graph.fact(*id));
            (info.doc_string, info.metadata_props) = parts(remark);
            proto.value_info.push(info);
        }
    }
}

fn parts(remark: &Remark) -> (String, Vec<StringStringEntryProto>) {
    (remark.doc_string.clone(), pairs(&remark.properties))
}

pub(super) fn pairs(properties: &[(String, String)]) -> Vec<StringStringEntryProto> {
    properties.iter().map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() }).collect()
}
