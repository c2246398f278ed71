//! Softmax and its logarithm, over rows or over a middle axis.
//!
//! A row is reduced in an order that depends on its length alone. Rows are independent: a caller splits them over
//! threads as it likes. A row with a NaN, with plus infinity, or of nothing but minus infinity becomes all NaN.

mod columns;
mod rows;
mod short;
#[cfg(test)]
mod tests;

pub use columns::softmax_columns;
pub(crate) use rows::{Additive, softmax_row};
pub use rows::{Form, Mask, softmax, softmax_in_place};
