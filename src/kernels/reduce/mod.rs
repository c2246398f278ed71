//! Reductions along one axis of `[outer, n, inner]`.
//!
//! With `inner` 1 a row is folded by vectors in an order that depends on its length alone; otherwise a vector of
//! neighboring columns is folded together, down the axis. Several axes that lie together are one; others take two calls.

mod arg;
mod columns;
mod rows;
mod running;
#[cfg(test)]
mod tests;
mod top;

pub use arg::arg_extreme;
pub use running::{Addend, running_sum};
pub use top::{top_k, top_k_room};

use super::arch::Isa;

/// What an axis is folded to. The meaning is ONNX's of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The sum over the number of elements.
    Mean,
    /// NaN where an element is; minus infinity of nothing.
    Max,
    /// NaN where an element is; infinity of nothing.
    Min,
    /// The product.
    Prod,
    /// The sum of absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
    /// The sum of squares.
    SumSquare,
    /// The logarithm of the sum.
    LogSum,
    /// The logarithm of the sum of exponentials, which does not overflow.
    LogSumExp,
}

/// Folds the middle axis of `x`, shaped `[outer, n, inner]`, into `y`, shaped `[outer, inner]`; `outer` follows from
/// the length of `y`.
///
/// # Panics
/// Where the lengths do not fit together.
pub fn reduce(isa: Isa, reduction: Reduction, n: usize, inner: usize, x: &[f32], y: &mut [f32]) {
    if y.is_empty() {
        return;
    }
    assert!(inner > 0 && y.len().is_multiple_of(inner), "the output is whole rows");
    assert_eq!(x.len(), (y.len() / inner).saturating_mul(n).saturating_mul(inner), "the input has the axis");
    if inner == 1 {
        rows::reduce(isa, reduction, n, x, y);
    } else {
        columns::reduce(isa, reduction, n, inner, x, y);
    }
}
