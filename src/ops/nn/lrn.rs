//! Older normalizations: across neighboring channels, by a norm along an axis, by mean and variance.

use super::lanes::for_each_lane;
use crate::error::{Result, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Tensor, broadcast_index, normalize_axis};

/// Local response normalization: `x / (bias + alpha / size * s)^beta` where `s` sums the squares of the `size`
/// channels around one's own. x is `[batch, channels, ..]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lrn {
    /// Scale of the sum.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
    /// Added to the sum.
    pub bias: f32,
    /// How many channels are summed; at least 1.
    pub size: usize,
}

/// `x / norm(x)` along an axis; a run of zeros stays zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LpNormalization {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// 1 or 2.
    pub p: i64,
}

/// `(x - mean) / (deviation + 1e-9)` over the given axes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeanVarianceNormalization {
    /// The axes; negative ones count from the end.
    pub axes: Vec<i64>,
}

fn same_as_input(inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
    let x = inputs.require(0)?;
    ensure!(x.dtype.is_float(), InvalidModel, "a normalization of {} is not defined", x.dtype);
    Ok(vec![Fact { value: None, content: None, ..x.clone() }])
}

impl Lrn {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let size = node.int_or("size", 0)?;
        ensure!(size > 0, InvalidModel, "size is {size}, but must be at least 1");
        Ok(Lrn {
            alpha: node.float_or("alpha", 1e-4)?,
            beta: node.float_or("beta", 0.75)?,
            bias: node.float_or("bias", 1.0)?,
            size: size as usize,
        }
        .into())
    }
}

impl Op for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.rank().is_none_or(|r| r >= 2), Shape, "x is {x}, but needs batch and channels");
        same_as_input(inputs)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let (before, after) = ((self.size - 1) / 2, self.size / 2);
        let scale = f64::from(self.alpha) / self.size as f64;
        budget.spend(x.len().saturating_mul(self.size.min(x.shape()[1])))?;
        let mut values = x.to_f64_vec()?;
        for_each_lane(&mut values, x.shape(), 1, |lane| {
            let squares: Vec<f64> = lane.iter().map(|v| v * v).collect();
            for (channel, value) in lane.iter_mut().enumerate() {
                let end = channel.saturating_add(after).saturating_add(1).min(squares.len());
                let sum: f64 = squares[channel.saturating_sub(before)..end].iter().sum();
                *value /= (f64::from(self.bias) + scale * sum).powf(f64::from(self.beta));
            }
        });
        Ok(vec![from_f64(x.dtype(), x.shape().clone(), values)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .float("alpha", self.alpha)
            .float("beta", self.beta)
            .float("bias", self.bias)
            .int("size", self.size as i64)
    }
}

impl LpNormalization {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let (axis, p) = (node.int_or("axis", -1)?, node.int_or("p", 2)?);
        ensure!(p == 1 || p == 2, InvalidModel, "p is {p}, but LpNormalization knows 1 and 2");
        Ok(LpNormalization { axis, p }.into())
    }
}

impl Op for LpNormalization {
    fn name(&self) -> &'static str {
        "LpNormalization"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        if let Some(rank) = inputs.require(0)?.rank() {
            normalize_axis(self.axis, rank)?;
        }
        same_as_input(inputs)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let mut values = x.to_f64_vec()?;
        for_each_lane(&mut values, x.shape(), x.shape().axis(self.axis)?, |lane| {
            let norm = super::pool::norm(self.p, lane.iter().copied());
            if norm != 0.0 {
                lane.iter_mut().for_each(|v| *v /= norm);
            }
        });
        Ok(vec![from_f64(x.dtype(), x.shape().clone(), values)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).int("p", self.p)
    }
}

impl MeanVarianceNormalization {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let axes = node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
        Ok(MeanVarianceNormalization { axes }.into())
    }
}

impl Op for MeanVarianceNormalization {
    fn name(&self) -> &'static str {
        "MeanVarianceNormalization"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        if let Some(rank) = inputs.require(0)?.rank() {
            self.axes.iter().try_for_each(|&axis| normalize_axis(axis, rank).map(drop))?;
        }
        same_as_input(inputs)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let mut reduced = x.shape().to_vec();
        for &axis in &self.axes {
            reduced[x.shape().axis(axis)?] = 1;
        }
        let mut values = x.to_f64_vec()?;
        let groups = reduced.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        if !values.is_empty() {
            let count = (values.len() / groups) as f64;
            // Element by element, the group of kept coordinates that it belongs to.
            let group: Vec<usize> = broadcast_index(&reduced, x.shape()).collect();
            let mut mean = vec![0.0; groups];
            values.iter().zip(&group).for_each(|(v, &g)| mean[g] += v / count);
            let mut variance = vec![0.0; groups];
            values.iter().zip(&group).for_each(|(v, &g)| variance[g] += (v - mean[g]).powi(2) / count);
            values.iter_mut().zip(&group).for_each(|(v, &g)| *v = (*v - mean[g]) / (variance[g].sqrt() + 1e-9));
        }
        Ok(vec![from_f64(x.dtype(), x.shape().clone(), values)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().ints("axes", self.axes.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: &dyn Op, x: &Tensor) -> Vec<f32> {
        op.eval(Inputs::new(&[Some(x)]), &Budget::generous()).unwrap()[0].to_f32_vec().unwrap()
    }

    #[test]
    fn an_even_window_of_channels_leans_forward() {
        let x = Tensor::new([1, 3], vec![1.0f32, 2.0, 3.0]).unwrap();
        let op = Lrn { alpha: 2.0, beta: 1.0, bias: 0.0, size: 2 };
        assert_eq!(run(&op, &x), [1.0 / 5.0, 2.0 / 13.0, 3.0 / 9.0]);
    }

    #[test]
    fn a_zero_norm_yields_zeros() {
        let x = Tensor::new([2, 2], vec![0.0f32, 0.0, 3.0, 4.0]).unwrap();
        assert_eq!(run(&LpNormalization { axis: -1, p: 2 }, &x), [0.0, 0.0, 0.6, 0.8]);
    }

    #[test]
    fn all_the_axes_are_taken_together() {
        let x = Tensor::new([2, 2], vec![1.0f32, 10.0, 3.0, 30.0]).unwrap();
        assert_eq!(run(&MeanVarianceNormalization { axes: vec![0] }, &x), [-1.0, -1.0, 1.0, 1.0]);
    }
}
