//! Sums of integers that are scaled afterwards: `Cast(MatMulInteger(a, b)) * scale + bias`, and the same of `ConvInteger`.

use super::builder::Builder;
use crate::graph::{Graph, Node, Patch, ValueId};
use crate::ops::Op;
use crate::ops::elementwise::{BinaryKind, Cast};
use crate::ops::fused::Epilogue;
use crate::ops::matrix::MatMul;
use crate::ops::quant::{ConvInteger, MatMulInteger};
use crate::passes::pattern::{binary, constant};
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

/// A product of integers with constant weights.
struct Sums<'g> {
    node: &'g Node,
    op: Arc<dyn Op>,
    /// The axis of the weights that columns lie along, and how many there are.
    axis: i64,
    n: usize,
    image: bool,
}

/// The rule for the `Mul` by a scale.
pub(super) fn scaled(graph: &Graph, node: &Node) -> Option<Patch> {
    let [a, b] = binary(node, BinaryKind::Mul)?;
    let (sums, scale) = [(a, b), (b, a)].into_iter().find_map(|(x, scale)| Some((sums(graph, x)?, scale)))?;
    let (x_scale, w_scale) = factors(graph, scale, &sums)?;
    let w_zero = match sums.node.input(3) {
        Some(zero) => constant(graph, zero)?.to_i64_vec().ok()?,
        None => vec![0],
    };
    let x_zero = sums.node.input(2);
    let single = |value: ValueId| graph.fact(value).concrete_shape().is_some_and(|shape| shape.elements() == 1);
    if x_zero.is_some_and(|zero| !single(zero)) {
        return None;
    }
    // A sum with a vector of columns comes along.
    let (root, bias) = match biased(graph, node.output(0)?, &sums) {
        Some((root, bias)) => (root, Some(bias)),
        None => (node.output(0)?, None),
    };
    let w = sums.node.input(1)?;
    let each = if w_scale.len() > 1 || w_zero.len() > 1 { sums.n } else { 1 };
    let spread = |index: usize, len: usize| if len == 1 { 0 } else { index };
    let scales: Vec<f32> = (0..each).map(|i| w_scale.get(spread(i, w_scale.len())).copied()).collect::<Option<_>>()?;
    let zeros: Vec<i64> = (0..each).map(|i| w_zero.get(spread(i, w_zero.len())).copied()).collect::<Option<_>>()?;
    let zeros = Tensor::vector(zeros).cast(graph.fact(w).dtype).ok()?;
    let mut builder = Builder::new(graph);
    let x_scale = match x_scale {
        Some(scale) => scale.into(),
        None => builder.patch.constant("one", Tensor::scalar(1.0f32)),
    };
    builder.bytes(sums.node.input(0)?, x_scale, x_zero.map(Into::into), 0);
    let (scales, zeros) =
        (builder.patch.constant("scales", Tensor::vector(scales)), builder.patch.constant("zeros", zeros));
    builder.bytes(w, scales, Some(zeros), sums.axis);
    let op = match bias {
        None => sums.op,
        Some(bias) => {
            let bias = builder.patch.constant("bias", bias);
            builder.plain(Some(bias));
            if sums.image { sums.op } else { Arc::new(Epilogue { bias: true, ..Epilogue::of(sums.op, 2) }) }
        }
    };
    let (mut patch, made) = builder.node(sums.node.name(), op, None)?;
    patch.replace(root, made);
    Some(patch)
}

/// The product whose sums `value` is, as real numbers, for one user alone.
fn sums(graph: &Graph, value: ValueId) -> Option<Sums<'_>> {
    graph.single_user(value)?;
    let (_, cast) = graph.producer(value)?;
    let integers = cast.input(0)?;
    if cast.op().downcast_ref::<Cast>()?.to != DType::F32 {
        return None;
    }
    graph.single_user(integers)?;
    let (_, node) = graph.producer(integers)?;
    let weight = constant(graph, node.input(1)?)?;
    let rank = graph.fact(node.input(0)?).rank()?;
    if node.op().is::<MatMulInteger>() {
        let &[_, n] = &weight.shape()[..] else { return None };
        return (rank > 0).then(|| Sums { node, op: Arc::new(MatMul), axis: 1, n, image: false });
    }
    let conv = node.op().downcast_ref::<ConvInteger>()?;
    let fits = (3..=4).contains(&rank) && weight.rank() == rank;
    fits.then(|| Sums { node, op: Arc::new(conv.conv.clone()), axis: 0, n: weight.shape()[0], image: true })
}

/// Elements of a constant that is one number, or one a column of the product.
fn columns(graph: &Graph, value: ValueId, sums: &Sums<'_>) -> Option<Vec<f32>> {
    let tensor = constant(graph, value)?;
    let output = graph.fact(sums.node.output(0)?).rank()?;
    if tensor.dtype() != DType::F32 || tensor.rank() > output {
        return None;
    }
    // The place of the columns, counted from the last axis.
    let behind = if sums.image { output - 2 } else { 0 };
    let place = tensor.rank().checked_sub(behind + 1);
    let along = tensor.len() == sums.n && place.is_some_and(|axis| tensor.shape()[axis] == sums.n);
    (tensor.len() == 1 || along).then(|| tensor.to_f32_vec().ok()).flatten()
}

/// The scale as a factor of one element that is known when it runs, if any, and one that is known now.
fn factors(graph: &Graph, scale: ValueId, sums: &Sums<'_>) -> Option<(Option<ValueId>, Vec<f32>)> {
    if let Some(known) = columns(graph, scale, sums) {
        return Some((None, known));
    }
    let single = |value: ValueId| {
        let fact = graph.fact(value);
        fact.dtype == DType::F32
            && fact.concrete_shape().is_some_and(|shape| shape.elements() == 1 && shape.rank() <= 1)
    };
    if single(scale) && graph.producer(scale).is_none_or(|(_, node)| binary(node, BinaryKind::Mul).is_none()) {
        return Some((Some(scale), vec![1.0]));
    }
    let (_, product) = graph.producer(scale)?;
    let [a, b] = binary(product, BinaryKind::Mul)?;
    [(a, b), (b, a)].into_iter().find_map(|(read, known)| {
        let known = columns(graph, known, sums)?;
        single(read).then_some((Some(read), known))
    })
}

/// The sum of `value` alone with a constant vector of columns.
fn biased(graph: &Graph, value: ValueId, sums: &Sums<'_>) -> Option<(ValueId, Tensor)> {
    let (_, node) = graph.single_user(value)?;
    let [a, b] = binary(node, BinaryKind::Add)?;
    let bias = columns(graph, if a == value { b } else { a }, sums).filter(|bias| bias.len() == sums.n)?;
    let same = graph.fact(node.output(0)?).dims()? == graph.fact(value).dims()?;
    same.then(|| Some((node.output(0)?, Tensor::vector(bias)))).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{check, graph_of, ramp};
    use super::super::compute_on_integers;
    use super::*;
    use crate::ops::elementwise::Binary;
    use crate::ops::nn::Conv;
    use crate::ops::quant::DynamicQuantizeLinear;

    /// `DynamicQuantizeLinear`, an integer product, its scale and a bias, as exporters write them.
    fn dynamic(image: bool, each: bool, bias: bool) -> (Graph, Vec<usize>) {
        let shape = if image { vec![1, 3, 4, 4] } else { vec![2, 2, 3] };
        let (mut graph, x) = graph_of(&shape);
        let names = [Some("q"), Some("scale"), Some("zero")];
        let made = graph.node("quantize", Arc::new(DynamicQuantizeLinear), &[Some(x)], &names).unwrap();
        let [q, scale, zero] = [0, 1, 2].map(|i: usize| made[i].unwrap());
        let sizes: &[usize] = if image { &[5, 3, 1, 1] } else { &[3, 5] };
        let weight: Vec<i8> = (0..15).map(|i| (i * 37 % 255) as u8 as i8).collect();
        let weight = graph.constant("w", Tensor::new(sizes, weight).unwrap()).unwrap();
        let w_scale = if each { (1..6).map(|i| i as f32 / 100.0).collect() } else { vec![0.02] };
        let shaped = |values: Vec<f32>| match (image, values.len()) {
            (true, n) if n > 1 => Tensor::new([1, n, 1, 1], values).unwrap(),
            _ => Tensor::vector(values),
        };
        let w_scale = graph.constant("ws", shaped(w_scale)).unwrap();
        let w_zero = graph.constant("wz", Tensor::scalar(3i8)).unwrap();
        let inputs = [q, weight, zero, w_zero];
        let sums = match image {
            true => graph.op("sums", ConvInteger { conv: Conv::default() }, &inputs),
            false => graph.op("sums", MatMulInteger, &inputs),
        };
        let real = graph.op("real", Cast { to: DType::F32 }, &[sums.unwrap()]).unwrap();
        let factor = graph.op("factor", Binary(BinaryKind::Mul), &[scale, w_scale]).unwrap();
        let mut y = graph.op("y", Binary(BinaryKind::Mul), &[real, factor]).unwrap();
        if bias {
            let bias = graph.constant("bias", shaped(vec![1.0, -2.0, 3.0, 0.5, 0.0])).unwrap();
            y = graph.op("biased", Binary(BinaryKind::Add), &[y, bias]).unwrap();
        }
        graph.output(y).unwrap();
        (graph, shape)
    }

    #[test]
    fn dynamic_products_are_one_node_behind_their_quantization() {
        for form in 0..8 {
            let (mut graph, shape) = dynamic(form & 1 == 1, form & 2 == 2, form & 4 == 4);
            check(&mut graph, compute_on_integers, &[ramp(&shape)], 2);
        }
    }

    #[test]
    fn sums_that_are_wanted_as_integers_stay() {
        let (mut graph, shape) = dynamic(false, true, true);
        let sums = graph.nodes().unwrap().find(|(_, n)| n.name() == "sums").unwrap().1.output(0).unwrap();
        graph.output(sums).unwrap();
        let nodes = graph.node_count();
        check(&mut graph, compute_on_integers, &[ramp(&shape)], nodes);
    }
}
