//! Sum, Mean, Max and Min of any number of inputs that broadcast against each other.

use super::broadcast::broadcast_dims;
use crate::error::{Result, bail, ensure};
use crate::ops::numeric::{Reader, collect_floats, collect_integers};
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
        let (mut floats, mut integers) = (Vec::new(), Vec::new());
        for tensor in &tensors {
            let places = broadcast_index(tensor.shape(), &shape);
            ensure!(
                tensor.dtype() == first.dtype(),
                InvalidModel,
                "inputs of {} and {}",
                first.dtype(),
                tensor.dtype()
            );
            match Reader::of(tensor)? {
                Reader::Floats(read) => floats.push(places.map(read)),
                Reader::Integers(read) => integers.push(places.map(read)),
            }
        }
        let places = 0..shape.checked_len()?;
        let joined = if first.dtype().is_float() {
            let count = if self.0 == VariadicKind::Mean { tensors.len() as f64 } else { 1.0 };
            let here = |_| floats.iter_mut().filter_map(Iterator::next).reduce(|a, b| self.0.join(a, b));
            collect_floats(first.dtype(), &shape, &mut places.map(here).map(|joined| joined.unwrap_or(0.0) / count))?
        } else {
            let here = |_| integers.iter_mut().filter_map(Iterator::next).reduce(|a, b| self.0.join_integers(a, b));
            collect_integers(first.dtype(), &shape, &mut places.map(here).map(|joined| Ok(joined.unwrap_or(0))))?
        };
        Ok(vec![joined])
    }
}
