//! The index of a compiled model: everything that is not a long run of bytes, as records.

use super::record::{Reader, Record, fields, odd};
use super::sections::Section;
use crate::error::Result;
use crate::graph::{Metadata, Remark};
use std::borrow::Cow;

/// The whole index.
pub(super) struct Index<'a> {
    pub(super) sections: Vec<Section>,
    pub(super) tensors: Vec<TensorEntry>,
    pub(super) graph: GraphEntry<'a>,
    pub(super) inputs: Vec<PortEntry<'a>>,
    pub(super) outputs: Vec<PortEntry<'a>>,
    pub(super) packed: Vec<PackedEntry<'a>>,
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
pub(super) struct TensorEntry {
    pub(super) dtype: i64,
    pub(super) shape: Vec<usize>,
    pub(super) section: usize,
}

/// An axis: a length, the name of a symbol, or nothing.
pub(super) enum DimEntry<'a> {
    Known(usize),
    Symbol(Cow<'a, str>),
    Unknown,
}

/// An input or output with what is known of it.
pub(super) struct PortEntry<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) dtype: i64,
    pub(super) dims: Option<Vec<DimEntry<'a>>>,
    /// The tensor that an input is when it is left out.
    pub(super) default: Option<usize>,
}

/// A graph. Values are numbered: the inputs, the constants, then the outputs of the nodes that are present, in order.
pub(super) struct GraphEntry<'a> {
    pub(super) name: Cow<'a, str>,
    /// Without the remarks on nodes and values, which are others now.
    pub(super) metadata: Metadata,
    pub(super) inputs: Vec<PortEntry<'a>>,
    /// Name and tensor.
    pub(super) constants: Vec<(Cow<'a, str>, usize)>,
    pub(super) nodes: Vec<NodeEntry<'a>>,
    pub(super) outputs: Vec<usize>,
}

/// A node: its operator, the numbers of its inputs, the names of its outputs.
pub(super) struct NodeEntry<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) op: OpEntry<'a>,
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<Option<Cow<'a, str>>>,
}

/// An operator with its attributes.
pub(super) struct OpEntry<'a> {
    pub(super) domain: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    pub(super) captures: usize,
    pub(super) attrs: Vec<(Cow<'a, str>, AttrEntry<'a>)>,
}

/// An attribute; floats as their bits.
pub(super) enum AttrEntry<'a> {
    Int(i64),
    Float(u32),
    Str(Cow<'a, str>),
    Tensor(usize),
    Graph(Box<GraphEntry<'a>>),
    Op(Box<OpEntry<'a>>),
    Ints(Vec<i64>),
    Floats(Vec<u32>),
    Strs(Vec<Cow<'a, str>>),
}

/// A packed constant.
pub(super) struct PackedEntry<'a> {
    /// The tensor that it was made of.
    pub(super) source: usize,
    pub(super) kind: Cow<'a, str>,
    pub(super) variant: u64,
    pub(super) numbers: Vec<u64>,
    pub(super) sections: Vec<usize>,
}

fields! {
    impl<'a> Section { offset, length, digest }
    impl<'a> Index<'a> {
        sections, tensors, graph, inputs, outputs, packed, plans, serial_plans, max_folded_bytes, winograd, integers,
    }
    impl<'a> TensorEntry { dtype, shape, section }
    impl<'a> PortEntry<'a> { name, dtype, dims, default }
    impl<'a> GraphEntry<'a> { name, metadata, inputs, constants, nodes, outputs }
    impl<'a> NodeEntry<'a> { name, op, inputs, outputs }
    impl<'a> OpEntry<'a> { domain, name, captures, attrs }
    impl<'a> PackedEntry<'a> { source, kind, variant, numbers, sections }
    impl<'a> Remark { doc_string, properties }
}

/// Without the remarks on nodes and values.
impl Record<'_> for Metadata {
    fn write(&self, to: &mut Vec<u8>) {
        for text in [&self.producer_name, &self.producer_version, &self.domain, &self.doc_string] {
            text.write(to);
        }
        self.model_version.write(to);
        self.properties.write(to);
        self.graph.write(to);
    }

    fn read(from: &mut Reader) -> Result<Self> {
        Ok(Metadata {
            producer_name: Record::read(from)?,
            producer_version: Record::read(from)?,
            domain: Record::read(from)?,
            doc_string: Record::read(from)?,
            model_version: Record::read(from)?,
            properties: Record::read(from)?,
            graph: Record::read(from)?,
            ..Metadata::default()
        })
    }
}

/// An enum is the number of its variant and what that holds.
impl<'a> Record<'a> for DimEntry<'a> {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            DimEntry::Unknown => to.push(0),
            DimEntry::Known(length) => (1u64, *length).write(to),
            DimEntry::Symbol(name) => (2u64, name.clone()).write(to),
        }
    }

    fn read(from: &mut Reader<'a>) -> Result<Self> {
        Ok(match from.byte()? {
            0 => DimEntry::Unknown,
            1 => DimEntry::Known(Record::read(from)?),
            2 => DimEntry::Symbol(Record::read(from)?),
            _ => return Err(odd()),
        })
    }
}

/// Variants with what they hold, numbered.
macro_rules! attributes {
    ($($number:literal $variant:ident),*) => {
        impl<'a> Record<'a> for AttrEntry<'a> {
            fn write(&self, to: &mut Vec<u8>) {
                match self {
                    $(AttrEntry::$variant(inner) => {
                        to.push($number);
                        inner.write(to);
                    })*
                }
            }

            fn read(from: &mut Reader<'a>) -> Result<Self> {
                Ok(match from.byte()? {
                    $($number => AttrEntry::$variant(Record::read(from)?),)*
                    _ => return Err(odd()),
                })
            }
        }
    };
}
attributes!(0 Int, 1 Float, 2 Str, 3 Tensor, 4 Graph, 5 Op, 6 Ints, 7 Floats, 8 Strs);
