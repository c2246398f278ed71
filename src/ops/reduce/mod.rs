//! Along axes: sums, extremes, norms, arg-extremes, cumulative sums, top-k.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
