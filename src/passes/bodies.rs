//! Optimizes subgraphs, and moves captured constants into them.

use crate::error::Result;
use crate::graph::{Graph, Patch};
use crate::ops::{Attr, Body, Budget};
use crate::tensor::Tensor;
use std::any::Any;
use std::sync::Arc;

pub(super) fn optimize_bodies(graph: &mut Graph, budget: &Budget) -> Result<usize> {
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
            count += super::optimize_on(&mut body, budget)?.changes.iter().map(|(_, n)| n).sum::<usize>();
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
