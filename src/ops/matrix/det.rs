//! `Det`: determinants of square matrices.

use crate::error::{Result, bail, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};

/// The determinant of each matrix: `[.., n, n]` to `[..]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Det;

impl Det {
    pub(super) fn read(_node: &mut NodeReader) -> Result<Reading> {
        Ok(Det.into())
    }
}

/// By elimination with the largest pivot of each column; destroys the matrix.
fn determinant(n: usize, m: &mut [f64]) -> f64 {
    let mut det = 1.0;
    for column in 0..n {
        let pivot = (column..n).max_by(|&a, &b| m[a * n + column].abs().total_cmp(&m[b * n + column].abs()));
        let Some(pivot) = pivot.filter(|&row| m[row * n + column] != 0.0) else { return 0.0 };
        if pivot != column {
            det = -det;
            for j in 0..n {
                m.swap(pivot * n + j, column * n + j);
            }
        }
        det *= m[column * n + column];
        for row in column + 1..n {
            let factor = m[row * n + column] / m[column * n + column];
            for j in column..n {
                m[row * n + j] -= factor * m[column * n + j];
            }
        }
    }
    det
}

impl Op for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype.is_float(), InvalidModel, "Det of {} is not defined", x.dtype);
        match x.dims() {
            None => Ok(vec![Fact::unranked(x.dtype)]),
            Some([batch @ .., rows, columns]) => {
                rows.unify(columns).map_err(|e| e.at("a determinant needs square matrices"))?;
                Ok(vec![Fact::new(x.dtype, batch.to_vec())])
            }
            Some(_) => bail!(Shape, "Det of {x}, which is no matrix"),
        }
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let [batch @ .., n, _] = &x.shape()[..] else { bail!(Shape, "Det of {}, which is no matrix", x.shape()) };
        let shape = Shape::from(batch);
        budget.spend(x.len().saturating_mul(*n))?;
        let mut values = x.to_f64_vec()?;
        let dets = match n * n {
            0 => vec![1.0; shape.checked_len()?],
            size => values.chunks_exact_mut(size).map(|m| determinant(*n, m)).collect(),
        };
        Ok(vec![from_f64(x.dtype(), shape, dets)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pivots_change_the_sign() {
        assert_eq!(determinant(2, &mut [0.0, 1.0, 1.0, 0.0]), -1.0);
        assert_eq!(determinant(2, &mut [1.0, 2.0, 3.0, 4.0]), -2.0);
        assert_eq!(determinant(3, &mut [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 1.0, 0.0, 1.0]), 0.0);
    }
}
