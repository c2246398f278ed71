//! External data: files beside the model, mapped read-only and confined to the model's folder.
//!
//! A model from a stranger must not read what lies elsewhere, so a location is a plain relative path without `..`, and
//! what it names is a regular file with one name that is no link and lies in the folder once everything is resolved.

use super::proto::StringStringEntryProto;
use crate::error::{At, Result, bail, ensure, err};
use crate::tensor::mapping::Mapping;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The folder of a model, and the files in it that are mapped already.
pub(super) struct Folder {
    root: PathBuf,
    mapped: RefCell<HashMap<PathBuf, Bytes>>,
}

impl Folder {
    /// The folder in which the model file lies.
    pub(super) fn of(model: &Path) -> Result<Self> {
        let parent = match model.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let root = fs::canonicalize(parent).map_err(crate::Error::from).at(|| format!("{}", parent.display()))?;
        Ok(Folder { root, mapped: RefCell::default() })
    }

    /// The `expected` bytes that `entries` (location, offset, length) describe.
    pub(super) fn read(&self, entries: &[StringStringEntryProto], expected: usize) -> Result<Bytes> {
        let entry = |key: &str| {
            let mut values = entries.iter().filter(|e| e.key == key).map(|e| e.value.as_str());
            let value = values.next();
            ensure!(values.next().is_none(), Malformed, "{key} is given twice");
            Ok(value)
        };
        let number = |key: &str| match entry(key)? {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                // A sign in front is Rust's, not the format's.
                Ok(n) if !text.starts_with('+') => Ok(Some(n)),
                _ => bail!(Malformed, "{key} is no length: {text:?}"),
            },
        };
        let Some(location) = entry("location")? else { bail!(InvalidModel, "location is missing") };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        if let Some(length) = length {
            ensure!(length == expected as u64, Malformed, "length {length} is not the {expected} of dtype and dims");
        }
        let data = self.map(location).at(|| format!("location {location:?}"))?;
        let end = offset.checked_add(expected as u64).filter(|&end| end <= data.len() as u64);
        let Some(end) = end else {
            bail!(Malformed, "{expected} bytes from offset {offset} pass the end of {location:?} at {}", data.len());
        };
        Ok(data.slice(offset as usize..end as usize))
    }

    fn map(&self, location: &str) -> Result<Bytes> {
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        ensure!(plain && !location.is_empty(), InvalidModel, "not a plain path below the model's folder");
        if let Some(data) = self.mapped.borrow().get(relative) {
            return Ok(data.clone());
        }
        let path = self.root.join(relative);
        let seen = fs::symlink_metadata(&path)?;
        ensure!(!seen.is_symlink(), InvalidModel, "a symbolic link; copy the data into the model's folder");
        ensure!(seen.is_file(), InvalidModel, "not a regular file");
        let resolved = fs::canonicalize(&path)?;
        ensure!(resolved.starts_with(&self.root), InvalidModel, "outside the model's folder");
        let file = fs::File::open(&resolved)?;
        same_single_file(&seen, &file.metadata()?)?;
        let data = Mapping::of(&file)?.bytes();
        self.mapped.borrow_mut().insert(relative.to_owned(), data.clone());
        Ok(data)
    }
}

/// That the opened file is the one that was looked at, and has no second name elsewhere.
#[cfg(unix)]
fn same_single_file(seen: &fs::Metadata, opened: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let same = seen.dev() == opened.dev() && seen.ino() == opened.ino() && opened.is_file();
    ensure!(same, Io, "the file was replaced while it was opened");
    if opened.nlink() != 1 {
        return Err(err!(InvalidModel, "a hard link; copy the data into the model's folder"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn same_single_file(_seen: &fs::Metadata, opened: &fs::Metadata) -> Result<()> {
    if !opened.is_file() {
        return Err(err!(InvalidModel, "not a regular file"));
    }
    Ok(())
}
