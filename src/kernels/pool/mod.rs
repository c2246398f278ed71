//! Maxima and averages over 2-D windows, channels last and channels first, of f32 and of bytes.
//!
//! A pool over one axis has a height of 1. Global pools are reductions: over `[outer, plane, channels]` or the last axis
//! of `[images * channels, plane]`, see [`reduce`](super::reduce); of bytes [`average_bytes`] takes the whole plane as
//! its window.

mod bytes;
mod first;
mod geometry;
mod last;
#[cfg(test)]
mod tests;

pub use bytes::{Requantize, average_bytes, max_bytes};
pub use first::pool_channels_first;
pub use geometry::{Pool, PoolKind};
pub use last::pool_channels_last;
