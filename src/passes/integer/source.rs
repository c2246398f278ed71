//! Where real values come from integers, and where they become integers again.

use crate::graph::{Graph, ValueId};
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::passes::pattern::constant;
use crate::tensor::{DType, Tensor};

/// A real value as integers of one byte with their scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) value: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero: Option<ValueId>,
    pub(super) axis: i64,
}

/// How many elements a value has, where its shape is known.
fn elements(graph: &Graph, value: ValueId) -> Option<usize> {
    graph.fact(value).concrete_shape().map(|shape| shape.elements())
}

fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// Every scale is a positive number of a size at which nothing overflows.
fn sound(scales: &Tensor) -> bool {
    scales.dtype() == DType::F32
        && scales.as_slice::<f32>().is_ok_and(|scales| scales.iter().all(|scale| (1e-30..1e30).contains(scale)))
}

impl Source {
    /// One scale for all of it, which may be known only when it runs.
    pub(super) fn is_uniform(&self, graph: &Graph) -> bool {
        let one = |value: ValueId| elements(graph, value) == Some(1);
        one(self.scale) && self.zero.is_none_or(one) && graph.fact(self.scale).dtype == DType::F32
    }

    /// Scales and zero points are constants.
    pub(super) fn is_known(&self, graph: &Graph) -> bool {
        constant(graph, self.scale).is_some_and(sound) && self.zero.is_none_or(|zero| constant(graph, zero).is_some())
    }

    /// One scale for all of it, known now.
    pub(super) fn is_plain(&self, graph: &Graph) -> bool {
        self.is_uniform(graph) && self.is_known(graph)
    }
}

/// The bytes that `value` is dequantized from.
pub(super) fn source(graph: &Graph, value: ValueId) -> Option<Source> {
    let (_, node) = graph.producer(value)?;
    let op = node.op().downcast_ref::<DequantizeLinear>()?;
    let (bytes, scale, zero) = (node.input(0)?, node.input(1)?, node.input(2));
    let fits = op.block_size == 0
        && is_byte(graph.fact(bytes).dtype)
        && graph.fact(scale).dtype == DType::F32
        && graph.fact(value).dtype == DType::F32;
    fits.then_some(Source { value: bytes, scale, zero, axis: op.axis })
}

/// How `value` is quantized: the bytes that alone are made from it, with one scale that is known.
pub(super) fn target(graph: &Graph, value: ValueId) -> Option<Source> {
    let (_, node) = graph.single_user(value)?;
    quantization(graph, node).filter(|_| node.input(0) == Some(value))
}

/// The output of a `QuantizeLinear` to bytes with one scale that is known.
pub(super) fn quantization(graph: &Graph, node: &crate::graph::Node) -> Option<Source> {
    let op = node.op().downcast_ref::<QuantizeLinear>()?;
    let (x, output) = (node.input(0)?, node.output(0)?);
    let target = Source { value: output, scale: node.input(1)?, zero: node.input(2), axis: 0 };
    let fits = op.block_size == 0 && is_byte(graph.fact(output).dtype) && graph.fact(x).dtype == DType::F32;
    (fits && target.is_plain(graph)).then_some(target)
}
