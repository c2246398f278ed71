//! Gated and bounded activations out of the arithmetic that spells them.
//!
//! At minus infinity the gate is shut and the one operator yields the limit, 0, where the arithmetic yields NaN, the
//! product of infinity and 0: the one place where a recognized activation differs from what is spelled.

use super::pattern::{constant, each, scalar, scalar_beside, unary, unary_operand};
use super::polynomial::{Polynomial, Reading, arguments, root};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Operand, Patch, ValueId};
use crate::ops::elementwise::{Clip, Unary, UnaryKind, Variadic, VariadicKind};
use crate::tensor::Tensor;
use std::sync::Arc;

pub(super) fn recognize_activations(graph: &mut Graph) -> Result<usize> {
    let bounds = each(graph, |graph, _, node| bound(graph, node))?;
    let nested = each(graph, |graph, _, node| nested(graph, node))?;
    Ok(bounds + nested + each(graph, |graph, id, node| gate(graph, id, node).or_else(|| hard(graph, node)))?)
}

/// `factor * x^i e^j`.
fn term(i: usize, j: usize, factor: f64) -> Polynomial {
    let mut p = Polynomial::in_x([0.0; 4]);
    p.0[j][i] = factor;
    p
}

fn replaced(y: ValueId, name: &str, kind: UnaryKind, x: ValueId) -> Patch {
    let mut patch = Patch::new();
    let made = patch.op(name, Unary(kind), &[x.into()]);
    patch.replace(y, made);
    patch
}

/// `x e` where e is a function of x that has a name when it gates x; the node yields e.
fn gate(graph: &Graph, id: NodeId, node: &Node) -> Option<Patch> {
    let (argument, e) = (node.input(0)?, node.output(0)?);
    let product = term(1, 1, 1.0);
    match unary(node)? {
        UnaryKind::Sigmoid => arguments(graph, argument).into_iter().find_map(|x| {
            let mut reading = Reading::new(graph, x, None);
            let linear = reading.read(argument)?;
            let alpha = linear.0[0][1];
            if alpha == 0.0 || linear != term(1, 0, alpha) {
                return None;
            }
            let y = root(graph, x, e, &product, &reading.nodes)?;
            Some(replaced(y, node.name(), UnaryKind::Swish { alpha: alpha as f32 }, x))
        }),
        UnaryKind::HardSigmoid { alpha, beta } if (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5 => {
            let y = root(graph, argument, e, &product, &[])?;
            Some(replaced(y, node.name(), UnaryKind::HardSwish, argument))
        }
        UnaryKind::Tanh => {
            let (softplus, x) = unary_operand(graph, argument, UnaryKind::Softplus)?;
            let y = root(graph, x, e, &product, &[softplus, id])?;
            Some(replaced(y, node.name(), UnaryKind::Mish, x))
        }
        _ => None,
    }
}

/// `Clip(x + 3, 0, 6) / 6`, times x or not; the node is the `Clip`.
fn hard(graph: &Graph, node: &Node) -> Option<Patch> {
    node.op().downcast_ref::<Clip>()?;
    if scalar(graph, node.input(1)?)? != 0.0 || scalar(graph, node.input(2)?)? != 6.0 {
        return None;
    }
    let (argument, e) = (node.input(0)?, node.output(0)?);
    let sum = Polynomial::in_x([3.0, 1.0, 0.0, 0.0]);
    arguments(graph, argument).into_iter().find_map(|x| {
        let mut reading = Reading::new(graph, x, None);
        if !reading.read(argument)?.is(&sum, graph.fact(x).dtype) {
            return None;
        }
        let hard_sigmoid = UnaryKind::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };
        [(term(1, 1, 1.0 / 6.0), UnaryKind::HardSwish), (term(0, 1, 1.0 / 6.0), hard_sigmoid)].into_iter().find_map(
            |(wanted, kind)| {
                let y = root(graph, x, e, &wanted, &reading.nodes)?;
                Some(replaced(y, node.name(), kind, x))
            },
        )
    })
}

fn clip(node: &Node, x: ValueId, bounds: [Option<Tensor>; 2]) -> Option<Patch> {
    let mut patch = Patch::new();
    let mut inputs: Vec<Option<Operand>> = vec![Some(x.into())];
    inputs.extend(bounds.map(|bound| bound.map(|bound| patch.constant("bound", bound))));
    let made = patch.node(node.name(), Arc::new(Clip), &inputs, 1);
    patch.replace(node.output(0)?, made[0]);
    Some(patch)
}

/// `Max` or `Min` with a scalar as a `Clip` with one bound.
fn bound(graph: &Graph, node: &Node) -> Option<Patch> {
    let Variadic(kind) = node.op().downcast_ref::<Variadic>()?;
    let (&[Some(a), Some(b)], VariadicKind::Max | VariadicKind::Min) = (node.inputs(), kind) else { return None };
    let (x, bound) = if constant(graph, b).is_some() { (a, b) } else { (b, a) };
    if scalar_beside(graph, bound, x)?.is_nan() {
        return None;
    }
    let bound = Some(constant(graph, bound)?.reshaped([]).ok()?);
    clip(node, x, if *kind == VariadicKind::Max { [bound, None] } else { [None, bound] })
}

/// What a node holds its input between: a `Clip`, or a `Relu` as one.
fn bounds(graph: &Graph, node: &Node) -> Option<(f64, f64)> {
    if unary(node) == Some(UnaryKind::Relu) {
        return Some((0.0, f64::INFINITY));
    }
    node.op().downcast_ref::<Clip>()?;
    let at = |index: usize, open: f64| node.input(index).map_or(Some(open), |value| scalar(graph, value));
    let (low, high) = (at(1, f64::NEG_INFINITY)?, at(2, f64::INFINITY)?);
    (low <= high).then_some((low, high))
}

/// A `Clip` of what is held between bounds already.
fn nested(graph: &Graph, node: &Node) -> Option<Patch> {
    node.op().downcast_ref::<Clip>()?;
    let (low, high) = bounds(graph, node)?;
    let value = node.input(0)?;
    graph.single_user(value)?;
    let (_, before) = graph.producer(value)?;
    let (inner_low, inner_high) = bounds(graph, before)?;
    let dtype = graph.fact(value).dtype;
    if !dtype.is_float() {
        return None;
    }
    let number = |n: f64| Tensor::scalar(n.clamp(low, high)).cast(dtype).ok().map(Some);
    clip(node, before.input(0)?, [number(inner_low)?, number(inner_high)?])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, number, ramp};
    use super::*;
    use crate::ops::elementwise::{Binary, BinaryKind};

    fn only_op(graph: &Graph) -> &'static str {
        graph.nodes().unwrap().next().unwrap().1.op().name()
    }

    #[test]
    fn gates_are_found() {
        let hard = UnaryKind::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };
        for (kind, name) in [(UnaryKind::Sigmoid, "Swish"), (hard, "HardSwish"), (UnaryKind::Tanh, "Mish")] {
            let (mut graph, x) = graph_of(&[64]);
            let mut a = x;
            if kind == UnaryKind::Tanh {
                a = graph.op("softplus", Unary(UnaryKind::Softplus), &[a]).unwrap();
            }
            let gate = graph.op("gate", Unary(kind), &[a]).unwrap();
            let y = graph.op("y", Binary(BinaryKind::Mul), &[gate, x]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, recognize_activations, &[ramp(&[64])], 1);
            assert_eq!(only_op(&graph), name);
        }
    }

    #[test]
    fn a_gate_that_is_wanted_itself_stays() {
        let (mut graph, x) = graph_of(&[64]);
        let gate = graph.op("gate", Unary(UnaryKind::Sigmoid), &[x]).unwrap();
        let y = graph.op("y", Binary(BinaryKind::Mul), &[gate, x]).unwrap();
        graph.output(gate).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, recognize_activations, &[ramp(&[64])], 2);
    }

    #[test]
    fn the_hard_ones_are_found_behind_max_and_min() {
        for (divided_first, gated, name) in
            [(false, true, "HardSwish"), (true, true, "HardSwish"), (true, false, "HardSigmoid")]
        {
            let (mut graph, x) = graph_of(&[64]);
            let [three, zero, six] = [3.0, 0.0, 6.0].map(|c| number(&mut graph, c));
            let sum = graph.op("sum", Binary(BinaryKind::Add), &[x, three]).unwrap();
            let low = graph.op("low", Variadic(VariadicKind::Max), &[zero, sum]).unwrap();
            let mut y = graph.op("high", Variadic(VariadicKind::Min), &[low, six]).unwrap();
            for divide in [divided_first, !divided_first] {
                if divide {
                    y = graph.op("sixth", Binary(BinaryKind::Div), &[y, six]).unwrap();
                } else if gated {
                    y = graph.op("gate", Binary(BinaryKind::Mul), &[x, y]).unwrap();
                }
            }
            graph.output(y).unwrap();
            check(&mut graph, recognize_activations, &[ramp(&[64])], 1);
            assert_eq!(only_op(&graph), name);
        }
        let (mut graph, x) = graph_of(&[64]);
        let [four, zero, six] = [4.0, 0.0, 6.0].map(|c| number(&mut graph, c));
        let sum = graph.op("sum", Binary(BinaryKind::Add), &[x, four]).unwrap();
        let clip = graph.op("clip", Clip, &[sum, zero, six]).unwrap();
        let y = graph.op("sixth", Binary(BinaryKind::Div), &[clip, six]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, recognize_activations, &[ramp(&[64])], 3);
    }

    #[test]
    fn bounds_within_bounds_become_one_pair() {
        let (mut graph, x) = graph_of(&[64]);
        let [a, b] = [-1.0, 6.0].map(|c| number(&mut graph, c));
        let y = graph.op("relu", Unary(UnaryKind::Relu), &[x]).unwrap();
        let y = graph.op("clip", Clip, &[y, a, b]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, recognize_activations, &[ramp(&[64])], 1);
    }
}
