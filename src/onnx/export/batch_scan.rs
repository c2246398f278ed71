//! `Scan` of opset 8 in newer words: a scan over the rows of the batch, whose body scans one row.

use super::{Exporter, named, value_info};
use crate::error::{Result, bail, err};
use crate::graph::{Graph, Node, ValueId};
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto, attribute_type as kind};
use crate::ops::control::BatchScan;
use crate::ops::{Op, registry};
use crate::tensor::Fact;
use std::collections::HashMap;

/// The opset with `Pad` along some axes.
const OPSET: u32 = 18;

impl Exporter {
    /// The outer scan: it takes rows and, where there are lengths, the length of each.
    pub(super) fn batch_scan(
        &mut self,
        graph: &Graph,
        node: &Node,
        op: &BatchScan,
        values: &mut HashMap<ValueId, String>,
    ) -> Result<NodeProto> {
        let own = node.inputs().len().saturating_sub(op.row.captures);
        let (inputs, captures) = node.inputs().split_at(own);
        let outer = |values: &HashMap<ValueId, String>, id: &Option<ValueId>| {
            named(values, id.ok_or_else(|| err!(Internal, "an input is absent"))?)
        };
        let captured: Vec<String> = captures.iter().map(|id| outer(values, id)).collect::<Result<_>>()?;
        let row_attributes = self.attributes(&op.row, &captured)?;
        let mut body = GraphProto { name: self.names.graph(""), ..GraphProto::default() };
        let (mut given, mut rows) = (Vec::new(), Vec::new());
        let lengths = inputs.first().copied().flatten();
        for id in lengths.iter().chain(inputs.iter().skip(1).flatten()) {
            given.push(named(values, *id)?);
            let name = self.names.fresh(&format!("{}_row", graph.value(*id).name()));
            body.input.push(value_info(&name, &without_batch(graph.fact(*id))));
            rows.push(name);
        }
        let length = lengths.map(|_| rows.remove(0));
        let Some(states) = rows.len().checked_sub(op.row.inputs.len()) else {
            bail!(InvalidModel, "{} inputs are fewer than the scan inputs", rows.len());
        };
        let types: Vec<ValueInfoProto> = row_outputs(&row_attributes);
        let names: Vec<String> = types.iter().map(|info| self.names.fresh(&info.name)).collect();
        let mut row = Row { exporter: self, nodes: Vec::new() };
        match length {
            None => row.push("Scan", &rows, &names, row_attributes),
            Some(length) => row.cut(&length, rows, states, &names, row_attributes),
        }
        body.node = row.nodes;
        let mut output = Vec::new();
        for (index, (name, info)) in names.iter().zip(types).enumerate() {
            let id = node.outputs().get(index).copied().flatten();
            output.push(match id {
                Some(id) => values.entry(id).or_insert_with(|| self.names.fresh(graph.value(id).name())).clone(),
                None => self.names.fresh(name),
            });
            body.output.push(match id {
                Some(id) => value_info(name, &without_batch(graph.fact(id))),
                None => ValueInfoProto { name: name.clone(), ..info },
            });
        }
        let Some(def) = registry::find("", op.row.name()) else { bail!(Unsupported, "Scan is not known") };
        self.use_opset(def.domain, OPSET.max(def.opset));
        let count = given.len() as i64;
        let attribute = vec![
            AttributeProto {
                name: "body".to_owned(),
                r#type: kind::GRAPH,
                g: Some(Box::new(body)),
                ..AttributeProto::default()
            },
            integer("num_scan_inputs", count),
        ];
        let name = self.names.node(node.name());
        Ok(NodeProto { input: given, output, name, op_type: def.name.to_owned(), attribute, ..NodeProto::default() })
    }
}

/// The nodes that a row goes through.
struct Row<'e> {
    exporter: &'e mut Exporter,
    nodes: Vec<NodeProto>,
}

impl Row<'_> {
    fn push(&mut self, op_type: &str, input: &[String], output: &[String], attribute: Vec<AttributeProto>) {
        let (input, output) = (input.to_vec(), output.to_vec());
        self.nodes.push(NodeProto { input, output, op_type: op_type.to_owned(), attribute, ..NodeProto::default() });
    }

    /// A node with one output, whose name is returned.
    fn made(&mut self, op_type: &str, input: &[&String], attribute: Vec<AttributeProto>) -> String {
        let input: Vec<String> = input.iter().map(|name| (*name).clone()).collect();
        let output = self.exporter.names.fresh(&op_type.to_lowercase());
        self.push(op_type, &input, std::slice::from_ref(&output), attribute);
        output
    }

    /// A scan of the first `length` elements, its stacked outputs filled up with zeros.
    fn cut(
        &mut self,
        length: &String,
        mut rows: Vec<String>,
        states: usize,
        names: &[String],
        attributes: Vec<AttributeProto>,
    ) {
        let zero = AttributeProto { name: "value_ints".to_owned(), ints: vec![0], ..integer("", 0) };
        let zero = self.made("Constant", &[], vec![AttributeProto { r#type: kind::INTS, i: None, ..zero }]);
        let length = self.made("Unsqueeze", &[length, &zero], vec![]);
        let bounds = vec![integer("start", 0), integer("end", 1)];
        let longest = self.made("Shape", &[&rows[states]], bounds);
        let missing = self.made("Sub", &[&longest, &length], vec![]);
        let pads = self.made("Concat", &[&zero, &missing], vec![integer("axis", 0)]);
        for row in &mut rows[states..] {
            *row = self.made("Slice", &[row, &zero, &length, &zero], vec![]);
        }
        let short: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(index, name)| if index < states { name.clone() } else { self.exporter.names.fresh(name) })
            .collect();
        self.push("Scan", &rows, &short, attributes);
        for (name, short) in names.iter().zip(&short).skip(states) {
            let input = [short, &pads, &String::new(), &zero].map(Clone::clone);
            self.push("Pad", &input, std::slice::from_ref(name), vec![]);
        }
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind::INT, i: Some(value), ..AttributeProto::default() }
}

/// The outputs of the body among these attributes, of any shape.
fn row_outputs(attributes: &[AttributeProto]) -> Vec<ValueInfoProto> {
    let body = attributes.iter().find_map(|attribute| attribute.g.as_deref());
    let mut outputs = body.map(|body| body.output.clone()).unwrap_or_default();
    for tensor in outputs.iter_mut().filter_map(|info| info.r#type.as_mut()?.tensor_type.as_mut()) {
        tensor.shape = None;
    }
    outputs
}

fn without_batch(fact: &Fact) -> Fact {
    match fact.dims() {
        Some([_, row @ ..]) => Fact::new(fact.dtype, row.to_vec()),
        _ => Fact::unranked(fact.dtype),
    }
}
