//! The operators of ONNX that quantize by themselves, as products of quantized operands.

use super::builder::Builder;
use super::source::Source;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::matrix::MatMul;
use crate::ops::quant::{DequantizeLinear, QLinearConv, QLinearMatMul, QuantizeLinear};
use crate::passes::pattern::constant;
use crate::tensor::Tensor;
use std::sync::Arc;

pub(super) fn rewritten(graph: &Graph, node: &Node) -> Option<Patch> {
    if let Some(op) = node.op().downcast_ref::<QLinearConv>() {
        let [x, w] = [operand(node, 0, 0)?, operand(node, 3, 0)?];
        let rank = constant(graph, w.value)?.rank();
        let image = (3..=4).contains(&rank) && graph.fact(x.value).rank() == Some(rank);
        let bias = match node.input(8) {
            Some(bias) => Some(real_bias(graph, bias, &x, &w)?),
            None => None,
        };
        let fits = image && w.is_known(graph) && x.is_uniform(graph);
        return fits.then(|| written(graph, node, [x, w], Arc::new(op.conv.clone()), bias)).flatten();
    }
    if node.op().is::<QLinearMatMul>() {
        let [a, b] = [operand(node, 0, 0)?, operand(node, 3, 1)?];
        let flat = |value: ValueId| graph.fact(value).rank().is_some_and(|rank| rank <= 1);
        let fits = constant(graph, b.value).is_some_and(|b| b.rank() == 2)
            && b.is_known(graph)
            && (b.is_uniform(graph) || flat(b.scale) && b.zero.is_none_or(flat))
            && a.is_uniform(graph);
        let whole = fits.then(|| written(graph, node, [a, b], Arc::new(MatMul), None)).flatten();
        return whole.or_else(|| spelled(graph, node, [a, b]));
    }
    None
}

/// A product of two computed matrices with a scale each, by way of real numbers.
fn spelled(graph: &Graph, node: &Node, operands: [Source; 2]) -> Option<Patch> {
    let y = Source { value: node.output(0)?, scale: node.input(6)?, zero: node.input(7), axis: 0 };
    if !operands.iter().chain([&y]).all(|source| source.is_uniform(graph)) {
        return None;
    }
    let mut patch = Patch::new();
    let convert = |source: &Source, value: Operand| -> Option<[Option<Operand>; 3]> {
        Some([Some(value), Some(source.scale.into()), Some(source.zero?.into())])
    };
    let mut reals = [None; 2];
    for (real, source) in reals.iter_mut().zip(&operands) {
        let inputs = convert(source, source.value.into())?;
        *real = Some(patch.node(node.name(), Arc::new(DequantizeLinear::default()), &inputs, 1)[0]);
    }
    let product = patch.node(node.name(), Arc::new(MatMul), &reals, 1)[0];
    let inputs = convert(&y, product)?;
    let made = patch.node(node.name(), Arc::new(QuantizeLinear::default()), &inputs, 1)[0];
    patch.replace(y.value, made);
    Some(patch)
}

/// The operand whose bytes, scale and zero point are the inputs from `index` on.
fn operand(node: &Node, index: usize, axis: i64) -> Option<Source> {
    Some(Source { value: node.input(index)?, scale: node.input(index + 1)?, zero: node.input(index + 2), axis })
}

/// A node of two operands whose output's scale and zero point are its inputs 6 and 7.
fn written(
    graph: &Graph,
    node: &Node,
    [a, b]: [Source; 2],
    op: Arc<dyn crate::ops::Op>,
    bias: Option<Tensor>,
) -> Option<Patch> {
    let y = Source { value: node.output(0)?, scale: node.input(6)?, zero: node.input(7), axis: 0 };
    if !y.is_plain(graph) {
        return None;
    }
    let mut builder = Builder::new(graph);
    builder.quantized(a).quantized(b);
    if let Some(bias) = bias {
        let bias = builder.patch.constant("bias", bias);
        builder.plain(Some(bias));
    }
    let (mut patch, made) = builder.node(node.name(), op, Some(y))?;
    patch.replace(y.value, made);
    Some(patch)
}

/// A bias in units of the product of two scales as real numbers.
fn real_bias(graph: &Graph, bias: ValueId, x: &Source, w: &Source) -> Option<Tensor> {
    let steps = constant(graph, bias)?.to_i64_vec().ok()?;
    let x_scale = *constant(graph, x.scale)?.to_f32_vec().ok()?.first()?;
    let scales = constant(graph, w.scale)?.to_f32_vec().ok()?;
    let scale = |column: usize| if scales.len() == 1 { scales.first() } else { scales.get(column) };
    let real = steps.iter().enumerate().map(|(column, &step)| Some(step as f32 * (x_scale * scale(column)?)));
    Some(Tensor::vector(real.collect::<Option<Vec<f32>>>()?))
}
