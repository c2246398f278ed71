//! Builds a [`Quantized`] node operand by operand.

use super::source::Source;
use crate::graph::{Graph, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::fused::{Linear, Quantized};
use crate::tensor::{DType, Shape, Tensor};
use std::sync::Arc;

/// How an operand is quantized; without a zero point it is zero.
#[derive(Clone, Copy)]
struct Scale {
    scale: Operand,
    zero: Option<Operand>,
    axis: i64,
    /// What a zero point that is left out must be like.
    like: (DType, Option<ValueId>),
}

/// The operands so far: those of the operator, and the scales and zero points behind them.
pub(super) struct Builder<'g> {
    graph: &'g Graph,
    pub(super) patch: Patch,
    operands: Vec<Option<Operand>>,
    scales: Vec<Option<Scale>>,
}

impl<'g> Builder<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        Builder { graph, patch: Patch::new(), operands: Vec::new(), scales: Vec::new() }
    }

    /// The next operand, as it is.
    pub(super) fn plain(&mut self, operand: Option<impl Into<Operand>>) -> &mut Self {
        self.operands.push(operand.map(Into::into));
        self.scales.push(None);
        self
    }

    /// The next operand, as bytes.
    pub(super) fn quantized(&mut self, source: Source) -> &mut Self {
        self.operands.push(Some(source.value.into()));
        self.scales.push(Some(self.scale_of(source)));
        self
    }

    /// The next operand, as bytes with this scale; a zero point that is left out is a single one.
    pub(super) fn bytes(&mut self, value: ValueId, scale: Operand, zero: Option<Operand>, axis: i64) -> &mut Self {
        self.operands.push(Some(value.into()));
        let like = (self.graph.fact(value).dtype, None);
        self.scales.push(Some(Scale { scale, zero, axis, like }));
        self
    }

    fn scale_of(&self, source: Source) -> Scale {
        Scale {
            scale: source.scale.into(),
            zero: source.zero.map(Into::into),
            axis: source.axis,
            like: (self.graph.fact(source.value).dtype, Some(source.scale)),
        }
    }

    /// The node, which yields `target` where there is one, and a real value otherwise; `None` where a zero point that
    /// is left out cannot be written down.
    pub(super) fn node(self, name: &str, op: Arc<dyn Op>, target: Option<Source>) -> Option<(Patch, Operand)> {
        let (mut patch, operands, op) = self.parts(op, target)?;
        let made = patch.node(name, Arc::new(op), &operands, 1)[0];
        Some((patch, made))
    }

    /// The operator and its operands, with the patch that holds what is new among them.
    pub(super) fn parts(
        mut self,
        op: Arc<dyn Op>,
        target: Option<Source>,
    ) -> Option<(Patch, Vec<Option<Operand>>, Quantized)> {
        let arity = self.operands.len();
        let scales = std::mem::take(&mut self.scales);
        let inputs: Vec<Option<Linear>> =
            scales.iter().map(|s| s.map_or(Some(None), |s| self.linear(s).map(Some))).collect::<Option<_>>()?;
        let output = match target {
            Some(target) => Some(self.linear(self.scale_of(target))?),
            None => None,
        };
        Some((self.patch, self.operands, Quantized { op, arity, inputs, output }))
    }

    fn linear(&mut self, scale: Scale) -> Option<Linear> {
        let zero = match (scale.zero, scale.like) {
            (Some(zero), _) => zero,
            (None, (dtype, like)) => {
                let shape = match like {
                    Some(scale) => self.graph.fact(scale).concrete_shape()?,
                    None => Shape::scalar(),
                };
                self.patch.constant("zero_point", Tensor::zeros(dtype, shape).ok()?)
            }
        };
        let at = self.operands.len();
        self.operands.extend([Some(scale.scale), Some(zero)]);
        Some(Linear { scale: at, zero_point: at + 1, axis: scale.axis })
    }
}
