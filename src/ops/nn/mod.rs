//! Convolution, pooling, normalization, softmax and dropout.

mod conv;
mod global_pool;
mod padding;
mod pool;
mod window;

pub use conv::Conv;
pub(crate) use conv::add_bias;
pub use global_pool::{GlobalPool, GlobalPoolKind};
pub use padding::Padding;
pub use pool::{Pool, PoolKind};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Conv", 22, 2..=3, Conv::read),
    OpDef::new("MaxPool", 22, 1..=1, Pool::read).outputs(1..=2),
    OpDef::new("AveragePool", 22, 1..=1, Pool::read),
    OpDef::new("LpPool", 22, 1..=1, Pool::read),
    OpDef::new("GlobalMaxPool", 22, 1..=1, GlobalPool::read),
    OpDef::new("GlobalAveragePool", 22, 1..=1, GlobalPool::read),
    OpDef::new("GlobalLpPool", 22, 1..=1, GlobalPool::read),
];
