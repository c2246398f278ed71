//! Attention and rotary embedding.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
