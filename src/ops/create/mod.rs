//! Tensors from nothing: constants, ranges, random numbers, and shapes of triangles.

mod constant;
mod diagonal;
mod random;
mod range;

pub use constant::{Constant, ConstantOfShape};
pub use diagonal::{EyeLike, Trilu};
pub use random::{Bernoulli, Distribution, Multinomial, Random, RandomLike};
pub use range::Range;

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Constant", 13, 0..=0, Constant::read),
    OpDef::new("ConstantOfShape", 9, 1..=1, ConstantOfShape::read).since(9),
    OpDef::new("Range", 11, 3..=3, Range::read).since(11),
    OpDef::new("EyeLike", 9, 1..=1, EyeLike::read).since(9),
    OpDef::new("Trilu", 14, 1..=2, Trilu::read).since(14),
    OpDef::new("RandomUniform", 1, 0..=0, Random::read),
    OpDef::new("RandomNormal", 1, 0..=0, Random::read),
    OpDef::new("RandomUniformLike", 1, 1..=1, RandomLike::read),
    OpDef::new("RandomNormalLike", 1, 1..=1, RandomLike::read),
    OpDef::new("Bernoulli", 15, 1..=1, Bernoulli::read).since(15),
    OpDef::new("Multinomial", 7, 1..=1, Multinomial::read).since(7),
];
