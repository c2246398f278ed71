//! Nodes in an order in which each comes after those whose outputs it takes, whatever order the file has.

use super::{Context, bodies};
use crate::error::{Result, bail, ensure};
use crate::onnx::proto::NodeProto;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// A node as an error names it.
pub(super) fn describe(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.iter().find(|o| !o.is_empty()) } else { Some(&node.name) };
    format!("node {:?} ({})", name.map_or("", String::as_str), node.op_type)
}

/// The positions of `nodes`, sorted; a file that is sorted already keeps its order.
/// None may make a value that `exists` already.
pub(super) fn sorted<'m>(
    context: &Context<'m>,
    nodes: &'m [NodeProto],
    exists: impl Fn(&str) -> bool,
) -> Result<Vec<usize>> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            ensure!(!exists(output), InvalidModel, "{}: value {output:?} is made twice", describe(node));
            if let Some(other) = producer.insert(output, index) {
                bail!(InvalidModel, "{output:?} is an output of {} and of {}", describe(&nodes[other]), describe(node));
            }
        }
    }
    let mut missing = vec![0usize; nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let captured = bodies::captured_names(context, node);
        let names = node.input.iter().map(String::as_str).chain(captured);
        for from in names.filter_map(|name| producer.get(name)) {
            users[*from].push(index);
            missing[index] += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|&i| missing[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &user in &users[index] {
            missing[user] -= 1;
            if missing[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    if let Some(stuck) = missing.iter().position(|&m| m > 0) {
        bail!(InvalidModel, "the nodes form a cycle, among them {}", describe(&nodes[stuck]));
    }
    Ok(order)
}
