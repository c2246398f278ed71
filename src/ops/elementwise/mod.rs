//! Element by element with broadcasting: arithmetic, comparison, logic, activations, casts, selection.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
