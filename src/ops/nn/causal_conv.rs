//! `CausalConvWithState`: a depthwise convolution along time that carries its last elements from call to call.

use crate::error::{Result, bail, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// x `[batch, channels, length]`, w `[channels, 1, k]`, optional bias `[channels]` and past `[batch, channels, k - 1]`.
/// Outputs: y like x, and the last `k - 1` elements of past and x.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CausalConvWithState {
    /// Whether `y * sigmoid(y)` is taken.
    pub silu: bool,
}

impl CausalConvWithState {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let silu = match node.str_or("activation", "none")?.as_str() {
            "none" => false,
            "silu" | "swish" => true,
            other => bail!(InvalidModel, "activation is {other}; ONNX knows none, silu and swish"),
        };
        Ok(CausalConvWithState { silu }.into())
    }
}

impl Op for CausalConvWithState {
    fn name(&self) -> &'static str {
        "CausalConvWithState"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(
            x.dtype.is_float() && w.dtype == x.dtype,
            InvalidModel,
            "a convolution of {} with {}",
            x.dtype,
            w.dtype
        );
        let dims = |name: &str, fact: &Fact| -> Result<[Dim; 3]> {
            match fact.dims() {
                Some([a, b, c]) => Ok([a.clone(), b.clone(), c.clone()]),
                Some(_) => bail!(Shape, "{name} is {fact}, but rank 3 is needed"),
                None => Ok([Dim::Unknown, Dim::Unknown, Dim::Unknown]),
            }
        };
        let ([mut batch, channels, length], [filters, one, k]) = (dims("x", x)?, dims("w", w)?);
        let mut channels = channels.unify(&filters)?;
        one.unify(&Dim::Known(1)).map_err(|e| e.at("axis 1 of w"))?;
        ensure!(k != Dim::Known(0), Shape, "the kernel is empty");
        let mut kept = k.map(|k| k.saturating_sub(1));
        if let Some(bias) = inputs.get(2).and_then(Fact::dims) {
            ensure!(bias.len() == 1, Shape, "the bias is not one number a channel");
            channels = channels.unify(&bias[0])?;
        }
        if let Some(past) = inputs.get(3) {
            let past = dims("the past", past)?;
            (batch, channels, kept) = (batch.unify(&past[0])?, channels.unify(&past[1])?, kept.unify(&past[2])?);
        }
        let y = Fact::new(x.dtype, vec![batch.clone(), channels.clone(), length]);
        Ok(vec![y, Fact::new(x.dtype, vec![batch, channels, kept])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        let (&[batch, channels, length], &[_, _, k]) = (&x.shape()[..], &w.shape()[..]) else {
            bail!(Shape, "x is {} and w {}, but rank 3 is needed", x.shape(), w.shape())
        };
        budget.spend(x.len().saturating_mul(k))?;
        let past = inputs.get(3).map(Tensor::to_f64_vec).transpose()?;
        let bias = inputs.get(2).map(Tensor::to_f64_vec).transpose()?;
        let (values, weights, kept) = (x.to_f64_vec()?, w.to_f64_vec()?, k - 1);
        let (mut out, mut present) = (Vec::with_capacity(values.len()), Vec::new());
        for row in 0..batch * channels {
            let channel = row % channels;
            let mut line = past.as_ref().map_or_else(|| vec![0.0; kept], |p| p[row * kept..(row + 1) * kept].to_vec());
            line.extend(&values[row * length..(row + 1) * length]);
            let kernel = &weights[channel * k..(channel + 1) * k];
            for window in line.windows(k) {
                let sum: f64 = window.iter().zip(kernel).map(|(v, w)| v * w).sum();
                let sum = sum + bias.as_ref().map_or(0.0, |b| b[channel]);
                out.push(if self.silu { sum / (1.0 + (-sum).exp()) } else { sum });
            }
            present.extend_from_slice(&line[length..]);
        }
        Ok(vec![from_f64(x.dtype(), x.shape().clone(), out)?, from_f64(x.dtype(), [batch, channels, kept], present)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().str("activation", if self.silu { "silu" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calls_with_state_equal_one() {
        let w = Tensor::new([1, 1, 3], vec![1.0f32, 10.0, 100.0]).unwrap();
        let run = |values: &[f32], past: Option<&Tensor>| {
            let x = Tensor::new([1, 1, values.len()], values.to_vec()).unwrap();
            let op = CausalConvWithState::default();
            op.eval(Inputs::new(&[Some(&x), Some(&w), None, past]), &Budget::generous()).unwrap()
        };
        let whole = run(&[1.0, 2.0, 3.0, 4.0], None)[0].to_f32_vec().unwrap();
        let first = run(&[1.0], None);
        let second = run(&[2.0, 3.0, 4.0], Some(&first[1]));
        assert_eq!(whole, [first[0].to_f32_vec().unwrap(), second[0].to_f32_vec().unwrap()].concat());
        assert_eq!(whole, [100.0, 210.0, 321.0, 432.0]);
    }
}
