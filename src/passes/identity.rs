//! Drops nodes whose output is one of their inputs.

use super::pattern::{constant, each, integers, replaceable, same_dims, scalar_beside, told};
use crate::error::Result;
use crate::graph::{Graph, Node, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Cast, CastLike, Clip, Unary, UnaryKind, Variadic, Where};
use crate::ops::image::{Coordinates, Resize};
use crate::ops::index::Slice;
use crate::ops::layout::{Concat, Expand, Flatten, Pad, Reshape, Split, Squeeze, Tile, Transpose, Unsqueeze};
use crate::ops::nn::Dropout;
use crate::ops::reduce::{Reduce, ReduceKind};
use crate::tensor::Dim;

pub(super) fn drop_identities(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| {
        let (x, y) = (source(graph, node)?, node.output(0)?);
        if !replaceable(graph, y, x) {
            return None;
        }
        let mut patch = Patch::new();
        patch.replace(y, x);
        Some(patch)
    })
}

/// The input that output 0 of the node equals for every request.
fn source(graph: &Graph, node: &Node) -> Option<ValueId> {
    let op = node.op();
    let holds = if let Some(Unary(kind)) = op.downcast_ref::<Unary>() {
        *kind == UnaryKind::Identity
    } else if let Some(Binary(kind)) = op.downcast_ref::<Binary>() {
        return neutral(graph, node, *kind);
    } else if op.is::<Where>() {
        return chosen(graph, node);
    } else if op.is::<Dropout>() {
        match node.input(2) {
            Some(training) => constant(graph, training)?.to_f64_vec().ok()? == [0.0],
            None => true,
        }
    } else if op.is::<Cast>() || op.is::<CastLike>() {
        graph.fact(node.input(0)?).dtype == graph.fact(node.output(0)?).dtype
    } else if op.is::<Concat>() || op.is::<Variadic>() {
        node.inputs().len() == 1
    } else if op.is::<Clip>() {
        open(graph, node, 1, f64::NEG_INFINITY) && open(graph, node, 2, f64::INFINITY)
    } else if let Some(resize) = op.downcast_ref::<Resize>() {
        let scales = constant(graph, node.input(2)?)?.to_f64_vec().ok()?;
        !scales.is_empty() && scales.iter().all(|&s| s == 1.0) && resize.coordinates != Coordinates::CropAndResize
    } else if op.is::<Pad>() {
        integers(graph, node.input(1)?)?.iter().all(|&n| n == 0)
    } else if let Some(transpose) = op.downcast_ref::<Transpose>() {
        let rank = graph.fact(node.input(0)?).rank().or(transpose.perm.as_ref().map(Vec::len))?;
        transpose.permutation(rank).ok()?.into_iter().eq(0..rank)
    } else {
        let told = node.inputs().iter().skip(1).flatten().all(|list| told(graph, *list));
        told && keeps_all(graph, node)? && same_dims(graph, node.input(0)?, node.output(0)?)
    };
    holds.then_some(node.input(0)?)
}

/// True for an operator whose output is its input whenever it has the same shape.
fn keeps_all(graph: &Graph, node: &Node) -> Option<bool> {
    let op = node.op();
    if op.is::<Slice>() {
        return Some(match node.input(4) {
            Some(steps) => integers(graph, steps)?.iter().all(|&step| step == 1),
            None => true,
        });
    }
    if let Some(reduce) = op.downcast_ref::<Reduce>() {
        use ReduceKind::*;
        return Some(matches!(reduce.kind, Sum | Mean | Max | Min | Prod));
    }
    let split = op.is::<Split>() && node.outputs().len() == 1;
    let reshape = op.is::<Reshape>() || op.is::<Flatten>() || op.is::<Squeeze>() || op.is::<Unsqueeze>();
    Some(split || reshape || op.is::<Expand>() || op.is::<Tile>())
}

/// True where `small` is broadcast to the shape of `large` for every request.
fn spreads(graph: &Graph, small: ValueId, large: ValueId) -> bool {
    let (Some(small), Some(large)) = (graph.fact(small).dims(), graph.fact(large).dims()) else { return false };
    let fits = |(own, dim): (&Dim, &Dim)| *own == Dim::Known(1) || (own == dim && *own != Dim::Unknown);
    small.len() <= large.len() && small.iter().rev().zip(large.iter().rev()).all(fits)
}

/// True where bound `index` of a `Clip` is absent or bounds nothing.
fn open(graph: &Graph, node: &Node, index: usize, infinity: f64) -> bool {
    node.input(index).is_none_or(|bound| super::pattern::scalar(graph, bound) == Some(infinity))
}

/// The operand beside the neutral element. Of floats -0 is what changes nothing when added, since -0 + 0 is 0.
fn neutral(graph: &Graph, node: &Node, kind: BinaryKind) -> Option<ValueId> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let float = graph.fact(a).dtype.is_float();
    let (element, commutes): (f64, bool) = match kind {
        BinaryKind::Add => (if float { -0.0 } else { 0.0 }, true),
        BinaryKind::Sub => (0.0, false),
        BinaryKind::Mul => (1.0, true),
        BinaryKind::Div | BinaryKind::Pow => (1.0, false),
        _ => return None,
    };
    let is_neutral = |value, x| scalar_beside(graph, value, x).is_some_and(|n| n.to_bits() == element.to_bits());
    if is_neutral(b, a) {
        return Some(a);
    }
    (commutes && is_neutral(a, b)).then_some(b)
}

/// The choice of a `Where` whose condition is the same everywhere.
fn chosen(graph: &Graph, node: &Node) -> Option<ValueId> {
    let condition = constant(graph, node.input(0)?)?.as_slice::<bool>().ok()?;
    let first = condition.first()?;
    if condition.iter().any(|c| c != first) {
        return None;
    }
    let value = node.input(if *first { 1 } else { 2 })?;
    let other = node.input(if *first { 2 } else { 1 })?;
    (same_dims(graph, value, node.output(0)?) && spreads(graph, other, value)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, list, number, ramp};
    use super::*;
    use crate::tensor::{DType, Fact, Tensor};

    #[test]
    fn a_chain_of_nothing_becomes_nothing() {
        let (mut graph, x) = graph_of(&[2, 3, 4]);
        let [zero, less_than_zero, one] = [0.0, -0.0, 1.0].map(|c| number(&mut graph, c));
        let (shape, axes) = (list(&mut graph, &[2, -1, 4]), list(&mut graph, &[1]));
        let (none, all, pads) =
            (list(&mut graph, &[0]), list(&mut graph, &[i64::MAX]), list(&mut graph, &[0, 0, 0, 0, 0, 0]));
        let yes = graph.constant("yes", Tensor::scalar(true)).unwrap();
        let mut y = graph.op("relu", Unary(UnaryKind::Relu), &[x]).unwrap();
        y = graph.op("identity", Unary(UnaryKind::Identity), &[y]).unwrap();
        y = graph.op("dropout", Dropout::default(), &[y]).unwrap();
        y = graph.op("cast", Cast { to: DType::F32 }, &[y]).unwrap();
        y = graph.op("add", Binary(BinaryKind::Add), &[less_than_zero, y]).unwrap();
        y = graph.op("sub", Binary(BinaryKind::Sub), &[y, zero]).unwrap();
        y = graph.op("mul", Binary(BinaryKind::Mul), &[y, one]).unwrap();
        y = graph.op("div", Binary(BinaryKind::Div), &[y, one]).unwrap();
        y = graph.op("reshape", Reshape::default(), &[y, shape]).unwrap();
        y = graph.op("slice", Slice, &[y, none, all, axes]).unwrap();
        y = graph.op("concat", Concat { axis: 0 }, &[y]).unwrap();
        y = graph.op("clip", Clip, &[y]).unwrap();
        y = graph.op("pad", Pad { mode: Default::default() }, &[y, pads]).unwrap();
        y = graph.op("where", Where, &[yes, y, zero]).unwrap();
        y = graph.op("transpose", Transpose { perm: Some(vec![0, 1, 2]) }, &[y]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, drop_identities, &[ramp(&[2, 3, 4])], 1);
        assert_eq!(graph.value(graph.outputs()[0]).name(), "transpose");
    }

    #[test]
    fn a_zero_keeps_its_sign() {
        use BinaryKind::{Add, Sub};
        let x = Tensor::vector(vec![0.0f32, -0.0, 1.0]);
        for (kind, added, nodes) in [(Add, 0.0, 3), (Add, -0.0, 2), (Sub, 0.0, 2), (Sub, -0.0, 3)] {
            let mut graph = Graph::new("test");
            let input = graph.input("x", Fact::concrete(DType::F32, &[3])).unwrap();
            let added = number(&mut graph, added);
            let y = graph.op("negated", Unary(UnaryKind::Neg), &[input]).unwrap();
            let y = graph.op("sum", Binary(kind), &[y, added]).unwrap();
            let y = graph.op("sign", Unary(UnaryKind::Reciprocal), &[y]).unwrap();
            graph.output(y).unwrap();
            let before = graph.interpret(std::slice::from_ref(&x)).unwrap();
            drop_identities(&mut graph).unwrap();
            assert_eq!(graph.node_count(), nodes, "{kind:?}");
            assert_eq!(graph.interpret(std::slice::from_ref(&x)).unwrap(), before, "{kind:?}");
        }
    }

    #[test]
    fn what_changes_something_stays() {
        let (mut graph, x) = graph_of(&[4]);
        let (one, zero) = (number(&mut graph, 1.0), number(&mut graph, 0.0));
        let wide = graph.constant("wide", Tensor::new([1, 1], vec![0.0f32]).unwrap()).unwrap();
        let back = list(&mut graph, &[-1]);
        let (before, axis) = (list(&mut graph, &[i64::MIN]), list(&mut graph, &[0]));
        let a = graph.op("from zero", Binary(BinaryKind::Sub), &[zero, x]).unwrap();
        let b = graph.op("another rank", Binary(BinaryKind::Add), &[a, wide]).unwrap();
        let c = graph.op("reversed", Slice, &[x, back, before, axis, back]).unwrap();
        let d = graph.op("plus one", Binary(BinaryKind::Add), &[c, one]).unwrap();
        let e = graph.op("an output of its own", Unary(UnaryKind::Identity), &[x]).unwrap();
        for output in [b, d, e] {
            graph.output(output).unwrap();
        }
        check(&mut graph, drop_identities, &[ramp(&[4])], 5);
    }
}
