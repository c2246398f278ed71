//! `EyeLike` and `Trilu`: matrices told from their diagonal.

use crate::error::{Result, bail, ensure};
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor, with_bits, with_dtype};

/// A matrix as large as the input, with ones on a diagonal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EyeLike {
    /// The dtype; without it, that of the input.
    pub dtype: Option<DType>,
    /// Which diagonal: 0 is the main one, positive ones lie above it.
    pub k: i64,
}

impl EyeLike {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(EyeLike { dtype: node.dtype("dtype")?, k: node.int_or("k", 0)? }.into())
    }
}

impl Op for EyeLike {
    fn name(&self) -> &'static str {
        "EyeLike"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.rank().is_none_or(|rank| rank == 2), Shape, "{x} is no matrix");
        Ok(vec![Fact { shape: x.shape.clone(), ..Fact::unranked(self.dtype.unwrap_or(x.dtype)) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let &[rows, columns] = &**x.shape() else { bail!(Shape, "{} is no matrix", x.shape()) };
        let len = x.shape().checked_len()?;
        let on = |row: usize| usize::try_from(row as i128 + i128::from(self.k)).ok().filter(|&column| column < columns);
        Ok(vec![with_dtype!(self.dtype.unwrap_or(x.dtype()), T => {
            let mut out = vec![<T as crate::tensor::Element>::ZERO; len];
            for (row, column) in (0..if len == 0 { 0 } else { rows }).filter_map(|row| Some((row, on(row)?))) {
                out[row * columns + column] = crate::tensor::Element::from_i64(1);
            }
            Tensor::new(x.shape().clone(), out)?
        })])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int_opt("dtype", self.dtype.map(dtype_to_onnx)).int("k", self.k)
    }
}

/// The part of each matrix (the last two axes) on one side of a diagonal, which the optional input 1 names, and zeros
/// elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trilu {
    /// Whether the part above the diagonal stays, rather than the one below.
    pub upper: bool,
}

impl Trilu {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Trilu { upper: node.flag_or("upper", true)? }.into())
    }
}

impl Op for Trilu {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.rank().is_none_or(|rank| rank >= 2), Shape, "{x} holds no matrices");
        if let Some(k) = inputs.get(1) {
            ensure!(k.dtype.is_integer(), InvalidModel, "the diagonal is {}, not an integer", k.dtype);
        }
        Ok(vec![Fact { shape: x.shape.clone(), ..Fact::unranked(x.dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let k = match inputs.get(1).map(Tensor::to_i64_vec).transpose()?.as_deref() {
            None => 0,
            Some([k]) => *k,
            Some(other) => bail!(Shape, "{} diagonals are named", other.len()),
        };
        let &[.., rows, columns] = &**x.shape() else { bail!(Shape, "{} holds no matrices", x.shape()) };
        let stays = |i: usize| {
            let (row, column) = (i / columns % rows, i % columns);
            let above = column as i128 - row as i128 - i128::from(k);
            if self.upper { above >= 0 } else { above <= 0 }
        };
        Ok(vec![with_bits!(x.dtype().size(), T => {
            let elements = x.bits::<T>()?.iter().enumerate();
            let out: Vec<T> = elements.map(|(i, &v)| if stays(i) { v } else { 0 }).collect();
            Tensor::from_bits(x.dtype(), x.shape().clone(), out)?
        })])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("upper", self.upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn ones_stand_on_a_diagonal() {
        let x = Tensor::zeros(DType::U8, [2, 3]).unwrap();
        for (k, expected) in
            [(0, [1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0]), (-1, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]), (9, [0.0; 6])]
        {
            let y = run_one(&EyeLike { dtype: Some(DType::F32), k }, &[&x]).unwrap();
            assert_eq!(y.as_slice::<f32>().unwrap(), expected);
        }
        assert!(run_one(&EyeLike { dtype: None, k: i64::MIN }, &[&x]).is_ok());
        assert!(run_one(&EyeLike { dtype: None, k: 0 }, &[&x.reshaped([6]).unwrap()]).is_err());
    }

    #[test]
    fn one_side_of_each_matrix_stays() {
        let x = Tensor::new([2, 2, 2], (1..9i16).collect()).unwrap();
        for (upper, k, expected) in [
            (true, 0i64, [1i16, 2, 0, 4, 5, 6, 0, 8]),
            (false, 0, [1, 0, 3, 4, 5, 0, 7, 8]),
            (true, 1, [0, 2, 0, 0, 0, 6, 0, 0]),
            (false, i64::MIN, [0; 8]),
        ] {
            let y = run_one(&Trilu { upper }, &[&x, &Tensor::scalar(k)]).unwrap();
            assert_eq!(y.as_slice::<i16>().unwrap(), expected);
        }
        let empty = Tensor::new([3, 0], Vec::<f32>::new()).unwrap();
        assert_eq!(run_one(&Trilu { upper: true }, &[&empty]).unwrap(), empty);
    }
}
