//! From scores to weights, in place, with the division left to whoever multiplies by the values.

use super::super::arch::{Body, Simd};
use super::super::softmax::{Additive, softmax_row};
use super::super::vector::tanh;
use super::geometry::Attention;

/// `rows` dense rows of scores, those of the queries from `first` on.
pub(super) struct SoftmaxBlock<'a> {
    pub(super) attention: &'a Attention,
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) mask: Option<(&'a [f32], usize)>,
    pub(super) scores: &'a mut [f32],
    /// One over the sum of each row's weights.
    pub(super) factors: &'a mut [f32],
}

impl Body for SoftmaxBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SoftmaxBlock { attention, first, rows, mask, scores, factors } = self;
        let keys = attention.keys;
        for (r, factor) in factors[..rows].iter_mut().enumerate() {
            let row = &mut scores[r * keys..(r + 1) * keys];
            let mask = mask.map(|(mask, stride)| &mask[(first + r) * stride..][..keys]);
            *factor = weigh(s, attention, row, attention.visible(first + r), mask);
        }
    }
}

/// Turns a row of scores into weights (zero past `visible`) and returns one over their sum.
#[inline(always)]
pub(super) fn weigh<S: Simd>(
    s: S,
    attention: &Attention,
    row: &mut [f32],
    visible: usize,
    mask: Option<&[f32]>,
) -> f32 {
    let (seen, hidden) = row.split_at_mut(visible);
    hidden.fill(0.0);
    let mut scale = attention.scale;
    if let Some(cap) = attention.soft_cap {
        for chunk in seen.chunks_mut(S::LANES) {
            // SAFETY: the chunk holds its elements.
            unsafe {
                let x = s.mul(s.load_part(chunk.as_ptr(), chunk.len()), s.splat(scale / cap));
                s.store_part(chunk.as_mut_ptr(), chunk.len(), s.mul(s.splat(cap), tanh(s, x)));
            }
        }
        scale = 1.0;
    }
    let additive = mask.map_or(Additive::None, |mask| Additive::Row(mask[..seen.len()].as_ptr()));
    let y = seen.as_mut_ptr();
    // SAFETY: the row and the mask hold the visible elements.
    1.0 / unsafe { softmax_row(s, y, y, seen.len(), scale, additive) }
}
