//! `ReverseSequence`: sequences of their own length, back to front.

use crate::error::{Result, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Tensor, normalize_axis, with_bits};

/// Reverses, for entry `b` of the batch axis, the first `lengths[b]` entries of the time axis; the lengths are input 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReverseSequence {
    /// The axis of sequences: 0 or 1.
    pub batch_axis: i64,
    /// The axis of time: the other of 0 and 1.
    pub time_axis: i64,
}

impl ReverseSequence {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let (batch_axis, time_axis) = (node.int_or("batch_axis", 1)?, node.int_or("time_axis", 0)?);
        Ok(ReverseSequence { batch_axis, time_axis }.into())
    }
}

impl Op for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, lengths) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(lengths.dtype.is_integer(), InvalidModel, "lengths are {}", lengths.dtype);
        if let Some(dims) = x.dims() {
            let (batch, time) =
                (normalize_axis(self.batch_axis, dims.len())?, normalize_axis(self.time_axis, dims.len())?);
            ensure!(batch != time, Shape, "the batch axis is the time axis");
            if let Some(counts) = lengths.dims() {
                let [count] = counts else { crate::error::bail!(Shape, "lengths are {lengths}, but must be a list") };
                count.unify(&dims[batch]).map_err(|e| e.at("lengths"))?;
            }
        }
        Ok(vec![Fact { shape: x.shape.clone(), ..Fact::unranked(x.dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        if x.is_empty() {
            return Ok(vec![x.clone()]);
        }
        let (batch, time) = (x.shape().axis(self.batch_axis)?, x.shape().axis(self.time_axis)?);
        let (steps, strides) = (x.shape()[time], x.shape().strides());
        let lengths = inputs.require(1)?.to_i64_vec()?;
        let wrong = lengths.iter().find(|&&length| length < 0 || length as u64 > steps as u64);
        ensure!(wrong.is_none(), InvalidInput, "a length of {wrong:?} in sequences of {steps}");
        let source = |i: usize| {
            let row = i / strides[batch] % x.shape()[batch];
            let (step, length) = (i / strides[time] % steps, lengths[row] as usize);
            if step < length { i - step * strides[time] + (length - 1 - step) * strides[time] } else { i }
        };
        Ok(vec![with_bits!(x.dtype().size(), T => {
            let elements = x.bits::<T>()?;
            let out: Vec<T> = (0..x.len()).map(|i| elements[source(i)]).collect();
            Tensor::from_bits(x.dtype(), x.shape().clone(), out)?
        })])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("batch_axis", self.batch_axis).int("time_axis", self.time_axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn each_sequence_has_its_length() {
        let x = Tensor::new([3, 2], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        let reverse = |lengths: &[i64]| {
            let op = ReverseSequence { batch_axis: 1, time_axis: 0 };
            run_one(&op, &[&x, &Tensor::vector(lengths.to_vec())])
        };
        assert_eq!(reverse(&[3, 2]).unwrap().as_slice::<u8>().unwrap(), [5, 4, 3, 2, 1, 6]);
        assert_eq!(reverse(&[0, 1]).unwrap(), x);
        assert!(reverse(&[4, 1]).is_err());
        assert!(reverse(&[-1, 1]).is_err());
        assert!(reverse(&[1]).is_err());
    }
}
