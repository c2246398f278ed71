//! What a file says beside its graph: taken over as it is, and never looked into.

use crate::graph::{Metadata, Remark};
use crate::onnx::proto::{GraphProto, ModelProto, StringStringEntryProto};

/// Of the whole model, with its graph.
pub(super) fn of_model(model: &ModelProto, graph: &GraphProto) -> Metadata {
    let mut metadata = of_graph(graph);
    metadata.producer_name = model.producer_name.clone();
    metadata.producer_version = model.producer_version.clone();
    metadata.domain = model.domain.clone();
    metadata.model_version = model.model_version;
    metadata.doc_string = model.doc_string.clone();
    metadata.properties = pairs(&model.metadata_props);
    metadata
}

/// Of the outermost graph or of a body, and of what is in it.
pub(super) fn of_graph(proto: &GraphProto) -> Metadata {
    let mut metadata = Metadata { graph: remark(&proto.doc_string, &proto.metadata_props), ..Metadata::default() };
    for node in &proto.node {
        if let Some(output) = node.output.iter().find(|output| !output.is_empty()) {
            keep(&mut metadata.nodes, output, remark(&node.doc_string, &node.metadata_props));
        }
    }
    for info in proto.input.iter().chain(&proto.output) {
        keep(&mut metadata.values, &info.name, remark(&info.doc_string, &info.metadata_props));
    }
    for info in &proto.value_info {
        keep(&mut metadata.values, &info.name, remark(&info.doc_string, &info.metadata_props));
    }
    for tensor in &proto.initializer {
        keep(&mut metadata.values, &tensor.name, remark(&tensor.doc_string, &tensor.metadata_props));
    }
    metadata
}

fn keep(remarks: &mut std::collections::BTreeMap<String, Remark>, name: &str, remark: Remark) {
    if !remark.is_empty() {
        remarks.entry(name.to_owned()).or_insert(remark);
    }
}

fn remark(doc_string: &str, properties: &[StringStringEntryProto]) -> Remark {
    Remark { doc_string: doc_string.to_owned(), properties: pairs(properties) }
}

fn pairs(entries: &[StringStringEntryProto]) -> Vec<(String, String)> {
    entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
}
