//! Along axes: sums, means and extremes, where the extremes stand, the greatest few, running sums and products.

mod arg_extreme;
mod axes;
mod cumulative;
mod fold;
mod lines;
mod reduction;
#[cfg(test)]
mod tests;
mod top_k;

pub use arg_extreme::ArgExtreme;
pub use cumulative::{CumProd, CumSum};
pub use reduction::{Reduce, ReduceKind};
pub use top_k::TopK;

use super::OpDef;

/// A reduction whose axes are an attribute before `$input_since`.
macro_rules! reduce {
    ($name:literal, $kind:ident, $opset:literal, $input_since:literal) => {
        OpDef::new($name, $opset, 1..=2, |node| reduction::read(node, ReduceKind::$kind, $input_since))
    };
}

pub(super) const OPS: &[OpDef] = &[
    reduce!("ReduceSum", Sum, 13, 13),
    reduce!("ReduceMean", Mean, 18, 18),
    reduce!("ReduceMax", Max, 20, 18),
    reduce!("ReduceMin", Min, 20, 18),
    reduce!("ReduceProd", Prod, 18, 18),
    reduce!("ReduceL1", L1, 18, 18),
    reduce!("ReduceL2", L2, 18, 18),
    reduce!("ReduceLogSum", LogSum, 18, 18),
    reduce!("ReduceLogSumExp", LogSumExp, 18, 18),
    reduce!("ReduceSumSquare", SumSquare, 18, 18),
    OpDef::new("ArgMax", 13, 1..=1, |node| arg_extreme::read(node, true)),
    OpDef::new("ArgMin", 13, 1..=1, |node| arg_extreme::read(node, false)),
    OpDef::new("TopK", 11, 1..=2, top_k::read).outputs(1..=2),
    OpDef::new("CumSum", 14, 2..=2, cumulative::read_sum).since(11),
    OpDef::new("CumProd", 26, 2..=2, cumulative::read_product).since(26),
];
