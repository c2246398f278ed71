//! Builds a [`Quantized`] node operand by operand.

use super::source::Source;
use crate::graph::{Graph, Operand, Patch};
use crate::ops::Op;
use crate::ops::fused::{Linear, Quantized};
use crate::passes::pattern::constant;
use crate::tensor::Tensor;
use std::sync::Arc;

/// The operands so far: those of the operator, and the scales and zero points behind them.
pub(super) struct Builder<'g> {
    graph: &'g Graph,
    pub(super) patch: Patch,
    operands: Vec<Option<Operand>>,
    linear: Vec<Option<Source>>,
}

impl<'g> Builder<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        Builder { graph, patch: Patch::new(), operands: Vec::new(), linear: Vec::new() }
    }

    /// The next operand, as it is.
    pub(super) fn plain(&mut self, operand: Option<impl Into<Operand>>) -> &mut Self {
        self.operands.push(operand.map(Into::into));
        self.linear.push(None);
        self
    }

    /// The next operand, as bytes.
    pub(super) fn quantized(&mut self, source: Source) -> &mut Self {
        self.operands.push(Some(source.value.into()));
        self.linear.push(Some(source));
        self
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
        let linear = std::mem::take(&mut self.linear);
        let inputs: Vec<Option<Linear>> = linear
            .iter()
            .map(|source| source.map_or(Some(None), |s| self.linear(s).map(Some)))
            .collect::<Option<_>>()?;
        let output = match target {
            Some(target) => Some(self.linear(target)?),
            None => None,
        };
        Some((self.patch, self.operands, Quantized { op, arity, inputs, output }))
    }

    fn linear(&mut self, source: Source) -> Option<Linear> {
        let zero = match source.zero {
            Some(zero) => zero.into(),
            None => {
                let scale = constant(self.graph, source.scale)?;
                let zeros = Tensor::zeros(self.graph.fact(source.value).dtype, scale.shape().clone()).ok()?;
                self.patch.constant("zero_point", zeros)
            }
        };
        let scale = self.operands.len();
        self.operands.extend([Some(source.scale.into()), Some(zero)]);
        Some(Linear { scale, zero_point: scale + 1, axis: source.axis })
    }
}
