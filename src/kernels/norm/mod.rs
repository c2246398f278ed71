//! Layer, root-mean-square, instance, group and batch normalization.
//!
//! Statistics are taken in two passes (mean, then squared deviations), in an order that depends on the length alone.

mod affine;
mod group;
mod rows;
#[cfg(test)]
mod tests;

pub use affine::{scale_shift, scale_shift_in_place};
pub use group::{group_norm, group_norm_channels_last};
pub use rows::{Center, RowNorm, Rows, row_norm, row_norm_telling};
