//! Constants: numbered for the index, their elements in sections.

use super::index::TensorEntry;
use super::sections::{Sections, Source, Writer};
use crate::error::{At, Result, err};
use crate::ops::reader::{dtype_from_onnx, dtype_to_onnx};
use crate::tensor::{DType, Shape, Tensor};
use std::collections::{HashMap, HashSet};

/// Constants on their way to a file.
#[derive(Default)]
pub(super) struct Table {
    pub(super) sections: Writer,
    pub(super) entries: Vec<TensorEntry>,
    known: HashMap<(usize, DType, Shape), usize>,
    /// Address and length of the elements that have a section.
    places: HashSet<(usize, usize)>,
}

impl Table {
    /// Adds a constant, and yields its number.
    pub(super) fn add(&mut self, tensor: &Tensor) -> usize {
        let bytes = tensor.as_bytes();
        let address = bytes.as_ptr() as usize;
        let key = (address, tensor.dtype(), tensor.shape().clone());
        if let Some(&number) = self.known.get(&key) {
            return number;
        }
        let section = self.sections.add(Source::Tensor(tensor.clone()));
        self.places.insert((address, bytes.len()));
        let shape = tensor.shape().iter().copied().collect();
        self.entries.push(TensorEntry { dtype: dtype_to_onnx(tensor.dtype()), shape, section });
        self.known.insert(key, self.entries.len() - 1);
        self.entries.len() - 1
    }

    /// The number of a constant with these elements in this shape, where some constant has the elements.
    pub(super) fn find(&mut self, tensor: &Tensor) -> Option<usize> {
        let bytes = tensor.as_bytes();
        let held = !bytes.is_empty() && self.places.contains(&(bytes.as_ptr() as usize, bytes.len()));
        held.then(|| self.add(tensor))
    }
}

/// Constants of a file, their elements where they lie.
pub(super) struct Tensors(Vec<Tensor>);

impl Tensors {
    pub(super) fn new(entries: &[TensorEntry], sections: &Sections) -> Result<Self> {
        let tensor = |(number, entry): (usize, &TensorEntry)| {
            let read = || {
                let shape: Shape = entry.shape.iter().copied().collect();
                shape.checked_len()?;
                Tensor::from_bytes(dtype_from_onnx(entry.dtype)?, shape, sections.get(entry.section)?)
            };
            read().at(|| format!("constant {number}"))
        };
        Ok(Tensors(entries.iter().enumerate().map(tensor).collect::<Result<_>>()?))
    }

    pub(super) fn get(&self, number: usize) -> Result<&Tensor> {
        self.0.get(number).ok_or_else(|| err!(Malformed, "there is no constant {number}"))
    }
}
