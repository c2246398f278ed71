//! `AffineGrid`: the sampling grid of an affine map.

use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::{lengths_of, output_shape};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// Applies the affine maps `[batch, 2, 3]` to the centers of the pixels of an image whose size input 1 lists as
/// `[batch, channels, h, w]`: the result is `[batch, h, w, 2]`. Volumes have one axis more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffineGrid {
    /// Whether -1 and 1 are the centers of the outermost pixels, rather than their outer edges.
    pub align_corners: bool,
}

impl AffineGrid {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(AffineGrid { align_corners: node.flag_or("align_corners", false)? }.into())
    }

    fn center(&self, i: usize, length: usize) -> f64 {
        let (i, n) = (i as f64, length as f64);
        match self.align_corners {
            true if length == 1 => 0.0,
            true => 2.0 * i / (n - 1.0) - 1.0,
            false => (2.0 * i + 1.0) / n - 1.0,
        }
    }
}

impl Op for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (theta, size) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(theta.dtype.is_float(), InvalidModel, "the maps are {}, not floats", theta.dtype);
        let axes = match theta.dims() {
            None => None,
            Some([_, rows, columns]) => {
                let known = rows.known().zip(columns.known());
                ensure!(known.is_none_or(|k| matches!(k, (2, 3) | (3, 4))), Shape, "{theta} holds no affine maps");
                rows.known()
            }
            Some(_) => bail!(Shape, "{theta} holds no affine maps"),
        };
        let batch = theta.dims().map_or(Dim::Unknown, |dims| dims[0].clone());
        let Some(size) = lengths_of(size)? else { return Ok(vec![Fact::unranked(theta.dtype)]) };
        let fits = matches!(size.len(), 4 | 5) && axes.is_none_or(|axes| axes + 2 == size.len());
        ensure!(fits, Shape, "a size of {} lengths for the maps {theta}", size.len());
        let mut shape = vec![batch.unify(&size[0]).map_err(|e| e.at("the batch axis"))?];
        shape.extend_from_slice(&size[2..]);
        shape.push(Dim::Known(size.len() - 2));
        Ok(vec![Fact::new(theta.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let theta = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        let mut out = Vec::with_capacity(shape.checked_len()?);
        let spatial = &shape[1..shape.rank() - 1];
        let axes = spatial.len();
        let places = if shape.contains(&0) { 0 } else { spatial.iter().product::<usize>() };
        for map in theta.to_f64_vec()?.chunks_exact(axes * (axes + 1)) {
            for place in 0..places {
                // Coordinates from the innermost axis outwards, and the 1 that makes them homogeneous.
                let mut position = Vec::with_capacity(axes + 1);
                let mut rest = place;
                for &length in spatial.iter().rev() {
                    position.push(self.center(rest % length, length));
                    rest /= length;
                }
                position.push(1.0);
                let row = |row: &[f64]| row.iter().zip(&position).map(|(m, p)| m * p).sum::<f64>();
                out.extend(map.chunks_exact(axes + 1).map(row));
            }
        }
        Ok(vec![from_f64(theta.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("align_corners", self.align_corners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn the_identity_lists_the_centers() {
        let theta = Tensor::new([1, 2, 3], vec![1.0f32, 0.0, 0.0, 0.0, 1.0, 0.5]).unwrap();
        let grid =
            |align_corners, size: Vec<i64>| run_one(&AffineGrid { align_corners }, &[&theta, &Tensor::vector(size)]);
        let y = grid(false, vec![1, 1, 1, 2]).unwrap();
        assert_eq!(y, Tensor::new([1, 1, 2, 2], vec![-0.5f32, 0.5, 0.5, 0.5]).unwrap());
        let y = grid(true, vec![1, 1, 1, 2]).unwrap();
        assert_eq!(y.as_slice::<f32>().unwrap(), [-1.0, 0.5, 1.0, 0.5]);
        assert!(grid(true, vec![2, 1, 1, 2]).is_err());
        assert!(grid(true, vec![1, 1, 1, 2, 2]).is_err());
        assert!(grid(true, vec![1, 1, -1, 2]).is_err());
        assert_eq!(grid(true, vec![1, 1, 0, 2]).unwrap().shape().to_vec(), [1, 0, 2, 2]);
    }
}
