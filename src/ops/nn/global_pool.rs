//! Pooling over all spatial axes at once.

use super::pool::{check_dtype, norm, read_p};
use crate::error::{Result, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// What a global pool takes from each channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GlobalPoolKind {
    /// The largest element, NaN where there is one.
    Max,
    /// The mean.
    Average,
    /// The p-norm.
    Lp {
        /// The p, at least 1.
        p: i64,
    },
}

/// `GlobalMaxPool`, `GlobalAveragePool` or `GlobalLpPool`: `[batch, channels, spatial..]` to
/// `[batch, channels, 1..]`.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalPool {
    /// What is taken from each channel.
    pub kind: GlobalPoolKind,
}

/// The larger of two, NaN where either is.
fn larger(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

impl GlobalPool {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let kind = match node.op_type() {
            "GlobalMaxPool" => GlobalPoolKind::Max,
            "GlobalAveragePool" => GlobalPoolKind::Average,
            _ => GlobalPoolKind::Lp { p: read_p(node)? },
        };
        Ok(GlobalPool { kind }.into())
    }
}

impl Op for GlobalPool {
    fn name(&self) -> &'static str {
        match self.kind {
            GlobalPoolKind::Max => "GlobalMaxPool",
            GlobalPoolKind::Average => "GlobalAveragePool",
            GlobalPoolKind::Lp { .. } => "GlobalLpPool",
        }
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        check_dtype(false, x.dtype)?;
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        ensure!(dims.len() >= 2, Shape, "x is {x}, but needs batch and channels");
        let shape = dims.iter().enumerate().map(|(i, d)| if i < 2 { d.clone() } else { Dim::Known(1) });
        Ok(vec![Fact::new(x.dtype, shape.collect())])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape: Shape = x.shape().iter().enumerate().map(|(i, &d)| if i < 2 { d } else { 1 }).collect();
        let channels = shape.checked_len()?;
        let size = x.len().checked_div(channels).unwrap_or(0);
        ensure!(channels == 0 || size > 0, Shape, "a global pool over no elements: {}", x.shape());
        let values = x.to_f64_vec()?;
        let pool = |plane: &[f64]| match self.kind {
            GlobalPoolKind::Max => plane.iter().copied().fold(f64::NEG_INFINITY, larger),
            GlobalPoolKind::Average => plane.iter().sum::<f64>() / size as f64,
            GlobalPoolKind::Lp { p } => norm(p, plane.iter().copied()),
        };
        Ok(vec![from_f64(x.dtype(), shape, values.chunks_exact(size.max(1)).map(pool).collect())?])
    }

    fn attrs(&self) -> Attrs {
        match self.kind {
            GlobalPoolKind::Lp { p } => Attrs::new().int("p", p),
            _ => Attrs::new(),
        }
    }
}
