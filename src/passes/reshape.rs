//! Reshapes by constants where shape arithmetic says no more than that, and one where there were several in a row.

use super::pattern::{constant, each, integers, told};
use crate::error::Result;
use crate::graph::{Graph, Node, Patch};
use crate::ops::layout::{Flatten, Reshape, Squeeze, Unsqueeze};
use crate::ops::{Inputs, Op};
use crate::tensor::{Dim, Fact, Tensor};

pub(super) fn simplify_reshapes(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| {
        let reshape = node.op().downcast_ref::<Reshape>()?;
        constant_target(graph, node, reshape).or_else(|| skip(graph, node, reshape))
    })
}

/// A computed target as a constant: an axis that x has at the same place is copied, and one other may be left free.
fn constant_target(graph: &Graph, node: &Node, reshape: &Reshape) -> Option<Patch> {
    let (x, target) = (node.input(0)?, node.input(1)?);
    if reshape.allow_zero || constant(graph, target).is_some() || !told(graph, target) {
        return None;
    }
    let facts: Vec<Option<&Fact>> = node.inputs().iter().map(|v| v.map(|v| graph.fact(v))).collect();
    let inferred = reshape.infer(Inputs::new(&facts)).ok()?;
    let own = graph.fact(x).dims().unwrap_or(&[]);
    let mut lengths = Vec::new();
    for (axis, dim) in inferred.first()?.dims()?.iter().enumerate() {
        lengths.push(match dim {
            Dim::Known(0) => return None,
            Dim::Known(n) => i64::try_from(*n).ok()?,
            Dim::Symbol(_) if own.get(axis) == Some(dim) => 0,
            _ => -1,
        });
    }
    if lengths.iter().filter(|&&n| n == -1).count() > 1 {
        return None;
    }
    let mut patch = Patch::new();
    let target = patch.constant("shape", Tensor::vector(lengths));
    let y = patch.op(node.name(), reshape.clone(), &[x.into(), target]);
    patch.replace(node.output(0)?, y);
    Some(patch)
}

/// What counts the elements by other axes before does not matter to a target that copies none of them.
fn skip(graph: &Graph, node: &Node, reshape: &Reshape) -> Option<Patch> {
    let target = node.input(1)?;
    if integers(graph, target)?.contains(&0) {
        return None;
    }
    let (_, before) = graph.producer(node.input(0)?)?;
    let op = before.op();
    if !(op.is::<Reshape>() || op.is::<Flatten>() || op.is::<Squeeze>() || op.is::<Unsqueeze>()) {
        return None;
    }
    if !before.inputs().iter().skip(1).flatten().all(|list| told(graph, *list)) {
        return None;
    }
    let mut patch = Patch::new();
    let y = patch.op(node.name(), reshape.clone(), &[before.input(0)?.into(), target.into()]);
    patch.replace(node.output(0)?, y);
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, list, ramp};
    use super::*;
    use crate::ops::layout::{Concat, ShapeOf};
    use crate::tensor::{DType, Symbol};

    #[test]
    fn the_last_of_several_reshapes_wins() {
        for (target, nodes) in [([6, -1], 1), ([0, -1], 2)] {
            let (mut graph, x) = graph_of(&[2, 3, 4]);
            let (flat, target) = (list(&mut graph, &[-1]), list(&mut graph, &target));
            let a = graph.op("flat", Reshape::default(), &[x, flat]).unwrap();
            let b = graph.op("reshape", Reshape::default(), &[a, target]).unwrap();
            graph.output(b).unwrap();
            check(&mut graph, simplify_reshapes, &[ramp(&[2, 3, 4])], nodes);
        }
    }

    #[test]
    fn a_target_of_symbols_becomes_a_constant() {
        let symbol = |name| Dim::Symbol(Symbol::new(name));
        for last in [Dim::Known(6), symbol("M"), Dim::Unknown] {
            let mut graph = Graph::new("test");
            let fact = Fact::new(DType::F32, vec![symbol("N"), symbol("S"), last]);
            let x = graph.input("x", fact).unwrap();
            let rest = list(&mut graph, &[2, -1]);
            let lead = graph.op("lead", ShapeOf { start: 0, end: Some(2) }, &[x]).unwrap();
            let target = graph.op("target", Concat { axis: 0 }, &[lead, rest]).unwrap();
            let y = graph.op("y", Reshape::default(), &[x, target]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, simplify_reshapes, &[ramp(&[2, 3, 6])], 1);
        }
        let mut graph = Graph::new("test");
        let x = graph.input("x", Fact::new(DType::F32, vec![symbol("N"), symbol("S")])).unwrap();
        let target = graph.input("target", Fact::concrete(DType::I64, &[2])).unwrap();
        let y = graph.op("y", Reshape::default(), &[x, target]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, simplify_reshapes, &[ramp(&[2, 6]), Tensor::vector(vec![3i64, 4])], 1);
        assert_eq!(graph.inputs().len(), 2);
        assert!(graph.nodes().unwrap().all(|(_, node)| node.input(1) == Some(target)));
    }
}
