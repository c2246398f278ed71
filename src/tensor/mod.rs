//! Dtypes, shapes, aligned shared storage, tensors and the bridge to `ndarray`.
//!
//! Knows nothing of operators. A [`Tensor`] is contiguous, row-major and cheap to clone; a strided look at one is an
//! `ndarray` view.

mod buffer;
mod deferred;
mod dim;
mod dtype;
mod fact;
pub(crate) mod mapping;
mod ndarray;
mod shape;
#[allow(clippy::module_inception)]
mod tensor;

pub use buffer::Buffer;
pub(crate) use buffer::Spare;
pub use dim::{Dim, Symbol};
pub use dtype::{DType, Element};
pub use fact::Fact;
pub use shape::Shape;
pub(crate) use shape::{broadcast_index, broadcast_shapes, normalize_axis};
pub use tensor::Tensor;

pub(crate) use dtype::{with_bits, with_dtype};
