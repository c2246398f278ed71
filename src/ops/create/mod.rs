//! Tensors out of nothing: constants, ranges, identity, random numbers, windows.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
