//! If, Loop and Scan.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
