//! ArgMax and ArgMin: where along an axis the extreme stands.

use super::axes::remaining;
use super::lines::Lines;
use crate::error::{Result, bail, ensure};
use crate::ops::numeric::Reader;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor, normalize_axis};

/// The index of the greatest or least element of input 0 along an axis, as `i64`. The first NaN counts as extreme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArgExtreme {
    /// True for the greatest, false for the least.
    pub max: bool,
    /// The axis, negative from the end.
    pub axis: i64,
    /// Whether the axis stays, with length 1.
    pub keep_dims: bool,
    /// Which of equal elements is meant: the last, or the first.
    pub select_last: bool,
}

pub(super) fn read(node: &mut NodeReader, max: bool) -> Result<Reading> {
    Ok(ArgExtreme {
        max,
        axis: node.int_or("axis", 0)?,
        keep_dims: node.flag_or("keepdims", true)?,
        select_last: node.flag_or("select_last_index", false)?,
    }
    .into())
}

impl Op for ArgExtreme {
    fn name(&self) -> &'static str {
        if self.max { "ArgMax" } else { "ArgMin" }
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(DType::I64)]) };
        let axis = normalize_axis(self.axis, dims.len())?;
        ensure!(dims[axis] != Dim::Known(0), Shape, "axis {axis} of {x} is empty and has no extreme");
        let reduced: Vec<bool> = (0..dims.len()).map(|a| a == axis).collect();
        Ok(vec![Fact::new(DType::I64, remaining(dims, &reduced, self.keep_dims, &Dim::Known(1)))])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let axis = x.shape().axis(self.axis)?;
        let lines = Lines::new(x.shape(), axis);
        if lines.len == 0 {
            bail!(InvalidInput, "axis {axis} of {} is empty and has no extreme", x.shape());
        }
        let found: Vec<i64> = match Reader::of(x)? {
            Reader::Floats(x) => lines.starts().map(|s| self.position(lines.indices(s).map(&x))).collect(),
            Reader::Integers(x) => lines.starts().map(|s| self.position(lines.indices(s).map(&x))).collect(),
        };
        let reduced: Vec<bool> = (0..x.rank()).map(|a| a == axis).collect();
        Ok(vec![Tensor::new(remaining(x.shape(), &reduced, self.keep_dims, &1), found)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).flag("keepdims", self.keep_dims).flag("select_last_index", self.select_last)
    }
}

impl ArgExtreme {
    /// The position of the extreme in a line that is not empty.
    fn position<T: PartialOrd + Copy>(&self, line: impl Iterator<Item = T>) -> i64 {
        let mut best: Option<(i64, T)> = None;
        for (position, v) in (0i64..).zip(line) {
            if v.partial_cmp(&v).is_none() {
                return position;
            }
            let beats = |old: T| {
                let beyond = if self.max { v > old } else { v < old };
                beyond || (self.select_last && v == old)
            };
            if best.is_none_or(|(_, old)| beats(old)) {
                best = Some((position, v));
            }
        }
        best.map_or(0, |(position, _)| position)
    }
}
