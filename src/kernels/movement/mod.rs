//! Elements moved and not changed: transposes, slices, copies, gathers, padding, resizing.
//!
//! What only depends on shapes is worked out once ([`Movement`], [`Pad`]); the run is copies. All are generic over the
//! element and work by its size.

mod copy;
mod pad;
mod resize;
mod strided;
#[cfg(test)]
mod tests;
mod tile;

pub use copy::{copy_rows, gather_rows};
pub use pad::{Edge, Pad};
pub use resize::{Axis, resize_linear, resize_nearest};
pub use strided::Movement;
pub(in crate::kernels) use tile::transpose_2d;
