//! What each operator *means*: typed attributes, shape rule, ONNX reading and writing, and a plain reference evaluation.
//!
//! Nothing here is fast. The evaluation is the truth that kernels are tested against, and what runs where no kernel
//! exists. One family a file; [`registry`] lists them.

pub mod attention;
pub(crate) mod attrs;
pub mod control;
pub mod create;
pub mod elementwise;
pub(crate) mod eval;
pub mod fused;
pub mod image;
pub mod index;
pub mod layout;
pub mod matrix;
pub mod nn;
pub(crate) mod numeric;
pub mod quant;
pub(crate) mod reader;
pub mod recurrent;
pub mod reduce;
pub mod registry;
pub(crate) mod sequence;
pub mod signal;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use attrs::{Attr, Attrs};
pub use eval::{Budget, Inputs};
pub use reader::{NodeReader, Reading};
pub use registry::OpDef;

use crate::error::Result;
use crate::tensor::{Fact, Shape, Tensor};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// One operator with its attributes. A pass or a backend finds out which by `is` and `downcast_ref`.
pub trait Op: Any + Debug + Send + Sync {
    /// ONNX's `op_type`.
    fn name(&self) -> &'static str;

    /// ONNX's domain; empty for the standard one.
    fn domain(&self) -> &'static str {
        ""
    }

    /// Dtypes and shapes of the outputs from those of the inputs: at least as many as the node has outputs.
    ///
    /// Cheap: no allocation in proportion to a tensor. With every input constant the shapes must come out concrete,
    /// unless they depend on more than lengths (`NonZero`), because memory is refused on this answer before
    /// [`eval`](Op::eval) runs.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when the inputs do not fit together,
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when one is missing or of a forbidden dtype.
    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>>;

    /// The outputs, computed plainly. The inputs have passed [`infer`](Op::infer).
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for values that ONNX forbids (an index out of range),
    /// [`Limit`](crate::ErrorKind::Limit) when the budget does not suffice.
    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>>;

    /// Multiply-accumulates, from the shapes of the inputs and of the first output; none where the operator is no
    /// product.
    fn macs(&self, _inputs: Inputs<'_, Shape>, _output: &Shape) -> Option<usize> {
        None
    }

    /// The attributes, complete: reading them back yields an equal operator, and two nodes with equal name and
    /// attributes compute the same.
    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    /// False where two runs on the same inputs may differ, so that nothing is folded or shared.
    fn is_pure(&self) -> bool {
        true
    }

    /// How many of the last inputs are outer values that the bodies use; see [`Body`].
    fn captures(&self) -> usize {
        0
    }

    /// The same operator with other bodies, in the order in which [`attrs`](Op::attrs) lists them, and another number
    /// of captures.
    fn with_bodies(&self, _bodies: Vec<Arc<dyn Body>>, _captures: usize) -> Option<Arc<dyn Op>> {
        None
    }
}

impl dyn Op {
    /// True where the operator is a `T`.
    #[must_use]
    pub fn is<T: Op>(&self) -> bool {
        (self as &dyn Any).is::<T>()
    }

    /// The operator as a `T`, where it is one.
    #[must_use]
    pub fn downcast_ref<T: Op>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// A subgraph that an operator runs: a branch of `If`, the body of `Loop` or `Scan`.
///
/// A body sees nothing but its inputs. What ONNX lets it take from the graph around it is passed explicitly: each body
/// of a node has its formal inputs first and then one input for each *capture* of the node (the union over its
/// bodies), and the node lists the captured values as its last inputs.
pub trait Body: Any + Debug + Send + Sync {
    /// Number of inputs, captures included.
    fn input_count(&self) -> usize;

    /// Number of outputs.
    fn output_count(&self) -> usize;

    /// The facts of the outputs for these inputs.
    ///
    /// # Errors
    /// As [`Op::infer`].
    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>>;

    /// The outputs for these inputs, by reference evaluation.
    ///
    /// # Errors
    /// As [`Op::eval`].
    fn eval(&self, inputs: &[Tensor], budget: &Budget) -> Result<Vec<Tensor>>;
}
