//! What is known of a value before it is computed: dtype, shape, and at times its content.

use super::{DType, Dim, Shape, Tensor};
use crate::error::{Result, bail, err};
use std::fmt;

/// What is known of a value: its dtype, and its shape as far as that goes.
///
/// A constant carries its [`value`](Fact::value). A small integer tensor that holds lengths of axes (what `Shape`
/// yields, and what arithmetic makes of it) carries them as [`content`](Fact::content), symbols included.
#[derive(Clone, PartialEq)]
pub struct Fact {
    /// The element type.
    pub dtype: DType,
    /// One entry an axis, outermost first; `None` where not even the rank is known.
    pub shape: Option<Vec<Dim>>,
    /// The tensor itself, for a constant.
    pub value: Option<Tensor>,
    /// The elements of an integer tensor of rank 0 or 1 that holds lengths, as far as they are known.
    pub content: Option<Vec<Dim>>,
}

impl Fact {
    /// A value of this dtype and shape.
    #[must_use]
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Self {
        Fact { dtype, shape: Some(shape), value: None, content: None }
    }

    /// A value of this dtype and concrete shape.
    #[must_use]
    pub fn concrete(dtype: DType, shape: &[usize]) -> Self {
        Fact::new(dtype, shape.iter().map(|&d| Dim::Known(d)).collect())
    }

    /// A value of this dtype whose rank is not known.
    #[must_use]
    pub fn unranked(dtype: DType) -> Self {
        Fact { dtype, shape: None, value: None, content: None }
    }

    /// A constant.
    #[must_use]
    pub fn constant(value: Tensor) -> Self {
        let mut fact = Fact::concrete(value.dtype(), value.shape());
        fact.value = Some(value);
        fact
    }

    /// The axes, where the rank is known.
    #[must_use]
    pub fn dims(&self) -> Option<&[Dim]> {
        self.shape.as_deref()
    }

    /// The rank, where it is known.
    #[must_use]
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The concrete shape, where every axis is a number.
    #[must_use]
    pub fn concrete_shape(&self) -> Option<Shape> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }

    /// The concrete shape.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when an axis is not known.
    pub fn require_shape(&self) -> Result<Shape> {
        self.concrete_shape().ok_or_else(|| err!(Shape, "the shape {self} is not known yet"))
    }

    /// The elements as lengths: of a constant integer tensor of rank 0 or 1, or the tracked content.
    /// `None` where nothing is known; a negative constant (a wildcard) reads as [`Dim::Unknown`].
    #[must_use]
    pub fn lengths(&self) -> Option<Vec<Dim>> {
        match &self.value {
            Some(value) if self.dtype.is_integer() && value.rank() <= 1 => {
                let elements = value.to_i64_vec().ok()?;
                Some(elements.into_iter().map(|v| usize::try_from(v).map_or(Dim::Unknown, Dim::Known)).collect())
            }
            _ => self.content.clone(),
        }
    }

    /// The elements as integers, where every one is known: a constant, or content without symbols.
    #[must_use]
    pub fn integers(&self) -> Option<Vec<i64>> {
        match &self.value {
            Some(value) if self.dtype.is_integer() => value.to_i64_vec().ok(),
            Some(_) => None,
            None => self.content.as_ref()?.iter().map(|d| d.known().map(|n| n as i64)).collect(),
        }
    }

    /// The same value with lengths attached as its content.
    #[must_use]
    pub fn with_content(mut self, content: Vec<Dim>) -> Self {
        self.content = Some(content);
        self
    }

    /// Both descriptions of one value, joined.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when they contradict each other.
    pub fn unify(&self, other: &Fact) -> Result<Fact> {
        if self.dtype != other.dtype {
            bail!(Shape, "dtype {} does not match {}", self.dtype, other.dtype);
        }
        let shape = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => {
                if a.len() != b.len() {
                    bail!(Shape, "{self} does not match {other}: different ranks");
                }
                let dims: Result<Vec<Dim>> = a.iter().zip(b).map(|(a, b)| a.unify(b)).collect();
                Some(dims.map_err(|e| e.at(format!("{self} against {other}")))?)
            }
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Ok(Fact {
            dtype: self.dtype,
            shape,
            value: self.value.clone().or_else(|| other.value.clone()),
            content: self.content.clone().or_else(|| other.content.clone()),
        })
    }

    /// Bytes that a tensor of this fact takes, where its shape is concrete; saturates.
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        self.concrete_shape().map(|s| s.elements().saturating_mul(self.dtype.size()))
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype)?;
        match &self.shape {
            Some(dims) => f.debug_list().entries(dims).finish(),
            None => f.write_str("[..]"),
        }
    }
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        if self.value.is_some() {
            f.write_str(" constant")?;
        }
        if let Some(content) = &self.content {
            write!(f, " = {content:?}")?;
        }
        Ok(())
    }
}
