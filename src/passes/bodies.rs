//! Optimizes subgraphs, moves captured constants into them, and settles the shapes of branches.

use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::control::If;
use crate::ops::{Attr, Body, Budget};
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::sync::Arc;

pub(super) fn optimize_bodies(graph: &mut Graph, budget: &Budget, integers: bool) -> Result<usize> {
    let mut changed = 0;
    for id in graph.node_ids()? {
        let Some(node) = graph.get(id) else { continue };
        let attrs = node.op().attrs();
        let bodies: Option<Vec<&Graph>> = attrs
            .iter()
            .filter_map(|(_, attr)| if let Attr::Body(body) = attr { Some(body) } else { None })
            .map(|body| (body.as_ref() as &dyn Any).downcast_ref::<Graph>())
            .collect();
        let Some(bodies) = bodies.filter(|b| !b.is_empty()) else { continue };
        let first = node.inputs().len() - node.op().captures();
        let captured = &node.inputs()[first..];
        let constants: Vec<Option<Tensor>> =
            captured.iter().map(|v| v.and_then(|v| graph.constant_of(v)).cloned()).collect();
        let mut count = constants.iter().flatten().count();
        let mut rewritten: Vec<Arc<dyn Body>> = Vec::with_capacity(bodies.len());
        for body in bodies {
            let mut body = body.clone();
            let formal = body.inputs().len() - captured.len();
            for (index, constant) in constants.iter().enumerate().rev() {
                if let Some(constant) = constant {
                    body.bind_input(formal + index, constant.clone())?;
                }
            }
            if node.op().is::<If>()
                && let Some(settled) = settled(graph, &body, captured.iter().zip(&constants))
            {
                count += 1;
                body = settled;
            }
            count += super::optimize_on(&mut body, budget, integers)?.changes.iter().map(|(_, n)| n).sum::<usize>();
            rewritten.push(Arc::new(body));
        }
        if count == 0 {
            continue;
        }
        let kept: Vec<_> =
            captured.iter().zip(&constants).filter(|(_, constant)| constant.is_none()).map(|(v, _)| v).collect();
        let Some(op) = node.op().with_bodies(rewritten, kept.len()) else { continue };
        let inputs: Vec<_> = node.inputs()[..first].iter().chain(kept).map(|v| v.map(Into::into)).collect();
        let mut patch = Patch::new();
        let made = patch.node(node.name(), op, &inputs, node.outputs().len());
        for (old, new) in node.outputs().iter().zip(made) {
            if let Some(old) = old {
                patch.replace(*old, new);
            }
        }
        graph.apply(patch)?;
        changed += count;
    }
    Ok(changed)
}

/// The branch at the shapes of what it captures, where they are known and the branch does not know them yet. A branch
/// that cannot have these shapes is one that is never taken.
fn settled<'a>(
    graph: &Graph,
    body: &Graph,
    captured: impl Iterator<Item = (&'a Option<ValueId>, &'a Option<Tensor>)>,
) -> Option<Graph> {
    let left = captured.filter(|(_, constant)| constant.is_none());
    let shapes: Vec<Shape> =
        left.map(|(v, _)| v.and_then(|v| graph.fact(v).concrete_shape())).collect::<Option<_>>()?;
    if body.inputs().iter().all(|v| body.fact(*v).concrete_shape().is_some()) {
        return None;
    }
    body.specialize(&shapes).ok()
}
