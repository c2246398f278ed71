//! A sum behind a product, each quantized: both in one step, which rounds twice but is stored once.

use super::builder::Builder;
use super::source::{Source, quantization, source};
use crate::graph::{Graph, Node, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::fused::{Chain, Epilogue, Quantized};
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::nn::Conv;
use crate::passes::pattern::{constant, same_dims};
use crate::tensor::{DType, Dim, Tensor};
use std::sync::Arc;

/// The rule for a `QuantizeLinear` of a sum.
pub(super) fn chain(graph: &Graph, node: &Node) -> Option<Patch> {
    let target = quantization(graph, node)?;
    let real = node.input(0)?;
    let (_, sum) = graph.producer(real)?;
    graph.single_user(real)?;
    if sum.op().downcast_ref::<Binary>()?.0 != BinaryKind::Add {
        return None;
    }
    let (a, b) = (sum.input(0)?, sum.input(1)?);
    // Of two products the later one takes the other.
    let sides = if a > b { [(a, b), (b, a)] } else { [(b, a), (a, b)] };
    sides.into_iter().find_map(|(own, other)| joined(graph, sum, own, other, target))
}

fn joined(graph: &Graph, sum: &Node, own: ValueId, other: ValueId, target: Source) -> Option<Patch> {
    let bytes = source(graph, own).filter(|source| source.is_plain(graph))?;
    graph.single_user(own)?;
    graph.single_user(bytes.value)?;
    let (_, product) = graph.producer(bytes.value)?;
    let quantized = product.op().downcast_ref::<Quantized>()?;
    let columns_last = columns_last(quantized)?;
    let output = quantized.output?;
    let zero = bytes.zero.and_then(|zero| constant(graph, zero));
    let same = |own: ValueId, other: Option<&Tensor>| -> Option<bool> {
        let number = |tensor: &Tensor| tensor.to_f64_vec().ok()?.first().copied();
        Some(number(constant(graph, own)?)? == other.map_or(Some(0.0), number)?)
    };
    let alike = same(product.input(output.scale)?, constant(graph, bytes.scale))?
        && same(product.input(output.zero_point)?, zero)?;
    if !alike {
        return None;
    }
    let mut builder = Builder::new(graph);
    builder.quantized(bytes);
    match source(graph, other).filter(|source| source.is_plain(graph)) {
        Some(bytes) if same_dims(graph, own, other) => builder.quantized(bytes),
        _ => {
            let columns = graph.fact(own).dims()?.last()?.clone();
            let vector = constant(graph, other)?;
            let fits = columns_last
                && vector.dtype() == DType::F32
                && vector.shape()[..] == [vector.len()]
                && columns == Dim::Known(vector.len());
            if !fits || vector.len() == 1 {
                return None;
            }
            builder.plain(Some(other))
        }
    };
    let (mut patch, operands, second) = builder.parts(sum.op().clone(), Some(target))?;
    let op = Chain { first: product.op().clone(), arity: product.inputs().len(), second: Arc::new(second) };
    let first = product.inputs().iter().map(|input| input.map(Into::into));
    let inputs: Vec<_> = first.chain(operands.into_iter().skip(1)).collect();
    let made = patch.node(product.name(), Arc::new(op), &inputs, 1)[0];
    patch.replace(target.value, made);
    Some(patch)
}

/// Whether the columns of a product are its last axis; nothing for one with a residual of its own, and for what is none.
fn columns_last(quantized: &Quantized) -> Option<bool> {
    let epilogue = quantized.op.downcast_ref::<Epilogue>();
    let op = epilogue.map_or(&quantized.op, |e| &e.op);
    let matrix = op.is::<MatMul>() || op.is::<Gemm>();
    let alone = epilogue.is_none_or(|e| !e.residual);
    (alone && (matrix || op.is::<Conv>())).then_some(matrix)
}
