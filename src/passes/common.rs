//! Lets equal nodes on equal inputs share one result.

use crate::error::Result;
use crate::graph::{Graph, NodeId, Patch, ValueId};
use std::collections::{HashMap, HashSet};

/// What must be equal before two nodes are compared by their attributes.
type Key = (&'static str, &'static str, Vec<Option<ValueId>>);

/// Nodes of one key that a node is compared with; past that it is likely that none is equal.
const CANDIDATES: usize = 32;

/// One walk and one patch, since each patch looks at every node.
pub(super) fn share_common(graph: &mut Graph) -> Result<usize> {
    let mut seen: HashMap<Key, Vec<NodeId>> = HashMap::new();
    let mut instead: HashMap<ValueId, ValueId> = HashMap::new();
    let outputs: HashSet<ValueId> = graph.outputs().iter().copied().collect();
    let mut patch = Patch::new();
    let mut shared = 0;
    for (id, node) in graph.nodes()? {
        if !node.op().is_pure() {
            continue;
        }
        let inputs = node.inputs().iter().map(|v| v.map(|v| instead.get(&v).copied().unwrap_or(v))).collect();
        let candidates = seen.entry((node.op().domain(), node.op().name(), inputs)).or_default();
        let twin = candidates.iter().filter_map(|c| graph.get(*c)).find(|other| {
            other.op().attrs() == node.op().attrs()
                && node.outputs().iter().enumerate().all(|(i, o)| o.is_none() || other.output(i).is_some())
        });
        let Some(twin) = twin else {
            if candidates.len() < CANDIDATES {
                candidates.push(id);
            }
            continue;
        };
        // Two outputs of the graph keep their own names.
        if node.outputs().iter().flatten().any(|v| outputs.contains(v)) {
            continue;
        }
        for (own, theirs) in node.outputs().iter().zip(twin.outputs()) {
            if let (Some(own), Some(theirs)) = (own, theirs) {
                patch.replace(*own, *theirs);
                instead.insert(*own, *theirs);
            }
        }
        shared += 1;
    }
    if shared > 0 {
        graph.apply(patch)?;
    }
    Ok(shared)
}
