//! Numbers of any dtype through `f64` or `i128`, so that one body evaluates an operator for all dtypes.

use crate::error::Result;
use crate::tensor::{DType, Element, Shape, Tensor, with_dtype};

/// The elements of a tensor, exactly.
pub(crate) enum Numbers {
    /// Of a float dtype.
    Floats(Vec<f64>),
    /// Of an integer dtype or of `bool`.
    Integers(Vec<i128>),
}

impl Numbers {
    pub(crate) fn of(tensor: &Tensor) -> Result<Self> {
        if tensor.dtype().is_float() {
            return Ok(Numbers::Floats(tensor.to_f64_vec()?));
        }
        Ok(Numbers::Integers(integers(tensor)?))
    }

    /// Back to a tensor: floats rounded to nearest even, integers wrapped to the width of the dtype.
    pub(crate) fn into_tensor(self, dtype: DType, shape: Shape) -> Result<Tensor> {
        match self {
            Numbers::Floats(values) => from_f64(dtype, shape, values),
            Numbers::Integers(values) => from_i64(dtype, shape, values.into_iter().map(|v| v as i64).collect()),
        }
    }
}

/// The elements of an integer dtype or of `bool`, where `u64` does not fit in `i64`.
pub(crate) fn integers(tensor: &Tensor) -> Result<Vec<i128>> {
    let unsigned = tensor.dtype() == DType::U64;
    let widen = |v: i64| if unsigned { i128::from(v as u64) } else { i128::from(v) };
    Ok(tensor.to_i64_vec()?.into_iter().map(widen).collect())
}

/// A tensor of `dtype` from `f64`: rounded to nearest even into a float, truncated and saturated into an integer.
pub(crate) fn from_f64(dtype: DType, shape: impl Into<Shape>, values: Vec<f64>) -> Result<Tensor> {
    floats_into(dtype, shape.into(), values)
}

fn floats_into(dtype: DType, shape: Shape, values: Vec<f64>) -> Result<Tensor> {
    with_dtype!(dtype, T => Tensor::new(shape, values.into_iter().map(T::from_f64).collect::<Vec<T>>()))
}

/// A tensor of `dtype` from `i64`, wrapped to its width.
pub(crate) fn from_i64(dtype: DType, shape: impl Into<Shape>, values: Vec<i64>) -> Result<Tensor> {
    integers_into(dtype, shape.into(), values)
}

fn integers_into(dtype: DType, shape: Shape, values: Vec<i64>) -> Result<Tensor> {
    with_dtype!(dtype, T => Tensor::new(shape, values.into_iter().map(T::from_i64).collect::<Vec<T>>()))
}
