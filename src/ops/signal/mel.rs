//! `MelWeightMatrix`: the triangles that gather frequencies into bands of equal pitch.

use super::dft::scalar;
use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::output_shape;
use crate::ops::numeric::from_f64;
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor};

/// The matrix `[dft_length / 2 + 1, bands]`; inputs are the scalars bands, DFT length, sample rate, and the lower and
/// upper edge in hertz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MelWeightMatrix {
    /// The dtype of the result.
    pub dtype: DType,
}

impl MelWeightMatrix {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let dtype = node.dtype("output_datatype")?.unwrap_or(DType::F32);
        ensure!(dtype != DType::Bool, InvalidModel, "weights of bools");
        Ok(MelWeightMatrix { dtype }.into())
    }
}

impl Op for MelWeightMatrix {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (bands, length) = (scalar(inputs.require(0)?)?, scalar(inputs.require(1)?)?);
        Ok(vec![Fact::new(self.dtype, vec![length.map(|n| n / 2 + 1), bands])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let shape = output_shape(self, inputs)?;
        let number = |index: usize| -> Result<f64> {
            match inputs.require(index)?.to_f64_vec()?.as_slice() {
                [value] => Ok(*value),
                other => bail!(Shape, "input {index} has {} elements, not one", other.len()),
            }
        };
        let (length, rate, lower, upper) = (number(1)?, number(2)?, number(3)?, number(4)?);
        ensure!(rate.is_finite() && rate > 0.0, InvalidInput, "a sample rate of {rate}");
        let mut out = vec![0.0; shape.checked_len()?];
        let (bins, bands) = (shape[0], shape[1]);
        let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
        let step = (mel(upper) - mel(lower)) / (bands as f64 + 2.0);
        let edge = |i: usize| {
            let hertz = 700.0 * (10f64.powf((mel(lower) + i as f64 * step) / 2595.0) - 1.0);
            let bin = ((length + 1.0) * hertz / rate).floor();
            ensure!((0.0..bins as f64).contains(&bin), InvalidInput, "{hertz} hertz lie outside {bins} frequencies");
            Ok(bin as usize)
        };
        for band in 0..bands {
            let (low, center, high) = (edge(band)?, edge(band + 1)?, edge(band + 2)?);
            if low >= center {
                out[center * bands + band] = 1.0;
            }
            for bin in low..=center {
                if low < center {
                    out[bin * bands + band] = (bin - low) as f64 / (center - low) as f64;
                }
            }
            for bin in center..high {
                out[bin * bands + band] = (high - bin) as f64 / (high - center) as f64;
            }
        }
        Ok(vec![from_f64(self.dtype, shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("output_datatype", dtype_to_onnx(self.dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    fn matrix(bands: i64, length: i64, rate: i64, lower: f32, upper: f32) -> Result<Tensor> {
        let integers = [bands, length, rate].map(Tensor::scalar);
        let edges = [lower, upper].map(Tensor::scalar);
        let op = MelWeightMatrix { dtype: DType::F32 };
        run_one(&op, &[&integers[0], &integers[1], &integers[2], &edges[0], &edges[1]])
    }

    #[test]
    fn triangles_peak_at_one() {
        let weights = matrix(8, 16, 8192, 0.0, 4096.0).unwrap();
        assert_eq!(weights.shape().to_vec(), [9, 8]);
        let values = weights.to_f32_vec().unwrap();
        assert!((0..8).all(|band| (0..9).any(|bin| values[bin * 8 + band] == 1.0)));
        for (bands, length, rate, upper) in [(-1, 16, 8192, 1.0), (8, 16, 0, 1.0), (8, 16, 8192, 1e9), (8, -1, 8, 1.0)]
        {
            assert!(matrix(bands, length, rate, 0.0, upper).is_err());
        }
    }
}
