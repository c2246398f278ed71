//! `Softmax`, `LogSoftmax` and `Hardmax` along one axis, and their older meaning over flattened axes.

use super::lanes::for_each_lane;
use crate::error::{Result, ensure};
use crate::ops::layout::{Flatten, Reshape, ShapeOf};
use crate::ops::numeric::from_f64;
use crate::ops::reader::Operand;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Tensor};
use std::sync::Arc;

/// `exp(x) / sum(exp(x))` along an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Softmax {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// The logarithm of [`Softmax`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSoftmax {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// One where the first of the largest elements along an axis stands, zero elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardmax {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

fn softmax(lane: &mut [f64]) {
    let most = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lane.iter_mut().for_each(|v| *v = (*v - most).exp());
    let sum: f64 = lane.iter().sum();
    lane.iter_mut().for_each(|v| *v /= sum);
}

fn log_softmax(lane: &mut [f64]) {
    let most = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = lane.iter().map(|v| (v - most).exp()).sum::<f64>().ln();
    lane.iter_mut().for_each(|v| *v = *v - most - log_sum);
}

fn hardmax(lane: &mut [f64]) {
    let mut best = 0;
    for (index, &value) in lane.iter().enumerate() {
        if value > lane[best] {
            best = index;
        }
    }
    lane.fill(0.0);
    lane[best] = 1.0;
}

/// Before opset 13 the axes from `axis` on were flattened into one, and `axis` was 1 by default.
fn read<T: Op>(node: &mut NodeReader, make: fn(i64) -> T) -> Result<Reading> {
    if node.opset() >= 13 {
        return Ok(make(node.int_or("axis", -1)?).into());
    }
    let axis = node.int_or("axis", 1)?;
    let last = node.input_rank(0).is_some_and(|rank| axis == rank as i64 - 1);
    if axis == -1 || last {
        return Ok(make(-1).into());
    }
    let output = |node| Operand::Output { node, output: 0 };
    Ok(Reading::Nodes(vec![
        (Arc::new(ShapeOf { start: 0, end: None }), vec![Operand::Input(0)]),
        (Arc::new(Flatten { axis }), vec![Operand::Input(0)]),
        (Arc::new(make(-1)), vec![output(1)]),
        (Arc::new(Reshape { allow_zero: true }), vec![output(2), output(0)]),
    ]))
}

macro_rules! along_axis {
    ($op:ident, $name:literal, $lane:ident) => {
        impl $op {
            pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
                read(node, |axis| $op { axis })
            }
        }

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
                infer(inputs.require(0)?, self.axis)
            }

            fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
                let x = inputs.require(0)?;
                let mut values = x.to_f64_vec()?;
                for_each_lane(&mut values, x.shape(), x.shape().axis(self.axis)?, $lane);
                Ok(vec![from_f64(x.dtype(), x.shape().clone(), values)?])
            }

            fn attrs(&self) -> Attrs {
                Attrs::new().int("axis", self.axis)
            }
        }
    };
}

along_axis!(Softmax, "Softmax", softmax);
along_axis!(LogSoftmax, "LogSoftmax", log_softmax);
along_axis!(Hardmax, "Hardmax", hardmax);

fn infer(x: &Fact, axis: i64) -> Result<Vec<Fact>> {
    ensure!(x.dtype.is_float(), InvalidModel, "a softmax of {} is not defined", x.dtype);
    if let Some(rank) = x.rank() {
        crate::tensor::normalize_axis(axis, rank)?;
    }
    Ok(vec![Fact { value: None, content: None, ..x.clone() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_do_not_overflow() {
        let mut lane = [1000.0, 1000.0];
        softmax(&mut lane);
        assert_eq!(lane, [0.5, 0.5]);
        let mut lane = [-1e4, -1e4];
        log_softmax(&mut lane);
        assert!(lane.iter().all(|v| (v + 2f64.ln()).abs() < 1e-12));
    }

    #[test]
    fn hardmax_takes_the_first_of_equals() {
        let mut lane = [1.0, 3.0, 3.0];
        hardmax(&mut lane);
        assert_eq!(lane, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn old_opsets_flatten() {
        let node = |opset| NodeReader::new("Softmax", opset, Default::default(), vec![true], 1, 0);
        assert!(matches!(Softmax::read(&mut node(13)).unwrap(), Reading::Op(_)));
        let last = node(12).with_ranks(vec![Some(2)]);
        assert!(matches!(Softmax::read(&mut { last }).unwrap(), Reading::Op(_)));
        let Reading::Nodes(nodes) = Softmax::read(&mut node(12)).unwrap() else { panic!("one node") };
        assert_eq!(
            nodes.iter().map(|(op, _)| op.name()).collect::<Vec<_>>(),
            ["Shape", "Flatten", "Softmax", "Reshape"]
        );
    }
}
