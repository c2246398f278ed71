//! Shapes and strides of an attention.

use std::ops::Range;

/// Where the rows of every head lie, in elements; the elements of a row are consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// From one batch to the next.
    pub batch: usize,
    /// From one head to the next.
    pub head: usize,
    /// From one row (position) to the next.
    pub row: usize,
}

impl Heads {
    /// Of a dense `[batch, heads, rows, size]`.
    #[must_use]
    pub fn before_rows(heads: usize, rows: usize, size: usize) -> Heads {
        Heads { batch: heads * rows * size, head: rows * size, row: size }
    }

    /// Of a dense `[batch, rows, heads, size]`; of a part of a joint projection, `row` and `batch` are made larger.
    #[must_use]
    pub fn after_rows(heads: usize, rows: usize, size: usize) -> Heads {
        Heads { batch: rows * heads * size, head: size, row: heads * size }
    }

    /// The first element of a row.
    pub(super) fn at(self, batch: usize, head: usize, row: usize) -> usize {
        batch * self.batch + head * self.head + row * self.row
    }
}

/// Where the rows of the mask lie, in elements; 0 where an axis is broadcast. A row has one element a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskStrides {
    /// From one batch to the next.
    pub batch: usize,
    /// From one query head to the next.
    pub head: usize,
    /// From one query row to the next.
    pub row: usize,
}

/// An attention's shape, strides and options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Batches.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`; each serves as many consecutive query heads.
    pub kv_heads: usize,
    /// Query rows.
    pub queries: usize,
    /// Key and value rows.
    pub keys: usize,
    /// Elements of a query's and a key's row.
    pub head_size: usize,
    /// Elements of a value's and an output's row.
    pub value_size: usize,
    /// Queries.
    pub q: Heads,
    /// Keys.
    pub k: Heads,
    /// Values.
    pub v: Heads,
    /// Output.
    pub out: Heads,
    /// The mask, where there is one.
    pub mask: Option<MaskStrides>,
    /// Multiplied onto the scores; usually `1 / sqrt(head_size)`.
    pub scale: f32,
    /// `c tanh(scores / c)` before the mask.
    pub soft_cap: Option<f32>,
    /// Query `i` sees the keys up to `i + offset` only (keys that precede the first query count into the offset).
    pub causal: Option<isize>,
}

impl Attention {
    /// Keys that query `row` may see.
    #[inline(always)]
    pub(super) fn visible(&self, row: usize) -> usize {
        match self.causal {
            Some(offset) => (row as isize + offset + 1).clamp(0, self.keys as isize) as usize,
            None => self.keys,
        }
    }

    /// The mask's rows of one head, and their stride.
    pub(super) fn mask_rows<'a>(
        &self,
        mask: Option<&'a [f32]>,
        batch: usize,
        head: usize,
    ) -> Option<(&'a [f32], usize)> {
        let strides = self.mask?;
        let rows = &mask?[batch * strides.batch + head * strides.head..];
        let last = self.queries.saturating_sub(1).saturating_mul(strides.row).saturating_add(self.keys);
        assert!(last <= rows.len(), "the mask has a row for each query");
        Some((rows, strides.row))
    }
}

/// What one packing of keys and values serves.
pub(super) struct Part {
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    pub(super) queries: Range<usize>,
    pub(super) origin: usize,
}
