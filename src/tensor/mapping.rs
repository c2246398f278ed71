//! Files mapped into memory, read-only: what lets weights be used where they lie. And memory in pages of its own, or in large
//! pages that what stays for long shares.

use crate::error::Result;
use bytes::Bytes;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A mapped file, shared with the bytes that were made of it; by default none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapping(Option<Arc<memmap2::Mmap>>);

struct Owner(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping {
    /// Maps `file`. It must not be truncated while anything holds the bytes; the system would end the process on the
    /// next access.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the file cannot be mapped.
    pub(crate) fn of(file: &File) -> Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Mapping(None));
        }
        // SAFETY: the mapping is private and read-only. That nobody changes the file meanwhile cannot be checked; the
        // documentation of every function that loads from a path says so.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Mapping(Some(Arc::new(map))))
    }

    /// The content of the file.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.0 {
            Some(map) => Bytes::from_owner(Owner(map.clone())),
            None => Bytes::new(),
        }
    }

    /// Lets the system take back the pages that were read so far; who reads them again gets them from the file again.
    pub(crate) fn release_pages(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.0 {
            // SAFETY: the mapping is of a file and was never written, so its pages come back with the same content.
            // That it may fail costs memory only.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

/// Bytes of the pages that a processor keeps few addresses for; a mapping need not begin with one.
const LARGE_PAGE: usize = 2 << 20;

/// Bytes of a region. What is never written takes addresses only.
const REGION: usize = 64 << 20;

/// Bytes at the beginning of a region that do not ask for large pages: a small model would fill half of one.
const SMALL: usize = 4 << 20;

/// Bytes that are whole pages on every system.
const WHOLE_PAGES: usize = 64 << 10;

/// Bytes that pieces of a region are aligned to.
const PIECE: usize = 64;

/// Zeroed memory straight from the system: a page takes room and time when it is first written, and where the system has
/// large pages it is one fault for two megabytes rather than five hundred.
pub(crate) struct Pages(Repr);

enum Repr {
    Own(memmap2::MmapMut),
    Piece { region: Arc<Region>, start: usize, len: usize },
}

/// Memory that pieces are cut from, one behind the other, each once: so they fill large pages, which the many matrices of a
/// model would not do alone. It goes back to the system with the last of them.
struct Region(memmap2::MmapRaw);

/// The region that pieces are cut from, and where the next begins.
static CUT: Mutex<(Weak<Region>, usize)> = Mutex::new((Weak::new(), 0));

impl Pages {
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system does not give it.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        let map = memmap2::MmapMut::map_anon(len)?;
        // As in a region.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Pages(Repr::Own(map)))
    }

    /// The same for what stays: it shares large pages with what else does.
    ///
    /// # Errors
    /// As [`zeroed`](Pages::zeroed).
    pub(crate) fn zeroed_to_stay(len: usize) -> Result<Self> {
        if len > REGION / 4 {
            return Pages::zeroed(len);
        }
        let mut cut = CUT.lock().unwrap_or_else(PoisonError::into_inner);
        let (region, start) = match cut.0.upgrade().filter(|region| region.0.len() - cut.1 >= len) {
            Some(region) => (region, cut.1),
            None => {
                let region = memmap2::MmapMut::map_anon(REGION + LARGE_PAGE)?;
                let first = region.as_ptr().align_offset(LARGE_PAGE).min(LARGE_PAGE);
                // That the system may have no large pages costs time only.
                #[cfg(target_os = "linux")]
                let _ = region.advise_range(memmap2::Advice::HugePage, first + SMALL, REGION - SMALL);
                (Arc::new(Region(region.into())), first)
            }
        };
        *cut = (Arc::downgrade(&region), (start + len).next_multiple_of(PIECE));
        Ok(Pages(Repr::Piece { region, start, len }))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Own(map) => map,
            // SAFETY: the piece lies in the region, which it keeps, and nobody else has it.
            Repr::Piece { region, start, len } => unsafe {
                std::slice::from_raw_parts(region.0.as_ptr().add(*start), *len)
            },
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Repr::Own(map) => map,
            // SAFETY: as above.
            Repr::Piece { region, start, len } => unsafe {
                std::slice::from_raw_parts_mut(region.0.as_mut_ptr().add(*start), *len)
            },
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Repr::Piece { region, start, len } = &self.0 {
            let base = region.0.as_ptr() as usize;
            let first = (base + start).next_multiple_of(WHOLE_PAGES) - base;
            let end = ((base + start + len) / WHOLE_PAGES * WHOLE_PAGES).saturating_sub(base);
            if first < end {
                // SAFETY: these pages are the piece's alone, which nobody reads any more. That they may stay costs memory
                // only.
                let _ =
                    unsafe { region.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, end - first) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_stay_are_zero_aligned_and_apart() {
        let lens = [100, 64 << 10, 3 << 20, REGION / 4, 5, REGION / 4, REGION / 4, REGION / 4, REGION / 4 + 1];
        let mut pieces: Vec<Pages> = lens.iter().map(|&len| Pages::zeroed_to_stay(len).unwrap()).collect();
        for (i, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.as_slice().len() == lens[i] && (piece.as_slice().as_ptr() as usize).is_multiple_of(PIECE));
            let bytes = piece.as_mut_slice();
            assert!(bytes[0] == 0 && bytes[bytes.len() - 1] == 0);
            bytes[0] = i as u8 + 1;
            bytes[lens[i] - 1] = i as u8 + 1;
        }
        // What goes takes nothing of its neighbors with it.
        drop(pieces.remove(2));
        for (i, piece) in [0, 1, 3, 4, 5, 6, 7, 8].into_iter().zip(&pieces) {
            let bytes = piece.as_slice();
            assert_eq!((bytes[0], bytes[lens[i] - 1]), (i as u8 + 1, i as u8 + 1));
        }
    }
}
