//! Which key a query may attend, and what is added to its score: one number, minus infinity where it may not.

use crate::error::{Result, ensure};
use crate::tensor::{DType, Tensor};

/// A mask that broadcasts to `[batch, heads, queries, keys]`; its last axis may be shorter than the keys, which are
/// then out of reach.
pub(super) struct Mask {
    elements: Vec<f64>,
    strides: [usize; 4],
    keys: usize,
}

impl Mask {
    /// Of a `bool` tensor (true: may attend) or one of numbers, integers among them (added to the score).
    pub(super) fn read(mask: &Tensor, target: [usize; 4]) -> Result<Self> {
        let shape = mask.shape();
        ensure!((1..=4).contains(&shape.rank()), Shape, "a mask of shape {shape} is not of rank 1 to 4");
        let offset = 4 - shape.rank();
        let mut strides = [0; 4];
        let plain = shape.strides();
        for axis in 0..shape.rank() {
            let (own, wanted) = (shape[axis], target[offset + axis]);
            let last = axis + 1 == shape.rank();
            let fits = own == wanted || (last && own < wanted) || own == 1;
            ensure!(fits, Shape, "a mask of shape {shape} does not broadcast to {target:?}");
            if last || own != 1 {
                strides[offset + axis] = plain[axis];
            }
        }
        let mut elements = mask.to_f64_vec()?;
        if mask.dtype() == DType::Bool {
            for element in &mut elements {
                *element = if *element == 0.0 { f64::NEG_INFINITY } else { 0.0 };
            }
        }
        Ok(Mask { elements, strides, keys: shape[shape.rank() - 1] })
    }

    /// What is added to the score of key `j` for query `i`.
    pub(super) fn at(&self, b: usize, h: usize, i: usize, j: usize) -> f64 {
        if j >= self.keys {
            return f64::NEG_INFINITY;
        }
        let [sb, sh, si, sj] = self.strides;
        self.elements[b * sb + h * sh + i * si + j * sj]
    }
}

/// The keys in reach of a query by position alone.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// Valid keys before the first query; negative where there are more queries than keys.
    pub(super) offset: i64,
    /// No key after the query's own position.
    pub(super) causal: bool,
    /// At most so many positions before the query's own.
    pub(super) left: Option<usize>,
    /// At most so many positions after the query's own.
    pub(super) right: Option<usize>,
    /// Keys from here on are padding.
    pub(super) valid: usize,
}

impl Reach {
    /// Whether query `i` may attend key `j`.
    pub(super) fn allows(self, i: usize, j: usize) -> bool {
        let ahead = (j as i64).saturating_sub((i as i64).saturating_add(self.offset));
        j < self.valid
            && !(self.causal && ahead > 0)
            && self.left.is_none_or(|left| -ahead <= i64::try_from(left).unwrap_or(i64::MAX))
            && self.right.is_none_or(|right| ahead <= i64::try_from(right).unwrap_or(i64::MAX))
    }
}
