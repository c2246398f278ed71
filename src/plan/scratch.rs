//! Everything mutable of a run: the backend's state and the buffers of the outputs.

use super::Port;
use super::split::Workers;
use crate::backend::State;
use crate::error::{At, Result, bail, ensure, err};
use crate::tensor::{Buffer, DType, Shape, Tensor};
use bytes::Bytes;

/// The mutable part of a run: made by [`Plan::scratch`](super::Plan::scratch), used with that plan alone.
pub struct Scratch {
    pub(super) working: Working,
    pub(super) outputs: Vec<OutputBuffer>,
    pub(super) dynamic: Vec<Option<Tensor>>,
    /// Whether a run has made the outputs.
    pub(super) made: bool,
}

/// What the backend changes.
pub(super) enum Working {
    Whole(State),
    Split(Workers),
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("outputs", &self.outputs.len()).finish_non_exhaustive()
    }
}

pub(super) struct OutputBuffer {
    dtype: DType,
    shape: Option<Shape>,
    buffer: Buffer,
}

impl OutputBuffer {
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut_slice().unwrap_or_default()
    }
}

impl Scratch {
    pub(super) fn new(working: Working, outputs: &[Port]) -> Result<Self> {
        let buffer = |port: &Port| {
            let buffer = Buffer::try_zeroed(port.bytes()).at(|| format!("output {:?}", port.name))?;
            Ok(OutputBuffer { dtype: port.dtype, shape: port.shape.clone(), buffer })
        };
        let buffers = outputs.iter().map(buffer).collect::<Result<_>>()?;
        Ok(Scratch { working, outputs: buffers, dynamic: vec![None; outputs.len()], made: false })
    }

    /// The bytes of output `index` of the last run, little-endian and row-major.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when there is no such output, or no run has made it yet.
    pub fn output_bytes(&self, index: usize) -> Result<&[u8]> {
        ensure!(self.made || index >= self.outputs.len(), InvalidInput, "output {index} has not been made yet");
        match (self.outputs.get(index), self.dynamic.get(index)) {
            (_, Some(Some(tensor))) => Ok(tensor.as_bytes()),
            (Some(output), _) => Ok(output.buffer.as_slice()),
            _ => bail!(InvalidInput, "there is no output {index}"),
        }
    }

    /// A copy of output `index` of the last run.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when there is no such output, or no run has made it yet.
    pub fn output(&self, index: usize) -> Result<Tensor> {
        if self.made
            && let Some(Some(tensor)) = self.dynamic.get(index)
        {
            return Ok(tensor.clone());
        }
        let bytes = self.output_bytes(index)?;
        let output = self.outputs.get(index).ok_or_else(|| err!(InvalidInput, "there is no output {index}"))?;
        match &output.shape {
            Some(shape) => Tensor::from_bytes(output.dtype, shape.clone(), Bytes::copy_from_slice(bytes)),
            None => bail!(InvalidInput, "output {index} has not been made yet"),
        }
    }
}
