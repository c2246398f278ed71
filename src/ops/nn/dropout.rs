//! `Dropout`: the identity, unless a node asks for training.

use crate::error::{Result, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor};

/// x, an optional ratio and an optional training flag; yields x and, as second output, the mask of what was kept.
///
/// In training mode each element is dropped with probability `ratio` by a generator that is seeded by the node, so
/// that two runs agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dropout {
    /// The seed of training mode; 0 where there is none.
    pub seed: Option<i64>,
}

impl Dropout {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        if node.opset() >= 12 {
            return Ok(Dropout { seed: node.int("seed")? }.into());
        }
        ensure!(
            node.opset() >= 10 || node.output_count() < 2,
            Unsupported,
            "the mask of Dropout was a number before opset 10; convert the model to a newer opset"
        );
        let ratio = node.float_or("ratio", 0.5)?;
        node.set_input(1, Tensor::scalar(ratio));
        Ok(Dropout::default().into())
    }

    /// Whether the inputs ask for training, and the ratio.
    fn training(inputs: Inputs<'_, Tensor>) -> Result<Option<f64>> {
        let flag = inputs.get(2).map(Tensor::to_i64_vec).transpose()?;
        if flag.and_then(|v| v.first().copied()).unwrap_or(0) == 0 {
            return Ok(None);
        }
        let ratio = inputs.get(1).map(Tensor::to_f64_vec).transpose()?.and_then(|v| v.first().copied()).unwrap_or(0.5);
        ensure!((0.0..1.0).contains(&ratio), InvalidInput, "the ratio is {ratio}, but must lie in 0..1");
        Ok(Some(ratio))
    }
}

/// The next number in `0..1` of the generator SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype.is_float(), InvalidModel, "Dropout of {} is not defined", x.dtype);
        for scalar in [inputs.get(1), inputs.get(2)].into_iter().flatten() {
            let one = scalar.dims().is_none_or(|d| d.iter().all(|d| matches!(d, Dim::Known(1) | Dim::Unknown)));
            ensure!(one, Shape, "ratio and training_mode are scalars, but one is {scalar}");
        }
        let y = Fact { value: None, content: None, ..x.clone() };
        let mask = Fact { dtype: DType::Bool, ..y.clone() };
        Ok(vec![y, mask])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let Some(ratio) = Dropout::training(inputs)? else {
            return Ok(vec![x.clone(), Tensor::new(x.shape().clone(), vec![true; x.len()])?]);
        };
        let mut state = self.seed.unwrap_or(0) as u64;
        let mask: Vec<bool> = (0..x.len()).map(|_| uniform(&mut state) >= ratio).collect();
        let scale = 1.0 / (1.0 - ratio);
        let kept = x.to_f64_vec()?.into_iter().zip(&mask).map(|(v, &keep)| if keep { v * scale } else { 0.0 });
        Ok(vec![from_f64(x.dtype(), x.shape().clone(), kept.collect())?, Tensor::new(x.shape().clone(), mask)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int_opt("seed", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_drops_about_the_ratio_and_keeps_the_mean() {
        let (x, ratio, on) = (Tensor::vector(vec![1.0f32; 4000]), Tensor::scalar(0.25f32), Tensor::scalar(true));
        let inputs = [Some(&x), Some(&ratio), Some(&on)];
        let outputs = Dropout { seed: Some(7) }.eval(Inputs::new(&inputs), &Budget::generous()).unwrap();
        let mean = outputs[0].to_f64_vec().unwrap().iter().sum::<f64>() / 4000.0;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        let kept = outputs[1].as_slice::<bool>().unwrap().iter().filter(|&&k| k).count();
        assert!((2850..3150).contains(&kept), "{kept}");
    }

    #[test]
    fn inference_is_the_identity() {
        let x = Tensor::vector(vec![1.0f32, 2.0]);
        let outputs = Dropout::default().eval(Inputs::new(&[Some(&x)]), &Budget::generous()).unwrap();
        assert_eq!(outputs[0], x);
        assert_eq!(outputs[1].as_slice::<bool>().unwrap(), [true, true]);
    }
}
