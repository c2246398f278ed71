//! Sum, Mean, Max and Min of any number of inputs that broadcast against each other.

use super::broadcast::broadcast_dims;
use crate::error::{Result, bail, ensure};
use crate::ops::numeric::Numbers;
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{DType, Fact, Tensor, broadcast_index, broadcast_shapes};

/// Which function of the elements of all inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VariadicKind {
    /// The sum.
    Sum,
    /// The sum over the number of inputs.
    Mean,
    /// The greatest; NaN where any is.
    Max,
    /// The least; NaN where any is.
    Min,
}

/// A function of the elements of all inputs, broadcast against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variadic(pub VariadicKind);

impl VariadicKind {
    /// `a` joined with `b`, in double precision. `Mean` joins like `Sum` and is divided at the end.
    #[must_use]
    pub fn join(self, a: f64, b: f64) -> f64 {
        match self {
            VariadicKind::Sum | VariadicKind::Mean => a + b,
            VariadicKind::Max if b > a || b.is_nan() => b,
            VariadicKind::Min if b < a || b.is_nan() => b,
            VariadicKind::Max | VariadicKind::Min => a,
        }
    }

    fn join_integers(self, a: i128, b: i128) -> i128 {
        match self {
            VariadicKind::Sum | VariadicKind::Mean => a.wrapping_add(b),
            VariadicKind::Max => a.max(b),
            VariadicKind::Min => a.min(b),
        }
    }
}

impl Op for Variadic {
    fn name(&self) -> &'static str {
        match self.0 {
            VariadicKind::Sum => "Sum",
            VariadicKind::Mean => "Mean",
            VariadicKind::Max => "Max",
            VariadicKind::Min => "Min",
        }
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let facts = inputs.require_from(0)?;
        let Some(first) = facts.first() else { bail!(InvalidModel, "{} has no input", self.name()) };
        let accepted = if self.0 == VariadicKind::Mean { first.dtype.is_float() } else { first.dtype != DType::Bool };
        ensure!(accepted, InvalidModel, "{} is not defined for {}", self.name(), first.dtype);
        for fact in &facts {
            ensure!(fact.dtype == first.dtype, InvalidModel, "the inputs are of {} and {}", first.dtype, fact.dtype);
        }
        Ok(vec![Fact { dtype: first.dtype, shape: broadcast_dims(&facts)?, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let tensors = inputs.require_from(0)?;
        let shapes: Vec<&[usize]> = tensors.iter().map(|t| &**t.shape()).collect();
        let shape = broadcast_shapes(&shapes)?;
        let Some(first) = tensors.first() else { bail!(InvalidModel, "{} has no input", self.name()) };
        ensure!(first.dtype() != DType::Bool, InvalidModel, "{} is not defined for bool", self.name());
        shape.checked_len()?;
        let places = broadcast_index(first.shape(), &shape);
        let mut joined = match Numbers::of(first)? {
            Numbers::Floats(a) => Numbers::Floats(places.map(|i| a[i]).collect()),
            Numbers::Integers(a) => Numbers::Integers(places.map(|i| a[i]).collect()),
        };
        for tensor in &tensors[1..] {
            let places = broadcast_index(tensor.shape(), &shape);
            match (&mut joined, Numbers::of(tensor)?) {
                (Numbers::Floats(a), Numbers::Floats(b)) => {
                    a.iter_mut().zip(places).for_each(|(a, i)| *a = self.0.join(*a, b[i]));
                }
                (Numbers::Integers(a), Numbers::Integers(b)) => {
                    a.iter_mut().zip(places).for_each(|(a, i)| *a = self.0.join_integers(*a, b[i]));
                }
                _ => bail!(InvalidModel, "the inputs are of {} and {}", first.dtype(), tensor.dtype()),
            }
        }
        if let (VariadicKind::Mean, Numbers::Floats(sums)) = (self.0, &mut joined) {
            let count = tensors.len() as f64;
            sums.iter_mut().for_each(|sum| *sum /= count);
        }
        Ok(vec![joined.into_tensor(first.dtype(), shape)?])
    }
}
