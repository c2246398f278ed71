//! Between f32 and bytes with scale and zero point.
