//! Symbolic dimensions: what is known of an axis before a request names its length.

use crate::error::{Result, bail};
use std::fmt;
use std::sync::Arc;

/// The name of a dimension that a request fixes, such as `N` or `sequence`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// The symbol of this name; two symbols of one name are equal.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Symbol(name.into())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The length of one axis, as far as it is known.
///
/// Arithmetic keeps a symbol only where the result is that symbol itself; everything else is [`Dim::Unknown`] until
/// the model is compiled at concrete shapes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// Whatever the request says for this symbol.
    Symbol(Symbol),
    /// Not known before concrete shapes are.
    Unknown,
}

impl Dim {
    /// The number, where it is one.
    #[must_use]
    pub fn known(&self) -> Option<usize> {
        match self {
            Dim::Known(n) => Some(*n),
            _ => None,
        }
    }

    /// `self * other`.
    #[must_use]
    pub fn times(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => a.checked_mul(*b).map_or(Dim::Unknown, Dim::Known),
            (Dim::Known(0), _) | (_, Dim::Known(0)) => Dim::Known(0),
            (Dim::Known(1), d) | (d, Dim::Known(1)) => d.clone(),
            _ => Dim::Unknown,
        }
    }

    /// `self + other`.
    #[must_use]
    pub fn plus(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => a.checked_add(*b).map_or(Dim::Unknown, Dim::Known),
            (Dim::Known(0), d) | (d, Dim::Known(0)) => d.clone(),
            _ => Dim::Unknown,
        }
    }

    /// Applies `f` to a known length; anything else becomes unknown.
    #[must_use]
    pub fn map(&self, f: impl FnOnce(usize) -> usize) -> Dim {
        self.known().map_or(Dim::Unknown, |n| Dim::Known(f(n)))
    }

    /// The axis that both describe: the more precise of the two.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when both are known and differ.
    pub fn unify(&self, other: &Dim) -> Result<Dim> {
        Ok(match (self, other) {
            (Dim::Known(a), Dim::Known(b)) if a != b => bail!(Shape, "dimension {a} does not match {b}"),
            (Dim::Known(_), _) => self.clone(),
            (_, Dim::Known(_)) => other.clone(),
            (Dim::Symbol(_), _) => self.clone(),
            _ => other.clone(),
        })
    }

    /// The axis that numpy broadcasting makes of two.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when both are known, differ, and neither is 1.
    pub fn broadcast(&self, other: &Dim) -> Result<Dim> {
        Ok(match (self, other) {
            (Dim::Known(1), d) | (d, Dim::Known(1)) => d.clone(),
            (Dim::Known(a), Dim::Known(b)) if a != b => bail!(Shape, "dimensions {a} and {b} do not broadcast"),
            (Dim::Known(_), _) => self.clone(),
            (_, Dim::Known(_)) => other.clone(),
            (a, b) if a == b => a.clone(),
            _ => Dim::Unknown,
        })
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Known(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Symbol(s) => write!(f, "{s}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_survive_neutral_arithmetic_only() {
        let n = Dim::Symbol(Symbol::new("N"));
        assert_eq!(n.times(&Dim::Known(1)), n);
        assert_eq!(n.times(&Dim::Known(2)), Dim::Unknown);
        assert_eq!(n.plus(&Dim::Known(0)), n);
        assert_eq!(Dim::Known(3).times(&Dim::Known(4)), Dim::Known(12));
    }

    #[test]
    fn broadcasting_keeps_the_longer_axis() {
        let n = Dim::Symbol(Symbol::new("N"));
        assert_eq!(n.broadcast(&Dim::Known(1)).unwrap(), n);
        assert!(Dim::Known(2).broadcast(&Dim::Known(3)).is_err());
    }
}
