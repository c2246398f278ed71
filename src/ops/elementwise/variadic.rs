//! Sum, Mean, Max and Min of any number of inputs that broadcast against each other.

use super::binary_eval::widen;
use super::broadcast::broadcast_dims;
use crate::error::{Result, bail, ensure};
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{DType, Element, Fact, Shape, Tensor, broadcast_index, broadcast_shapes, with_number};

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
        let result = with_number!(first.dtype(), T => self.fold::<T>(&tensors, shape)?,
            _ => bail!(InvalidModel, "{} is not defined for bool", self.name()));
        Ok(vec![result])
    }
}

impl Variadic {
    fn fold<T: Element>(self, tensors: &[&Tensor], shape: Shape) -> Result<Tensor> {
        let len = shape.checked_len()?;
        let mut operands = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let elements = tensor.as_slice::<T>()?;
            operands.push(broadcast_index(tensor.shape(), &shape).map(move |i| elements[i]));
        }
        let count = tensors.len() as f64;
        let elements = (0..len).map(|_| {
            let here = operands.iter_mut().filter_map(Iterator::next);
            if T::DTYPE.is_float() {
                let joined = here.map(T::to_f64).reduce(|a, b| self.0.join(a, b)).unwrap_or(0.0);
                T::from_f64(if self.0 == VariadicKind::Mean { joined / count } else { joined })
            } else {
                let joined = here.map(widen).reduce(|a, b| self.0.join_integers(a, b)).unwrap_or(0);
                T::from_i64(joined as i64)
            }
        });
        Tensor::new(shape.clone(), elements.collect::<Vec<T>>())
    }
}
