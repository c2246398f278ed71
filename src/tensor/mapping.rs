//! Files mapped into memory, read-only: what lets weights be used where they lie.

use crate::error::Result;
use bytes::Bytes;
use std::fs::File;

/// The content of `file`, mapped rather than read.
///
/// The file must not be truncated while anything holds the bytes; the system would end the process on the next access.
///
/// # Errors
/// [`Io`](crate::ErrorKind::Io) when the file cannot be mapped.
pub(crate) fn map(file: &File) -> Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and read-only. That nobody changes the file meanwhile cannot be checked; the
    // documentation of every function that loads from a path says so.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
