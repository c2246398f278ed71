//! Tiles of an f32 product that a compiler does not make well: see [`FloatTile`].

/// What a tile of f32 multiplies, and where its results belong.
///
/// What a tile costs beside its multiplications weighs most where K is short. So these read the pointers of their rows where
/// they need them, and store every epilogue that consists of a residual and bounds themselves. A tile that is one vector wide
/// has twice the rows of one that is two.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FloatTile {
    /// `[segments][FLOAT_ROWS]` pointers, of which the first of each segment are those of the tile's rows.
    pub rows: *const *const u8,
    /// The first words of B's first vector, and bytes from word to word.
    pub b: *const f32,
    /// The same.
    pub pitch: usize,
    /// Segments of K, one at least.
    pub segments: usize,
    /// Words of a segment.
    pub words: usize,
    /// What the sums start from, a word for each of the tile's columns.
    pub start: *const f32,
    /// The first row of what is added to the sums, or null, and bytes from row to row.
    pub residual: *const f32,
    /// The same.
    pub residual_stride: usize,
    /// Bounds of the results.
    pub lo: f32,
    /// The same.
    pub hi: f32,
    /// The first row of the output, and bytes from row to row.
    pub out: *mut f32,
    /// The same.
    pub stride: usize,
    /// Columns to add and to store, 1 at least.
    pub columns: usize,
}
