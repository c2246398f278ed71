//! Attention and what comes with it: scaled dot products, rotary positions.

mod heads;
mod mask;
mod rotary;
mod scaled_dot;

pub use rotary::RotaryEmbedding;
pub use scaled_dot::{Attention, QkOutput};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Attention", 25, 3..=7, scaled_dot::read).since(23).outputs(1..=4),
    OpDef::new("RotaryEmbedding", 23, 3..=4, rotary::read).since(23),
];
