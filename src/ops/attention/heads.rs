//! Queries, keys and values by head, from either of their two layouts.

use crate::error::{Result, bail, ensure};
use crate::tensor::{Dim, Fact, Tensor};

/// `[batch, heads, length, size]`, as far as known, of a fact `[batch, heads, length, size]` or `[batch, length,
/// heads * size]`; `None` where the rank is not known.
pub(super) fn head_dims(fact: &Fact, heads: Option<usize>, name: &str) -> Result<Option<[Dim; 4]>> {
    match fact.dims() {
        None => Ok(None),
        Some([batch, count, length, size]) => {
            let count = match heads {
                Some(heads) => count.unify(&Dim::Known(heads)).map_err(|e| e.at(format!("heads of {name}")))?,
                None => count.clone(),
            };
            Ok(Some([batch.clone(), count, length.clone(), size.clone()]))
        }
        Some([batch, length, hidden]) => {
            let Some(heads) = heads.filter(|&h| h > 0) else {
                bail!(InvalidModel, "{name} is {fact}, so the number of its heads must be given");
            };
            if let Some(hidden) = hidden.known() {
                ensure!(hidden % heads == 0, Shape, "{hidden} features of {name} do not make {heads} heads");
            }
            Ok(Some([batch.clone(), Dim::Known(heads), length.clone(), hidden.map(|h| h / heads)]))
        }
        Some(_) => bail!(Shape, "{name} is {fact}, not of rank 3 or 4"),
    }
}

/// A tensor by head, widened to `f64`; contiguous `[batch, heads, length, size]`.
pub(super) struct Heads {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) length: usize,
    pub(super) size: usize,
    elements: Vec<f64>,
}

impl Heads {
    /// Of a tensor whose fact has passed [`head_dims`].
    pub(super) fn read(value: &Tensor, heads: Option<usize>, name: &str) -> Result<Self> {
        let dims = head_dims(&Fact::concrete(value.dtype(), value.shape()), heads, name)?;
        let Some([Some(batch), Some(heads), Some(length), Some(size)]) = dims.map(|d| d.map(|d| d.known())) else {
            bail!(Internal, "{name} has no shape");
        };
        let flat = value.to_f64_vec()?;
        let elements = if value.rank() == 4 {
            flat
        } else {
            let mut elements = Vec::with_capacity(flat.len());
            for b in 0..batch {
                for h in 0..heads {
                    for s in 0..length {
                        let at = ((b * length + s) * heads + h) * size;
                        elements.extend_from_slice(&flat[at..at + size]);
                    }
                }
            }
            elements
        };
        Ok(Heads { batch, heads, length, size, elements })
    }

    /// The rows of `self` after those of `past`, head by head.
    pub(super) fn after(self, past: Heads) -> Result<Self> {
        let fits = past.batch == self.batch && past.heads == self.heads && past.size == self.size;
        ensure!(fits, Shape, "the past does not fit what comes after it");
        let mut elements = Vec::with_capacity(past.elements.len() + self.elements.len());
        for head in 0..self.batch * self.heads {
            let (old, new) = (past.length * past.size, self.length * self.size);
            elements.extend_from_slice(&past.elements[head * old..(head + 1) * old]);
            elements.extend_from_slice(&self.elements[head * new..(head + 1) * new]);
        }
        Ok(Heads { length: past.length + self.length, elements, ..self })
    }

    /// Row `s` of head `h` of batch row `b`: `size` elements.
    pub(super) fn row(&self, b: usize, h: usize, s: usize) -> &[f64] {
        let at = ((b * self.heads + h) * self.length + s) * self.size;
        &self.elements[at..at + self.size]
    }

    /// Like [`row`](Heads::row), to change.
    pub(super) fn row_mut(&mut self, b: usize, h: usize, s: usize) -> &mut [f64] {
        let at = ((b * self.heads + h) * self.length + s) * self.size;
        &mut self.elements[at..at + self.size]
    }

    /// Zeros.
    pub(super) fn zeros(batch: usize, heads: usize, length: usize, size: usize) -> Self {
        Heads { batch, heads, length, size, elements: vec![0.0; batch * heads * length * size] }
    }

    /// The tensor `[batch, heads, length, size]`.
    pub(super) fn to_tensor(&self, like: &Tensor) -> Result<Tensor> {
        let shape = [self.batch, self.heads, self.length, self.size];
        Tensor::new(shape, self.elements.clone())?.cast(like.dtype())
    }

    /// The tensor `[batch, length, heads * size]`.
    pub(super) fn to_merged_tensor(&self, like: &Tensor) -> Result<Tensor> {
        let mut elements = Vec::with_capacity(self.elements.len());
        for b in 0..self.batch {
            for s in 0..self.length {
                for h in 0..self.heads {
                    elements.extend_from_slice(self.row(b, h, s));
                }
            }
        }
        Tensor::new([self.batch, self.length, self.heads * self.size], elements)?.cast(like.dtype())
    }

    /// The layout of `like`: merged for rank 3, by head for rank 4.
    pub(super) fn to_layout_of(&self, like: &Tensor) -> Result<Tensor> {
        if like.rank() == 3 { self.to_merged_tensor(like) } else { self.to_tensor(like) }
    }
}
