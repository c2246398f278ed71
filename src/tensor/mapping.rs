//! Files mapped into memory, read-only: what lets weights be used where they lie. And memory in pages of its own.

use crate::error::Result;
use bytes::Bytes;
use std::fs::File;
use std::sync::Arc;

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

/// Zeroed memory straight from the system: a page takes room and time when it is first written, and where the system has
/// large pages it is one fault for two megabytes rather than five hundred.
pub(crate) struct Pages(memmap2::MmapMut);

impl Pages {
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system does not give it.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        let map = memmap2::MmapMut::map_anon(len)?;
        // That the system may have no large pages costs time only.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Pages(map))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
