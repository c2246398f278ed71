//! Quantized values stay quantized through nodes that only move elements: `DequantizeLinear` moves behind them, and
//! goes where `QuantizeLinear` with the same scale takes the result.

use super::pattern::{constant, each, replaceable};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::image::{Coordinates, DepthToSpace, Filter, Resize};
use crate::ops::index::{Gather, Slice};
use crate::ops::layout::{Concat, Expand, Flatten, Reshape, Squeeze, Tile, Transpose, Unsqueeze};
use crate::ops::nn::{Pool, PoolKind};
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

pub(super) fn keep_quantized(graph: &mut Graph) -> Result<usize> {
    let moved = each(graph, |graph, _, node| behind(graph, node))?;
    Ok(moved + each(graph, |graph, _, node| undone(graph, node))?)
}

/// A value dequantized with one scale for all of it.
struct Quantized<'a> {
    op: &'a DequantizeLinear,
    value: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
}

/// How `value` was dequantized, with one positive scale.
fn dequantized(graph: &Graph, value: ValueId) -> Option<Quantized<'_>> {
    let (_, node) = graph.producer(value)?;
    let op = node.op().downcast_ref::<DequantizeLinear>()?;
    let (value, scale, zero) = (node.input(0)?, node.input(1)?, node.input(2));
    factor(constant(graph, scale)?)?;
    let single = |zero: ValueId| constant(graph, zero).is_some_and(|zero| zero.len() == 1);
    (op.block_size == 0 && zero.is_none_or(single)).then_some(Quantized { op, value, scale, zero })
}

/// A single scale of a size at which dividing by it undoes multiplying by it, to well below a half.
fn factor(scale: &Tensor) -> Option<f64> {
    let factor = *scale.to_f64_vec().ok()?.first()?;
    (scale.len() == 1 && scale.dtype() == DType::F32 && (1e-30..1e30).contains(&factor)).then_some(factor)
}

/// True where both constants hold the same number, or there are none.
fn same(graph: &Graph, a: Option<ValueId>, b: Option<ValueId>) -> bool {
    let number = |value: Option<ValueId>| match value {
        Some(value) => constant(graph, value).and_then(|t| Some((t.len(), *t.to_f64_vec().ok()?.first()?))),
        None => Some((1, 0.0)),
    };
    number(a).is_some_and(|a| number(b) == Some(a))
}

/// True for an operator whose output holds elements of its first input, and nothing else.
pub(super) fn moves_elements(op: &dyn Op) -> bool {
    let reshapes = op.is::<Reshape>() || op.is::<Flatten>() || op.is::<Squeeze>() || op.is::<Unsqueeze>();
    let repeats = op.is::<Expand>() || op.is::<Tile>();
    let nearest = op.downcast_ref::<Resize>().is_some_and(|resize| {
        matches!(resize.filter, Filter::Nearest(_)) && resize.coordinates != Coordinates::CropAndResize
    });
    reshapes
        || repeats
        || nearest
        || op.is::<DepthToSpace>()
        || op.is::<Transpose>()
        || op.is::<Slice>()
        || op.is::<Gather>()
}

/// How many of the first inputs a node moves the elements of; nothing for one that changes or weighs them.
fn moves(graph: &Graph, node: &Node, dtype: DType) -> usize {
    let op = node.op().as_ref();
    let image = node.input(0).and_then(|x| graph.fact(x).rank()).is_some_and(|rank| rank <= 4);
    // A positive scale keeps the order, so that the greatest stays the greatest.
    let greatest = op.downcast_ref::<Pool>().is_some_and(|pool| matches!(pool.kind, PoolKind::Max { .. }))
        && node.outputs().len() == 1
        && image
        && matches!(dtype, DType::I8 | DType::U8);
    if op.is::<Concat>() { node.inputs().len() } else { usize::from(moves_elements(op) || greatest) }
}

fn behind(graph: &Graph, node: &Node) -> Option<Patch> {
    let first = dequantized(graph, node.input(0)?)?;
    let dtype = graph.fact(first.value).dtype;
    let count = moves(graph, node, dtype);
    if count == 0 {
        return None;
    }
    // Floats that something else wants are made anyway; then it pays only where the integers are wanted again.
    let users = graph.value(node.output(0)?).users();
    let quantized_again = !users.is_empty()
        && users.iter().all(|user| graph.get(*user).is_some_and(|user| user.op().is::<QuantizeLinear>()));
    let mut inputs: Vec<Option<Operand>> = node.inputs().iter().map(|v| v.map(Into::into)).collect();
    for (index, input) in inputs.iter_mut().enumerate().take(count) {
        let value = node.input(index)?;
        if !quantized_again {
            graph.single_user(value)?;
        }
        let other = dequantized(graph, value)?;
        let alike = same(graph, Some(other.scale), Some(first.scale)) && same(graph, other.zero, first.zero);
        if !alike || graph.fact(other.value).dtype != dtype || other.op.output_dtype != first.op.output_dtype {
            return None;
        }
        *input = Some(other.value.into());
    }
    let mut patch = Patch::new();
    let moved = patch.node(node.name(), node.op().clone(), &inputs, 1);
    let operands = [Some(moved[0]), Some(first.scale.into()), first.zero.map(Into::into)];
    let operands = if first.zero.is_some() { &operands[..] } else { &operands[..2] };
    let made = patch.node(node.name(), Arc::new(first.op.clone()), operands, 1);
    patch.replace(node.output(0)?, made[0]);
    Some(patch)
}

/// `QuantizeLinear` of what was dequantized from the same dtype with the same scale and zero point.
fn undone(graph: &Graph, node: &Node) -> Option<Patch> {
    let quantize = node.op().downcast_ref::<QuantizeLinear>()?;
    let before = dequantized(graph, node.input(0)?)?;
    let y = node.output(0)?;
    let dtype = graph.fact(before.value).dtype;
    let narrow = matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16);
    let plain = quantize.block_size == 0 && graph.fact(node.input(0)?).dtype == DType::F32;
    let alike = same(graph, node.input(1), Some(before.scale)) && same(graph, node.input(2), before.zero);
    if !narrow || !plain || !alike || graph.fact(y).dtype != dtype || !replaceable(graph, y, before.value) {
        return None;
    }
    let mut patch = Patch::new();
    patch.replace(y, before.value);
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, list, number, ramp};
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};
    use crate::ops::nn::Padding;
    use crate::tensor::Fact;

    /// Quantized, dequantized, moved in every way, and quantized again.
    fn moved(scale: f32) -> Graph {
        let (mut graph, x) = graph_of(&[1, 2, 4, 4]);
        let (first, second) = (number(&mut graph, 0.05), number(&mut graph, scale));
        let zero = graph.constant("zero", Tensor::scalar(7i8)).unwrap();
        let flat = list(&mut graph, &[0, -1]);
        let q = graph.op("q", QuantizeLinear::default(), &[x, first, zero]).unwrap();
        let a = graph.op("a", DequantizeLinear::default(), &[q, first, zero]).unwrap();
        let b = graph.op("transpose", Transpose { perm: Some(vec![0, 1, 3, 2]) }, &[a]).unwrap();
        let kind = PoolKind::Max { storage_order: false };
        let (kernel, padding) = (vec![2, 2], Padding::symmetric(&[1, 0]));
        let pool = Pool { kind, kernel, strides: vec![], dilations: vec![], padding, ceil_mode: false };
        let b = graph.op("pool", pool, &[b]).unwrap();
        let none = graph.constant("none", Tensor::vector(Vec::<f32>::new())).unwrap();
        let scales = graph.constant("scales", Tensor::vector(vec![1.0f32, 1.0, 2.0, 1.0])).unwrap();
        let nearest = Resize {
            filter: Filter::Nearest(Default::default()),
            coordinates: Coordinates::Asymmetric,
            antialias: false,
            exclude_outside: false,
            extrapolation_value: 0.0,
            axes: None,
            aspect: Default::default(),
        };
        let b = graph.op("resize", nearest, &[b, none, scales]).unwrap();
        let b = graph.op("reshape", Reshape::default(), &[b, flat]).unwrap();
        let c = graph.op("c", DequantizeLinear::default(), &[q, first, zero]).unwrap();
        let c = graph.op("flatten", Flatten { axis: 1 }, &[c]).unwrap();
        let y = graph.op("concat", Concat { axis: 1 }, &[b, c]).unwrap();
        let y = graph.op("again", QuantizeLinear::default(), &[y, second, zero]).unwrap();
        graph.output(y).unwrap();
        graph
    }

    #[test]
    fn elements_are_moved_as_integers() {
        // One quantization, five movements and the join; the second scale is another: both conversions more.
        for (scale, nodes) in [(0.05, 7), (0.06, 9)] {
            check(&mut moved(scale), keep_quantized, &[ramp(&[1, 2, 4, 4])], nodes);
        }
    }

    #[test]
    fn a_float_that_is_wanted_elsewhere_stays() {
        let mut graph = moved(0.05);
        let a = graph.nodes().unwrap().find(|(_, n)| n.name() == "a").unwrap().1.output(0).unwrap();
        let y = graph.op("relu", Unary(UnaryKind::Relu), &[a]).unwrap();
        graph.output(y).unwrap();
        let input = [ramp(&[1, 2, 4, 4])];
        check(&mut graph, keep_quantized, &input, 11);
    }

    #[test]
    fn a_table_is_looked_up_as_integers() {
        let mut graph = Graph::new("test");
        let rows = graph.input("rows", Fact::concrete(DType::I64, &[3])).unwrap();
        let table = graph.constant("table", Tensor::new([4, 2], (0..8).collect::<Vec<i8>>()).unwrap()).unwrap();
        let scale = number(&mut graph, 0.5);
        let floats = graph.op("floats", DequantizeLinear::default(), &[table, scale]).unwrap();
        let y = graph.op("y", Gather { axis: 0 }, &[floats, rows]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, keep_quantized, &[Tensor::vector(vec![3i64, 0, 3])], 2);
        assert_eq!(graph.nodes().unwrap().next().unwrap().1.op().name(), "Gather");
    }
}
