//! The ten reductions of ONNX: one structure, one reading, one shape rule.
//!
//! What is computed for a group of elements stands in [`fold`](super::fold).

use super::axes::{reduced_axes, remaining, remaining_of_unknown};
use super::fold;
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};

/// What is made of the elements `x` of a group. The values of an empty group stand in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReduceKind {
    /// `Σ x` (0).
    Sum,
    /// `Σ x / n` (NaN; of integers 0).
    Mean,
    /// The greatest, NaN where any is (-∞, the least integer, `false`).
    Max,
    /// The least, NaN where any is (+∞, the greatest integer, `true`).
    Min,
    /// `Π x` (1).
    Prod,
    /// `Σ |x|` (0).
    L1,
    /// `√(Σ x²)` (0).
    L2,
    /// `ln Σ x` (-∞).
    LogSum,
    /// `ln Σ e^x` (-∞).
    LogSumExp,
    /// `Σ x²` (0).
    SumSquare,
}

/// A reduction of input 0 over the axes that the optional input 1 lists (`i64`, one axis, negative from the end).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// What is made of each group.
    pub kind: ReduceKind,
    /// Whether reduced axes stay, with length 1.
    pub keep_dims: bool,
    /// Whether an absent or empty list of axes means none rather than all.
    pub noop_with_empty_axes: bool,
}

/// Before opset `input_since` the axes are an attribute.
pub(super) fn read(node: &mut NodeReader, kind: ReduceKind, input_since: u32) -> Result<Reading> {
    let keep_dims = node.flag_or("keepdims", true)?;
    if node.opset() < input_since {
        if let Some(axes) = node.ints("axes")? {
            node.set_input(1, Tensor::vector(axes));
        }
        return Ok(Reduce { kind, keep_dims, noop_with_empty_axes: false }.into());
    }
    let noop_with_empty_axes = node.flag_or("noop_with_empty_axes", false)?;
    Ok(Reduce { kind, keep_dims, noop_with_empty_axes }.into())
}

impl Reduce {
    /// For each axis whether it is reduced, where that is known: `None` where the rank or the axes are not.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when an axis lies outside the rank.
    pub fn reduced(&self, inputs: Inputs<'_, Fact>) -> Result<Option<Vec<bool>>> {
        let Some(rank) = inputs.require(0)?.rank() else { return Ok(None) };
        let axes = match inputs.get(1) {
            None => Vec::new(),
            Some(axes) if axes.dims() == Some(&[Dim::Known(0)]) => Vec::new(),
            Some(axes) => match axes.integers() {
                Some(axes) => axes,
                None => return Ok(None),
            },
        };
        reduced_axes(Some(&axes), rank, self.noop_with_empty_axes).map(Some)
    }

    /// The same for tensors.
    fn reduced_of(&self, x: &Tensor, axes: Option<&Tensor>) -> Result<Vec<bool>> {
        let axes = axes.map(Tensor::to_i64_vec).transpose()?;
        reduced_axes(axes.as_deref(), x.rank(), self.noop_with_empty_axes)
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        match self.kind {
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Max => "ReduceMax",
            ReduceKind::Min => "ReduceMin",
            ReduceKind::Prod => "ReduceProd",
            ReduceKind::L1 => "ReduceL1",
            ReduceKind::L2 => "ReduceL2",
            ReduceKind::LogSum => "ReduceLogSum",
            ReduceKind::LogSumExp => "ReduceLogSumExp",
            ReduceKind::SumSquare => "ReduceSumSquare",
        }
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let takes_bool = matches!(self.kind, ReduceKind::Max | ReduceKind::Min);
        ensure!(takes_bool || x.dtype != DType::Bool, InvalidModel, "{} is not defined for bool", self.name());
        if let Some(axes) = inputs.get(1) {
            ensure!(axes.dtype.is_integer(), InvalidModel, "the axes are of {}, not of integers", axes.dtype);
            ensure!(axes.rank().is_none_or(|r| r <= 1), Shape, "the axes must be a list, not {axes}");
        }
        let reduced = self.reduced(inputs)?;
        let shape = match (x.dims(), reduced) {
            (Some(dims), Some(reduced)) => Some(remaining(dims, &reduced, self.keep_dims, &Dim::Known(1))),
            (Some(dims), None) => {
                let listed = inputs.get(1).and_then(Fact::dims).and_then(|d| d.first()).and_then(Dim::known);
                remaining_of_unknown(dims, listed, self.keep_dims)
            }
            (None, _) => None,
        };
        Ok(vec![Fact { dtype: x.dtype, shape, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let reduced = self.reduced_of(x, inputs.get(1))?;
        let groups = Shape::from(remaining(x.shape(), &reduced, true, &1));
        budget.admit_bytes(groups.checked_len()?.saturating_mul(size_of::<i128>()))?;
        let result = fold::fold(self.kind, x, &groups)?;
        Ok(vec![result.reshaped(remaining(x.shape(), &reduced, self.keep_dims, &1))?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("keepdims", self.keep_dims).flag("noop_with_empty_axes", self.noop_with_empty_axes)
    }
}
