//! Layer, root-mean-square, instance and group normalization.
//!
//! Statistics are taken in two passes (mean, then squared deviations), in an order that depends on the length alone.

mod group;
mod rows;
#[cfg(test)]
mod tests;

pub use group::{group_norm, group_norm_channels_last};
pub use rows::{Center, RowNorm, Rows, row_norm, row_norm_telling};
