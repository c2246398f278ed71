//! An operator on images whose channels come last in memory: `[N, H, W, C]` where ONNX says `[N, C, H, W]`.

use crate::error::Result;
use crate::ops::layout::Transpose;
use crate::ops::registry::OWN_DOMAIN;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};
use std::sync::Arc;

/// The wrapped operator with some of its inputs, and its outputs, laid out channels last.
#[derive(Debug, Clone)]
pub struct ChannelsLast {
    /// The operator as ONNX means it.
    pub op: Arc<dyn Op>,
    /// The inputs that are images; weights and the like keep ONNX's layout.
    pub images: Vec<usize>,
}

impl ChannelsLast {
    fn is_image(&self, index: usize) -> bool {
        self.images.contains(&index)
    }
}

/// `[0, 2, .., rank - 1, 1]`: from channels first to channels last.
#[must_use]
pub fn to_last(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 2 {
        perm[1..].rotate_left(1);
    }
    perm
}

/// `[0, rank - 1, 1, ..]`: from channels last to channels first.
#[must_use]
pub fn to_first(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 2 {
        perm[1..].rotate_right(1);
    }
    perm
}

fn permuted(fact: &Fact, perm: impl Fn(usize) -> Vec<usize>) -> Fact {
    let shape = fact.dims().map(|dims| perm(dims.len()).into_iter().map(|axis| dims[axis].clone()).collect());
    Fact { dtype: fact.dtype, shape, value: None, content: None }
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    Ok(ChannelsLast { op: node.op("op")?, images: node.lengths("images")?.unwrap_or_default() }.into())
}

impl Op for ChannelsLast {
    fn name(&self) -> &'static str {
        "ChannelsLast"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        self.op.macs(inputs, output)
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let facts: Vec<Option<Fact>> = (0..inputs.count())
            .map(|i| inputs.get(i).map(|f| if self.is_image(i) { permuted(f, to_first) } else { f.clone() }))
            .collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        Ok(self.op.infer(Inputs::new(&facts))?.iter().map(|f| permuted(f, to_last)).collect())
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let transpose = |tensor: &Tensor, perm: Vec<usize>| -> Result<Tensor> {
            let mut result = Transpose { perm: Some(perm) }.eval(Inputs::new(&[Some(tensor)]), budget)?;
            Ok(result.remove(0))
        };
        let first: Vec<Option<Tensor>> = (0..inputs.count())
            .map(|i| match inputs.get(i) {
                Some(t) if self.is_image(i) => transpose(t, to_first(t.rank())).map(Some),
                other => Ok(other.cloned()),
            })
            .collect::<Result<_>>()?;
        let first: Vec<Option<&Tensor>> = first.iter().map(Option::as_ref).collect();
        let outputs = self.op.eval(Inputs::new(&first), budget)?;
        outputs.iter().map(|t| transpose(t, to_last(t.rank()))).collect()
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().op("op", &self.op).lengths("images", &self.images)
    }

    fn is_pure(&self) -> bool {
        self.op.is_pure()
    }
}
