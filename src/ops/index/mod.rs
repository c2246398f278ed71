//! Elements picked or placed by index: slice, gather, scatter, compress, non-zero, one-hot.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
