//! The crate's one error type: opaque, with a kind to match on and the place where it happened.
//!
//! A kind says what a caller can do about it; the place (a node, a field, an input) says where to look.

use std::fmt;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms of what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io,
    /// The bytes are no ONNX model: malformed, truncated, or lengths that contradict each other.
    Malformed,
    /// The model is well-formed bytes but breaks a rule of ONNX: a cycle, a missing input, a wrong attribute.
    InvalidModel,
    /// The model uses an operator, type or opset that this version does not know.
    Unsupported,
    /// A compiled model that was made for another version, instruction set or options: compile it again.
    Stale,
    /// Shapes or dtypes do not fit together.
    Shape,
    /// An input handed in by the caller has the wrong name, rank, dimension, dtype or value.
    InvalidInput,
    /// A stated limit (memory, nodes, depth, time) would be exceeded.
    Limit,
    /// The work was cancelled or the engine is shut down.
    Cancelled,
    /// The engine has no room: try again later.
    Overloaded,
    /// The deadline has passed, or could not be met.
    Deadline,
    /// The code that ran the request panicked.
    Panicked,
    /// The model has panicked too often in a row and rests; other models go on.
    Quarantined,
    /// A fault of this crate: a bug worth reporting.
    Internal,
}

impl ErrorKind {
    fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Io => "input/output error",
            ErrorKind::Malformed => "malformed model",
            ErrorKind::InvalidModel => "invalid model",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Stale => "stale compiled model",
            ErrorKind::Shape => "shape mismatch",
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::Limit => "limit exceeded",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Deadline => "deadline exceeded",
            ErrorKind::Panicked => "panicked",
            ErrorKind::Quarantined => "quarantined",
            ErrorKind::Internal => "internal error",
        }
    }
}

/// An error with its [kind](Error::kind), its [place](Error::place) and, where there is one, its source.
///
/// ```
/// use onrush::{ErrorKind, Model};
/// let error = Model::from_bytes(b"no model").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Malformed);
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    places: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`; the message should tell the reader what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), places: Vec::new(), source: None }))
    }

    /// For [`err!`]: out of line, because there are a thousand messages and none is on a hot path.
    #[cold]
    #[inline(never)]
    pub(crate) fn formatted(kind: ErrorKind, message: fmt::Arguments<'_>) -> Self {
        Error::new(kind, message.to_string())
    }

    /// The same error, seen from one level further out: `place` names a node, a field or an input.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.places.push(place.into());
        self
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message without kind and place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it happened, outermost first, joined by `: `; `None` where no place is known.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        if self.0.places.is_empty() {
            return None;
        }
        Some(self.0.places.iter().rev().map(String::as_str).collect::<Vec<_>>().join(": "))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.kind.as_str())?;
        if let Some(place) = self.place() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("place", &self.place())
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::new(ErrorKind::Io, error.to_string()).with_source(error)
    }
}

/// Adds a place to the error of a result.
pub(crate) trait At<T> {
    /// Names the place lazily, only when there is an error.
    fn at(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| e.at(place()))
    }
}

/// `err!(Shape, "rank {} is not 4", rank)`: an [`Error`] with a formatted message.
macro_rules! err {
    ($kind:ident, $($arg:tt)+) => {
        $crate::error::Error::formatted($crate::error::ErrorKind::$kind, format_args!($($arg)+))
    };
}

/// `bail!(Shape, "...")`: returns `Err(err!(...))`.
macro_rules! bail {
    ($kind:ident, $($arg:tt)+) => {
        return Err($crate::error::err!($kind, $($arg)+))
    };
}

/// `ensure!(condition, Shape, "...")`: bails unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $kind:ident, $($arg:tt)+) => {
        if $condition {
        } else {
            $crate::error::bail!($kind, $($arg)+)
        }
    };
}

pub(crate) use {bail, ensure, err};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_from_the_outside_in() {
        let error = err!(Shape, "rank {} is not 4", 3).at("input X").at("node conv1 (Conv)");
        assert_eq!(error.to_string(), "shape mismatch: node conv1 (Conv): input X: rank 3 is not 4");
        assert_eq!(error.kind(), ErrorKind::Shape);
    }
}
