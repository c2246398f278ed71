//! Clip: elements held between two optional bounds.

use super::cast::CastLike;
use crate::error::{Result, bail, ensure};
use crate::ops::numeric::Numbers;
use crate::ops::reader::Operand;
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor};
use std::sync::Arc;

/// `min(max(x, low), high)` of input 0 (`x`), with the optional scalars `low` (input 1) and `high` (input 2).
/// Where `low` exceeds `high`, every element is `high`. NaN stays NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clip;

/// Before opset 11 the bounds are attributes, of `f32` whatever the input; they take its dtype by a `CastLike`.
pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    if node.opset() >= 11 {
        return Ok(Clip.into());
    }
    let low = node.float("min")?;
    let high = node.float("max")?;
    if low.is_none() && high.is_none() {
        return Ok(Clip.into());
    }
    let bounds = [low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY)];
    let mut nodes: Vec<(Arc<dyn Op>, Vec<Operand>)> = Vec::new();
    for bound in bounds {
        let constant = Operand::Constant(Tensor::scalar(bound));
        nodes.push((Arc::new(CastLike), vec![constant, Operand::Input(0)]));
    }
    let bound = |node| Operand::Output { node, output: 0 };
    nodes.push((Arc::new(Clip), vec![Operand::Input(0), bound(0), bound(1)]));
    Ok(Reading::Nodes(nodes))
}

impl Op for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype != DType::Bool, InvalidModel, "Clip is not defined for bool");
        for (index, name) in [(1, "min"), (2, "max")] {
            let Some(bound) = inputs.get(index) else { continue };
            ensure!(bound.dtype == x.dtype, InvalidModel, "{name} is of {}, the input of {}", bound.dtype, x.dtype);
            let single =
                bound.dims().is_none_or(|d| d.iter().all(|d| matches!(d, Dim::Known(1)) || d.known().is_none()));
            ensure!(single, Shape, "{name} must be a scalar, not {bound}");
        }
        Ok(vec![Fact { value: None, content: None, ..x.clone() }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype() != DType::Bool, InvalidModel, "Clip is not defined for bool");
        let bounds = [inputs.get(1), inputs.get(2)];
        let mut clipped = Numbers::of(x)?;
        for (bound, upper) in bounds.into_iter().zip([false, true]) {
            let Some(bound) = bound else { continue };
            match (&mut clipped, Numbers::of(bound)?) {
                (Numbers::Floats(x), Numbers::Floats(bound)) => clip(x, &bound, upper)?,
                (Numbers::Integers(x), Numbers::Integers(bound)) => clip(x, &bound, upper)?,
                _ => bail!(InvalidModel, "bounds of {} for {}", bound.dtype(), x.dtype()),
            }
        }
        Ok(vec![clipped.into_tensor(x.dtype(), x.shape().clone())?])
    }
}

fn clip<N: PartialOrd + Copy>(x: &mut [N], bound: &[N], upper: bool) -> Result<()> {
    let [bound] = bound else { bail!(Shape, "a bound must be one number, not {}", bound.len()) };
    x.iter_mut().filter(|v| if upper { **v > *bound } else { **v < *bound }).for_each(|v| *v = *bound);
    Ok(())
}
