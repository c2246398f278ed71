//! How packed forms are taken apart into numbers and bytes, and put together again from those of a file.
//!
//! A form borrows its large parts from where the file is mapped. What comes from a file is not trusted: every length is
//! compared with what the sizes ask for, because kernels read without looking.

use super::arch::Isa;
use crate::error::{Result, ensure, err};
use crate::tensor::Buffer;
use bytemuck::AnyBitPattern;
use std::any::Any;
use std::collections::VecDeque;

/// A packed form of a constant that can be kept in a file.
pub trait Stored: Any + Send + Sync + Sized {
    /// Names the form and its layout in files; a new layout gets a new name.
    const KIND: &'static str;

    /// Appends what the form consists of.
    fn store(&self, parts: &mut Parts);

    /// The form from the same parts in the same order, packed for `isa`.
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed) where the parts contradict each other. That the form is the one which
    /// is needed is for the caller to check.
    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self>;
}

/// Numbers and runs of bytes in order: what a packed form consists of.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Sizes and choices.
    pub numbers: VecDeque<u64>,
    /// Runs of bytes.
    pub buffers: VecDeque<Buffer>,
}

impl Parts {
    /// Appends a number.
    pub fn put(&mut self, number: usize) {
        self.numbers.push_back(number as u64);
    }

    /// Appends numbers.
    pub fn put_all(&mut self, numbers: &[usize]) {
        numbers.iter().for_each(|&number| self.put(number));
    }

    /// Appends bytes, which are shared.
    pub fn put_buffer(&mut self, buffer: &Buffer) {
        self.buffers.push_back(buffer.clone());
    }

    /// Appends elements, which are copied.
    pub fn put_elements<T: bytemuck::NoUninit>(&mut self, elements: &[T]) {
        self.buffers.push_back(Buffer::copy_of(bytemuck::cast_slice(elements)));
    }

    /// Takes a number.
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed) where there is none left; so for everything that takes.
    pub fn take(&mut self) -> Result<usize> {
        let number = self.numbers.pop_front().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| err!(Malformed, "a packed form lacks a size"))
    }

    /// Takes as many numbers.
    #[allow(clippy::missing_errors_doc)]
    pub fn take_sizes<const N: usize>(&mut self) -> Result<[usize; N]> {
        let mut sizes = [0; N];
        for size in &mut sizes {
            *size = self.take()?;
        }
        Ok(sizes)
    }

    /// Takes bytes, of which there are the product of `sizes`, aligned for every vector.
    #[allow(clippy::missing_errors_doc)]
    pub fn take_buffer(&mut self, sizes: &[usize]) -> Result<Buffer> {
        let len = sizes.iter().try_fold(1usize, |len, &size| len.checked_mul(size));
        let buffer = self.buffers.pop_front().ok_or_else(|| err!(Malformed, "a packed form lacks bytes"))?;
        let bytes = buffer.as_slice();
        ensure!(Some(bytes.len()) == len, Malformed, "{} bytes of a packed form, for sizes {sizes:?}", bytes.len());
        ensure!((bytes.as_ptr() as usize).is_multiple_of(64), Malformed, "a packed form is not aligned");
        Ok(buffer)
    }

    /// Takes a copy of elements, of which there are the product of `sizes`.
    #[allow(clippy::missing_errors_doc)]
    pub fn take_elements<T: AnyBitPattern>(&mut self, sizes: &[usize]) -> Result<Vec<T>> {
        let sizes: Vec<usize> = sizes.iter().copied().chain([size_of::<T>()]).collect();
        let buffer = self.take_buffer(&sizes)?;
        Ok(bytemuck::try_cast_slice(buffer.as_slice()).map_err(|e| err!(Malformed, "{e}"))?.to_vec())
    }

    /// Checks that nothing is left.
    #[allow(clippy::missing_errors_doc)]
    pub fn finish(self) -> Result<()> {
        let empty = self.numbers.is_empty() && self.buffers.is_empty();
        ensure!(empty, Malformed, "a packed form has parts that nothing reads");
        Ok(())
    }
}

/// Appends several of one form.
pub(in crate::kernels) fn store_all<T: Stored>(forms: &[T], parts: &mut Parts) {
    parts.put(forms.len());
    forms.iter().for_each(|form| form.store(parts));
}

/// Takes several of one form.
pub(in crate::kernels) fn restore_all<T: Stored>(isa: Isa, parts: &mut Parts) -> Result<Vec<T>> {
    let count = parts.take()?;
    // Each consists of something, so there are no more than parts.
    ensure!(count <= parts.buffers.len(), Malformed, "{count} packed forms in {} runs of bytes", parts.buffers.len());
    (0..count).map(|_| T::restore(isa, parts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm::{ByteWeights, Layout, PackedB, PackedBytes};

    fn parts(form: &impl Stored) -> Parts {
        let mut parts = Parts::default();
        form.store(&mut parts);
        parts
    }

    /// Every number changed and every run of bytes shortened is refused.
    fn refuses<T: Stored>(isa: Isa, whole: &Parts) {
        let restored = |mut parts: Parts| T::restore(isa, &mut parts).and_then(|form| parts.finish().map(|()| form));
        assert!(restored(whole.clone()).is_ok());
        for index in 0..whole.numbers.len() {
            for other in [0, 1, 7, u64::MAX, u64::MAX / 4] {
                let mut parts = whole.clone();
                if parts.numbers[index] != other {
                    parts.numbers[index] = other;
                    assert!(restored(parts).is_err(), "number {index} as {other} of {whole:?}");
                }
            }
        }
        for index in 0..whole.buffers.len() {
            let mut parts = whole.clone();
            let bytes = parts.buffers[index].as_slice();
            parts.buffers[index] = Buffer::copy_of(&bytes[..bytes.len() - 1]);
            assert!(restored(parts).is_err());
        }
        assert!(restored(Parts::default()).is_err());
    }

    #[test]
    fn products_come_back_and_lies_are_refused() {
        for isa in Isa::available() {
            let b: Vec<f32> = (0..5 * 200).map(|i| i as f32).collect();
            let packed = PackedB::pack(isa, &b, 5, 200, Layout::RowMajor { stride: 200 });
            let back = PackedB::restore(isa, &mut parts(&packed)).unwrap();
            assert_eq!(format!("{:?}", parts(&back)), format!("{:?}", parts(&packed)));
            assert_eq!((back.k(), back.n(), back.len_bytes()), (5, 200, packed.len_bytes()));
            refuses::<PackedB>(isa, &parts(&packed));
            let bytes: Vec<u8> = (0..9 * 130).map(|i| i as u8).collect();
            let packed = PackedBytes::pack(isa, ByteWeights::U8(&bytes), 9, 130, &[3]);
            let back = PackedBytes::restore(isa, &mut parts(&packed)).unwrap();
            assert_eq!((back.k(), back.n(), back.column_sums()), (9, 130, packed.column_sums()));
        }
    }
}
