//! Convolution of integers: with the sums as they are (`ConvInteger`), or quantized again (`QLinearConv`).

use super::scale::{check_scale, one_or_each, range, round, zero_points};
use crate::error::{Result, ensure};
use crate::ops::nn::{Conv, add_bias};
use crate::ops::numeric::from_i64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};

/// x, w and their optional zero points (that of w may be one an output channel) to sums in `i32`. Padding counts as
/// the zero point.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvInteger {
    /// The convolution.
    pub conv: Conv,
}

/// x, its scale and zero point; w, its scale and zero point; scale and zero point of the output; an optional `i32`
/// bias in units of the scale of x times that of w. Scale and zero point of w may be one an output channel.
#[derive(Debug, Clone, PartialEq)]
pub struct QLinearConv {
    /// The convolution.
    pub conv: Conv,
}

impl ConvInteger {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(ConvInteger { conv: Conv::read_attrs(node)? }.into())
    }
}

impl QLinearConv {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(QLinearConv { conv: Conv::read_attrs(node)? }.into())
    }
}

/// Checks that a value is of bytes.
pub(super) fn check_bytes(name: &str, fact: &Fact) -> Result<()> {
    ensure!(matches!(fact.dtype, DType::I8 | DType::U8), InvalidModel, "{name} is {fact}, but bytes are needed");
    Ok(())
}

/// Checks that a parameter is one number, or one for each of `channels`.
fn check_parameter(name: &str, fact: Option<&Fact>, channels: Option<&Dim>) -> Result<()> {
    let Some(shape) = fact.and_then(Fact::concrete_shape) else { return Ok(()) };
    let each = channels.is_some_and(|c| c.known().is_none_or(|c| *shape == [c]));
    ensure!(shape.elements() == 1 || each, Shape, "{name} has the shape {shape}");
    Ok(())
}

/// The exact sums of `(x - x zero) * (w - w zero)`. Sums of products of bytes are integers below 2^53, which `f64` holds.
fn sums(
    conv: &Conv,
    (x, x_zero): (&Tensor, Option<&Tensor>),
    (w, w_zero): (&Tensor, Option<&Tensor>),
    budget: &Budget,
) -> Result<(Shape, Vec<f64>)> {
    let offset = one_or_each(&zero_points(x_zero)?, 0)? as f64;
    let centered: Vec<f64> = x.to_f64_vec()?.into_iter().map(|v| v - offset).collect();
    let offsets = zero_points(w_zero)?;
    let mut weights = w.to_f64_vec()?;
    let per_channel = w.shape()[1..].iter().product::<usize>();
    for (channel, kernel) in weights.chunks_exact_mut(per_channel.max(1)).enumerate() {
        let offset = one_or_each(&offsets, channel)? as f64;
        kernel.iter_mut().for_each(|v| *v -= offset);
    }
    conv.accumulate(&centered, x.shape(), &weights, w.shape(), budget)
}

impl Op for ConvInteger {
    fn name(&self) -> &'static str {
        "ConvInteger"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        self.conv.macs(inputs, output)
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        check_bytes("x", x)?;
        check_bytes("w", w)?;
        check_parameter("the zero point of x", inputs.get(2), None)?;
        check_parameter("the zero point of w", inputs.get(3), w.dims().and_then(|d| d.first()))?;
        let shape = self.conv.infer_shape(x, w, None)?;
        Ok(vec![Fact { dtype: DType::I32, shape, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, w) = ((inputs.require(0)?, inputs.get(2)), (inputs.require(1)?, inputs.get(3)));
        let (shape, sums) = sums(&self.conv, x, w, budget)?;
        Ok(vec![from_i64(DType::I32, shape, sums.into_iter().map(|v| v as i64).collect())?])
    }

    fn attrs(&self) -> Attrs {
        self.conv.attrs()
    }
}

impl Op for QLinearConv {
    fn name(&self) -> &'static str {
        "QLinearConv"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        self.conv.macs(Inputs::new(&[inputs.get(0), inputs.get(3)]), output)
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, w, y_zero) = (inputs.require(0)?, inputs.require(3)?, inputs.require(7)?);
        for (name, fact) in [("x", x), ("w", w), ("the zero point of y", y_zero)] {
            check_bytes(name, fact)?;
        }
        let channels = w.dims().and_then(|d| d.first());
        for (name, index) in [("the scale of x", 1), ("the zero point of x", 2), ("the scale of y", 6)] {
            inputs.require(index)?;
            check_parameter(name, inputs.get(index), None)?;
        }
        for index in [1, 4, 6] {
            check_scale(inputs.require(index)?, false)?;
        }
        check_parameter("the scale of w", Some(inputs.require(4)?), channels)?;
        check_parameter("the zero point of w", Some(inputs.require(5)?), channels)?;
        if let Some(bias) = inputs.get(8) {
            ensure!(bias.dtype == DType::I32, InvalidModel, "the bias is {bias}, but i32 is needed");
        }
        let shape = self.conv.infer_shape(x, w, inputs.get(8))?;
        Ok(vec![Fact { dtype: y_zero.dtype, shape, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, w) = ((inputs.require(0)?, inputs.get(2)), (inputs.require(3)?, inputs.get(5)));
        let (shape, mut sums) = sums(&self.conv, x, w, budget)?;
        if let Some(bias) = inputs.get(8) {
            add_bias(&mut sums, &shape, &bias.to_f64_vec()?);
        }
        let list = |index: usize| inputs.require(index)?.to_f32_vec();
        let (x_scale, w_scales, y_scale) = (one_or_each(&list(1)?, 0)?, list(4)?, one_or_each(&list(6)?, 0)?);
        let dtype = inputs.require(7)?.dtype();
        let (zero, limits) = (one_or_each(&inputs.require(7)?.to_i64_vec()?, 0)?, range(dtype)?);
        let plane = shape[2..].iter().product::<usize>();
        let mut out = Vec::with_capacity(sums.len());
        for (index, row) in sums.chunks_exact(plane.max(1)).enumerate() {
            let multiplier = x_scale * one_or_each(&w_scales, index % shape[1])? / y_scale;
            out.extend(row.iter().map(|&sum| round(sum as f32 * multiplier, zero, limits)));
        }
        Ok(vec![from_i64(dtype, shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        self.conv.attrs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::nn::Padding;

    #[test]
    fn padding_counts_as_the_zero_point() {
        let x = Tensor::new([1, 1, 3], vec![10u8, 11, 12]).unwrap();
        let w = Tensor::new([1, 1, 3], vec![1i8; 3]).unwrap();
        let zero = Tensor::scalar(10u8);
        let op = ConvInteger { conv: Conv { padding: Padding::symmetric(&[1]), ..Conv::default() } };
        let y = op.eval(Inputs::new(&[Some(&x), Some(&w), Some(&zero)]), &Budget::generous()).unwrap();
        assert_eq!(y[0], Tensor::new([1, 1, 3], vec![1i32, 3, 3]).unwrap());
    }

    #[test]
    fn products_of_extremes_do_not_saturate() {
        let x = Tensor::new([1, 4, 1], vec![255u8; 4]).unwrap();
        let w = Tensor::new([2, 4, 1], vec![127i8, 127, 127, 127, -128, -128, -128, -128]).unwrap();
        let op = ConvInteger { conv: Conv::default() };
        let y = op.eval(Inputs::new(&[Some(&x), Some(&w)]), &Budget::generous()).unwrap();
        assert_eq!(y[0].as_slice::<i32>().unwrap(), [4 * 255 * 127, -4 * 255 * 128]);
    }

    #[test]
    fn each_channel_has_its_scale() {
        let x = Tensor::new([1, 1, 1], vec![4u8]).unwrap();
        let w = Tensor::new([2, 1, 1], vec![3i8, 3]).unwrap();
        let (one, zero, izero) = (Tensor::scalar(1.0f32), Tensor::scalar(0u8), Tensor::scalar(0i8));
        let (w_scale, bias) = (Tensor::vector(vec![0.5f32, 2.0]), Tensor::vector(vec![1i32, -1]));
        let inputs = [&x, &one, &zero, &w, &w_scale, &izero, &one, &zero, &bias].map(Some);
        let op = QLinearConv { conv: Conv::default() };
        let y = op.eval(Inputs::new(&inputs), &Budget::generous()).unwrap();
        assert_eq!(y[0].as_slice::<u8>().unwrap(), [6, 22]);
    }
}
