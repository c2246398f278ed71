//! A tensor: dtype, concrete shape, and a window on a shared buffer.

use super::buffer::{Buffer, Spare};
use super::deferred::SMALL;
use super::dtype::{DType, Element, with_dtype};
use super::shape::Shape;
use crate::error::{Result, bail, ensure};
use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::fmt;
use std::ops::Range;

/// A contiguous, row-major tensor. Cloning, reshaping and taking rows share the data.
///
/// ```
/// use onrush::{DType, Tensor};
/// let x = Tensor::new([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(x.dtype(), DType::F32);
/// assert_eq!(x.rows(1..2)?.as_slice::<f32>()?, [4.0, 5.0, 6.0]);
/// # Ok::<(), onrush::Error>(())
/// ```
///
/// A `bool` tensor holds only the bytes 0 and 1; every constructor checks that.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    buffer: Buffer,
    offset: usize,
}

impl Tensor {
    /// A tensor of `shape` from its elements in row-major order; the vector is taken over without a copy.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when the number of elements is not that of the shape.
    pub fn new<T: Element>(shape: impl Into<Shape>, elements: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        let len = shape.checked_len()?;
        ensure!(elements.len() == len, Shape, "{} elements do not fill the shape {shape}", elements.len());
        Ok(Tensor { dtype: T::DTYPE, shape, buffer: Buffer::from_vec(elements), offset: 0 })
    }

    /// A tensor of rank 0.
    #[must_use]
    pub fn scalar<T: Element>(value: T) -> Self {
        Tensor { dtype: T::DTYPE, shape: Shape::scalar(), buffer: Buffer::from_vec(vec![value]), offset: 0 }
    }

    /// A tensor of rank 1.
    #[must_use]
    pub fn vector<T: Element>(elements: Vec<T>) -> Self {
        let shape = Shape::from([elements.len()]);
        Tensor { dtype: T::DTYPE, shape, buffer: Buffer::from_vec(elements), offset: 0 }
    }

    /// A tensor of zeros (or `false`), aligned to a cache line.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when the system has no memory for the shape.
    pub fn zeros(dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let bytes = shape.checked_len()?.saturating_mul(dtype.size());
        Ok(Tensor { dtype, shape, buffer: Buffer::try_zeroed(bytes)?, offset: 0 })
    }

    /// A tensor on shared little-endian bytes; they are copied only where they are not aligned for `dtype`.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when the number of bytes is not that of the shape,
    /// [`Malformed`](crate::ErrorKind::Malformed) when a `bool` is neither 0 nor 1.
    pub fn from_bytes(dtype: DType, shape: impl Into<Shape>, bytes: Bytes) -> Result<Self> {
        Tensor::of_bytes(dtype, shape.into(), bytes, |bytes| Buffer::copy_of(&bytes))
    }

    /// A tensor on the bytes of a file. Where they are not aligned they are copied when they are read, and not before:
    /// most weights are read once, to be packed.
    pub(crate) fn from_file(dtype: DType, shape: impl Into<Shape>, bytes: Bytes) -> Result<Self> {
        Tensor::of_bytes(dtype, shape.into(), bytes, |bytes| match bytes.len() {
            0..SMALL => Buffer::copy_of(&bytes),
            _ => Buffer::copied_when_read(bytes),
        })
    }

    fn of_bytes(dtype: DType, shape: Shape, bytes: Bytes, unaligned: fn(Bytes) -> Buffer) -> Result<Self> {
        let expected = shape.checked_len()?.saturating_mul(dtype.size());
        ensure!(bytes.len() == expected, Shape, "{} bytes are not the {expected} of {dtype}{shape}", bytes.len());
        if dtype == DType::Bool {
            ensure!(bytes.iter().all(|&b| b <= 1), Malformed, "a bool is neither 0 nor 1");
        }
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(dtype.size());
        let buffer = if aligned { Buffer::from_bytes(bytes) } else { unaligned(bytes) };
        Ok(Tensor { dtype, shape, buffer, offset: 0 })
    }

    /// A tensor of any dtype from the bit patterns of its elements; `T` has the size of the dtype.
    pub(crate) fn from_bits<T: Element>(dtype: DType, shape: impl Into<Shape>, bits: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        ensure!(size_of::<T>() == dtype.size(), Internal, "bits of the wrong size for {dtype}");
        ensure!(bits.len() == shape.checked_len()?, Internal, "{} elements for {shape}", bits.len());
        let buffer = Buffer::from_vec(bits);
        if dtype == DType::Bool {
            ensure!(buffer.as_slice().iter().all(|&b| b <= 1), Malformed, "a bool is neither 0 nor 1");
        }
        Ok(Tensor { dtype, shape, buffer, offset: 0 })
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The lengths of the axes, outermost first.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.elements()
    }

    /// True where an axis has length zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the elements lie, which tells them from others as long as they live.
    pub(crate) fn address(&self) -> usize {
        self.buffer.address(self.offset)
    }

    /// A tensor on the whole of a buffer of the right length.
    pub(super) fn of_buffer(dtype: DType, shape: Shape, buffer: Buffer) -> Self {
        Tensor { dtype, shape, buffer, offset: 0 }
    }

    /// The matrix that this one is the transposition of, where it is there and this one is not.
    pub(crate) fn transposed_of(&self) -> Option<&Tensor> {
        let source = self.buffer.transposed()?;
        let turned = self.offset == 0 && self.shape.iter().eq(source.shape.iter().rev());
        turned.then_some(source)
    }

    /// The same elements for a reader who reads them once: what it takes to align or to compute them is not kept.
    pub(crate) fn for_one_reading(&self, spare: &mut Spare) -> Self {
        Tensor { buffer: self.buffer.for_one_reading(spare), ..self.clone() }
    }

    /// The elements as little-endian bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer.as_slice()[self.offset..self.offset + self.len() * self.dtype.size()]
    }

    /// The same where they are not aligned for the elements, and nobody has read them as such: so they need no copy.
    pub(crate) fn unaligned_bytes(&self) -> Option<&[u8]> {
        self.buffer.unaligned()?.get(self.offset..self.offset + self.len() * self.dtype.size())
    }

    /// The bytes of some elements, in any order, as many as can be had without aligning or computing them.
    pub(crate) fn sample(&self) -> &[u8] {
        match self.buffer.sample() {
            Some(sample) => sample,
            None => self.unaligned_bytes().unwrap_or_else(|| self.as_bytes()),
        }
    }

    /// The bytes to change, where no other tensor shares them; a `bool` must stay 0 or 1.
    pub(crate) fn as_bytes_mut(&mut self) -> Option<&mut [u8]> {
        let range = self.offset..self.offset + self.len() * self.dtype.size();
        self.buffer.as_mut_slice().map(|bytes| &mut bytes[range])
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when `T` is not the tensor's dtype.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        ensure!(T::DTYPE == self.dtype, Shape, "a tensor of {} was read as {}", self.dtype, T::DTYPE);
        match bytemuck::checked::try_cast_slice(self.as_bytes()) {
            Ok(elements) => Ok(elements),
            Err(error) => bail!(Internal, "elements of {} do not cast: {error}", self.dtype),
        }
    }

    /// The bit patterns of the elements, whatever they mean; `T` is `u8`, `u16`, `u32` or `u64`.
    pub(crate) fn bits<T: Element + bytemuck::AnyBitPattern>(&self) -> Result<&[T]> {
        match bytemuck::try_cast_slice(self.as_bytes()) {
            Ok(bits) if size_of::<T>() == self.dtype.size() => Ok(bits),
            _ => bail!(Internal, "bits of {} read with the wrong size", self.dtype),
        }
    }

    /// The one element of a tensor that has one.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when `T` is not the dtype or there is not exactly one element.
    pub fn to_scalar<T: Element>(&self) -> Result<T> {
        match self.as_slice()? {
            [value] => Ok(*value),
            elements => bail!(Shape, "expected one element, found {}", elements.len()),
        }
    }

    /// The elements, converted by `as` to `i64`.
    ///
    /// # Errors
    /// None in practice; a fault of storage would show here.
    pub fn to_i64_vec(&self) -> Result<Vec<i64>> {
        with_dtype!(self.dtype, T => Ok(self.as_slice::<T>()?.iter().map(|v| v.to_i64()).collect()))
    }

    /// The elements, converted by `as` to `f64`.
    ///
    /// # Errors
    /// None in practice; a fault of storage would show here.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        with_dtype!(self.dtype, T => Ok(self.as_slice::<T>()?.iter().map(|v| v.to_f64()).collect()))
    }

    /// The elements, converted to `f32`.
    ///
    /// # Errors
    /// None in practice; a fault of storage would show here.
    pub fn to_f32_vec(&self) -> Result<Vec<f32>> {
        with_dtype!(self.dtype, T => Ok(self.as_slice::<T>()?.iter().map(|v| v.to_f64() as f32).collect()))
    }

    /// The tensor in another dtype, converted like Rust's `as`.
    ///
    /// # Errors
    /// None in practice; a fault of storage would show here.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        match (self.dtype, dtype) {
            // What models store in halves is weights, and many: through the processor's own conversion.
            (DType::F16, DType::F32) => {
                return Tensor::new(self.shape.clone(), self.as_slice::<f16>()?.to_f32_vec());
            }
            (DType::BF16, DType::F32) => {
                return Tensor::new(self.shape.clone(), self.as_slice::<bf16>()?.to_f32_vec());
            }
            _ => {}
        }
        // Integers go to floats directly, to be rounded once; a `u64` does not fit in `i64`.
        let unsigned = self.dtype == DType::U64 && dtype.is_float();
        if unsigned && dtype == DType::F32 {
            return Tensor::new(self.shape.clone(), self.as_slice::<u64>()?.iter().map(|&v| v as f32).collect());
        }
        with_dtype!(dtype, T => {
            let elements: Vec<T> = if self.dtype.is_float() || unsigned {
                self.to_f64_vec()?.into_iter().map(T::from_f64).collect()
            } else {
                self.to_i64_vec()?.into_iter().map(T::from_i64).collect()
            };
            Tensor::new(self.shape.clone(), elements)
        })
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when the number of elements differs.
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        ensure!(shape.checked_len()? == self.len(), Shape, "{} does not reshape to {shape}", self.shape);
        Ok(Tensor { shape, ..self.clone() })
    }

    /// The same elements under `shape`, whose length the caller has made equal.
    pub(super) fn with_shape_of_len(mut self, shape: Shape) -> Self {
        debug_assert_eq!(self.len(), shape.elements());
        self.shape = shape;
        self
    }

    /// Whether the elements are a vector of `T` that nobody else shares.
    pub(super) fn is_lone_vec<T: Element>(&self) -> bool {
        self.dtype == T::DTYPE && self.offset == 0 && self.buffer.is_lone_vec::<T>(self.len())
    }

    /// The vector of the elements, where [`is_lone_vec`](Tensor::is_lone_vec) holds.
    pub(super) fn into_vec<T: Element>(self) -> Option<Vec<T>> {
        self.buffer.into_vec()
    }

    /// The rows `range` of axis 0, sharing the data.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) for a scalar or a range past the end.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        let Some(&rows) = self.shape.first() else { bail!(Shape, "a scalar has no rows") };
        ensure!(range.start <= range.end && range.end <= rows, Shape, "rows {range:?} of {}", self.shape);
        let row = self.shape[1..].iter().product::<usize>() * self.dtype.size();
        Ok(Tensor {
            dtype: self.dtype,
            shape: self.shape.replaced(0..1, &[range.len()]),
            buffer: self.buffer.clone(),
            offset: self.offset + range.start * row,
        })
    }
}

/// Same dtype, shape and bytes (so `-0.0 != 0.0`, and a NaN equals itself).
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)?;
        const SHOWN: usize = 8;
        with_dtype!(self.dtype, T => {
            if let Ok(elements) = self.as_slice::<T>() {
                f.debug_list().entries(&elements[..elements.len().min(SHOWN)]).finish()?;
            }
        });
        if self.len() > SHOWN { f.write_str("..") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_must_match_the_elements() {
        assert!(Tensor::new([2, 2], vec![1i64, 2, 3]).is_err());
        assert!(Tensor::new([usize::MAX, usize::MAX], vec![1i64]).is_err());
        for len in [1 << 56, usize::MAX / 32, usize::MAX] {
            assert_eq!(Tensor::zeros(DType::F64, [len]).unwrap_err().kind(), crate::ErrorKind::Limit);
        }
    }

    #[test]
    fn misaligned_bytes_are_copied_and_aligned_ones_shared() {
        let bytes = Bytes::from(vec![0u8; 17]);
        for start in [0, 1] {
            let slice = bytes.slice(start..start + 16);
            let tensor = Tensor::from_bytes(DType::F32, [4], slice).unwrap();
            assert_eq!(tensor.as_slice::<f32>().unwrap(), [0.0; 4]);
        }
    }

    #[test]
    fn a_bool_is_zero_or_one() {
        assert!(Tensor::from_bytes(DType::Bool, [1], Bytes::from_static(&[2])).is_err());
    }

    #[test]
    fn rows_share_the_data() {
        let x = Tensor::new([3, 2], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(x.rows(1..3).unwrap().as_slice::<u8>().unwrap(), [3, 4, 5, 6]);
        assert!(x.rows(2..4).is_err());
        assert!(Tensor::scalar(1u8).rows(0..0).is_err());
    }

    #[test]
    fn casts_saturate_from_float_and_wrap_between_integers() {
        let x = Tensor::vector(vec![300.0f32, -1.5]);
        assert_eq!(x.cast(DType::U8).unwrap().as_slice::<u8>().unwrap(), [255, 0]);
        let y = Tensor::vector(vec![300i64, -1]);
        assert_eq!(y.cast(DType::U8).unwrap().as_slice::<u8>().unwrap(), [44, 255]);
        let z = Tensor::vector(vec![f32::NAN, -0.0, 0.5]);
        assert_eq!(z.cast(DType::Bool).unwrap().as_slice::<bool>().unwrap(), [true, false, true]);
    }

    #[test]
    fn integers_round_once_into_floats() {
        let between = (1i64 << 54) + (1 << 30) + 1;
        let x = Tensor::vector(vec![between]).cast(DType::F32).unwrap();
        assert_eq!(x.as_slice::<f32>().unwrap(), [between as f32]);
        let y = Tensor::vector(vec![u64::MAX]);
        assert_eq!(y.cast(DType::F32).unwrap().as_slice::<f32>().unwrap(), [u64::MAX as f32]);
        assert_eq!(y.cast(DType::F64).unwrap().as_slice::<f64>().unwrap(), [u64::MAX as f64]);
    }
}
