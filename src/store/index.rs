//! The index of a compiled model as JSON: everything that is not a long run of bytes.

use super::sections::Section;
use crate::graph::Metadata;
use serde::{Deserialize, Serialize};

/// The whole index.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) sections: Vec<Section>,
    pub(super) tensors: Vec<TensorEntry>,
    pub(super) graph: GraphEntry,
    pub(super) inputs: Vec<PortEntry>,
    pub(super) outputs: Vec<PortEntry>,
    pub(super) packed: Vec<PackedEntry>,
    /// The shapes of the inputs of each plan.
    pub(super) plans: Vec<Vec<Vec<usize>>>,
    /// The same for plans that keep to one thread.
    pub(super) serial_plans: Vec<Vec<Vec<usize>>>,
    pub(super) max_folded_bytes: usize,
    /// Whether Winograd's algorithm was allowed.
    pub(super) winograd: bool,
    /// Whether products of quantized values were allowed to run in integers.
    pub(super) integers: bool,
}

/// A constant: dtype (as ONNX numbers them), shape, and the section of its elements.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorEntry {
    pub(super) dtype: i64,
    pub(super) shape: Vec<usize>,
    pub(super) section: usize,
}

/// An axis: a length, the name of a symbol, or nothing.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum DimEntry {
    Known(usize),
    Symbol(String),
    Unknown,
}

/// An input or output with what is known of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortEntry {
    pub(super) name: String,
    pub(super) dtype: i64,
    pub(super) dims: Option<Vec<DimEntry>>,
    /// The tensor that an input is when it is left out.
    pub(super) default: Option<usize>,
}

/// A graph. Values are numbered: the inputs, the constants, then the outputs of the nodes that are present, in order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphEntry {
    pub(super) name: String,
    /// Without the remarks on nodes and values, which are others now.
    pub(super) metadata: Metadata,
    pub(super) inputs: Vec<PortEntry>,
    /// Name and tensor.
    pub(super) constants: Vec<(String, usize)>,
    pub(super) nodes: Vec<NodeEntry>,
    pub(super) outputs: Vec<usize>,
}

/// A node: its operator, the numbers of its inputs, the names of its outputs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeEntry {
    pub(super) name: String,
    pub(super) op: OpEntry,
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<Option<String>>,
}

/// An operator with its attributes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpEntry {
    pub(super) domain: String,
    pub(super) name: String,
    pub(super) captures: usize,
    pub(super) attrs: Vec<(String, AttrEntry)>,
}

/// An attribute; floats as their bits.
#[derive(Serialize, Deserialize)]
pub(super) enum AttrEntry {
    Int(i64),
    Float(u32),
    Str(String),
    Tensor(usize),
    Graph(Box<GraphEntry>),
    Op(Box<OpEntry>),
    Ints(Vec<i64>),
    Floats(Vec<u32>),
    Strs(Vec<String>),
}

/// A packed constant.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackedEntry {
    /// The tensor that it was made of.
    pub(super) source: usize,
    pub(super) kind: String,
    pub(super) variant: u64,
    pub(super) numbers: Vec<u64>,
    pub(super) sections: Vec<usize>,
}
