//! The way back from an evaluation in `f64` or `i64` to the dtype of a tensor.
//!
//! The way in is [`Tensor::to_f64_vec`] and [`Tensor::to_i64_vec`].

use crate::error::Result;
use crate::tensor::{DType, Element, Shape, Tensor, with_dtype};

/// A tensor of `dtype` from `f64`: rounded to nearest even into a float, truncated and saturated into an integer.
pub(crate) fn from_f64(dtype: DType, shape: impl Into<Shape>, values: Vec<f64>) -> Result<Tensor> {
    with_dtype!(dtype, T => Tensor::new(shape, values.into_iter().map(T::from_f64).collect::<Vec<T>>()))
}

/// A tensor of `dtype` from `i64`, wrapped to its width.
pub(crate) fn from_i64(dtype: DType, shape: impl Into<Shape>, values: Vec<i64>) -> Result<Tensor> {
    with_dtype!(dtype, T => Tensor::new(shape, values.into_iter().map(T::from_i64).collect::<Vec<T>>()))
}
