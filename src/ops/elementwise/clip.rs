//! Clip: elements held between two optional bounds.

use super::cast::CastLike;
use crate::error::{Result, ensure};
use crate::ops::numeric::{Read, Reader, collect_floats, collect_integers, read_floats, read_integers};
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
        let (low, high) = (inputs.get(1), inputs.get(2));
        let clipped = match Reader::of(x)? {
            Reader::Floats(read) => {
                let [low, high] = [bound(low, read_floats)?, bound(high, read_floats)?];
                collect_floats(x.dtype(), x.shape(), &mut (0..x.len()).map(|i| clip(read(i), low, high)))?
            }
            Reader::Integers(read) => {
                let [low, high] = [bound(low, read_integers)?, bound(high, read_integers)?];
                collect_integers(x.dtype(), x.shape(), &mut (0..x.len()).map(|i| Ok(clip(read(i), low, high))))?
            }
        };
        Ok(vec![clipped])
    }
}

fn bound<N>(tensor: Option<&Tensor>, read: fn(&Tensor) -> Result<Read<'_, N>>) -> Result<Option<N>> {
    let Some(tensor) = tensor else { return Ok(None) };
    ensure!(tensor.len() == 1, Shape, "a bound must be one number, not {}", tensor.len());
    Ok(Some(read(tensor)?(0)))
}

fn clip<N: PartialOrd + Copy>(v: N, low: Option<N>, high: Option<N>) -> N {
    let v = low.filter(|low| v < *low).unwrap_or(v);
    high.filter(|high| v > *high).unwrap_or(v)
}
