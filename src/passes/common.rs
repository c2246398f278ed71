//! Lets equal nodes on equal inputs share one result.

use crate::error::Result;
use crate::graph::{Graph, NodeId, Patch, ValueId};
use std::collections::HashMap;

/// What must be equal before two nodes are compared by their attributes.
type Key = (&'static str, &'static str, Vec<Option<ValueId>>);

pub(super) fn share_common(graph: &mut Graph) -> Result<usize> {
    let mut seen: HashMap<Key, Vec<NodeId>> = HashMap::new();
    let mut shared = 0;
    for id in graph.node_ids()? {
        let Some(node) = graph.get(id) else { continue };
        if !node.op().is_pure() {
            continue;
        }
        let key = (node.op().domain(), node.op().name(), node.inputs().to_vec());
        let candidates = seen.entry(key).or_default();
        let twin = candidates.iter().filter_map(|c| graph.get(*c)).find(|other| {
            other.op().attrs() == node.op().attrs()
                && node.outputs().iter().enumerate().all(|(i, o)| o.is_none() || other.output(i).is_some())
        });
        let Some(twin) = twin else {
            candidates.push(id);
            continue;
        };
        // Two outputs of the graph keep their own names.
        if node.outputs().iter().flatten().any(|v| graph.is_output(*v)) {
            continue;
        }
        let mut patch = Patch::new();
        for (own, theirs) in node.outputs().iter().zip(twin.outputs()) {
            if let (Some(own), Some(theirs)) = (own, theirs) {
                patch.replace(*own, *theirs);
            }
        }
        graph.apply(patch)?;
        shared += 1;
    }
    Ok(shared)
}
