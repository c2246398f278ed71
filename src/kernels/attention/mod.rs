//! Scaled dot-product attention over strided heads, a block of query rows at a time.
//!
//! ```text
//! for each (batch, kv head):
//!     pack K^T and V into panels
//!     for each query head of the group, each block of query rows:
//!         scores = q . K^T                                   the tile
//!         scores = e^(scale * scores + mask - max), sums     one pass over each row
//!         out    = (scores . V) / sums                       the tile, the division in its epilogue
//! ```
//! The scores of a block stay in the second cache. With few query rows (decoding), packing would cost more than the
//! products: then every key is read once, in place. A row's bits depend on its query, keys, values and mask alone.

mod few;
mod geometry;
mod softmax;
#[cfg(test)]
mod tests;

pub use geometry::{Attention, Heads, MaskStrides};

use super::arch::Isa;
use super::gemm::{Epilogue, Layout, PackedView, gemm};
use super::view::{Matrix, MatrixMut};
use geometry::Part;
use softmax::SoftmaxBlock;
use std::ops::Range;

/// Bytes of scores that one block may take.
const SCORES: usize = 256 * 1024;
/// Query rows up to which keys and values are read in place.
const FEW: usize = 4;

/// The slices that attention reads; each is indexed by its strides in [`Attention`].
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// Added to the scaled scores; indexed by [`Attention::mask`].
    pub mask: Option<&'a [f32]>,
}

impl Attention {
    /// Query rows of one block.
    fn block(&self) -> usize {
        (SCORES / 4 / self.keys.max(1)).clamp(8, 64).min(self.queries.max(1))
    }

    /// Elements of scratch that a run needs; saturates.
    #[must_use]
    pub fn scratch_len(&self, isa: Isa) -> usize {
        let scores = self.block().saturating_mul(self.keys).saturating_add(self.block());
        if self.queries <= FEW {
            return scores;
        }
        PackedView::scratch_len(isa, self.head_size, self.keys)
            .saturating_add(PackedView::scratch_len(isa, self.keys, self.value_size))
            .saturating_add(scores)
    }

    /// Computes everything.
    ///
    /// # Panics
    /// Where a slice ends before what its strides reach, or the scratch is too short.
    pub fn run(&self, isa: Isa, inputs: Inputs<'_>, out: &mut [f32], scratch: &mut [f32]) {
        self.run_part(isa, inputs, 0..self.batch, 0..self.kv_heads, 0..self.queries, out, 0, scratch);
    }

    /// Computes the given batches, key heads (with all query heads that share them) and query rows: how the work is
    /// divided over threads. `out` is the part of the output that begins at element `origin` of the whole.
    ///
    /// # Panics
    /// As [`Attention::run`], or where a range exceeds the shape.
    #[allow(clippy::too_many_arguments)]
    pub fn run_part(
        &self,
        isa: Isa,
        inputs: Inputs<'_>,
        batches: Range<usize>,
        kv_heads: Range<usize>,
        queries: Range<usize>,
        out: &mut [f32],
        origin: usize,
        scratch: &mut [f32],
    ) {
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads), "key heads divide the query heads");
        assert!(
            batches.end <= self.batch && kv_heads.end <= self.kv_heads && queries.end <= self.queries,
            "the part lies within the shape"
        );
        if queries.is_empty() || self.value_size == 0 {
            return;
        }
        for batch in batches {
            for kv_head in kv_heads.clone() {
                let part = Part { batch, kv_head, queries: queries.clone(), origin };
                // By the whole number of queries and not the part's: the division must not show in the bits.
                if self.queries <= FEW {
                    few::run(isa, self, inputs, &part, out, scratch);
                } else {
                    self.run_packed(isa, inputs, &part, out, scratch);
                }
            }
        }
    }

    fn run_packed(&self, isa: Isa, inputs: Inputs<'_>, part: &Part, out: &mut [f32], scratch: &mut [f32]) {
        let (keys, size, value_size) = (self.keys, self.head_size, self.value_size);
        let (for_k, scratch) = scratch.split_at_mut(PackedView::scratch_len(isa, size, keys));
        let (for_v, scratch) = scratch.split_at_mut(PackedView::scratch_len(isa, keys, value_size));
        let (scores, scratch) = scratch.split_at_mut(self.block() * keys);
        let sums = &mut scratch[..self.block()];
        let k = &inputs.k[self.k.at(part.batch, part.kv_head, 0).min(inputs.k.len())..];
        let v = &inputs.v[self.v.at(part.batch, part.kv_head, 0).min(inputs.v.len())..];
        let k = PackedView::pack_into(isa, k, size, keys, Layout::Transposed { stride: self.k.row }, for_k);
        let v = PackedView::pack_into(isa, v, keys, value_size, Layout::RowMajor { stride: self.v.row }, for_v);
        let group = self.heads / self.kv_heads;
        for head in part.kv_head * group..(part.kv_head + 1) * group {
            for first in part.queries.clone().step_by(self.block()) {
                let rows = self.block().min(part.queries.end - first);
                let q = &inputs.q[self.q.at(part.batch, head, first)..];
                let q = Matrix::new(q, rows, size, self.q.row);
                gemm(isa, q, k, MatrixMut::dense(scores, rows, keys), &Epilogue::default());
                let mask = self.mask_rows(inputs.mask, part.batch, head);
                isa.dispatch(SoftmaxBlock { attention: self, first, rows, mask, scores, factors: sums });
                let to = &mut out[self.out.at(part.batch, head, first) - part.origin..];
                let to = MatrixMut::new(to, rows, value_size, self.out.row);
                let epilogue = Epilogue { row_scale: Some(&sums[..rows]), ..Epilogue::default() };
                gemm(isa, Matrix::dense(scores, rows, keys), v, to, &epilogue);
            }
        }
    }
}
