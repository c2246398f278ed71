//! A look over the whole model before anything is built, so that one error names every operator that is not known.

use super::opsets::{Opsets, canonical_domain, shown};
use super::order::describe;
use super::{Context, FunctionKey};
use crate::error::{Result, bail};
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::ops::registry;
use std::collections::{BTreeMap, HashSet};

/// Bytes of text after which an error counts operators and nodes, and lists them no more.
const SHOWN_BYTES: usize = 64 << 10;

/// Refuses a model with operators that are not known, in one error that lists them all.
pub(super) fn refuse_unknown<'m>(context: &Context<'m>, graph: &'m GraphProto, opsets: &Opsets) -> Result<()> {
    let mut survey = Survey { context, unknown: BTreeMap::new(), seen: HashSet::new(), calls: Vec::new() };
    survey.graph(graph, opsets);
    while let Some(key) = survey.calls.pop() {
        if let Some(function) = context.functions.get(&key) {
            function.proto.node.iter().for_each(|node| survey.node(node, &function.opsets));
        }
    }
    if survey.unknown.is_empty() {
        return Ok(());
    }
    let count = survey.unknown.len();
    let mut listed = String::new();
    for (position, (operator, nodes)) in survey.unknown.iter().enumerate() {
        if listed.len() > SHOWN_BYTES {
            listed += &format!("; and {} more", count - position);
            break;
        }
        listed += &format!("{}{operator}", if position == 0 { "" } else { "; " });
        for (position, node) in nodes.iter().enumerate() {
            if listed.len() > SHOWN_BYTES {
                listed += &format!(" and {} more", nodes.len() - position);
                break;
            }
            listed += if position == 0 { " in " } else { ", " };
            listed += node;
        }
    }
    let (noun, verb) = if count == 1 { ("operator", "is") } else { ("operators", "are") };
    bail!(Unsupported, "{count} {noun} {verb} not supported: {listed}")
}

struct Survey<'s, 'm> {
    context: &'s Context<'m>,
    unknown: BTreeMap<String, Vec<String>>,
    seen: HashSet<FunctionKey<'m>>,
    calls: Vec<FunctionKey<'m>>,
}

impl<'m> Survey<'_, 'm> {
    fn graph(&mut self, graph: &'m GraphProto, opsets: &Opsets) {
        graph.node.iter().for_each(|node| self.node(node, opsets));
    }

    fn node(&mut self, node: &'m NodeProto, opsets: &Opsets) {
        for graph in node.attribute.iter().filter_map(|a| a.g.as_deref()) {
            self.graph(graph, opsets);
        }
        let domain = canonical_domain(&node.domain);
        let key = (domain, node.op_type.as_str(), node.overload.as_str());
        if let Some((key, _)) = self.context.functions.get_key_value(&key) {
            if self.seen.insert(*key) {
                self.calls.push(*key);
            }
            return;
        }
        if domain.is_empty() && node.op_type == "Constant" {
            return;
        }
        let version = opsets.get(domain);
        let since = match registry::find(domain, &node.op_type) {
            Some(def) if version.is_none_or(|v| v >= def.since) => return,
            Some(def) => format!(" (read from opset {} on)", def.since),
            None => String::new(),
        };
        let version = version.map_or("?".into(), |v| v.to_string());
        let operator = format!("{}:{}@{version}{since}", shown(domain), node.op_type);
        self.unknown.entry(operator).or_default().push(describe(node));
    }
}
