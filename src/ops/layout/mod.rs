//! The same elements under another shape or order: reshape, transpose, concat, split, tile, pad, and shape arithmetic.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
