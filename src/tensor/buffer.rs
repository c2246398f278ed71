//! Shared, immutable bytes with the alignment that kernels want, or borrowed from a file mapping or a caller's vector.

use super::deferred::Deferred;
use super::dtype::Element;
use super::mapping::Pages;
use super::tensor::Tensor;
use crate::error::{Result, err};
use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Bytes that own memory get this alignment: a cache line, and a 512-bit vector.
pub(crate) const ALIGN: usize = 64;

/// From this many bytes on, memory comes in pages of its own: it is not written to be zero, and what is given back leaves no
/// hole among smaller pieces.
const OWN_PAGES: usize = 512 << 10;

/// From this many bytes on, what stays shares pages with what else does.
const SHARED_PAGES: usize = 4 << 10;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// Shared bytes. A clone shares them; they are never changed while shared.
#[derive(Clone)]
pub struct Buffer(Repr);

#[derive(Clone)]
enum Repr {
    Lines(Arc<Vec<Line>>, usize),
    Pages(Arc<Pages>, usize),
    Owner(Arc<dyn AsBytes>),
    Shared(Bytes),
    Unaligned(Arc<Unaligned>),
    Deferred(Arc<Deferred>),
}

/// Bytes that no element type can be read from where they lie, and the copy that can, made when somebody reads it.
struct Unaligned {
    bytes: Bytes,
    copy: OnceLock<Vec<Line>>,
}

trait AsBytes: Send + Sync {
    fn as_bytes(&self) -> &[u8];
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

struct Elements<T>(Vec<T>);

impl<T: Element> AsBytes for Elements<T> {
    fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Buffer {
    /// `len` zeroed bytes, aligned to a cache line.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        if len >= OWN_PAGES
            && let Ok(pages) = Pages::zeroed(len)
        {
            return Buffer(Repr::Pages(Arc::new(pages), len));
        }
        Buffer(Repr::Lines(Arc::new(vec![Line::zeroed(); len.div_ceil(ALIGN)]), len))
    }

    /// The same for what stays as long as its model: it shares large pages with what else does, so that reading all of it
    /// needs few translations of addresses.
    #[must_use]
    pub(crate) fn zeroed_to_stay(len: usize) -> Self {
        if len >= SHARED_PAGES
            && let Ok(pages) = Pages::zeroed_to_stay(len)
        {
            return Buffer(Repr::Pages(Arc::new(pages), len));
        }
        Buffer::zeroed(len)
    }

    /// [`zeroed`](Buffer::zeroed), where it is not known that there is so much memory.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when the system does not give it.
    pub(crate) fn try_zeroed(len: usize) -> Result<Self> {
        let no_memory = || err!(Limit, "no memory for {len} bytes");
        if len >= OWN_PAGES {
            let pages = Pages::zeroed(len).map_err(|e| no_memory().with_source(e))?;
            return Ok(Buffer(Repr::Pages(Arc::new(pages), len)));
        }
        let mut lines = Vec::new();
        let count = len.div_ceil(ALIGN);
        lines.try_reserve_exact(count).map_err(|e| no_memory().with_source(e))?;
        lines.resize(count, Line::zeroed());
        Ok(Buffer(Repr::Lines(Arc::new(lines), len)))
    }

    /// Takes over a vector without a copy; the alignment is that of `T`.
    #[must_use]
    pub fn from_vec<T: Element>(elements: Vec<T>) -> Self {
        Buffer(Repr::Owner(Arc::new(Elements(elements))))
    }

    /// Whether this is a vector of `len` elements of `T` that was taken over and that nobody else shares.
    pub(crate) fn is_lone_vec<T: Element>(&self, len: usize) -> bool {
        let Repr::Owner(owner) = &self.0 else { return false };
        Arc::strong_count(owner) == 1 && owner.as_any().downcast_ref::<Elements<T>>().is_some_and(|e| e.0.len() == len)
    }

    /// The vector that was taken over, where [`is_lone_vec`](Buffer::is_lone_vec) holds.
    pub(crate) fn into_vec<T: Element>(self) -> Option<Vec<T>> {
        let Repr::Owner(owner) = self.0 else { return None };
        let elements = owner.into_any().downcast::<Elements<T>>().ok()?;
        Arc::try_unwrap(elements).ok().map(|elements| elements.0)
    }

    /// Shares bytes that somebody else owns: a file mapping, a received message.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Buffer(Repr::Shared(bytes))
    }

    /// A copy of `bytes`, aligned to a cache line, in one pass.
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        Buffer(Repr::Lines(Arc::new(lines_of(bytes)), bytes.len()))
    }

    /// Shares bytes that are not aligned, and copies them when they are read.
    pub(crate) fn copied_when_read(bytes: Bytes) -> Self {
        Buffer(Repr::Unaligned(Arc::new(Unaligned { bytes, copy: OnceLock::new() })))
    }

    /// Shares bytes that are computed when they are read.
    pub(super) fn deferred(deferred: Deferred) -> Self {
        Buffer(Repr::Deferred(Arc::new(deferred)))
    }

    /// The same bytes for a reader who reads them once: what it takes to align or to compute them is not kept, but `spare`
    /// may be used again.
    pub(crate) fn for_one_reading(&self, spare: &mut Spare) -> Self {
        match &self.0 {
            Repr::Unaligned(shared) if shared.copy.get().is_none() => {
                spare.filled(shared.bytes.len(), |to| to.copy_from_slice(&shared.bytes))
            }
            Repr::Deferred(deferred) => deferred.for_one_reading(spare).unwrap_or_else(|| self.clone()),
            _ => self.clone(),
        }
    }

    /// The matrix whose transposition these bytes are, as long as nobody has had them computed.
    pub(super) fn transposed(&self) -> Option<&Tensor> {
        match &self.0 {
            Repr::Deferred(deferred) => deferred.transposed(),
            _ => None,
        }
    }

    /// The first `len` of these bytes, shared, where this is memory of its own.
    fn first(&self, len: usize) -> Option<Self> {
        match &self.0 {
            Repr::Lines(lines, whole) if len <= *whole => Some(Buffer(Repr::Lines(lines.clone(), len))),
            Repr::Pages(pages, whole) if len <= *whole => Some(Buffer(Repr::Pages(pages.clone(), len))),
            _ => None,
        }
    }

    /// The bytes where they lie, if that is where no element type can be read from and nobody has had them copied.
    pub(crate) fn unaligned(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Unaligned(shared) if shared.copy.get().is_none() => Some(&shared.bytes),
            _ => None,
        }
    }

    /// Some of the elements that the bytes will be computed from, where they will be.
    pub(super) fn sample(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Deferred(deferred) => deferred.sample(),
            _ => None,
        }
    }

    /// Where the bytes from `offset` on lie, or would, which tells them from others as long as they live.
    pub(crate) fn address(&self, offset: usize) -> usize {
        offset
            + match &self.0 {
                Repr::Unaligned(shared) => shared.bytes.as_ptr() as usize,
                // What computes the bytes has an address of its own; behind it may lie somebody else's bytes.
                Repr::Deferred(deferred) if offset == 0 => Arc::as_ptr(deferred) as usize,
                _ => self.as_slice().as_ptr() as usize,
            }
    }

    /// The bytes.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Lines(lines, len) => &bytemuck::cast_slice(lines.as_slice())[..*len],
            Repr::Pages(pages, len) => &pages.as_slice()[..*len],
            Repr::Owner(owner) => owner.as_bytes(),
            Repr::Shared(bytes) => bytes,
            Repr::Unaligned(shared) => {
                let lines = shared.copy.get_or_init(|| lines_of(&shared.bytes));
                &bytemuck::cast_slice(lines.as_slice())[..shared.bytes.len()]
            }
            Repr::Deferred(deferred) => deferred.bytes(),
        }
    }

    /// The bytes to change, where nobody else shares them.
    pub(crate) fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        match &mut self.0 {
            Repr::Lines(lines, len) => {
                let lines = Arc::get_mut(lines)?;
                Some(&mut bytemuck::cast_slice_mut(lines.as_mut_slice())[..*len])
            }
            Repr::Pages(pages, len) => Some(&mut Arc::get_mut(pages)?.as_mut_slice()[..*len]),
            _ => None,
        }
    }
}

/// Memory for aligned copies that are made one after the other: each takes the place of the one before, once that is gone.
#[derive(Debug, Default)]
pub(crate) struct Spare(Option<Buffer>);

impl Spare {
    /// `len` bytes as `fill` makes them.
    pub(super) fn filled(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Buffer {
        let held = self.0.take().filter(|held| held.as_slice().len() >= len);
        let mut spare = held.unwrap_or_else(|| Buffer::zeroed(len.saturating_mul(2).max(OWN_PAGES)));
        let mut other;
        let room = match spare.as_mut_slice().is_some() {
            true => &mut spare,
            false => {
                other = Buffer::zeroed(len);
                &mut other
            }
        };
        if let Some(to) = room.as_mut_slice() {
            fill(&mut to[..len]);
        }
        let filled = room.first(len).unwrap_or_else(|| room.clone());
        self.0 = Some(spare);
        filled
    }
}

/// The bytes in cache lines, the last of them filled up with zeros.
fn lines_of(bytes: &[u8]) -> Vec<Line> {
    let line = |chunk: &[u8]| {
        let mut line = Line::zeroed();
        line.0[..chunk.len()].copy_from_slice(chunk);
        line
    };
    bytes.chunks(ALIGN).map(line).collect()
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = match &self.0 {
            Repr::Unaligned(shared) => shared.bytes.len(),
            Repr::Deferred(deferred) => deferred.len(),
            _ => self.as_slice().len(),
        };
        write!(f, "Buffer({len} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_bytes_are_aligned_and_zero() {
        let buffer = Buffer::zeroed(100);
        assert_eq!(buffer.as_slice().as_ptr() as usize % ALIGN, 0);
        assert_eq!(buffer.as_slice(), [0; 100]);
    }

    #[test]
    fn large_memory_is_zero_aligned_and_writable() {
        for buffer in [Buffer::zeroed(OWN_PAGES + 3), Buffer::try_zeroed(OWN_PAGES + 3).unwrap()] {
            let mut buffer = buffer;
            assert_eq!(buffer.address(0) % ALIGN, 0);
            assert!(buffer.as_slice().len() == OWN_PAGES + 3 && buffer.as_slice().iter().all(|&byte| byte == 0));
            buffer.as_mut_slice().unwrap()[OWN_PAGES] = 7;
            assert_eq!(buffer.clone().as_slice()[OWN_PAGES], 7);
        }
        assert_eq!(Buffer::try_zeroed(usize::MAX / 2).unwrap_err().kind(), crate::ErrorKind::Limit);
    }

    #[test]
    fn a_copy_is_aligned_whatever_its_length() {
        for len in [0, 1, 64, 65, 1000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let copy = Buffer::copy_of(&bytes);
            assert_eq!((copy.as_slice(), copy.as_slice().as_ptr() as usize % ALIGN), (&bytes[..], 0));
        }
    }

    #[test]
    fn a_vector_is_taken_over_without_a_copy() {
        let elements = vec![1.0f32, 2.0];
        let address = elements.as_ptr() as usize;
        assert_eq!(Buffer::from_vec(elements).as_slice().as_ptr() as usize, address);
    }

    #[test]
    fn unaligned_bytes_are_copied_once_and_only_for_who_keeps_them() {
        let bytes: Vec<u8> = (0..200).collect();
        let buffer = Buffer::copied_when_read(Bytes::from(bytes.clone()).slice(1..));
        let address = buffer.address(0);
        let mut spare = Spare::default();
        let once = buffer.for_one_reading(&mut spare);
        assert_eq!((once.as_slice(), once.address(0) % ALIGN), (&bytes[1..], 0));
        assert!(once.address(0) != address && buffer.address(0) == address);
        let second = Buffer::copied_when_read(Bytes::from(bytes.clone()).slice(3..));
        // The first copy is still read: the second lies elsewhere. The third takes the place of what is gone.
        let two = second.for_one_reading(&mut spare);
        assert_eq!((once.as_slice(), two.as_slice()), (&bytes[1..], &bytes[3..]));
        let one = once.address(0);
        drop((once, two));
        let three = second.for_one_reading(&mut spare);
        let place = three.address(0);
        drop(three);
        assert_eq!(buffer.for_one_reading(&mut spare).address(0), place);
        assert!(one.is_multiple_of(ALIGN));
        assert_eq!(buffer.unaligned(), Some(&bytes[1..]));
        let shared = buffer.clone();
        assert_eq!(buffer.as_slice(), &bytes[1..]);
        assert_eq!(buffer.unaligned(), None);
        assert_eq!(buffer.as_slice().as_ptr() as usize % ALIGN, 0);
        assert_eq!(shared.as_slice().as_ptr(), buffer.as_slice().as_ptr());
        assert_eq!(shared.for_one_reading(&mut spare).as_slice().as_ptr(), buffer.as_slice().as_ptr());
        assert_eq!(buffer.address(0), address);
    }

    #[test]
    fn shared_bytes_are_not_mutable() {
        let mut buffer = Buffer::zeroed(8);
        let second = buffer.clone();
        assert!(buffer.as_mut_slice().is_none());
        drop(second);
        assert!(buffer.as_mut_slice().is_some());
    }
}
