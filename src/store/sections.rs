//! The runs of bytes behind the index: where each lies, laid out for writing and checked before reading.

use super::digest::digest;
use crate::error::{Result, ensure, err};
use crate::order::{argsort, sort};
use crate::tensor::{Buffer, Tensor};
use bytes::Bytes;
use std::collections::HashMap;
use std::io::Write;

/// What every section starts at a multiple of: a cache line, and a vector.
const LINE: usize = 64;

/// What large sections start at a multiple of, and what counts as large.
pub(super) const PAGE: usize = 4096;

/// Where a section lies, in bytes behind the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) digest: u64,
}

/// Bytes that are shared until they are written.
#[derive(Clone)]
pub(super) enum Source {
    Tensor(Tensor),
    Buffer(Buffer),
}

impl Source {
    fn as_slice(&self) -> &[u8] {
        match self {
            Source::Tensor(tensor) => tensor.as_bytes(),
            Source::Buffer(buffer) => buffer.as_slice(),
        }
    }
}

/// Sections that are to be written.
#[derive(Default)]
pub(super) struct Writer {
    sources: Vec<Source>,
    /// By address and length: what several share is written once.
    known: HashMap<(usize, usize), usize>,
}

impl Writer {
    /// Adds bytes, and yields the number of their section.
    pub(super) fn add(&mut self, source: Source) -> usize {
        let bytes = source.as_slice();
        *self.known.entry((bytes.as_ptr() as usize, bytes.len())).or_insert_with(|| {
            // Kept, so that nothing else gets the address.
            self.sources.push(source);
            self.sources.len() - 1
        })
    }

    /// The places of the sections: the small ones first, so that reading them touches few pages.
    pub(super) fn lay_out(&self) -> Vec<Section> {
        let large = |index: usize| self.sources[index].as_slice().len() >= PAGE;
        let order = argsort(self.sources.len(), |a, b| large(a).cmp(&large(b)));
        let mut sections = vec![Section { offset: 0, length: 0, digest: 0 }; order.len()];
        let mut end = 0usize;
        for index in order {
            let bytes = self.sources[index].as_slice();
            let offset = end.next_multiple_of(if bytes.len() >= PAGE { PAGE } else { LINE });
            sections[index] = Section { offset: offset as u64, length: bytes.len() as u64, digest: digest(bytes) };
            end = offset + bytes.len();
        }
        sections
    }

    /// Bytes from the first section to the end of the last.
    pub(super) fn length(sections: &[Section]) -> usize {
        sections.iter().map(|s| (s.offset + s.length) as usize).max().unwrap_or(0)
    }

    /// Writes all of them, with zeros in between.
    pub(super) fn write(&self, sections: &[Section], to: &mut impl Write) -> Result<()> {
        let order = argsort(sections.len(), |a, b| sections[a].offset.cmp(&sections[b].offset));
        let mut end = 0;
        for index in order {
            let offset = sections[index].offset as usize;
            to.write_all(&[0; PAGE][..offset - end])?;
            let bytes = self.sources[index].as_slice();
            to.write_all(bytes)?;
            end = offset + bytes.len();
        }
        Ok(())
    }
}

/// Sections that were found to lie in the file, each by itself.
pub(super) struct Sections {
    data: Bytes,
    table: Vec<Section>,
}

impl Sections {
    /// Checks that the sections lie in `data`, aligned, none over another.
    pub(super) fn new(data: Bytes, table: Vec<Section>) -> Result<Self> {
        let mut spans = Vec::with_capacity(table.len());
        for section in &table {
            let end = section.offset.checked_add(section.length).filter(|&end| end <= data.len() as u64);
            let Some(end) = end else {
                return Err(err!(Malformed, "a section passes the end of the file; compile the model again"));
            };
            ensure!(section.offset.is_multiple_of(LINE as u64), Malformed, "a section is not aligned");
            if section.length > 0 {
                spans.push((section.offset, end));
            }
        }
        sort(&mut spans);
        let apart = spans.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        ensure!(apart, Malformed, "two sections overlap; compile the model again");
        Ok(Sections { data, table })
    }

    /// The bytes of section `index`.
    pub(super) fn get(&self, index: usize) -> Result<Bytes> {
        let section = self.table.get(index).ok_or_else(|| err!(Malformed, "there is no section {index}"))?;
        // Both were compared with the length of the data.
        Ok(self.data.slice(section.offset as usize..(section.offset + section.length) as usize))
    }

    /// Reads everything and compares it with the digests.
    pub(super) fn verify(&self) -> Result<()> {
        for (index, section) in self.table.iter().enumerate() {
            let whole = digest(&self.get(index)?) == section.digest;
            ensure!(whole, Malformed, "section {index} is damaged; compile the model again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(offset: u64, length: u64) -> Section {
        Section { offset, length, digest: 0 }
    }

    #[test]
    fn what_is_written_is_found_again() {
        let mut writer = Writer::default();
        let buffers = [5000, 3, 0, 64, 4096, 100].map(|len| Buffer::copy_of(&vec![len as u8; len]));
        let numbers = buffers.each_ref().map(|buffer| writer.add(Source::Buffer(buffer.clone())));
        assert_eq!(writer.add(Source::Buffer(buffers[3].clone())), numbers[3]);
        let table = writer.lay_out();
        let mut file = Vec::new();
        writer.write(&table, &mut file).unwrap();
        assert_eq!(file.len(), Writer::length(&table));
        let sections = Sections::new(file.into(), table).unwrap();
        sections.verify().unwrap();
        for (buffer, number) in buffers.iter().zip(numbers) {
            assert_eq!(&sections.get(number).unwrap()[..], buffer.as_slice());
        }
        assert!(sections.get(99).is_err());
    }

    #[test]
    fn sections_outside_crooked_or_overlapping_are_refused() {
        let data = || Bytes::from(vec![0; 256]);
        assert!(Sections::new(data(), vec![section(0, 100), section(128, 128), section(64, 0)]).is_ok());
        let wrong = [
            vec![section(0, 257)],
            vec![section(192, 65)],
            vec![section(u64::MAX - 63, 64)],
            vec![section(32, 8)],
            vec![section(64, 8), section(0, 65)],
        ];
        for table in wrong {
            assert!(Sections::new(data(), table.clone()).is_err(), "{table:?}");
        }
        let damaged = Sections::new(data(), vec![section(0, 8)]).unwrap();
        assert!(damaged.verify().is_err());
    }
}
