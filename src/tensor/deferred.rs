//! Constants whose elements are computed from another's when they are read.
//!
//! What a pass makes of a weight is read once, to be packed, and the weight itself lies in the model's file: kept, either
//! would only lie in memory beside the packed form.

use super::buffer::{Buffer, Spare};
use super::dtype::DType;
use super::shape::Shape;
use super::tensor::Tensor;
use crate::error::{Result, ensure};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use std::sync::OnceLock;

/// It takes more to keep track of fewer bytes than to keep them.
pub(super) const SMALL: usize = 4096;

/// Elements that are converted together: their copy stays in the first cache.
const CHUNK: usize = 1024;

/// How the elements come about.
enum Change {
    /// Rows become columns, of a matrix.
    Turn,
    /// Half floats become f32.
    Widen,
    /// Each f32 is multiplied by the factor of its slice; `inner` of them are in a slice.
    Scale { inner: usize, factors: Vec<f64> },
}

/// Bytes that are computed when they are read, and kept only where the reader keeps them.
pub(super) struct Deferred {
    source: Tensor,
    change: Change,
    len: usize,
    bytes: OnceLock<Buffer>,
}

impl Deferred {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes, computed now unless they were before.
    pub(super) fn bytes(&self) -> &[u8] {
        let made = || {
            let mut bytes = Buffer::zeroed(self.len);
            self.write(bytes.as_mut_slice().unwrap_or_default());
            bytes
        };
        self.bytes.get_or_init(made).as_slice()
    }

    /// The same bytes for a reader who reads them once; `None` where they are kept already.
    pub(super) fn for_one_reading(&self, spare: &mut Spare) -> Option<Buffer> {
        if self.bytes.get().is_some() {
            return None;
        }
        Some(match self.change {
            // The reader may want the matrix before it is turned.
            Change::Turn => Buffer::deferred(Deferred {
                source: self.source.for_one_reading(spare),
                change: Change::Turn,
                len: self.len,
                bytes: OnceLock::new(),
            }),
            _ => spare.filled(self.len, |to| self.write(to)),
        })
    }

    /// The matrix whose transposition this is, as long as nobody has had it computed.
    pub(super) fn transposed(&self) -> Option<&Tensor> {
        (matches!(self.change, Change::Turn) && self.bytes.get().is_none()).then_some(&self.source)
    }

    /// The bytes of some elements, in any order, that need not be computed; `None` where all of them are kept.
    pub(super) fn sample(&self) -> Option<&[u8]> {
        match (self.bytes.get(), &self.change) {
            (Some(_), _) => None,
            (None, Change::Turn) => Some(self.source.sample()),
            (None, _) => Some(&[]),
        }
    }

    fn write(&self, to: &mut [u8]) {
        self.source.with_bytes(|from| match &self.change {
            Change::Turn => {
                let (rows, columns) = (self.source.shape()[0], self.source.shape()[1]);
                match self.source.dtype().size() {
                    1 => turn::<1>(from, to, rows, columns),
                    2 => turn::<2>(from, to, rows, columns),
                    4 => turn::<4>(from, to, rows, columns),
                    _ => turn::<8>(from, to, rows, columns),
                }
            }
            Change::Widen => widen(from, bytemuck::cast_slice_mut(to), self.source.dtype()),
            Change::Scale { inner, factors } => {
                let elements = from.as_chunks::<4>().0.iter().zip(bytemuck::cast_slice_mut::<u8, f32>(to));
                for (i, (element, to)) in elements.enumerate() {
                    let scaled = f64::from(f32::from_le_bytes(*element)) * factors[i / inner % factors.len()];
                    *to = scaled as f32;
                }
            }
        });
    }
}

fn turn<const SIZE: usize>(from: &[u8], to: &mut [u8], rows: usize, columns: usize) {
    /// Elements on a side of a block: few enough lines for the first cache.
    const BLOCK: usize = 16;
    let (from, to) = (from.as_chunks::<SIZE>().0, to.as_chunks_mut::<SIZE>().0);
    for first in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for column in left..columns.min(left + BLOCK) {
                for row in first..rows.min(first + BLOCK) {
                    to[column * rows + row] = from[row * columns + column];
                }
            }
        }
    }
}

fn widen(from: &[u8], to: &mut [f32], dtype: DType) {
    let mut bits = [0u16; CHUNK];
    for (from, to) in from.as_chunks::<2>().0.chunks(CHUNK).zip(to.chunks_mut(CHUNK)) {
        let bits = &mut bits[..to.len()];
        for (bits, from) in bits.iter_mut().zip(from) {
            *bits = u16::from_le_bytes(*from);
        }
        match dtype {
            DType::BF16 => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(to),
            _ => bits.reinterpret_cast::<f16>().convert_to_f32_slice(to),
        }
    }
}

impl Tensor {
    /// The transposition of a matrix.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where this is no matrix.
    pub(crate) fn turned(&self) -> Result<Self> {
        ensure!(self.rank() == 2, Shape, "{} is no matrix", self.shape());
        let shape = Shape::from([self.shape()[1], self.shape()[0]]);
        Ok(self.changed(self.dtype(), shape, Change::Turn))
    }

    /// Half floats in f32, which holds them exactly.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where these are no half floats.
    pub(crate) fn widened(&self) -> Result<Self> {
        ensure!(matches!(self.dtype(), DType::F16 | DType::BF16), Shape, "{} is no half float", self.dtype());
        Ok(self.changed(DType::F32, self.shape().clone(), Change::Widen))
    }

    /// f32 elements, each slice along `axis` multiplied by its factor in f64.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where this is not f32, or there is not one factor for each slice.
    pub(crate) fn scaled_along(&self, axis: usize, factors: Vec<f64>) -> Result<Self> {
        let fits = self.dtype() == DType::F32 && self.shape().get(axis) == Some(&factors.len());
        ensure!(fits, Shape, "{} factors along axis {axis} of {}{}", factors.len(), self.dtype(), self.shape());
        let inner = self.shape()[axis + 1..].iter().product::<usize>().max(1);
        Ok(self.changed(DType::F32, self.shape().clone(), Change::Scale { inner, factors }))
    }

    fn changed(&self, dtype: DType, shape: Shape, change: Change) -> Self {
        let len = self.len() * dtype.size();
        let deferred = Deferred { source: self.clone(), change, len, bytes: OnceLock::new() };
        if len >= SMALL {
            return Tensor::of_buffer(dtype, shape, Buffer::deferred(deferred));
        }
        let mut bytes = Buffer::zeroed(len);
        deferred.write(bytes.as_mut_slice().unwrap_or_default());
        Tensor::of_buffer(dtype, shape, bytes)
    }

    /// Hands the bytes to a reader who needs no alignment and reads them once: nothing is kept that was not kept before.
    fn with_bytes(&self, read: impl FnOnce(&[u8])) {
        match self.unaligned_bytes() {
            Some(bytes) => read(bytes),
            None => read(self.for_one_reading(&mut Spare::default()).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const SHAPE: [usize; 2] = [37, 65];

    fn ramp() -> Tensor {
        Tensor::new(SHAPE, (0..37 * 65).map(|i| i as f32 / 8.0 - 9.0).collect()).unwrap()
    }

    /// The same elements as a file may hold them: at an odd address.
    fn from_file(tensor: &Tensor) -> Tensor {
        let bytes = [&[0], tensor.as_bytes()].concat();
        Tensor::from_file(tensor.dtype(), tensor.shape().clone(), Bytes::from(bytes).slice(1..)).unwrap()
    }

    #[test]
    fn a_matrix_is_turned_whatever_its_elements() {
        for dtype in [DType::U8, DType::F16, DType::F32, DType::F64] {
            let matrix = ramp().cast(dtype).unwrap();
            let expected: Vec<f64> = {
                let elements = matrix.to_f64_vec().unwrap();
                (0..37 * 65).map(|i| elements[i % 37 * 65 + i / 37]).collect()
            };
            for source in [matrix.clone(), from_file(&matrix)] {
                let turned = source.turned().unwrap();
                assert_eq!((&turned.shape()[..], turned.to_f64_vec().unwrap()), (&[65, 37][..], expected.clone()));
                assert_eq!(turned.turned().unwrap(), matrix);
            }
        }
        assert!(Tensor::vector(vec![1u8]).turned().is_err());
    }

    #[test]
    fn halves_are_widened_and_slices_scaled() {
        for dtype in [DType::F16, DType::BF16] {
            let half = ramp().cast(dtype).unwrap();
            assert_eq!(from_file(&half).widened().unwrap(), half.cast(DType::F32).unwrap());
        }
        assert!(ramp().widened().is_err());
        for (axis, len) in SHAPE.into_iter().enumerate() {
            let factors: Vec<f64> = (0..len).map(|i| 1.0 / (i as f64 + 3.0)).collect();
            let scaled = from_file(&ramp()).scaled_along(axis, factors.clone()).unwrap();
            for (i, (x, y)) in ramp().to_f64_vec().unwrap().iter().zip(scaled.as_slice::<f32>().unwrap()).enumerate() {
                assert_eq!((x * factors[[i / 65, i % 65][axis]]) as f32, *y);
            }
            assert!(ramp().scaled_along(axis, vec![1.0]).is_err());
        }
    }

    #[test]
    fn what_is_read_once_is_not_kept() {
        let source = from_file(&ramp());
        let turned = source.turned().unwrap();
        let scaled = turned.scaled_along(0, vec![2.0; 65]).unwrap();
        let mut spare = Spare::default();
        let once = turned.for_one_reading(&mut spare);
        assert_eq!(once.transposed_of().unwrap().as_slice::<f32>().unwrap(), ramp().as_slice::<f32>().unwrap());
        assert_eq!(scaled.for_one_reading(&mut spare).as_slice::<f32>().unwrap()[37], 2.0 * (1.0 / 8.0 - 9.0));
        assert_eq!(once.to_f64_vec().unwrap()[37], 1.0 / 8.0 - 9.0);
        // Nobody has made anyone keep anything.
        assert!(source.unaligned_bytes().is_some() && turned.transposed_of().is_some());
        let address = turned.address();
        assert_eq!(turned.as_bytes().len(), 37 * 65 * 4);
        assert!(turned.transposed_of().is_none());
        assert_eq!(turned.address(), address);
        assert_eq!(turned.for_one_reading(&mut spare).as_bytes().as_ptr(), turned.as_bytes().as_ptr());
        assert!(turned.rows(1..2).unwrap().address() != address);
    }
}
