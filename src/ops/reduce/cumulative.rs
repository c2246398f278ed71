//! CumSum and CumProd: running sums and products along an axis.

use super::lines::Lines;
use crate::error::{Result, bail, ensure};
use crate::ops::elementwise::widen;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Element, Fact, Tensor, normalize_axis, with_number};

/// For each element of input 0 the sum of those up to it along the axis that input 1 (one integer) names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CumSum {
    /// Leaves the element itself out.
    pub exclusive: bool,
    /// Goes from the end of the axis.
    pub reverse: bool,
}

/// For each element of input 0 the product of those up to it along the axis that input 1 (one integer) names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CumProd {
    /// Leaves the element itself out.
    pub exclusive: bool,
    /// Goes from the end of the axis.
    pub reverse: bool,
}

pub(super) fn read_sum(node: &mut NodeReader) -> Result<Reading> {
    Ok(CumSum { exclusive: node.flag_or("exclusive", false)?, reverse: node.flag_or("reverse", false)? }.into())
}

pub(super) fn read_product(node: &mut NodeReader) -> Result<Reading> {
    Ok(CumProd { exclusive: node.flag_or("exclusive", false)?, reverse: node.flag_or("reverse", false)? }.into())
}

macro_rules! cumulative {
    ($op:ident, $product:literal) => {
        impl Op for $op {
            fn name(&self) -> &'static str {
                stringify!($op)
            }

            fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
                infer(inputs)
            }

            fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
                let (x, axis) = (inputs.require(0)?, inputs.require(1)?);
                let run = Run { product: $product, exclusive: self.exclusive, reverse: self.reverse };
                let lines = Lines::new(x.shape(), x.shape().axis(single_axis(&axis.to_i64_vec()?)?)?);
                let result = with_number!(x.dtype(), T => run.over::<T>(x, lines)?,
                    _ => bail!(InvalidModel, "{} is not defined for bool", stringify!($op)));
                Ok(vec![result])
            }

            fn attrs(&self) -> Attrs {
                Attrs::new().flag("exclusive", self.exclusive).flag("reverse", self.reverse)
            }
        }
    };
}

cumulative!(CumSum, false);
cumulative!(CumProd, true);

fn single_axis(axis: &[i64]) -> Result<i64> {
    match axis {
        [axis] => Ok(*axis),
        _ => bail!(Shape, "the axis must be one number, not {}", axis.len()),
    }
}

fn infer(inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
    let (x, axis) = (inputs.require(0)?, inputs.require(1)?);
    ensure!(x.dtype != crate::DType::Bool, InvalidModel, "running sums and products are not defined for bool");
    ensure!(axis.dtype.is_integer(), InvalidModel, "the axis is of {}, not an integer", axis.dtype);
    if let (Some(rank), Some(axis)) = (x.rank(), axis.integers()) {
        normalize_axis(single_axis(&axis)?, rank)?;
    }
    Ok(vec![Fact { value: None, content: None, ..x.clone() }])
}

struct Run {
    product: bool,
    exclusive: bool,
    reverse: bool,
}

impl Run {
    fn over<T: Element>(&self, x: &Tensor, lines: Lines) -> Result<Tensor> {
        let elements = x.as_slice::<T>()?;
        let mut results = elements.to_vec();
        for start in lines.starts() {
            let mut float = f64::from(u8::from(self.product));
            let mut integer = i128::from(self.product);
            for step in 0..lines.len {
                let position = if self.reverse { lines.len - 1 - step } else { step };
                let index = start + position * lines.stride;
                let before = (float, integer);
                let v = elements[index];
                if self.product {
                    float *= v.to_f64();
                    integer = integer.wrapping_mul(widen(v));
                } else {
                    float += v.to_f64();
                    integer = integer.wrapping_add(widen(v));
                }
                let (float, integer) = if self.exclusive { before } else { (float, integer) };
                results[index] = if T::DTYPE.is_float() { T::from_f64(float) } else { T::from_i64(integer as i64) };
            }
        }
        Tensor::new(x.shape().clone(), results)
    }
}
