//! Layer and root-mean-square normalization out of the means, squares and quotients that spell them.

use super::pattern::{binary, constant, each, integers, scalar_beside, sealed, unary_operand};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::elementwise::{BinaryKind, UnaryKind};
use crate::ops::nn::{LayerNormalization, RmsNormalization};
use crate::ops::reduce::{Reduce, ReduceKind};
use crate::tensor::Tensor;
use std::sync::Arc;

pub(super) fn recognize_layer_norm(graph: &mut Graph) -> Result<usize> {
    each(graph, normalization)
}

/// A value over the root of its mean square.
struct Scaled {
    value: ValueId,
    axes: usize,
    epsilon: f32,
    /// The nodes of the mean square and its root.
    inner: Vec<NodeId>,
}

/// The mean of a value over its last axes, which stay with length 1: the node, the value, and how many axes.
fn mean(graph: &Graph, mean: ValueId) -> Option<(NodeId, ValueId, usize)> {
    let (id, node) = graph.producer(mean)?;
    let reduce = node.op().downcast_ref::<Reduce>()?;
    let x = node.input(0)?;
    let mut axes = integers(graph, node.input(1)?)?;
    if reduce.kind != ReduceKind::Mean || !reduce.keep_dims || axes.is_empty() {
        return None;
    }
    if let Some(rank) = graph.fact(x).rank() {
        axes.iter_mut().filter(|axis| **axis >= 0).for_each(|axis| *axis -= rank as i64);
    }
    crate::order::sort(&mut axes);
    let count = axes.len();
    axes.into_iter().eq(-(count as i64)..0).then_some((id, x, count))
}

/// The node that squares a value, and that value.
fn square(graph: &Graph, value: ValueId) -> Option<(NodeId, ValueId)> {
    let (id, node) = graph.producer(value)?;
    if let Some([a, b]) = binary(node, BinaryKind::Mul) {
        return (a == b).then_some((id, a));
    }
    let [a, b] = binary(node, BinaryKind::Pow)?;
    (scalar_beside(graph, b, a)? == 2.0).then_some((id, a))
}

/// `mean(value²) + epsilon`.
fn mean_square(graph: &Graph, sum: ValueId) -> Option<Scaled> {
    let (add, node) = graph.producer(sum)?;
    let [a, b] = binary(node, BinaryKind::Add)?;
    let (squares, epsilon) = if constant(graph, b).is_some() { (a, b) } else { (b, a) };
    let epsilon = scalar_beside(graph, epsilon, squares)? as f32;
    let (reduce, squares, axes) = mean(graph, squares)?;
    let (power, value) = square(graph, squares)?;
    Some(Scaled { value, axes, epsilon, inner: vec![add, reduce, power] })
}

/// The root of a mean square, by a root or a power.
fn deviation(graph: &Graph, root: ValueId, power: f64) -> Option<Scaled> {
    let (id, sum) = unary_operand(graph, root, UnaryKind::Sqrt).filter(|_| power > 0.0).or_else(|| {
        let (id, node) = graph.producer(root)?;
        let [sum, exponent] = binary(node, BinaryKind::Pow)?;
        (scalar_beside(graph, exponent, sum)? == power).then_some((id, sum))
    })?;
    let mut scaled = mean_square(graph, sum)?;
    scaled.inner.push(id);
    Some(scaled)
}

/// One over that root.
fn inverse(graph: &Graph, value: ValueId) -> Option<Scaled> {
    if let Some(scaled) = deviation(graph, value, -0.5) {
        return Some(scaled);
    }
    let (id, root) = unary_operand(graph, value, UnaryKind::Reciprocal).or_else(|| {
        let (id, node) = graph.producer(value)?;
        let [one, root] = binary(node, BinaryKind::Div)?;
        (scalar_beside(graph, one, root)? == 1.0).then_some((id, root))
    })?;
    let mut scaled = deviation(graph, root, 0.5)?;
    scaled.inner.push(id);
    Some(scaled)
}

/// The quotient that a node is.
fn quotient(graph: &Graph, node: &Node) -> Option<Scaled> {
    if let Some([value, root]) = binary(node, BinaryKind::Div) {
        return deviation(graph, root, 0.5).filter(|scaled| scaled.value == value);
    }
    let [a, b] = binary(node, BinaryKind::Mul)?;
    [(a, b), (b, a)].into_iter().find_map(|(value, root)| inverse(graph, root).filter(|scaled| scaled.value == value))
}

/// A constant of one number for each element of the normalized axes, and the node that applies it to `value`.
fn parameter(graph: &Graph, value: ValueId, kind: BinaryKind, row: &[usize]) -> Option<(NodeId, ValueId, Tensor)> {
    let (id, node) = graph.single_user(value)?;
    let [a, b] = binary(node, kind)?;
    let tensor = constant(graph, if a == value { b } else { a })?;
    let leading = tensor.rank().checked_sub(row.len())?;
    let (outer, own) = tensor.shape().split_at(leading);
    let fits = own == row && outer.iter().all(|&n| n == 1) && tensor.rank() <= graph.fact(value).rank()?;
    Some((id, node.output(0)?, tensor.reshaped(row).ok()?)).filter(|_| fits)
}

fn normalization(graph: &Graph, id: NodeId, node: &Node) -> Option<Patch> {
    let scaled = quotient(graph, node)?;
    let fact = graph.fact(scaled.value);
    let dims = fact.dims()?;
    let row: Vec<usize> =
        dims.get(dims.len().checked_sub(scaled.axes)?..)?.iter().map(|d| d.known()).collect::<Option<_>>()?;
    if !fact.dtype.is_float() || !sealed(graph, &scaled.inner, id) {
        return None;
    }
    let centered = centered(graph, &scaled, id);
    let mut y = node.output(0)?;
    let scale = match parameter(graph, y, BinaryKind::Mul, &row) {
        Some((_, product, scale)) => {
            y = product;
            scale
        }
        None => Tensor::new(row.as_slice(), vec![1.0f32; row.iter().product()]).ok()?.cast(fact.dtype).ok()?,
    };
    let mut patch = Patch::new();
    let (x, axis, epsilon) = (centered.unwrap_or(scaled.value), -(scaled.axes as i64), scaled.epsilon);
    let mut inputs: Vec<Option<Operand>> = vec![Some(x.into()), Some(patch.constant("scale", scale))];
    let op: Arc<dyn Op> = if centered.is_some() {
        if let Some((_, sum, bias)) = parameter(graph, y, BinaryKind::Add, &row) {
            y = sum;
            inputs.push(Some(patch.constant("bias", bias)));
        }
        Arc::new(LayerNormalization { axis, epsilon })
    } else {
        Arc::new(RmsNormalization { axis, epsilon })
    };
    let made = patch.node(node.name(), op, &inputs, 1);
    patch.replace(y, made[0]);
    Some(patch)
}

/// The x of `x - mean(x)`, where that is what is scaled and nothing else wants it.
fn centered(graph: &Graph, scaled: &Scaled, quotient: NodeId) -> Option<ValueId> {
    let (id, node) = graph.producer(scaled.value)?;
    let [x, means] = binary(node, BinaryKind::Sub)?;
    let (reduce, of, axes) = mean(graph, means)?;
    let mut inner = scaled.inner.clone();
    inner.extend([id, reduce]);
    (of == x && axes == scaled.axes && sealed(graph, &inner, quotient)).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, list, number, ramp};
    use super::*;
    use crate::ops::elementwise::{Binary, Unary};

    #[derive(Clone, Copy, PartialEq)]
    enum Form {
        Divided,
        Reciprocal,
        Power,
    }

    fn written(form: Form, center: bool, axes: &[i64]) -> Graph {
        let (mut graph, x) = graph_of(&[2, 4, 8]);
        let reduce = Reduce { kind: ReduceKind::Mean, keep_dims: true, noop_with_empty_axes: false };
        let axes = list(&mut graph, axes);
        let (two, half, eps) = (number(&mut graph, 2.0), number(&mut graph, -0.5), number(&mut graph, 1e-3));
        let mut d = x;
        if center {
            let mean = graph.op("mean", reduce, &[x, axes]).unwrap();
            d = graph.op("d", Binary(BinaryKind::Sub), &[x, mean]).unwrap();
        }
        let square = match form {
            Form::Divided => graph.op("square", Binary(BinaryKind::Pow), &[d, two]).unwrap(),
            _ => graph.op("square", Binary(BinaryKind::Mul), &[d, d]).unwrap(),
        };
        let variance = graph.op("variance", reduce, &[square, axes]).unwrap();
        let sum = graph.op("sum", Binary(BinaryKind::Add), &[variance, eps]).unwrap();
        let scaled = if form == Form::Power {
            let root = graph.op("root", Binary(BinaryKind::Pow), &[sum, half]).unwrap();
            graph.op("scaled", Binary(BinaryKind::Mul), &[root, d]).unwrap()
        } else {
            let root = graph.op("root", Unary(UnaryKind::Sqrt), &[sum]).unwrap();
            if form == Form::Divided {
                graph.op("scaled", Binary(BinaryKind::Div), &[d, root]).unwrap()
            } else {
                let inverse = graph.op("inverse", Unary(UnaryKind::Reciprocal), &[root]).unwrap();
                graph.op("scaled", Binary(BinaryKind::Mul), &[d, inverse]).unwrap()
            }
        };
        let gamma = graph.constant("gamma", ramp(&[8])).unwrap();
        let beta = graph.constant("beta", ramp(&[1, 8])).unwrap();
        let y = graph.op("gamma", Binary(BinaryKind::Mul), &[gamma, scaled]).unwrap();
        let y = graph.op("beta", Binary(BinaryKind::Add), &[y, beta]).unwrap();
        graph.output(y).unwrap();
        graph
    }

    #[test]
    fn every_spelling_becomes_one_node() {
        let input = [ramp(&[2, 4, 8])];
        for form in [Form::Divided, Form::Reciprocal, Form::Power] {
            check(&mut written(form, true, &[-1]), recognize_layer_norm, &input, 1);
            check(&mut written(form, true, &[2]), recognize_layer_norm, &input, 1);
            // The sum after a root-mean-square normalization stays.
            check(&mut written(form, false, &[-1]), recognize_layer_norm, &input, 2);
        }
        // The parameters are vectors, so two normalized axes leave them outside.
        check(&mut written(Form::Divided, true, &[1, 2]), recognize_layer_norm, &input, 3);
    }

    #[test]
    fn another_axis_or_another_use_keeps_the_parts() {
        let input = [ramp(&[2, 4, 8])];
        check(&mut written(Form::Divided, true, &[1]), recognize_layer_norm, &input, 9);
        let mut graph = written(Form::Divided, true, &[-1]);
        let variance = graph.nodes().unwrap().find(|(_, n)| n.name() == "variance").unwrap().1.output(0).unwrap();
        graph.output(variance).unwrap();
        check(&mut graph, recognize_layer_norm, &input, 9);
    }
}
