//! Where: elements chosen from two inputs by a condition.

use super::broadcast::broadcast_dims;
use super::lengths::{held, tracked};
use crate::error::{Result, ensure};
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{DType, Dim, Fact, Tensor, broadcast_index, broadcast_shapes, with_bits};

/// Input 1 where input 0 (of `bool`) is true, input 2 elsewhere; all three broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Where;

impl Op for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (condition, x, y) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        ensure!(condition.dtype == DType::Bool, InvalidModel, "the condition is of {}, not bool", condition.dtype);
        ensure!(x.dtype == y.dtype, InvalidModel, "the choices are of {} and {}", x.dtype, y.dtype);
        let shape = broadcast_dims(&[condition, x, y])?;
        Ok(vec![Fact { dtype: x.dtype, shape, value: None, content: content(condition, x, y) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (condition, x, y) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let shape = broadcast_shapes(&[condition.shape(), x.shape(), y.shape()])?;
        shape.checked_len()?;
        let chosen = condition.as_slice::<bool>()?;
        let index = broadcast_index(condition.shape(), &shape)
            .zip(broadcast_index(x.shape(), &shape).zip(broadcast_index(y.shape(), &shape)));
        let result = with_bits!(x.dtype().size(), B => {
            let (a, b) = (x.bits::<B>()?, y.bits::<B>()?);
            let bits: Vec<B> = index.map(|(c, (i, j))| if chosen[c] { a[i] } else { b[j] }).collect();
            Tensor::from_bits(x.dtype(), shape, bits)?
        });
        Ok(vec![result])
    }
}

/// The chosen lengths, where the choice is known.
fn content(condition: &Fact, x: &Fact, y: &Fact) -> Option<Vec<Dim>> {
    let (x_lengths, y_lengths) = (tracked(x)?, tracked(y)?);
    let value = condition.value.as_ref().filter(|v| v.rank() <= 1)?;
    let chosen = value.as_slice::<bool>().ok()?;
    let lists = [chosen.len(), x_lengths.len(), y_lengths.len()];
    let len = lists.into_iter().find(|&n| n != 1).unwrap_or(1);
    if lists.into_iter().any(|n| n != 1 && n != len) {
        return None;
    }
    let at = |n: usize, i: usize| if n == 1 { 0 } else { i };
    let pick = |i: usize| {
        let from = if chosen[at(chosen.len(), i)] { &x_lengths } else { &y_lengths };
        held(from[at(from.len(), i)].clone(), x.dtype)
    };
    Some((0..len).map(pick).collect())
}
