//! `LayerNormalization` and `RMSNormalization`: the trailing axes of each row brought to unit scale.

use super::lanes::moments;
use crate::error::{Result, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor, broadcast_index, broadcast_shapes, normalize_axis};

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias` over the axes from `axis` on; scale and the optional bias
/// broadcast to x. Outputs 1 and 2 are the mean and the inverse standard deviation, with those axes of length 1.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormalization {
    /// The first normalized axis; negative counts from the end.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
}

/// `x / sqrt(mean(x²) + epsilon) * scale` over the axes from `axis` on; scale broadcasts to x.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsNormalization {
    /// The first normalized axis; negative counts from the end.
    pub axis: i64,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// ONNX names the dtype of the intermediate results; here they are `f64`, so it only matters for outputs.
fn read_stash(node: &mut NodeReader) -> Result<()> {
    let stash = node.dtype("stash_type")?.unwrap_or(DType::F32);
    ensure!(stash.is_float(), InvalidModel, "stash_type is {stash}, which is no float");
    let shown = node.output_count() > 1 && stash != DType::F32;
    ensure!(!shown, Unsupported, "mean and deviation are yielded as f32 only, but stash_type is {stash}");
    Ok(())
}

impl LayerNormalization {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        read_stash(node)?;
        Ok(LayerNormalization { axis: node.int_or("axis", -1)?, epsilon: node.float_or("epsilon", 1e-5)? }.into())
    }
}

impl RmsNormalization {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        read_stash(node)?;
        Ok(RmsNormalization { axis: node.int_or("axis", -1)?, epsilon: node.float_or("epsilon", 1e-5)? }.into())
    }
}

/// Checks x against what scales and shifts it, and the axis.
pub(super) fn check(inputs: Inputs<'_, Fact>, axis: i64) -> Result<Option<usize>> {
    let x = inputs.require(0)?;
    ensure!(x.dtype.is_float(), InvalidModel, "a normalization of {} is not defined", x.dtype);
    let Some(dims) = x.dims() else { return Ok(None) };
    for index in 1..inputs.count() {
        let Some(fact) = inputs.get(index) else { continue };
        ensure!(fact.dtype.is_float(), InvalidModel, "input {index} is {fact}");
        let Some(parameters) = fact.dims() else { continue };
        ensure!(parameters.len() <= dims.len(), Shape, "input {index} is {fact}, which does not broadcast to {x}");
        for (own, parameter) in dims.iter().rev().zip(parameters.iter().rev()) {
            let fits = match (own.known(), parameter.known()) {
                (Some(own), Some(parameter)) => own == parameter || parameter == 1,
                _ => true,
            };
            ensure!(fits, Shape, "input {index} is {fact}, which does not broadcast to {x}");
        }
    }
    normalize_axis(axis, dims.len()).map(Some)
}

/// Multiplies and shifts by parameters that broadcast to `shape`.
pub(super) fn scale_and_shift(
    values: &mut [f64],
    shape: &[usize],
    scale: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<()> {
    for (parameter, apply) in
        [(scale, (|v, p| v * p) as fn(f64, f64) -> f64), (bias, (|v, p| v + p) as fn(f64, f64) -> f64)]
    {
        let Some(parameter) = parameter else { continue };
        broadcast_shapes(&[parameter.shape(), shape])?;
        let elements = parameter.to_f64_vec()?;
        let indices = broadcast_index(parameter.shape(), shape);
        values.iter_mut().zip(indices).for_each(|(v, i)| *v = apply(*v, elements[i]));
    }
    Ok(())
}

impl Op for LayerNormalization {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let axis = check(inputs, self.axis)?;
        inputs.require(1)?;
        let x = inputs.require(0)?;
        let statistics = match (axis, x.dims()) {
            (Some(axis), Some(dims)) => {
                let kept = dims.iter().enumerate().map(|(i, d)| if i < axis { d.clone() } else { Dim::Known(1) });
                Fact::new(DType::F32, kept.collect())
            }
            _ => Fact::unranked(DType::F32),
        };
        Ok(vec![Fact { value: None, content: None, ..x.clone() }, statistics.clone(), statistics])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let axis = x.shape().axis(self.axis)?;
        let row = x.shape()[axis..].iter().product::<usize>();
        let mut values = x.to_f64_vec()?;
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        for row in values.chunks_exact_mut(row.max(1)) {
            let (mean, variance) = moments(row);
            let inverse = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            row.iter_mut().for_each(|v| *v = (*v - mean) * inverse);
            means.push(mean);
            deviations.push(inverse);
        }
        scale_and_shift(&mut values, x.shape(), inputs.get(1), inputs.get(2))?;
        let reduced: Shape = x.shape().iter().enumerate().map(|(i, &d)| if i < axis { d } else { 1 }).collect();
        means.resize(reduced.elements(), f64::NAN);
        deviations.resize(reduced.elements(), f64::NAN);
        Ok(vec![
            from_f64(x.dtype(), x.shape().clone(), values)?,
            from_f64(DType::F32, reduced.clone(), means)?,
            from_f64(DType::F32, reduced, deviations)?,
        ])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).float("epsilon", self.epsilon)
    }
}

impl Op for RmsNormalization {
    fn name(&self) -> &'static str {
        "RMSNormalization"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        check(inputs, self.axis)?;
        inputs.require(1)?;
        Ok(vec![Fact { value: None, content: None, ..inputs.require(0)?.clone() }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let axis = x.shape().axis(self.axis)?;
        let row = x.shape()[axis..].iter().product::<usize>();
        let mut values = x.to_f64_vec()?;
        for row in values.chunks_exact_mut(row.max(1)) {
            let square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
            let inverse = 1.0 / (square + f64::from(self.epsilon)).sqrt();
            row.iter_mut().for_each(|v| *v *= inverse);
        }
        scale_and_shift(&mut values, x.shape(), inputs.get(1), None)?;
        Ok(vec![from_f64(x.dtype(), x.shape().clone(), values)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).float("epsilon", self.epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_yielded_beside_the_rows() {
        let x = Tensor::new([2, 2], vec![1.0f32, 3.0, 10.0, 30.0]).unwrap();
        let (scale, bias) = (Tensor::vector(vec![1.0f32, 2.0]), Tensor::vector(vec![0.0f32, 1.0]));
        let op = LayerNormalization { axis: -1, epsilon: 0.0 };
        let outputs = op.eval(Inputs::new(&[Some(&x), Some(&scale), Some(&bias)]), &Budget::generous()).unwrap();
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), [-1.0, 3.0, -1.0, 3.0]);
        assert_eq!(outputs[1], Tensor::new([2, 1], vec![2.0f32, 20.0]).unwrap());
        assert_eq!(outputs[2], Tensor::new([2, 1], vec![1.0f32, 0.1]).unwrap());
    }

    #[test]
    fn rms_keeps_the_mean() {
        let x = Tensor::new([1, 2], vec![3.0f32, 4.0]).unwrap();
        let scale = Tensor::vector(vec![1.0f32]);
        let op = RmsNormalization { axis: 1, epsilon: 0.0 };
        let y = op.eval(Inputs::new(&[Some(&x), Some(&scale)]), &Budget::generous()).unwrap();
        let expected = [3.0 / 12.5f32.sqrt(), 4.0 / 12.5f32.sqrt()];
        assert!(y[0].as_slice::<f32>().unwrap().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn a_scale_that_does_not_fit_is_refused() {
        let (x, scale) = (Fact::concrete(DType::F32, &[2, 4]), Fact::concrete(DType::F32, &[3]));
        let op = LayerNormalization { axis: -1, epsilon: 0.0 };
        assert!(op.infer(Inputs::new(&[Some(&x), Some(&scale)])).is_err());
        assert!(LayerNormalization { axis: 2, ..op }.infer(Inputs::new(&[Some(&x), Some(&x)])).is_err());
    }
}
