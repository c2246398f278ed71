//! `Transpose`: the axes in another order.

use super::strided::{signed_strides, strided};
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// Permutes the axes: axis `i` of the result is axis `perm[i]` of x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transpose {
    /// The permutation; without it the axes are reversed.
    pub perm: Option<Vec<usize>>,
}

impl Transpose {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let perm = node.lengths("perm")?;
        if let Some(perm) = &perm {
            let mut seen = vec![false; perm.len()];
            let once = |axis: &usize| seen.get_mut(*axis).is_some_and(|seen| !std::mem::replace(seen, true));
            ensure!(perm.iter().all(once), InvalidModel, "perm {perm:?} is no permutation");
        }
        Ok(Transpose { perm }.into())
    }

    /// The permutation of a tensor of this rank.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when the permutation is of another rank.
    pub fn permutation(&self, rank: usize) -> Result<Vec<usize>> {
        let Some(perm) = &self.perm else { return Ok((0..rank).rev().collect()) };
        let fits = perm.len() == rank && perm.iter().all(|&axis| axis < rank);
        ensure!(fits, Shape, "perm {perm:?} does not fit a tensor of rank {rank}");
        Ok(perm.clone())
    }
}

impl Op for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let dims = match (x.dims(), &self.perm) {
            (Some(dims), _) => self.permutation(dims.len())?.into_iter().map(|axis| dims[axis].clone()).collect(),
            (None, Some(perm)) => vec![Dim::Unknown; perm.len()],
            (None, None) => return Ok(vec![Fact::unranked(x.dtype)]),
        };
        Ok(vec![Fact { content: x.content.clone(), ..Fact::new(x.dtype, dims) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let perm = self.permutation(x.rank())?;
        let strides = signed_strides(x.shape());
        let moved: Vec<isize> = perm.iter().map(|&axis| strides[axis]).collect();
        Ok(vec![strided(x, perm.iter().map(|&axis| x.shape()[axis]).collect(), 0, &moved)?])
    }

    fn attrs(&self) -> Attrs {
        match &self.perm {
            Some(perm) => Attrs::new().lengths("perm", perm),
            None => Attrs::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;
    use crate::ops::testing::{inputs_read, run_one};

    #[test]
    fn axes_are_permuted() {
        let x = Tensor::new([1, 2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        let y = run_one(&Transpose { perm: None }, &[&x]).unwrap();
        assert_eq!((&**y.shape(), y.as_slice::<u8>().unwrap()), (&[3, 2, 1][..], &[1, 4, 2, 5, 3, 6][..]));
        let y = run_one(&Transpose { perm: Some(vec![1, 0, 2]) }, &[&x]).unwrap();
        assert_eq!(&**y.shape(), [2, 1, 3]);
        assert!(run_one(&Transpose { perm: Some(vec![1, 0]) }, &[&x]).is_err());
        assert!(inputs_read("Transpose", 13, &[("perm", Attr::Ints(vec![0, 0]))], 1).is_err());
    }
}
