//! Attribute values, and the list of them that an operator writes.

use super::{Body, Op};
use crate::tensor::Tensor;
use std::sync::Arc;

/// The value of an attribute, as ONNX types them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// A string.
    Str(String),
    /// A tensor.
    Tensor(Tensor),
    /// A subgraph.
    Body(Arc<dyn Body>),
    /// An operator that this one wraps; no model file has it.
    Op(Arc<dyn Op>),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of strings.
    Strs(Vec<String>),
}

/// Bit for bit; bodies are equal where they are the same one, operators where name and attributes are.
impl PartialEq for Attr {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Attr::Int(a), Attr::Int(b)) => a == b,
            (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
            (Attr::Str(a), Attr::Str(b)) => a == b,
            (Attr::Tensor(a), Attr::Tensor(b)) => a == b,
            (Attr::Body(a), Attr::Body(b)) => Arc::ptr_eq(a, b),
            (Attr::Op(a), Attr::Op(b)) => (a.domain(), a.name(), a.attrs()) == (b.domain(), b.name(), b.attrs()),
            (Attr::Ints(a), Attr::Ints(b)) => a == b,
            (Attr::Floats(a), Attr::Floats(b)) => a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())),
            (Attr::Strs(a), Attr::Strs(b)) => a == b,
            _ => false,
        }
    }
}

/// The attributes of an operator by name.
///
/// ```
/// use onrush::ops::{Attr, Attrs};
/// let attrs = Attrs::new().int("axis", 1).ints_opt("perm", None);
/// assert_eq!(attrs.get("axis"), Some(&Attr::Int(1)));
/// assert_eq!(attrs.get("perm"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attrs(Vec<(&'static str, Attr)>);

impl Attrs {
    /// No attributes.
    #[must_use]
    pub fn new() -> Self {
        Attrs::default()
    }

    /// Adds any attribute.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Attr) -> Self {
        self.0.push((name, value));
        self
    }

    /// Adds an integer.
    #[must_use]
    pub fn int(self, name: &'static str, value: i64) -> Self {
        self.with(name, Attr::Int(value))
    }

    /// Adds a boolean as 0 or 1.
    #[must_use]
    pub fn flag(self, name: &'static str, value: bool) -> Self {
        self.int(name, i64::from(value))
    }

    /// Adds a float.
    #[must_use]
    pub fn float(self, name: &'static str, value: f32) -> Self {
        self.with(name, Attr::Float(value))
    }

    /// Adds a string.
    #[must_use]
    pub fn str(self, name: &'static str, value: &str) -> Self {
        self.with(name, Attr::Str(value.to_owned()))
    }

    /// Adds integers.
    #[must_use]
    pub fn ints(self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.with(name, Attr::Ints(values.into_iter().collect()))
    }

    /// Adds lengths as integers.
    #[must_use]
    pub fn lengths(self, name: &'static str, values: &[usize]) -> Self {
        self.ints(name, values.iter().map(|&v| v as i64))
    }

    /// Adds integers where there are any.
    #[must_use]
    pub fn ints_opt(self, name: &'static str, values: Option<&[i64]>) -> Self {
        match values {
            Some(values) => self.ints(name, values.iter().copied()),
            None => self,
        }
    }

    /// Adds an integer where there is one.
    #[must_use]
    pub fn int_opt(self, name: &'static str, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.int(name, value),
            None => self,
        }
    }

    /// Adds a float where there is one.
    #[must_use]
    pub fn float_opt(self, name: &'static str, value: Option<f32>) -> Self {
        match value {
            Some(value) => self.float(name, value),
            None => self,
        }
    }

    /// Adds a tensor.
    #[must_use]
    pub fn tensor(self, name: &'static str, value: Tensor) -> Self {
        self.with(name, Attr::Tensor(value))
    }

    /// Adds a body.
    #[must_use]
    pub fn body(self, name: &'static str, body: Arc<dyn Body>) -> Self {
        self.with(name, Attr::Body(body))
    }

    /// Adds a wrapped operator.
    #[must_use]
    pub fn op(self, name: &'static str, op: &Arc<dyn Op>) -> Self {
        self.with(name, Attr::Op(op.clone()))
    }

    /// The attribute of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Names and values, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Attr)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}
