//! Convolutions and what surrounds them laid out channels last, with the transpositions in between cancelled.
//!
//! A convolution turns its image once and its result back. Every operator behind it that does not care about the layout
//! lets that turning back pass through itself, so that it meets the next convolution's turning and both vanish. What is
//! left stands where the graph really changes over: at its inputs, its outputs and before reshapes.

use super::axes;
use super::pattern::constant;
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::elementwise::{Binary, Cast, Clip, Unary, Variadic};
use crate::ops::fused::{ByteTable, Chain, ChannelsLast, Epilogue, Quantized, to_first, to_last};
use crate::ops::image::DepthToSpace;
use crate::ops::layout::{Concat, Transpose};
use crate::ops::nn::{Conv, ConvTranspose, GlobalPool, GroupNormalization, InstanceNormalization, Pool};
use crate::ops::quant::{ConvInteger, DynamicQuantizeLinear, QuantizeLinear};
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{DType, Dim};
use std::sync::Arc;

pub(super) fn lay_out(graph: &mut Graph) -> Result<usize> {
    let mut changed = 0;
    for id in graph.node_ids()? {
        let Some(node) = graph.get(id) else { continue };
        let patch = convolution(graph, node)
            .or_else(|| pool(graph, node))
            .or_else(|| agnostic(graph, node))
            .or_else(|| dynamic(graph, node))
            .or_else(|| concat(graph, node))
            .or_else(|| normalization(graph, node))
            .or_else(|| blocks(graph, node))
            .or_else(|| axes::renamed(graph, node));
        let Some(patch) = patch else { continue };
        graph.apply(patch)?;
        changed += 1;
    }
    Ok(changed)
}

pub(super) fn rank(graph: &Graph, value: ValueId) -> Option<usize> {
    graph.fact(value).rank().filter(|rank| (3..=5).contains(rank))
}

/// The channels-last value that `value` is turned back from.
pub(super) fn turned(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let (_, node) = graph.producer(value)?;
    let perm = node.op().downcast_ref::<Transpose>()?.perm.as_ref()?;
    (*perm == to_first(rank(graph, value)?)).then(|| node.input(0)).flatten()
}

/// `value` channels last: what it is turned back from, or a transposition of it.
fn last(graph: &Graph, patch: &mut Patch, value: ValueId) -> Option<Operand> {
    match turned(graph, value) {
        Some(value) => Some(value.into()),
        None => Some(patch.op("to_last", Transpose { perm: Some(to_last(rank(graph, value)?)) }, &[value.into()])),
    }
}

/// Replaces the node's output by `result` turned back.
pub(super) fn finish(graph: &Graph, node: &Node, mut patch: Patch, result: Operand) -> Option<Patch> {
    let output = node.output(0)?;
    let back = patch.op("to_first", Transpose { perm: Some(to_first(rank(graph, output)?)) }, &[result]);
    patch.replace(output, back);
    Some(patch)
}

/// The places of the images of a convolution with what is around it.
fn convolved(op: &Arc<dyn Op>) -> Option<Vec<usize>> {
    if let Some(chain) = op.downcast_ref::<Chain>() {
        let mut images = convolved(&chain.first)?;
        let second = chain.second.downcast_ref::<Quantized>()?;
        // A summand of each element; one of each channel is a vector.
        images.extend(second.input(1).map(|_| chain.arity));
        return Some(images);
    }
    let op = op.downcast_ref::<Quantized>().map_or(op, |quantized| &quantized.op);
    let epilogue = op.downcast_ref::<Epilogue>();
    let inner = epilogue.map_or(op, |e| &e.op);
    let residual = epilogue.and_then(Epilogue::residual_index);
    let convolves = inner.is::<Conv>() || inner.is::<ConvTranspose>() || inner.is::<ConvInteger>();
    convolves.then(|| std::iter::once(0).chain(residual).collect())
}

fn convolution(graph: &Graph, node: &Node) -> Option<Patch> {
    let images = convolved(node.op())?;
    let constant_weight = constant(graph, node.input(1)?).is_some();
    let rank = rank(graph, node.input(0)?)?;
    let op = node.op();
    let real = op.is::<Conv>() || op.is::<ConvTranspose>() || op.is::<Epilogue>();
    let known = graph.fact(node.output(0)?).dtype == DType::F32 || !real;
    // Volumes are for f32, and transposed convolutions of them for nobody.
    let inner = op.downcast_ref::<Epilogue>().map_or(op, |epilogue| &epilogue.op);
    if !constant_weight || !known || (rank > 4 && !inner.is::<Conv>()) {
        return None;
    }
    wrapped(graph, node, images)
}

/// The node with these inputs, and its output, laid out channels last.
fn wrapped(graph: &Graph, node: &Node, images: Vec<usize>) -> Option<Patch> {
    let mut patch = Patch::new();
    let mut inputs: Vec<Option<Operand>> = Vec::with_capacity(node.inputs().len());
    for (index, input) in node.inputs().iter().enumerate() {
        inputs.push(match input {
            Some(input) if images.contains(&index) => Some(last(graph, &mut patch, *input)?),
            input => input.map(Into::into),
        });
    }
    let op = ChannelsLast { op: node.op().clone(), images };
    let result = patch.node(node.name(), Arc::new(op), &inputs, 1)[0];
    finish(graph, node, patch, result)
}

/// A pool of one output behind a convolution, or of bytes.
fn pool(graph: &Graph, node: &Node) -> Option<Patch> {
    let quantized = node.op().downcast_ref::<Quantized>();
    let op = quantized.map_or(node.op(), |quantized| &quantized.op);
    let pools = op.is::<Pool>() || op.is::<GlobalPool>();
    let bytes = graph.fact(node.input(0)?).dtype.size() == 1;
    if !pools || node.output(1).is_some() || (bytes && rank(graph, node.input(0)?)? > 4) {
        return None;
    }
    if !bytes && turned(graph, node.input(0)?).is_none() {
        return None;
    }
    wrapped(graph, node, vec![0])
}

/// A normalization of the channels of an image that is turned back.
fn normalization(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op();
    let known = graph.fact(node.output(0)?).dtype == DType::F32;
    let normalizes = op.is::<InstanceNormalization>() || op.is::<GroupNormalization>();
    (known && normalizes && turned(graph, node.input(0)?).is_some()).then(|| wrapped(graph, node, vec![0]))?
}

/// Channels of an image that is turned back, laid out as blocks of pixels.
fn blocks(graph: &Graph, node: &Node) -> Option<Patch> {
    let spreads = node.op().is::<DepthToSpace>() && turned(graph, node.input(0)?).is_some();
    spreads.then(|| wrapped(graph, node, vec![0]))?
}

/// An operator that works element by element, at least one of whose operands is turned back.
fn agnostic(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op();
    let one_scale = |value: ValueId| constant(graph, value).is_some_and(|scale| scale.len() == 1);
    // The other conversion goes behind whatever moves elements, transpositions included.
    let converts = op.is::<QuantizeLinear>() && one_scale(node.input(1)?);
    let single = op.is::<Unary>() || op.is::<Clip>() || op.is::<ByteTable>() || op.is::<Cast>() || converts;
    let quantized = op.downcast_ref::<Quantized>().filter(|quantized| quantized.op.is::<Binary>());
    if !single && quantized.is_none() && !op.is::<Binary>() && !op.is::<Variadic>() {
        return None;
    }
    let output = rank(graph, node.output(0)?)?;
    let count = if single { 1 } else { quantized.map_or(node.inputs().len(), |quantized| quantized.arity) };
    let images: Vec<ValueId> = node.inputs()[..count].iter().copied().collect::<Option<_>>()?;
    if !images.iter().any(|v| turned(graph, *v).is_some()) {
        return None;
    }
    let mut patch = Patch::new();
    let mut inputs: Vec<Option<Operand>> = Vec::with_capacity(node.inputs().len());
    for image in &images {
        inputs.push(Some(operand(graph, &mut patch, *image, output)?));
    }
    inputs.extend(node.inputs()[images.len()..].iter().map(|v| v.map(Into::into)));
    let result = patch.node(node.name(), op.clone(), &inputs, 1)[0];
    finish(graph, node, patch, result)
}

/// A quantization by the range of the whole image, whatever its layout.
fn dynamic(graph: &Graph, node: &Node) -> Option<Patch> {
    node.op().downcast_ref::<DynamicQuantizeLinear>()?;
    let image = turned(graph, node.input(0)?)?;
    let mut patch = Patch::new();
    let made = patch.node(node.name(), node.op().clone(), &[Some(image.into())], node.outputs().len());
    for (output, made) in node.outputs().iter().zip(&made).skip(1) {
        if let Some(output) = output {
            patch.replace(*output, *made);
        }
    }
    finish(graph, node, patch, *made.first()?)
}

/// An operand of an elementwise operator whose output has `output` axes, channels last.
fn operand(graph: &Graph, patch: &mut Patch, value: ValueId, output: usize) -> Option<Operand> {
    let fact = graph.fact(value);
    if let Some(image) = turned(graph, value) {
        return (fact.rank() == Some(output)).then(|| image.into());
    }
    let to_last = || Transpose { perm: Some(to_last(output)) };
    let Some(constant) = constant(graph, value) else {
        // One number for each channel or for each place lies in the same order either way. On one spatial axis turning there
        // and back are one permutation, so that what is turned here would look turned back.
        let dims = fact.dims().filter(|dims| dims.len() == output)?;
        let small = dims[1] == Dim::Known(1) || dims[2..].iter().all(|d| *d == Dim::Known(1));
        return (small && output > 3).then(|| patch.op("to_last", to_last(), &[value.into()]));
    };
    if constant.len() == 1 && constant.rank() <= 1 {
        return Some(value.into());
    }
    // `[C, 1, 1]` means `[1, C, 1, 1]`: fill up with leading ones, then move the channels behind.
    let mut shape = vec![1; output.checked_sub(constant.rank())?];
    shape.extend_from_slice(constant.shape());
    let whole = constant.reshaped(shape).ok()?;
    let turned = to_last().eval(Inputs::new(&[Some(&whole)]), &Budget::generous()).ok()?;
    Some(patch.constant("channels", turned.into_iter().next()?))
}

/// A concatenation at least half of whose parts are turned back: the others are turned as well. On one spatial axis all have
/// to be, since turning there and back are one permutation.
fn concat(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<Concat>()?;
    let rank = rank(graph, node.output(0)?)?;
    let axis = if op.axis < 0 { op.axis + rank as i64 } else { op.axis };
    let place = to_last(rank).iter().position(|&a| a as i64 == axis)?;
    let values: Vec<ValueId> = node.inputs().iter().copied().collect::<Option<_>>()?;
    let back = values.iter().filter(|value| turned(graph, **value).is_some()).count();
    if if rank > 3 { 2 * back < values.len() } else { back < values.len() } {
        return None;
    }
    let mut patch = Patch::new();
    let parts: Vec<Option<Operand>> =
        values.iter().map(|value| last(graph, &mut patch, *value).map(Some)).collect::<Option<_>>()?;
    let result = patch.node(node.name(), Arc::new(Concat { axis: place as i64 }) as Arc<dyn Op>, &parts, 1)[0];
    finish(graph, node, patch, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{BinaryKind, UnaryKind};
    use crate::ops::nn::Padding;
    use crate::tensor::{Fact, Tensor};

    fn conv() -> Conv {
        Conv { padding: Padding::Explicit { begin: vec![1, 1], end: vec![1, 1] }, ..Conv::default() }
    }

    #[test]
    fn transpositions_between_convolutions_vanish() {
        let mut graph = Graph::new("test");
        let x = graph.input("x", Fact::concrete(DType::F32, &[1, 2, 4, 3])).unwrap();
        let weight = |graph: &mut Graph, name: &str, seed: f32| {
            let elements: Vec<f32> = (0..36).map(|i| (i as f32 * seed).sin()).collect();
            graph.constant(name, Tensor::new([2, 2, 3, 3], elements).unwrap()).unwrap()
        };
        let (w1, w2) = (weight(&mut graph, "w1", 0.7), weight(&mut graph, "w2", 1.3));
        let scale = graph.constant("s", Tensor::new([2, 1, 1], vec![0.5f32, -2.0]).unwrap()).unwrap();
        let a = graph.op("a", conv(), &[x, w1]).unwrap();
        let b = graph.op("b", Binary(BinaryKind::Mul), &[a, scale]).unwrap();
        let c = graph.op("c", Unary(UnaryKind::Relu), &[b]).unwrap();
        let d = graph.op("d", conv(), &[c, w2]).unwrap();
        let e = graph.op("e", Binary(BinaryKind::Add), &[d, c]).unwrap();
        graph.output(e).unwrap();
        let input = [Tensor::new([1, 2, 4, 3], (0..24).map(|i| (i as f32).cos()).collect::<Vec<f32>>()).unwrap()];
        let before = graph.interpret(&input).unwrap();
        assert_eq!(lay_out(&mut graph).unwrap(), 5);
        graph.verify().unwrap();
        let transposes = graph.nodes().unwrap().filter(|(_, n)| n.op().is::<Transpose>()).count();
        assert_eq!(transposes, 2, "one at the input, one at the output");
        assert_eq!(graph.interpret(&input).unwrap(), before);
    }
}
