//! Tiles of a product of rows that lie evenly apart: see [`EvenTile`].

/// What the words of rows and columns are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvenWords {
    /// One f32.
    F32,
    /// Two bfloat16.
    Bf16,
}

/// What a tile of rows that lie evenly apart multiplies, and where its results belong.
///
/// While it multiplies, it fetches what its rows have next into the first cache, where long ones do not stay, and the lines of the
/// output that the next tile writes; and what comes next of B into the second.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct EvenTile {
    /// The first row, and bytes from row to row.
    pub rows: *const u8,
    /// The same.
    pub apart: usize,
    /// A panel of two vectors of columns.
    pub b: *const u8,
    /// Words of a row.
    pub words: usize,
    /// What is fetched of B beside every four words: two lines and so many bytes more, and bytes to where the next begin.
    pub ahead: *const u8,
    /// The same.
    pub more: usize,
    /// The same.
    pub step: usize,
    /// What the sums start from, a word for each column.
    pub start: *const f32,
    /// Whether they start from the output instead: not 0.
    pub resume: usize,
    /// The first row of what is added to the sums, or null, and bytes from row to row.
    pub residual: *const f32,
    /// The same.
    pub residual_stride: usize,
    /// Whether the results have bounds: not 0.
    pub bounded: usize,
    /// The bounds.
    pub lo: f32,
    /// The same.
    pub hi: f32,
    /// The first row of the output, and bytes from row to row.
    pub out: *mut f32,
    /// The same.
    pub stride: usize,
    /// The first row of what is written next, and how many of its rows to fetch.
    pub next: *mut f32,
    /// The same.
    pub next_rows: usize,
}
