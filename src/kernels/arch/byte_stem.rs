//! A row of a convolution of a few channels of bytes by 3 x 3 taps: see [`ByteStem`].

use super::byte_strip::ByteBounds;

/// Up to thirty-two filters of output pixels that lie side by side in a row.
///
/// The taps of a pixel in each of three input rows lie side by side and are three words, so that there are as many weights as
/// registers hold.
#[derive(Debug, Clone, Copy)]
pub struct ByteStem {
    /// The input rows at the first pixel, padding written out; each pixel reads twelve bytes of each.
    pub rows: [*const u8; 3],
    /// Bytes from output pixel to output pixel of the rows.
    pub step: usize,
    /// `[rows][words][32][4]`: zero where a word goes beyond the taps.
    pub weights: *const i8,
    /// What the sums of 32 filters start from.
    pub begin: *const i32,
    /// Their factors, by which no sum becomes as large as 2^31.
    pub scale: *const f32,
    /// How they become bytes.
    pub bounds: ByteBounds,
    /// The first output pixel, and bytes from pixel to pixel.
    pub out: *mut u8,
    /// The same.
    pub out_step: usize,
    /// Pairs of output pixels.
    pub pairs: usize,
    /// Filters that are stored, 1 at least.
    pub filters: usize,
}
