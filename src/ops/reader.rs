//! Reading a node: typed access to its attributes, whatever the opset, and what an operator answers.

use super::{Attr, Body, Op};
use crate::error::{Result, bail, ensure};
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node on its way in: attributes by name, which inputs are present, and the opset that gives them meaning.
///
/// An operator is kept in one form, the newest. Where an older opset says by attribute what is an input today, the
/// reader adds that input as a constant ([`set_input`](NodeReader::set_input)); where an older meaning cannot be said
/// so, the operator answers with several nodes ([`Reading::Nodes`]).
#[derive(Debug)]
pub struct NodeReader {
    op_type: String,
    opset: u32,
    attrs: BTreeMap<String, Attr>,
    present: Vec<bool>,
    ranks: Vec<Option<usize>>,
    outputs: usize,
    captures: usize,
    constants: BTreeMap<usize, Tensor>,
}

/// What reading a node yields.
#[derive(Debug)]
pub enum Reading {
    /// One operator with the node's own inputs and outputs.
    Op(Arc<dyn Op>),
    /// Several nodes in order; the outputs of the last are those of the node.
    Nodes(Vec<(Arc<dyn Op>, Vec<Operand>)>),
}

/// An input of one of several nodes that stand for one.
#[derive(Debug, Clone)]
pub enum Operand {
    /// Input `index` of the original node.
    Input(usize),
    /// Output `output` of the `node`-th node of the list.
    Output {
        /// Position in the list.
        node: usize,
        /// Which of its outputs.
        output: usize,
    },
    /// A constant.
    Constant(Tensor),
}

impl<T: Op> From<T> for Reading {
    fn from(op: T) -> Self {
        Reading::Op(Arc::new(op))
    }
}

impl NodeReader {
    /// A node with its attributes; `present` says of each input whether it is there (captures not counted).
    #[must_use]
    pub fn new(
        op_type: &str,
        opset: u32,
        attrs: BTreeMap<String, Attr>,
        present: Vec<bool>,
        outputs: usize,
        captures: usize,
    ) -> Self {
        NodeReader {
            op_type: op_type.to_owned(),
            opset,
            attrs,
            present,
            ranks: Vec::new(),
            outputs,
            captures,
            constants: BTreeMap::new(),
        }
    }

    /// The same node with the ranks of its inputs, where they are known.
    #[must_use]
    pub fn with_ranks(self, ranks: Vec<Option<usize>>) -> Self {
        NodeReader { ranks, ..self }
    }

    /// The rank of input `index`, where it is known while reading.
    #[must_use]
    pub fn input_rank(&self, index: usize) -> Option<usize> {
        self.ranks.get(index).copied().flatten()
    }

    /// ONNX's `op_type`.
    #[must_use]
    pub fn op_type(&self) -> &str {
        &self.op_type
    }

    /// The opset of the node's domain that the model imports.
    #[must_use]
    pub fn opset(&self) -> u32 {
        self.opset
    }

    /// Number of inputs, absent ones between present ones included, captures not.
    #[must_use]
    pub fn input_count(&self) -> usize {
        self.present.len()
    }

    /// Whether input `index` is there.
    #[must_use]
    pub fn has_input(&self, index: usize) -> bool {
        self.present.get(index).copied().unwrap_or(false)
    }

    /// Number of outputs, absent ones between present ones included.
    #[must_use]
    pub fn output_count(&self) -> usize {
        self.outputs
    }

    /// How many captured values follow the inputs; see [`Body`].
    #[must_use]
    pub fn captures(&self) -> usize {
        self.captures
    }

    /// Makes a constant the input `index`.
    pub fn set_input(&mut self, index: usize, value: Tensor) {
        if self.present.len() <= index {
            self.present.resize(index + 1, false);
        }
        self.present[index] = true;
        self.constants.insert(index, value);
    }

    fn take<T>(&mut self, name: &str, wanted: &str, read: impl FnOnce(Attr) -> Option<T>) -> Result<Option<T>> {
        match self.attrs.remove(name) {
            None => Ok(None),
            Some(attr) => match read(attr) {
                Some(value) => Ok(Some(value)),
                None => bail!(InvalidModel, "attribute {name} is not {wanted}"),
            },
        }
    }

    /// The integer `name`.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when it has another type; so for every reader below.
    pub fn int(&mut self, name: &str) -> Result<Option<i64>> {
        self.take(name, "an integer", |a| if let Attr::Int(v) = a { Some(v) } else { None })
    }

    /// The integer `name`, or `default`.
    #[allow(clippy::missing_errors_doc)]
    pub fn int_or(&mut self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// The integer `name` as a flag: 0 is false, anything else true.
    #[allow(clippy::missing_errors_doc)]
    pub fn flag_or(&mut self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |v| v != 0))
    }

    /// The float `name`.
    #[allow(clippy::missing_errors_doc)]
    pub fn float(&mut self, name: &str) -> Result<Option<f32>> {
        self.take(name, "a float", |a| if let Attr::Float(v) = a { Some(v) } else { None })
    }

    /// The float `name`, or `default`.
    #[allow(clippy::missing_errors_doc)]
    pub fn float_or(&mut self, name: &str, default: f32) -> Result<f32> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// The string `name`.
    #[allow(clippy::missing_errors_doc)]
    pub fn str(&mut self, name: &str) -> Result<Option<String>> {
        self.take(name, "a string", |a| if let Attr::Str(v) = a { Some(v) } else { None })
    }

    /// The string `name`, or `default`.
    #[allow(clippy::missing_errors_doc)]
    pub fn str_or(&mut self, name: &str, default: &str) -> Result<String> {
        Ok(self.str(name)?.unwrap_or_else(|| default.to_owned()))
    }

    /// The integers `name`; an empty list of another type counts as empty.
    #[allow(clippy::missing_errors_doc)]
    pub fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        self.take(name, "a list of integers", |a| match a {
            Attr::Ints(v) => Some(v),
            _ => None,
        })
    }

    /// The integers `name` as lengths, none of them negative.
    #[allow(clippy::missing_errors_doc)]
    pub fn lengths(&mut self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(values) = self.ints(name)? else { return Ok(None) };
        let lengths: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
        ensure!(lengths.is_some(), InvalidModel, "attribute {name} has a negative entry: {values:?}");
        Ok(lengths)
    }

    /// The floats `name`.
    #[allow(clippy::missing_errors_doc)]
    pub fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        self.take(name, "a list of floats", |a| if let Attr::Floats(v) = a { Some(v) } else { None })
    }

    /// The strings `name`.
    #[allow(clippy::missing_errors_doc)]
    pub fn strs(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        self.take(name, "a list of strings", |a| if let Attr::Strs(v) = a { Some(v) } else { None })
    }

    /// The tensor `name`.
    #[allow(clippy::missing_errors_doc)]
    pub fn tensor(&mut self, name: &str) -> Result<Option<Tensor>> {
        self.take(name, "a tensor", |a| if let Attr::Tensor(v) = a { Some(v) } else { None })
    }

    /// The subgraph `name`.
    #[allow(clippy::missing_errors_doc)]
    pub fn body_opt(&mut self, name: &str) -> Result<Option<Arc<dyn Body>>> {
        self.take(name, "a graph", |a| if let Attr::Body(v) = a { Some(v) } else { None })
    }

    /// The subgraph `name`, which must be there.
    #[allow(clippy::missing_errors_doc)]
    pub fn body(&mut self, name: &str) -> Result<Arc<dyn Body>> {
        match self.body_opt(name)? {
            Some(body) => Ok(body),
            None => bail!(InvalidModel, "attribute {name} is missing"),
        }
    }

    /// The operator `name` that this one wraps, which must be there.
    #[allow(clippy::missing_errors_doc)]
    pub fn op(&mut self, name: &str) -> Result<Arc<dyn Op>> {
        match self.op_opt(name)? {
            Some(op) => Ok(op),
            None => bail!(InvalidModel, "attribute {name} is missing"),
        }
    }

    /// The operator `name` that this one wraps.
    #[allow(clippy::missing_errors_doc)]
    pub fn op_opt(&mut self, name: &str) -> Result<Option<Arc<dyn Op>>> {
        self.take(name, "an operator", |a| if let Attr::Op(v) = a { Some(v) } else { None })
    }

    /// The dtype that the integer `name` stands for, as `TensorProto.DataType` numbers them.
    #[allow(clippy::missing_errors_doc)]
    pub fn dtype(&mut self, name: &str) -> Result<Option<DType>> {
        self.int(name)?.map(dtype_from_onnx).transpose()
    }

    /// Ends the reading: the constants that became inputs. Every attribute must have been read.
    pub(crate) fn finish(self) -> Result<BTreeMap<usize, Tensor>> {
        if let Some(name) = self.attrs.keys().next() {
            bail!(InvalidModel, "unknown attribute {name}");
        }
        Ok(self.constants)
    }
}

/// The dtype that `TensorProto.DataType` gives this number.
pub(crate) fn dtype_from_onnx(number: i64) -> Result<DType> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => bail!(Unsupported, "tensors of strings are not supported; encode them as numbers outside the model"),
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        14 | 15 | 17..=26 => bail!(Unsupported, "the dtype numbered {number} by ONNX is not supported"),
        _ => bail!(InvalidModel, "{number} is no dtype of ONNX"),
    })
}

/// The number that `TensorProto.DataType` gives this dtype.
pub(crate) fn dtype_to_onnx(dtype: DType) -> i64 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
    }
}
