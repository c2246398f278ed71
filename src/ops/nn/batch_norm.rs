//! `BatchNormalization`: a scale and a shift of each channel, from statistics given or (in training) measured.

use super::lanes::moments;
use crate::error::{Result, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias`: x `[batch, channels, ..]`, then scale, bias, mean and
/// variance, each `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// Weight of the old statistics when training updates them.
    pub momentum: f32,
    /// Whether mean and variance are measured on x; the updated ones are then outputs 1 and 2.
    pub training: bool,
}

impl BatchNormalization {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let op = BatchNormalization {
            epsilon: node.float_or("epsilon", 1e-5)?,
            momentum: node.float_or("momentum", 0.9)?,
            training: node.opset() >= 14 && node.flag_or("training_mode", false)?,
        };
        ensure!(
            node.opset() >= 9 || node.flag_or("spatial", true)?,
            Unsupported,
            "BatchNormalization with spatial 0 is not supported; convert the model to opset 9 or newer"
        );
        ensure!(
            op.training || node.output_count() == 1,
            Unsupported,
            "BatchNormalization yields statistics in training mode only; drop the outputs after the first"
        );
        Ok(op.into())
    }
}

/// Batch, channels and elements of a channel; a tensor of rank 1 has one channel.
fn split(shape: &[usize]) -> (usize, usize, usize) {
    match shape {
        [batch, channels, spatial @ ..] => (*batch, *channels, spatial.iter().product()),
        [batch] => (*batch, 1, 1),
        [] => (1, 1, 1),
    }
}

impl Op for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype.is_float(), InvalidModel, "BatchNormalization of {} is not defined", x.dtype);
        let mut channels = x.dims().map_or(Dim::Unknown, |dims| dims.get(1).cloned().unwrap_or(Dim::Known(1)));
        for (index, name) in [(1, "scale"), (2, "bias"), (3, "mean"), (4, "variance")] {
            let fact = inputs.require(index)?;
            ensure!(fact.dtype.is_float(), InvalidModel, "{name} is {fact}");
            match fact.dims() {
                Some([length]) => channels = channels.unify(length).map_err(|e| e.at(name))?,
                Some(_) => crate::error::bail!(Shape, "{name} is {fact}, not one number a channel"),
                None => {}
            }
        }
        let mut shape = x.shape.clone();
        if let Some(axis) = shape.as_mut().and_then(|dims| dims.get_mut(1)) {
            *axis = channels.clone();
        }
        let mut facts = vec![Fact { dtype: x.dtype, shape, value: None, content: None }];
        if self.training {
            let statistics = inputs.require(3)?.dtype;
            facts.extend([Fact::new(statistics, vec![channels.clone()]), Fact::new(statistics, vec![channels])]);
        }
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let (_, channels, size) = split(x.shape());
        let list = |index: usize| inputs.require(index)?.to_f64_vec();
        let (scale, bias, mut mean, mut variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
        let mut values = x.to_f64_vec()?;
        let mut outputs = Vec::new();
        if self.training {
            let momentum = f64::from(self.momentum);
            let dtype = inputs.require(3)?.dtype();
            let (mut running_mean, mut running_variance) = (mean.clone(), variance.clone());
            for channel in 0..channels {
                let of_channel: Vec<f64> =
                    values.chunks_exact(size.max(1)).skip(channel).step_by(channels).flatten().copied().collect();
                (mean[channel], variance[channel]) = moments(&of_channel);
                running_mean[channel] = running_mean[channel] * momentum + mean[channel] * (1.0 - momentum);
                running_variance[channel] = running_variance[channel] * momentum + variance[channel] * (1.0 - momentum);
            }
            outputs = vec![
                from_f64(dtype, Shape::from([channels]), running_mean)?,
                from_f64(dtype, Shape::from([channels]), running_variance)?,
            ];
        }
        for (index, plane) in values.chunks_exact_mut(size.max(1)).enumerate() {
            let channel = index % channels;
            let factor = scale[channel] / (variance[channel] + f64::from(self.epsilon)).sqrt();
            plane.iter_mut().for_each(|v| *v = (*v - mean[channel]) * factor + bias[channel]);
        }
        outputs.insert(0, from_f64(x.dtype(), x.shape().clone(), values)?);
        Ok(outputs)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .float("epsilon", self.epsilon)
            .float("momentum", self.momentum)
            .flag("training_mode", self.training)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: &BatchNormalization, x: &Tensor) -> Vec<Tensor> {
        let list = |a: f32, b: f32| Tensor::vector(vec![a, b]);
        let (scale, bias, mean, variance) = (list(1.0, 2.0), list(0.0, 1.0), list(0.0, 3.0), list(1.0, 4.0));
        let tensors = [Some(x), Some(&scale), Some(&bias), Some(&mean), Some(&variance)];
        op.eval(Inputs::new(&tensors), &Budget::generous()).unwrap()
    }

    #[test]
    fn channels_are_scaled_by_given_statistics() {
        let x = Tensor::new([2, 2, 1], vec![1.0f32, 5.0, 2.0, 3.0]).unwrap();
        let op = BatchNormalization { epsilon: 0.0, momentum: 0.9, training: false };
        assert_eq!(run(&op, &x)[0].as_slice::<f32>().unwrap(), [1.0, 3.0, 2.0, 1.0]);
    }

    #[test]
    fn training_measures_and_updates() {
        let x = Tensor::new([2, 2, 1], vec![1.0f32, 5.0, 3.0, 9.0]).unwrap();
        let op = BatchNormalization { epsilon: 0.0, momentum: 0.5, training: true };
        let outputs = run(&op, &x);
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), [-1.0, -1.0, 1.0, 3.0]);
        assert_eq!(outputs[1].as_slice::<f32>().unwrap(), [1.0, 5.0]);
        assert_eq!(outputs[2].as_slice::<f32>().unwrap(), [1.0, 4.0]);
    }
}
