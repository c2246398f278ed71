//! Numbers of any dtype through `f64` or `i128`, so that one body evaluates an operator for all dtypes.

use crate::error::Result;
use crate::tensor::{DType, Element, Shape, Tensor, with_dtype};

/// Reads elements by their places, exactly, without a wider copy of the tensor.
pub(crate) enum Reader<'a> {
    /// Of a float dtype.
    Floats(Read<'a, f64>),
    /// Of an integer dtype or of `bool`.
    Integers(Read<'a, i128>),
}

/// The element at a place.
pub(crate) type Read<'a, N> = Box<dyn Fn(usize) -> N + 'a>;

impl<'a> Reader<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        Ok(match tensor.dtype().is_float() {
            true => Reader::Floats(read_floats(tensor)?),
            false => Reader::Integers(read_integers(tensor)?),
        })
    }
}

/// Reads the elements of any dtype as `f64`.
pub(crate) fn read_floats(tensor: &Tensor) -> Result<Read<'_, f64>> {
    with_dtype!(tensor.dtype(), T => {
        let elements = tensor.as_slice::<T>()?;
        Ok(Box::new(move |i| elements[i].to_f64()))
    })
}

/// Reads the elements of an integer dtype or of `bool`, where `u64` does not fit in `i64`.
pub(crate) fn read_integers(tensor: &Tensor) -> Result<Read<'_, i128>> {
    with_dtype!(tensor.dtype(), T => {
        let elements = tensor.as_slice::<T>()?;
        Ok(match T::DTYPE {
            DType::U64 => Box::new(move |i| i128::from(elements[i].to_i64() as u64)),
            _ => Box::new(move |i| i128::from(elements[i].to_i64())),
        })
    })
}

/// A tensor of `dtype` from its elements in order, each rounded to nearest even, truncated and saturated into an integer.
pub(crate) fn collect_floats(dtype: DType, shape: &Shape, values: &mut dyn Iterator<Item = f64>) -> Result<Tensor> {
    with_dtype!(dtype, T => {
        let mut elements: Vec<T> = Vec::with_capacity(shape.checked_len()?);
        for v in values {
            elements.push(T::from_f64(v));
        }
        Tensor::new(shape.clone(), elements)
    })
}

/// A tensor of `dtype` from its elements in order, each wrapped to the width of `dtype`.
pub(crate) fn collect_integers(
    dtype: DType,
    shape: &Shape,
    values: &mut dyn Iterator<Item = Result<i128>>,
) -> Result<Tensor> {
    with_dtype!(dtype, T => {
        let mut elements: Vec<T> = Vec::with_capacity(shape.checked_len()?);
        for v in values {
            elements.push(T::from_i64(v? as i64));
        }
        Tensor::new(shape.clone(), elements)
    })
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
