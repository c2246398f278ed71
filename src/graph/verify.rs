//! The rules every graph keeps: no cycle, edges that agree from both ends, outputs that somebody yields.

use super::{Graph, NodeId, Value, ValueId};
use crate::error::{Result, bail, ensure};
use crate::order::sort;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Kahn's algorithm, the smallest id first among the ready.
pub(super) fn topological_order(graph: &Graph) -> Result<Arc<[NodeId]>> {
    let mut missing: Vec<usize> = vec![0; graph.nodes.len()];
    let mut ready = BinaryHeap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let Some(node) = node else { continue };
        missing[index] = node.inputs.iter().flatten().filter(|v| graph.values[v.index()].producer.is_some()).count();
        if missing[index] == 0 {
            ready.push(Reverse(index));
        }
    }
    let mut order = Vec::with_capacity(graph.nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(NodeId(index as u32));
        let Some(node) = &graph.nodes[index] else { continue };
        for output in node.outputs.iter().flatten() {
            for user in &graph.values[output.index()].users {
                missing[user.index()] -= 1;
                if missing[user.index()] == 0 {
                    ready.push(Reverse(user.index()));
                }
            }
        }
    }
    if order.len() < graph.node_count() {
        let stuck = graph.nodes.iter().enumerate().find(|(i, n)| n.is_some() && missing[*i] > 0);
        let name = stuck.and_then(|(_, n)| n.as_ref()).map_or(String::new(), ToString::to_string);
        bail!(InvalidModel, "the graph has a cycle through {name}");
    }
    Ok(order.into())
}

impl Graph {
    /// Checks every rule of a well-formed graph.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) that names the node or value which breaks one.
    pub fn verify(&self) -> Result<()> {
        self.order()?;
        let mut uses = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            for input in node.inputs.iter().flatten() {
                ensure!(input.index() < self.values.len(), InvalidModel, "{node}: an input is no value of the graph");
                uses.push((*input, NodeId(index as u32)));
            }
            for (slot, output) in node.outputs.iter().enumerate() {
                let Some(output) = output else { continue };
                let producer = self.values.get(output.index()).and_then(|v| v.producer);
                let agrees = producer == Some((NodeId(index as u32), slot));
                ensure!(agrees, InvalidModel, "{node}: output {slot} has another producer");
            }
        }
        self.verify_users(uses)?;
        for output in &self.outputs {
            let value = &self.values[output.index()];
            let known = value.producer.is_some() || value.fact.value.is_some() || self.inputs.contains(output);
            ensure!(known, InvalidModel, "output {:?} is yielded by nothing", value.name);
        }
        Ok(())
    }

    /// That values list as users what takes them, given every use. Sorted, since one value may have all uses there are.
    fn verify_users(&self, mut uses: Vec<(ValueId, NodeId)>) -> Result<()> {
        let listed = |(index, value): (usize, &Value)| {
            let id = ValueId(index as u32);
            value.users.iter().map(move |user| (id, *user)).collect::<Vec<_>>()
        };
        let mut listed: Vec<_> = self.values.iter().enumerate().flat_map(listed).collect();
        sort(&mut uses);
        sort(&mut listed);
        let odd = uses.iter().zip(&listed).find(|(a, b)| a != b).map(|(a, b)| a.min(b));
        let extra = || uses.get(listed.len()).or(listed.get(uses.len()));
        if let Some((value, _)) = odd.or_else(extra) {
            bail!(InvalidModel, "value {:?}: wrong list of users", self.values[value.index()].name);
        }
        Ok(())
    }
}
