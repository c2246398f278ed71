//! Attention and what comes with it: scaled dot products, rotary positions.

mod contrib;
mod embed;
mod flex;
mod heads;
mod linear;
mod mask;
mod rotary;
mod scaled_dot;
#[cfg(test)]
mod tests;

pub use embed::EmbedLayerNormalization;
pub use flex::FlexAttention;
pub use linear::{LinearAttention, UpdateRule};
pub use rotary::RotaryEmbedding;
pub use scaled_dot::{Attention, QkOutput};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Attention", 25, 3..=7, scaled_dot::read).since(23).outputs(1..=4),
    OpDef::new("LinearAttention", 27, 3..=6, linear::read).since(27).outputs(1..=2),
    OpDef::new("FlexAttention", 1, 3..=3, flex::read).domain(flex::PREVIEW),
    OpDef::new("RotaryEmbedding", 23, 3..=4, |node| Ok(RotaryEmbedding::read(node)?.into())).since(23),
    OpDef::new("MultiHeadAttention", 1, 1..=10, contrib::multi_head).domain(contrib::DOMAIN).outputs(1..=4),
    OpDef::new("Attention", 1, 2..=7, contrib::projected).domain(contrib::DOMAIN).outputs(1..=2),
    OpDef::new("RotaryEmbedding", 1, 4..=4, contrib::rotary).domain(contrib::DOMAIN),
    OpDef::new("EmbedLayerNormalization", 1, 7..=9, embed::read).domain(contrib::DOMAIN).outputs(1..=3),
];
