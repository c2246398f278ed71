//! `STFT`: the Fourier transform of a window that slides over a signal.

use super::dft::scalar;
use super::fourier::{Complex, transform};
use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::output_shape;
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// Transforms frames of a signal `[batch, length, 1 or 2]` to `[batch, frames, bins, 2]`. Inputs are the signal, the
/// step between frames, and the optional window and length of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stft {
    /// Whether the frequencies that mirror others are left out.
    pub onesided: bool,
}

impl Stft {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Stft { onesided: node.flag_or("onesided", true)? }.into())
    }
}

/// How long a frame is: as said, as long as the window, or as the whole signal.
fn frame_length(signal: &Dim, inputs: Inputs<'_, Fact>) -> Result<Dim> {
    let window = match inputs.get(2).map(Fact::dims) {
        None => None,
        Some(None) => Some(Dim::Unknown),
        Some(Some([length])) => Some(length.clone()),
        Some(Some(_)) => bail!(Shape, "the window must be a list"),
    };
    match (inputs.get(3), window) {
        (Some(given), Some(window)) => scalar(given)?.unify(&window).map_err(|e| e.at("the window")),
        (Some(given), None) => scalar(given),
        (None, Some(window)) => Ok(window),
        (None, None) => Ok(signal.clone()),
    }
}

impl Op for Stft {
    fn name(&self) -> &'static str {
        "STFT"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, step) = (inputs.require(0)?, scalar(inputs.require(1)?)?);
        ensure!(x.dtype.is_float(), InvalidModel, "a transform of {}", x.dtype);
        ensure!(step != Dim::Known(0), InvalidInput, "a step of 0 never arrives");
        let (batch, length) = match x.dims() {
            None => (Dim::Unknown, Dim::Unknown),
            Some([batch, length, parts]) => {
                ensure!(parts.known().is_none_or(|n| n == 1 || n == 2), Shape, "the last axis of {x} must be 1 or 2");
                (batch.clone(), length.clone())
            }
            Some(_) => bail!(Shape, "{x} is no batch of signals: [batch, length, 1 or 2]"),
        };
        let frame = frame_length(&length, inputs)?;
        ensure!(frame != Dim::Known(0), InvalidInput, "frames of length 0");
        let frames = match (length.known(), frame.known()) {
            (Some(length), Some(frame)) => {
                ensure!(frame <= length, Shape, "frames of {frame} in a signal of {length}");
                step.map(|step| (length - frame) / step + 1)
            }
            _ => Dim::Unknown,
        };
        let bins = if self.onesided { frame.map(|n| n / 2 + 1) } else { frame };
        Ok(vec![Fact::new(x.dtype, vec![batch, frames, bins, Dim::Known(2)])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        let facts: Vec<Option<Fact>> = (0..4).map(|i| inputs.get(i).map(|t| Fact::constant(t.clone()))).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let (&[_, length, parts], &[batch, frames, bins, _]) = (&**x.shape(), &*shape) else {
            bail!(Shape, "{} is no batch of signals", x.shape())
        };
        let step = scalar(&Fact::constant(inputs.require(1)?.clone()))?.known();
        let frame = frame_length(&Dim::Known(length), Inputs::new(&facts))?.known();
        let (Some(step), Some(frame)) = (step, frame) else {
            bail!(InvalidModel, "steps and lengths must be integers")
        };
        budget.admit_bytes(frame.saturating_mul(128).saturating_add(shape.elements().saturating_mul(8)))?;
        let window = inputs.get(2).map(Tensor::to_f64_vec).transpose()?;
        let values = x.to_f64_vec()?;
        let mut out = Vec::with_capacity(shape.checked_len()?);
        for (row, start) in (0..batch).flat_map(|row| (0..frames).map(move |f| (row, f * step))) {
            let at = |i: usize| {
                let place = (row * length + start + i) * parts;
                let weight = window.as_ref().map_or(1.0, |window| window[i]);
                Complex::new(values[place] * weight, if parts == 2 { values[place + 1] * weight } else { 0.0 })
            };
            let signal: Vec<Complex> = (0..frame).map(at).collect();
            out.extend(transform(&signal, false).into_iter().take(bins).flat_map(|v| [v.re, v.im]));
        }
        Ok(vec![from_f64(x.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("onesided", self.onesided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    fn stft(onesided: bool, step: i64, window: Option<Vec<f32>>, length: Option<i64>) -> Result<Tensor> {
        let x = Tensor::new([1, 5, 1], vec![1.0f32, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let (step, window, length) = (Tensor::scalar(step), window.map(Tensor::vector), length.map(Tensor::scalar));
        Ok(run(&Stft { onesided }, &[Some(&x), Some(&step), window.as_ref(), length.as_ref()])?.remove(0))
    }

    #[test]
    fn frames_are_weighed_and_transformed() {
        let y = stft(true, 2, Some(vec![1.0, 0.5]), None).unwrap();
        assert_eq!(y, Tensor::new([1, 2, 2, 2], vec![2.0f32, 0.0, 0.0, 0.0, 5.0, 0.0, 1.0, 0.0]).unwrap());
        assert_eq!(stft(false, 1, None, Some(3)).unwrap().shape().to_vec(), [1, 3, 3, 2]);
        assert_eq!(stft(true, 1, None, None).unwrap().shape().to_vec(), [1, 1, 3, 2]);
        for (step, window, length) in [
            (0, None, None),
            (-1, None, None),
            (1, Some(vec![1.0; 6]), None),
            (1, Some(vec![1.0; 2]), Some(3)),
            (1, None, Some(0)),
            (1, None, Some(i64::MAX)),
        ] {
            assert!(stft(true, step, window.clone(), length).is_err(), "{step} {window:?} {length:?}");
        }
    }
}
