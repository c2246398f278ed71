//! Convolution, pooling, normalization, softmax and dropout.

mod batch_norm;
mod conv;
mod dropout;
mod global_pool;
mod group_norm;
mod lanes;
mod layer_norm;
mod lrn;
mod padding;
mod pool;
mod softmax;
mod window;

pub use batch_norm::BatchNormalization;
pub use conv::Conv;
pub(crate) use conv::add_bias;
pub use dropout::Dropout;
pub use global_pool::{GlobalPool, GlobalPoolKind};
pub use group_norm::{GroupNormalization, InstanceNormalization};
pub use layer_norm::{LayerNormalization, RmsNormalization};
pub use lrn::{LpNormalization, Lrn, MeanVarianceNormalization};
pub use padding::Padding;
pub use pool::{Pool, PoolKind};
pub use softmax::{Hardmax, LogSoftmax, Softmax};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Conv", 22, 2..=3, Conv::read),
    OpDef::new("MaxPool", 22, 1..=1, Pool::read).outputs(1..=2),
    OpDef::new("AveragePool", 22, 1..=1, Pool::read),
    OpDef::new("LpPool", 22, 1..=1, Pool::read),
    OpDef::new("GlobalMaxPool", 22, 1..=1, GlobalPool::read),
    OpDef::new("GlobalAveragePool", 22, 1..=1, GlobalPool::read),
    OpDef::new("GlobalLpPool", 22, 1..=1, GlobalPool::read),
    OpDef::new("BatchNormalization", 15, 5..=5, BatchNormalization::read).outputs(1..=5),
    OpDef::new("LayerNormalization", 17, 2..=3, LayerNormalization::read).outputs(1..=3),
    OpDef::new("RMSNormalization", 23, 2..=2, RmsNormalization::read),
    OpDef::new("InstanceNormalization", 22, 3..=3, InstanceNormalization::read),
    OpDef::new("GroupNormalization", 21, 3..=3, GroupNormalization::read),
    OpDef::new("LRN", 13, 1..=1, Lrn::read),
    OpDef::new("LpNormalization", 22, 1..=1, LpNormalization::read),
    OpDef::new("MeanVarianceNormalization", 13, 1..=1, MeanVarianceNormalization::read),
    OpDef::new("Softmax", 13, 1..=1, Softmax::read),
    OpDef::new("LogSoftmax", 13, 1..=1, LogSoftmax::read),
    OpDef::new("Hardmax", 13, 1..=1, Hardmax::read),
    OpDef::new("Dropout", 22, 1..=3, Dropout::read).outputs(1..=2),
];
