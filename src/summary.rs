//! A model as a table: layers with shapes, parameters and multiply-accumulates.

use crate::graph::{Graph, Node};
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::nn::{Conv, ConvTranspose};
use crate::ops::quant::{ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul};
use crate::tensor::{Dim, Fact};
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

/// Elements of a fact, symbolic axes counted as one.
fn elements(fact: &Fact) -> Option<u64> {
    fact.dims()?.iter().try_fold(1u64, |n, d| match d {
        Dim::Known(d) => n.checked_mul(*d as u64),
        Dim::Symbol(_) => Some(n),
        Dim::Unknown => None,
    })
}

fn length(fact: &Fact, axis_from_end: usize) -> Option<u64> {
    let dims = fact.dims()?;
    dims.get(dims.len().checked_sub(axis_from_end)?)?.known().map(|d| d as u64)
}

fn macs(graph: &Graph, node: &Node) -> Option<u64> {
    let op = node.op();
    let fact = |index: usize| node.input(index).map(|v| graph.fact(v));
    let output = elements(graph.fact(node.output(0)?))?;
    // Output elements times the elements of one filter.
    let conv = |weight: usize| {
        let weight = fact(weight)?;
        elements(weight)?.checked_div(weight.dims()?.first()?.known()? as u64)?.checked_mul(output)
    };
    if op.is::<Conv>() || op.is::<ConvInteger>() {
        conv(1)
    } else if op.is::<QLinearConv>() {
        conv(3)
    } else if op.is::<ConvTranspose>() {
        let weight = fact(1)?;
        elements(weight)?.checked_div(weight.dims()?.first()?.known()? as u64)?.checked_mul(elements(fact(0)?)?)
    } else if op.is::<MatMul>() || op.is::<MatMulInteger>() || op.is::<QLinearMatMul>() {
        length(fact(0)?, 1)?.checked_mul(output)
    } else if let Some(gemm) = op.downcast_ref::<Gemm>() {
        length(fact(0)?, if gemm.trans_a { 2 } else { 1 })?.checked_mul(output)
    } else {
        None
    }
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
