//! Convolution, pooling, normalization, softmax and dropout.

mod batch_norm;
mod causal_conv;
mod contrib;
mod conv;
mod conv_transpose;
mod deform_conv;
mod dropout;
mod global_pool;
mod group_norm;
mod lanes;
mod layer_norm;
mod lrn;
mod max_unpool;
mod padding;
mod pool;
mod softmax;
mod window;

pub use batch_norm::BatchNormalization;
pub use causal_conv::CausalConvWithState;
pub use contrib::SkipLayerNormalization;
pub use conv::Conv;
pub(crate) use conv::add_bias;
pub use conv_transpose::ConvTranspose;
pub use deform_conv::DeformConv;
pub use dropout::Dropout;
pub use global_pool::{GlobalPool, GlobalPoolKind};
pub use group_norm::{GroupNormalization, InstanceNormalization};
pub use layer_norm::{LayerNormalization, RmsNormalization};
pub use lrn::{LpNormalization, Lrn, MeanVarianceNormalization};
pub use max_unpool::MaxUnpool;
pub use padding::Padding;
pub use pool::{Pool, PoolKind};
pub use softmax::{Hardmax, LogSoftmax, Softmax};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Conv", 11, 2..=3, Conv::read),
    OpDef::new("ConvTranspose", 11, 2..=3, ConvTranspose::read),
    OpDef::new("CausalConvWithState", 27, 2..=4, CausalConvWithState::read).since(27).outputs(1..=2),
    OpDef::new("DeformConv", 19, 3..=5, DeformConv::read).since(19),
    OpDef::new("MaxPool", 12, 1..=1, Pool::read).outputs(1..=2),
    OpDef::new("AveragePool", 19, 1..=1, Pool::read),
    OpDef::new("LpPool", 18, 1..=1, Pool::read),
    OpDef::new("MaxUnpool", 11, 2..=3, MaxUnpool::read).since(9),
    OpDef::new("GlobalMaxPool", 1, 1..=1, GlobalPool::read),
    OpDef::new("GlobalAveragePool", 1, 1..=1, GlobalPool::read),
    OpDef::new("GlobalLpPool", 2, 1..=1, GlobalPool::read),
    OpDef::new("BatchNormalization", 15, 5..=5, BatchNormalization::read).outputs(1..=5),
    OpDef::new("LayerNormalization", 17, 2..=3, LayerNormalization::read).outputs(1..=3),
    OpDef::new("RMSNormalization", 23, 2..=2, RmsNormalization::read).since(23),
    OpDef::new("InstanceNormalization", 6, 3..=3, InstanceNormalization::read),
    OpDef::new("GroupNormalization", 21, 3..=3, GroupNormalization::read).since(18),
    OpDef::new("LRN", 13, 1..=1, Lrn::read),
    OpDef::new("LpNormalization", 1, 1..=1, LpNormalization::read),
    OpDef::new("MeanVarianceNormalization", 9, 1..=1, MeanVarianceNormalization::read),
    OpDef::new("Softmax", 13, 1..=1, Softmax::read),
    OpDef::new("LogSoftmax", 13, 1..=1, LogSoftmax::read),
    OpDef::new("Hardmax", 13, 1..=1, Hardmax::read),
    OpDef::new("Dropout", 12, 1..=3, Dropout::read).outputs(1..=2),
    contrib::SKIP_LAYER_NORMALIZATION,
    contrib::SKIP_SIMPLIFIED_LAYER_NORMALIZATION,
    OpDef::new("SimplifiedLayerNormalization", 1, 2..=2, RmsNormalization::read),
    contrib::FUSED_CONV,
    contrib::FUSED_GEMM,
];
