//! A model as a table: layers with shapes, parameters and multiply-accumulates.

use crate::graph::{Graph, Node};
use crate::ops::Inputs;
use crate::tensor::{Dim, Fact, Shape};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;

/// One node of a summary.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Layer {
    /// The node's name.
    pub name: String,
    /// The operator.
    pub operator: String,
    /// Dtype and shape of the first output.
    pub output: String,
    /// Elements of the constants that this node is the first to use.
    pub parameters: usize,
    /// Multiply-accumulates, where they are counted for this operator and its shapes are known. Symbolic axes count
    /// as 1, so for a symbolic batch this is the work of one row.
    pub macs: Option<u64>,
}

/// The layers of a model; `Display` is a table, `Serialize` gives JSON.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The nodes in the order in which they run.
    pub layers: Vec<Layer>,
    /// Elements of all constants.
    pub parameters: usize,
    /// Bytes of all constants.
    pub parameter_bytes: usize,
    /// Multiply-accumulates of all layers that count them.
    pub macs: u64,
}

impl Summary {
    /// The layers of a graph.
    #[must_use]
    pub fn of(graph: &Graph) -> Self {
        let mut summary = Summary { layers: Vec::new(), parameters: 0, parameter_bytes: 0, macs: 0 };
        let mut seen = HashSet::new();
        for (_, node) in graph.nodes().into_iter().flatten() {
            let mut parameters = 0;
            for input in node.inputs().iter().flatten() {
                if let Some(tensor) = graph.constant_of(*input)
                    && seen.insert(*input)
                {
                    parameters += tensor.len();
                    summary.parameter_bytes += tensor.as_bytes().len();
                }
            }
            let macs = macs(graph, node);
            summary.parameters += parameters;
            summary.macs += macs.unwrap_or(0);
            summary.layers.push(Layer {
                name: node.name().to_owned(),
                operator: node.op().name().to_owned(),
                output: node.output(0).map_or(String::new(), |v| graph.fact(v).to_string()),
                parameters,
                macs,
            });
        }
        summary
    }
}

/// The shape of a fact, symbolic axes counted as one.
fn shape(fact: &Fact) -> Option<Shape> {
    let length = |dim: &Dim| match dim {
        Dim::Known(length) => Some(*length),
        Dim::Symbol(_) => Some(1),
        Dim::Unknown => None,
    };
    fact.dims()?.iter().map(length).collect::<Option<Vec<_>>>().map(Shape::from)
}

fn macs(graph: &Graph, node: &Node) -> Option<u64> {
    let inputs: Vec<_> = node.inputs().iter().map(|input| input.and_then(|id| shape(graph.fact(id)))).collect();
    let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
    let output = shape(graph.fact(node.output(0)?))?;
    node.op().macs(Inputs::new(&inputs), &output).map(|macs| macs as u64)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.layers.iter().map(|l| l.name.len()).max().unwrap_or(4).clamp(4, 48);
        writeln!(f, "{:<width$}  {:<22} {:<24} {:>12} {:>14}", "name", "operator", "output", "parameters", "MACs")?;
        for layer in &self.layers {
            let macs = layer.macs.map_or(String::new(), |n| n.to_string());
            writeln!(
                f,
                "{:<width$}  {:<22} {:<24} {:>12} {:>14}",
                layer.name, layer.operator, layer.output, layer.parameters, macs
            )?;
        }
        writeln!(
            f,
            "{} layers, {} parameters ({:.1} MB), {:.3} GMACs a row",
            self.layers.len(),
            self.parameters,
            self.parameter_bytes as f64 / 1e6,
            self.macs as f64 / 1e9
        )
    }
}
