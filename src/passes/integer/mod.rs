//! Operators between `DequantizeLinear` and `QuantizeLinear` as one node each, which computes on integers.
//!
//! Three spellings of quantization come to one form, [`Quantized`]: the pairs of QDQ, the operators that quantize by
//! themselves (`QLinearConv`), and sums of integers that are scaled afterwards (`MatMulInteger`). Functions of one
//! quantized value become tables. What has no integer kernel is left as it is, between its conversions.

mod between;
mod builder;
mod chain;
mod operators;
mod product;
mod source;
mod sums;
mod table;
#[cfg(test)]
mod tests;

use super::epilogue;
use super::pattern::each;
use crate::error::Result;
use crate::graph::Graph;

pub(super) fn compute_on_integers(graph: &mut Graph) -> Result<usize> {
    let mut changed = each(graph, |graph, _, node| operators::rewritten(graph, node))?;
    changed += each(graph, |graph, _, node| sums::scaled(graph, node))?;
    // What follows a product that has just become one.
    changed += each(graph, |graph, _, node| epilogue::of_quantized(graph, node))?;
    changed += each(graph, |graph, _, node| product::product(graph, node))?;
    changed += each(graph, |graph, _, node| table::of_quantization(graph, node))?;
    changed += each(graph, |graph, _, node| table::of_table(graph, node))?;
    // Before sums of two stand by themselves.
    changed += each(graph, |graph, _, node| chain::chain(graph, node))?;
    changed += each(graph, |graph, _, node| between::between(graph, node))?;
    Ok(changed)
}
