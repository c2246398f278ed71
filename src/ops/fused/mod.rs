//! Operators of this crate alone, which passes make out of several of ONNX.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
