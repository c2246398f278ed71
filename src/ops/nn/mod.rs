//! Convolution, pooling, normalization, softmax and dropout.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
