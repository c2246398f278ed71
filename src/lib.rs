//! Onrush: an ONNX model answers a crowd of callers, inside your process.

pub mod error;
pub mod graph;
pub mod kernels;
pub mod onnx;
pub mod ops;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
pub use tensor::{DType, Dim, Element, Fact, Shape, Symbol, Tensor};
