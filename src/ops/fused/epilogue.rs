//! A product with what follows it: bias, residual and activation, applied before the result is stored.

use super::arity;
use crate::error::{Result, bail, ensure};
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind};
use crate::ops::registry::OWN_DOMAIN;
use crate::ops::{Attr, Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Shape, Tensor};
use std::sync::Arc;

/// A function of one element at the end of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// One of the unary operators.
    Unary(UnaryKind),
    /// `max(lo, min(hi, x))`.
    Clip {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
}

/// `activation(op(inputs) + bias + residual)`, of the operator's first output.
///
/// The inputs are those of the operator, [`arity`](Epilogue::arity) of them, then the bias, then the residual, as far
/// as there are any.
#[derive(Debug, Clone)]
pub struct Epilogue {
    /// The product: `Conv`, `MatMul`, `Gemm` and the like.
    pub op: Arc<dyn Op>,
    /// How many inputs belong to the operator, absent ones included.
    pub arity: usize,
    /// Whether a vector is added along the last axis.
    pub bias: bool,
    /// Whether a tensor of the output's shape is added.
    pub residual: bool,
    /// What is applied last.
    pub activation: Option<Activation>,
}

impl Epilogue {
    /// The operator alone, with nothing added yet.
    #[must_use]
    pub fn of(op: Arc<dyn Op>, arity: usize) -> Self {
        Epilogue { op, arity, bias: false, residual: false, activation: None }
    }

    /// The position of the bias among the inputs.
    #[must_use]
    pub fn bias_index(&self) -> Option<usize> {
        self.bias.then_some(self.arity)
    }

    /// The position of the residual among the inputs.
    #[must_use]
    pub fn residual_index(&self) -> Option<usize> {
        self.residual.then_some(self.arity + usize::from(self.bias))
    }

    fn inner<'a, T>(&self, inputs: Inputs<'a, T>) -> Vec<Option<&'a T>> {
        (0..self.arity).map(|i| inputs.get(i)).collect()
    }
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let unary = match node.op_opt("activation")? {
        None => None,
        Some(op) => match op.downcast_ref::<Unary>() {
            Some(Unary(kind)) => Some(Activation::Unary(*kind)),
            None => bail!(InvalidModel, "{} is no activation", op.name()),
        },
    };
    let clip = match node.floats("clip")?.as_deref() {
        None => None,
        Some(&[lo, hi]) => Some(Activation::Clip { lo, hi }),
        Some(bounds) => bail!(InvalidModel, "a clip to {bounds:?}"),
    };
    ensure!(unary.is_none() || clip.is_none(), InvalidModel, "two activations");
    let (bias, residual) = (node.flag_or("bias", false)?, node.flag_or("residual", false)?);
    Ok(Epilogue { op: node.op("op")?, arity: arity(node)?, bias, residual, activation: unary.or(clip) }.into())
}

impl Op for Epilogue {
    fn name(&self) -> &'static str {
        "Epilogue"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        self.op.macs(inputs, output)
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let mut facts = self.op.infer(Inputs::new(&self.inner(inputs)))?;
        facts.truncate(1);
        let Some(output) = facts.first_mut() else { bail!(Internal, "{} has no output", self.op.name()) };
        output.value = None;
        if let Some(index) = self.bias_index() {
            let bias = inputs.require(index)?;
            ensure!(bias.rank().is_none_or(|r| r == 1), Shape, "the bias is {bias}, not a vector");
            if let (Some(Some(last)), Some(Some(length))) =
                (output.shape.as_mut().map(|s| s.last_mut()), bias.dims().map(<[_]>::first))
            {
                *last = last.unify(length)?;
            }
        }
        if let Some(index) = self.residual_index() {
            let residual = inputs.require(index)?;
            let added = Fact { value: None, content: None, ..residual.clone() };
            *output = output.unify(&added)?;
        }
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let mut outputs = self.op.eval(Inputs::new(&self.inner(inputs)), budget)?;
        outputs.truncate(1);
        for index in [self.bias_index(), self.residual_index()].into_iter().flatten() {
            let added = inputs.require(index)?;
            outputs = Binary(BinaryKind::Add).eval(Inputs::new(&[outputs.first(), Some(added)]), budget)?;
        }
        match self.activation {
            None => Ok(outputs),
            Some(Activation::Unary(kind)) => Unary(kind).eval(Inputs::new(&[outputs.first()]), budget),
            Some(Activation::Clip { lo, hi }) => {
                let Some(value) = outputs.first() else { bail!(Internal, "a product without a result") };
                let (lo, hi) = (Tensor::scalar(lo).cast(value.dtype())?, Tensor::scalar(hi).cast(value.dtype())?);
                Clip.eval(Inputs::new(&[Some(value), Some(&lo), Some(&hi)]), budget)
            }
        }
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new()
            .op("op", &self.op)
            .int("arity", self.arity as i64)
            .flag("bias", self.bias)
            .flag("residual", self.residual);
        match self.activation {
            None => attrs,
            Some(Activation::Unary(kind)) => attrs.with("activation", Attr::Op(Arc::new(Unary(kind)))),
            Some(Activation::Clip { lo, hi }) => attrs.with("clip", Attr::Floats(vec![lo, hi])),
        }
    }

    fn is_pure(&self) -> bool {
        self.op.is_pure()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::matrix::MatMul;

    #[test]
    fn bias_residual_and_activation_follow_the_product() {
        let op = Epilogue {
            bias: true,
            residual: true,
            activation: Some(Activation::Clip { lo: 0.0, hi: 6.0 }),
            ..Epilogue::of(Arc::new(MatMul), 2)
        };
        let a = Tensor::new([1, 2], vec![1.0f32, 2.0]).unwrap();
        let b = Tensor::new([2, 2], vec![1.0f32, 0.0, 0.0, 1.0]).unwrap();
        let bias = Tensor::vector(vec![-5.0f32, 1.0]);
        let residual = Tensor::new([1, 2], vec![1.0f32, 9.0]).unwrap();
        let inputs = [Some(&a), Some(&b), Some(&bias), Some(&residual)];
        let y = op.eval(Inputs::new(&inputs), &Budget::generous()).unwrap();
        assert_eq!(y[0].as_slice::<f32>().unwrap(), [0.0, 6.0]);
        let facts = inputs.map(|t| t.map(|t| Fact::concrete(t.dtype(), t.shape())));
        let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
        assert_eq!(op.infer(Inputs::new(&facts)).unwrap()[0].concrete_shape().unwrap(), *y[0].shape());
    }
}
