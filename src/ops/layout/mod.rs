//! The same elements under another shape or order: reshape, transpose, concat, split, tile, pad, and shape arithmetic.

pub(in crate::ops) mod arithmetic;
mod concat;
mod expand;
mod pad;
mod reshape;
mod shape_of;
mod split;
mod squeeze;
pub(in crate::ops) mod strided;
#[cfg(test)]
mod tests;
mod transpose;

pub use concat::Concat;
pub use expand::{Expand, Tile};
pub use pad::{Pad, PadMode};
pub use reshape::{Flatten, Reshape};
pub use shape_of::{ShapeOf, Size};
pub use split::Split;
pub use squeeze::{Squeeze, Unsqueeze};
pub use transpose::Transpose;

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Reshape", 14, 2..=2, Reshape::read).since(5),
    OpDef::new("Flatten", 13, 1..=1, Flatten::read),
    OpDef::new("Squeeze", 13, 1..=2, Squeeze::read),
    OpDef::new("Unsqueeze", 13, 1..=2, Unsqueeze::read),
    OpDef::new("Transpose", 13, 1..=1, Transpose::read),
    OpDef::new("Concat", 13, 1..=usize::MAX, Concat::read).since(4),
    OpDef::new("Split", 18, 1..=2, Split::read).since(2).outputs(1..=usize::MAX),
    OpDef::new("Expand", 13, 2..=2, Expand::read).since(8),
    OpDef::new("Tile", 13, 2..=2, Tile::read).since(6),
    OpDef::new("Pad", 19, 1..=4, Pad::read).since(2),
    OpDef::new("Shape", 15, 1..=1, ShapeOf::read),
    OpDef::new("Size", 13, 1..=1, Size::read),
];
