//! Fourier transforms and spectrograms.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
