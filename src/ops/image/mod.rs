//! Resampling and rearranging of images: resize, grid sampling, depth to space, region pooling.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
