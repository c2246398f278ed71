//! Quantized forms: quantize, dequantize, and products on integers.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
