//! A `Transpose` of a `Transpose` is one of the axes' combined order, or nothing.

use super::pattern::{each, replaceable};
use crate::error::Result;
use crate::graph::{Graph, Node, Patch};
use crate::ops::layout::Transpose;

pub(super) fn join_transposes(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| join(graph, node))
}

fn join(graph: &Graph, node: &Node) -> Option<Patch> {
    let outer = node.op().downcast_ref::<Transpose>()?;
    let (_, before) = graph.producer(node.input(0)?)?;
    let inner = before.op().downcast_ref::<Transpose>()?;
    let (x, y) = (before.input(0)?, node.output(0)?);
    let rank = graph.fact(x).rank()?;
    let (inner, outer) = (inner.permutation(rank).ok()?, outer.permutation(rank).ok()?);
    let perm: Vec<usize> = outer.iter().map(|&axis| inner[axis]).collect();
    let mut patch = Patch::new();
    if perm.iter().copied().eq(0..rank) && replaceable(graph, y, x) {
        patch.replace(y, x);
        return Some(patch);
    }
    graph.single_user(node.input(0)?)?;
    let joined = patch.op(node.name(), Transpose { perm: Some(perm) }, &[x.into()]);
    patch.replace(y, joined);
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};

    fn chain(perms: [&[usize]; 2], middle: bool) -> Graph {
        let (mut graph, x) = graph_of(&[2, 3, 4]);
        let x = graph.op("relu", Unary(UnaryKind::Relu), &[x]).unwrap();
        let a = graph.op("a", Transpose { perm: Some(perms[0].to_vec()) }, &[x]).unwrap();
        let b = graph.op("b", Transpose { perm: Some(perms[1].to_vec()) }, &[a]).unwrap();
        graph.output(b).unwrap();
        if middle {
            graph.output(a).unwrap();
        }
        graph
    }

    #[test]
    fn two_become_one_or_none() {
        let input = [ramp(&[2, 3, 4])];
        check(&mut chain([&[1, 2, 0], &[2, 0, 1]], false), join_transposes, &input, 1);
        check(&mut chain([&[1, 2, 0], &[1, 2, 0]], false), join_transposes, &input, 2);
        check(&mut chain([&[1, 2, 0], &[1, 2, 0]], true), join_transposes, &input, 3);
    }
}
