//! CumSum and CumProd: running sums and products along an axis.

use super::lines::Lines;
use crate::error::{Result, bail, ensure};
use crate::ops::numeric::{from_f64, from_i64};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor, normalize_axis};

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
                ensure!(x.dtype() != DType::Bool, InvalidModel, "{} is not defined for bool", stringify!($op));
                Ok(vec![run.over(x, &lines)?])
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
    ensure!(x.dtype != DType::Bool, InvalidModel, "running sums and products are not defined for bool");
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
    fn over(&self, x: &Tensor, lines: &Lines) -> Result<Tensor> {
        let shape = x.shape().clone();
        if x.dtype().is_float() {
            let mut elements = x.to_f64_vec()?;
            let join = |a, v| if self.product { a * v } else { a + v };
            self.accumulate(&mut elements, lines, f64::from(u8::from(self.product)), join);
            return from_f64(x.dtype(), shape, elements);
        }
        // The low bits of sums and products are those of the operands' low bits, whatever their sign.
        let mut elements = x.to_i64_vec()?;
        let join = |a: i64, v| if self.product { a.wrapping_mul(v) } else { a.wrapping_add(v) };
        self.accumulate(&mut elements, lines, i64::from(self.product), join);
        from_i64(x.dtype(), shape, elements)
    }

    fn accumulate<N: Copy>(&self, elements: &mut [N], lines: &Lines, neutral: N, join: impl Fn(N, N) -> N) {
        for start in lines.starts() {
            let mut sum = neutral;
            for step in 0..lines.len {
                let position = if self.reverse { lines.len - 1 - step } else { step };
                let element = &mut elements[start + position * lines.stride];
                let before = sum;
                sum = join(sum, *element);
                *element = if self.exclusive { before } else { sum };
            }
        }
    }
}
