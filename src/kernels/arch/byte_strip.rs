//! A strip of a depthwise convolution of bytes by 3 x 3 taps: see [`ByteStrip`].

/// How sums, times their factors, become bytes.
#[derive(Debug, Clone, Copy)]
pub struct ByteBounds {
    /// Added to the rounded products, less 128 for unsigned bytes.
    pub zero_point: i16,
    /// Bounds of the results, less 128 for unsigned bytes.
    pub least: i8,
    /// The same.
    pub most: i8,
    /// 128 for unsigned bytes, 0 for signed ones.
    pub flip: u8,
}

impl ByteBounds {
    /// Whether they are those of unsigned bytes and no others, whose zero point is zero.
    #[must_use]
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        (self.zero_point, self.least, self.most, self.flip) == (-128, -128, 127, 128)
    }
}

/// Sixty-four channels of output pixels that lie side by side, in one row or in two that follow each other.
///
/// The bytes of three input rows, or of the four that two output rows see at stride 1 both ways, are brought together to words, a word
/// for each channel of an input column; that column's words serve all output columns which meet it, and both rows.
///
/// Lanes are in the order of [`Simd::quad_channel`](super::Simd::quad_channel). Narrower strips side by side make one: then a
/// column of the input consists of 64 bytes that were brought together before, and one of the output of several parts.
#[derive(Debug, Clone, Copy)]
pub struct ByteStrip {
    /// The input rows at the first column that is there; the fourth only for two output rows.
    pub rows: [*const u8; 4],
    /// Bytes from column to column of each.
    pub steps: [usize; 4],
    /// Input columns before those that are there, which hold `padding`, like all behind.
    pub lead: usize,
    /// Input columns that are there.
    pub width: usize,
    /// What is where there is no input.
    pub padding: u8,
    /// Input columns from output column to output column: 1 or 2.
    pub stride: usize,
    /// `[columns][four vectors][lanes][rows, and zero]`; for two rows those of the second follow, with the zero before.
    pub weights: *const i8,
    /// `[four vectors][lanes]`: what the sums start from.
    pub begin: *const i32,
    /// The same: factors, by which no sum becomes as large as 2^31.
    pub scale: *const f32,
    /// How the products become bytes.
    pub bounds: ByteBounds,
    /// Output columns.
    pub columns: usize,
    /// Whether there are two rows; only at stride 1.
    pub pair: bool,
    /// Where the sums go instead of bytes, `[columns][four vectors][lanes]`, or null; only of one row.
    pub sums: *mut i32,
    /// The first output column, bytes from column to column, and from row to row.
    pub out: *mut u8,
    /// The same.
    pub out_step: usize,
    /// The same.
    pub out_row: usize,
    /// Parts of an output column: 1, 2 or 4 that have as many channels each.
    pub parts: usize,
    /// Bytes from the first part of an output column to each.
    pub part_at: [usize; 4],
}
