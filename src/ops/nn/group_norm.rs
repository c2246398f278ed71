//! `InstanceNormalization` and `GroupNormalization`: channels, or groups of them, brought to unit scale in each image.

use super::lanes::moments;
use crate::error::{Result, bail, ensure};
use crate::ops::layout::{Reshape, ShapeOf};
use crate::ops::numeric::from_f64;
use crate::ops::reader::Operand;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};
use std::sync::Arc;

/// Each channel of each image normalized on its own: x `[batch, channels, ..]`, scale and bias `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceNormalization {
    /// Added to the variance.
    pub epsilon: f32,
}

/// Groups of neighboring channels of each image normalized together: x `[batch, channels, ..]`, scale and bias
/// `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// How many groups the channels fall into; at least 1.
    pub num_groups: usize,
}

impl InstanceNormalization {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(InstanceNormalization { epsilon: node.float_or("epsilon", 1e-5)? }.into())
    }
}

impl GroupNormalization {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let epsilon = node.float_or("epsilon", 1e-5)?;
        let groups = match node.int("num_groups")? {
            Some(groups) if groups > 0 => groups,
            groups => bail!(InvalidModel, "num_groups is {groups:?}, but must be at least 1"),
        };
        node.dtype("stash_type")?;
        if node.opset() >= 21 {
            return Ok(GroupNormalization { epsilon, num_groups: groups as usize }.into());
        }
        // Scale and bias were one number a group: a group is then a channel of the reshaped x.
        let output = |node| Operand::Output { node, output: 0 };
        let grouped = Operand::Constant(Tensor::vector(vec![0, groups, -1]));
        Ok(Reading::Nodes(vec![
            (Arc::new(ShapeOf { start: 0, end: None }), vec![Operand::Input(0)]),
            (Arc::new(Reshape { allow_zero: false }), vec![Operand::Input(0), grouped]),
            (Arc::new(InstanceNormalization { epsilon }), vec![output(1), Operand::Input(1), Operand::Input(2)]),
            (Arc::new(Reshape { allow_zero: true }), vec![output(2), output(0)]),
        ]))
    }
}

fn infer(inputs: Inputs<'_, Fact>, groups: Option<usize>) -> Result<Vec<Fact>> {
    let x = inputs.require(0)?;
    ensure!(x.dtype.is_float(), InvalidModel, "a normalization of {} is not defined", x.dtype);
    let mut channels = Dim::Unknown;
    if let Some(dims) = x.dims() {
        ensure!(dims.len() >= 2, Shape, "x is {x}, but needs batch and channels");
        channels = dims[1].clone();
    }
    for index in [1, 2] {
        match inputs.require(index)?.dims() {
            Some([length]) => channels = channels.unify(length)?,
            Some(_) => bail!(Shape, "input {index} is not one number a channel"),
            None => {}
        }
    }
    if let (Some(groups), Some(channels)) = (groups, channels.known()) {
        ensure!(groups > 0 && channels % groups == 0, Shape, "{channels} channels do not divide into {groups} groups");
    }
    let mut fact = Fact { value: None, content: None, ..x.clone() };
    if let Some(dims) = &mut fact.shape {
        dims[1] = channels;
    }
    Ok(vec![fact])
}

fn eval(inputs: Inputs<'_, Tensor>, groups: Option<usize>, epsilon: f32) -> Result<Vec<Tensor>> {
    let x = inputs.require(0)?;
    let (scale, bias) = (inputs.require(1)?.to_f64_vec()?, inputs.require(2)?.to_f64_vec()?);
    let mut values = x.to_f64_vec()?;
    if !values.is_empty() {
        let channels = x.shape()[1];
        let plane = x.shape()[2..].iter().product::<usize>();
        let together = channels / groups.unwrap_or(channels);
        for (index, block) in values.chunks_exact_mut(together * plane).enumerate() {
            let (mean, variance) = moments(block);
            let inverse = 1.0 / (variance + f64::from(epsilon)).sqrt();
            for (offset, row) in block.chunks_exact_mut(plane).enumerate() {
                let channel = (index * together + offset) % channels;
                row.iter_mut().for_each(|v| *v = (*v - mean) * inverse * scale[channel] + bias[channel]);
            }
        }
    }
    Ok(vec![from_f64(x.dtype(), x.shape().clone(), values)?])
}

impl Op for InstanceNormalization {
    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        infer(inputs, None)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        eval(inputs, None, self.epsilon)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().float("epsilon", self.epsilon)
    }
}

impl Op for GroupNormalization {
    fn name(&self) -> &'static str {
        "GroupNormalization"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        infer(inputs, Some(self.num_groups))
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        eval(inputs, Some(self.num_groups), self.epsilon)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().float("epsilon", self.epsilon).int("num_groups", self.num_groups as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn groups_share_their_statistics() {
        let x = Tensor::new([1, 4, 1], vec![1.0f32, 3.0, 10.0, 30.0]).unwrap();
        let (scale, bias) = (Tensor::vector(vec![1.0f32, 2.0, 1.0, 1.0]), Tensor::vector(vec![0.0f32, 0.0, 0.0, 1.0]));
        let inputs = [Some(&x), Some(&scale), Some(&bias)];
        let op = GroupNormalization { epsilon: 0.0, num_groups: 2 };
        let y = op.eval(Inputs::new(&inputs), &Budget::generous()).unwrap();
        assert_eq!(y[0].as_slice::<f32>().unwrap(), [-1.0, 2.0, -1.0, 2.0]);
    }

    #[test]
    fn channels_must_divide_into_groups() {
        let (x, list) = (Fact::concrete(DType::F32, &[1, 4, 2]), Fact::concrete(DType::F32, &[4]));
        let op = GroupNormalization { epsilon: 0.0, num_groups: 3 };
        assert!(op.infer(Inputs::new(&[Some(&x), Some(&list), Some(&list)])).is_err());
    }
}
