//! An axis that is declared safe to pad: rows of unequal lengths get zeros so that they can be stacked, and what these led
//! to is cut off their answers.
//!
//! That it is safe is the host's word: a mask whose zeros hide what stands beside them, or elements that do not meet.

use crate::error::{Result, bail, ensure};
use crate::model::{CompiledModel, ValueInfo};
use crate::stacking::{stack, unstack, with_length};
use crate::tensor::{Dim, Shape, Symbol, Tensor};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// Shapes for which the axes of the outputs are remembered.
const KNOWN: usize = 1024;

/// Where the axis lies in each input and output.
#[derive(Debug)]
pub(crate) struct PadAxis {
    name: String,
    /// One entry an input; `None` for one that does not have it.
    inputs: Vec<Option<usize>>,
    /// The same for the outputs, by the shapes of the inputs at one row and length one.
    outputs: RwLock<HashMap<Vec<Shape>, Arc<[Option<usize>]>>>,
}

impl PadAxis {
    /// The axis of this name; `None` where no input has it.
    pub(crate) fn of(inputs: &[ValueInfo], name: &str) -> Option<Self> {
        let symbol = Symbol::new(name);
        let is_it = |dim: &Dim| matches!(dim, Dim::Symbol(own) if *own == symbol);
        let axis = |info: &ValueInfo| info.shape.as_ref()?.iter().position(is_it);
        let inputs: Vec<Option<usize>> = inputs.iter().map(axis).collect();
        let (name, outputs) = (name.to_owned(), RwLock::new(HashMap::new()));
        inputs.iter().any(Option::is_some).then_some(PadAxis { name, inputs, outputs })
    }

    /// The axis in an input.
    pub(crate) fn in_input(&self, index: usize) -> Option<usize> {
        self.inputs.get(index).copied().flatten()
    }

    /// The length of the axis in a request: the same in each input that has it.
    pub(crate) fn length(&self, infos: &[ValueInfo], tensors: &[Tensor]) -> Result<usize> {
        let mut length = None;
        for ((axis, tensor), info) in self.inputs.iter().zip(tensors).zip(infos) {
            let Some(axis) = *axis else { continue };
            let Some(&own) = tensor.shape().get(axis) else {
                bail!(InvalidInput, "input {info} has too few axes: {}", tensor.shape());
            };
            let (name, first) = (&self.name, *length.get_or_insert(own));
            ensure!(first == own, InvalidInput, "input {info} has length {own} of {name:?}, another input {first}");
        }
        Ok(length.unwrap_or(0))
    }

    fn with_lengths(&self, shapes: &[Shape], length: usize) -> Vec<Shape> {
        let own = |(shape, axis): (&Shape, &Option<usize>)| match axis {
            Some(axis) => with_length(shape, *axis, length),
            None => shape.clone(),
        };
        shapes.iter().zip(&self.inputs).map(own).collect()
    }

    /// The axis in each output for inputs of these shapes, which have one row: found by asking for two lengths.
    fn in_outputs(&self, model: &CompiledModel, shapes: &[Shape]) -> Result<Arc<[Option<usize>]>> {
        let key = self.with_lengths(shapes, 1);
        if let Some(found) = self.outputs.read().get(&key) {
            return Ok(found.clone());
        }
        let at = |length: usize| model.output_shapes(&self.with_lengths(shapes, length));
        // Two primes, so that no other length is taken for one of them.
        let (short, long) = (13, 17);
        let found = at(short)?.into_iter().zip(at(long)?).zip(model.outputs()).map(|((one, other), info)| {
            let (Some(one), Some(other)) = (one, other) else {
                bail!(InvalidInput, "output {info} has a shape that depends on data; {:?} cannot be padded", self.name);
            };
            let differ = one.rank() != other.rank();
            let grows: Vec<usize> = (0..one.rank().min(other.rank())).filter(|&at| one[at] != other[at]).collect();
            match grows.as_slice() {
                [] if !differ => Ok(None),
                [axis] if !differ && one[*axis] == short && other[*axis] == long => Ok(Some(*axis)),
                _ => bail!(InvalidInput, "output {info} cannot be cut to the length of {:?}; do not pad it", self.name),
            }
        });
        let found: Arc<[Option<usize>]> = found.collect::<Result<Vec<_>>>()?.into();
        let mut known = self.outputs.write();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(key, found.clone());
        drop(known);
        Ok(found)
    }

    /// Pads requests of unequal lengths to the longest; `None` where all are equal. `one_row` are the shapes of their
    /// inputs at one row.
    pub(crate) fn pad<'a>(
        &self,
        model: &CompiledModel,
        one_row: &[Shape],
        requests: impl Iterator<Item = &'a Vec<Tensor>>,
    ) -> Result<Option<Padded>> {
        let requests: Vec<&[Tensor]> = requests.map(Vec::as_slice).collect();
        let lengths: Vec<usize> =
            requests.iter().map(|tensors| self.length(model.inputs(), tensors)).collect::<Result<_>>()?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if lengths.iter().all(|&length| length == longest) {
            return Ok(None);
        }
        let outputs = self.in_outputs(model, one_row)?;
        let padded = |(tensors, length): (&&[Tensor], &usize)| -> Result<Option<Vec<Tensor>>> {
            if *length == longest {
                return Ok(None);
            }
            let longer = |(tensor, axis): (&Tensor, &Option<usize>)| -> Result<Tensor> {
                let Some(axis) = *axis else { return Ok(tensor.clone()) };
                let mut longer = Tensor::zeros(tensor.dtype(), with_length(tensor.shape(), axis, longest))?;
                if *length > 0 {
                    stack(longer.as_bytes_mut().unwrap_or_default(), longest, 0, axis, tensor);
                }
                Ok(longer)
            };
            tensors.iter().zip(&self.inputs).map(longer).collect::<Result<Vec<_>>>().map(Some)
        };
        let requests = requests.iter().zip(&lengths).map(padded).collect::<Result<_>>()?;
        Ok(Some(Padded { requests, lengths, longest, outputs }))
    }
}

/// The requests of a batch, brought to one length.
#[derive(Debug)]
pub(crate) struct Padded {
    /// Those that were shorter; `None` for one that was not.
    requests: Vec<Option<Vec<Tensor>>>,
    lengths: Vec<usize>,
    longest: usize,
    outputs: Arc<[Option<usize>]>,
}

impl Padded {
    /// What rides in place of a request, if that was too short.
    pub(crate) fn request(&self, at: usize) -> Option<&Vec<Tensor>> {
        self.requests.get(at)?.as_ref()
    }

    /// Cuts an output of a request to the request's own length.
    pub(crate) fn cut(&self, at: usize, output: usize, tensor: Tensor) -> Result<Tensor> {
        let axis = self.outputs.get(output).copied().flatten();
        let length = self.lengths.get(at).copied().unwrap_or(self.longest);
        let Some(axis) = axis.filter(|_| length != self.longest) else { return Ok(tensor) };
        let shape = tensor.shape();
        let mut own = Tensor::zeros(tensor.dtype(), with_length(shape, axis, length))?;
        let bytes = own.as_bytes_mut().unwrap_or_default();
        unstack(bytes, tensor.as_bytes(), shape, tensor.dtype().size(), axis, 0, length);
        Ok(own)
    }
}
