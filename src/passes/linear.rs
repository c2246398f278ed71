//! What is added to each column of a product or to each channel of a convolution, taken in as its bias.
//!
//! `Gemm` and `MatMul` with constant weights become one thing: a product with an epilogue that can take a bias. A `Gemm` with factors of 1 and a vector for C is a `MatMul` with a bias; its constant B is transposed here (in
//! name: it is packed as it lies), so that only one form of product is left behind.

use super::pattern::{binary, constant};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch};
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::fused::Epilogue;
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::nn::{Conv, ConvTranspose};
use crate::ops::quant::MatMulNBits;
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{Dim, Tensor};
use std::sync::Arc;

pub(super) fn fuse_bias(graph: &mut Graph) -> Result<usize> {
    let mut fused = 0;
    for id in graph.node_ids()? {
        let Some(node) = graph.get(id) else { continue };
        let patch = gemm(graph, node).or_else(|| matmul_bias(graph, node)).or_else(|| conv_bias(graph, node));
        let Some(patch) = patch else { continue };
        graph.apply(patch)?;
        fused += 1;
    }
    Ok(fused)
}

fn gemm(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<Gemm>()?;
    if op.alpha != 1.0 || op.trans_a || !graph.fact(node.output(0)?).dtype.is_float() {
        return None;
    }
    let bias = match node.input(2) {
        Some(bias) if op.beta == 1.0 => {
            let columns = graph.fact(node.output(0)?).dims()?.last()?.known()?;
            Some(constant(graph, bias).filter(|b| b.len() == columns && b.shape().last() == Some(&columns))?)
        }
        Some(_) if op.beta != 0.0 => return None,
        _ => None,
    };
    let mut patch = Patch::new();
    let weight: Operand = if op.trans_b {
        patch.constant("weight", constant(graph, node.input(1)?)?.turned().ok()?)
    } else {
        node.input(1)?.into()
    };
    let mut inputs: Vec<Option<Operand>> = vec![Some(node.input(0)?.into()), Some(weight)];
    let op: Arc<dyn Op> = match bias {
        Some(bias) => {
            let flat = bias.reshaped([bias.len()]).ok()?;
            inputs.push(Some(patch.constant("bias", flat)));
            Arc::new(Epilogue { bias: true, ..Epilogue::of(Arc::new(MatMul), 2) })
        }
        None => Arc::new(MatMul),
    };
    let outputs = patch.node(node.name(), op, &inputs, 1);
    patch.replace(node.output(0)?, outputs[0]);
    Some(patch)
}

/// `Add(MatMul(a, b), bias)` with a constant vector along the last axis.
fn matmul_bias(graph: &Graph, node: &Node) -> Option<Patch> {
    if node.op().downcast_ref::<Binary>()?.0 != BinaryKind::Add {
        return None;
    }
    let (product, bias) = [(0, 1), (1, 0)].into_iter().find_map(|(product, bias)| {
        let (product, bias) = (node.input(product)?, node.input(bias)?);
        let (_, matmul) = graph.producer(product)?;
        // What a product with a vector yields has rows alone, and a bias is added to columns.
        let matrix = || graph.fact(matmul.input(1)?).rank().map(|rank| rank >= 2);
        let takes =
            (matmul.op().is::<MatMul>() && matrix()?) || (matmul.op().is::<MatMulNBits>() && matmul.input(5).is_none());
        (takes && constant(graph, bias).is_some()).then_some((product, bias))
    })?;
    graph.single_user(product)?;
    let (_, matmul) = graph.producer(product)?;
    let fact = graph.fact(product);
    let columns = fact.dims()?.last()?;
    let value = constant(graph, bias)?;
    let vector =
        value.shape().last().is_some_and(|&n| *columns == Dim::Known(n)) && value.len() == *value.shape().last()?;
    if !fact.dtype.is_float() || !vector || value.rank() > fact.rank()? {
        return None;
    }
    let mut patch = Patch::new();
    let flat = patch.constant("bias", value.reshaped([value.len()]).ok()?);
    let mut inputs: Vec<Option<Operand>> = matmul.inputs().iter().map(|input| input.map(Into::into)).collect();
    inputs.push(Some(flat));
    let op = Epilogue { bias: true, ..Epilogue::of(matmul.op().clone(), matmul.inputs().len()) };
    let outputs = patch.node(matmul.name(), Arc::new(op), &inputs, 1);
    patch.replace(node.output(0)?, outputs[0]);
    Some(patch)
}

/// `Add(Conv(x, w, b), c)` with a constant for each channel.
fn conv_bias(graph: &Graph, node: &Node) -> Option<Patch> {
    let [a, b] = binary(node, BinaryKind::Add)?;
    let (value, added) = [(a, b), (b, a)].into_iter().find_map(|(value, added)| {
        let (_, conv) = graph.producer(value)?;
        let takes = conv.op().is::<Conv>() || conv.op().is::<ConvTranspose>();
        Some((value, constant(graph, added).filter(|_| takes)?))
    })?;
    graph.single_user(value)?;
    let (_, conv) = graph.producer(value)?;
    let fact = graph.fact(value);
    let bias = by_channel(added, fact.dims()?).filter(|_| fact.dtype.is_float())?;
    let bias = match conv.input(2) {
        None => bias,
        Some(own) => {
            let own = constant(graph, own).filter(|own| own.len() == bias.len())?;
            let sum = Binary(BinaryKind::Add).eval(Inputs::new(&[Some(own), Some(&bias)]), &Budget::generous()).ok()?;
            sum.into_iter().next()?
        }
    };
    let mut patch = Patch::new();
    let bias = patch.constant("bias", bias);
    let inputs = [conv.input(0).map(Into::into), conv.input(1).map(Into::into), Some(bias)];
    let outputs = patch.node(conv.name(), conv.op().clone(), &inputs, 1);
    patch.replace(node.output(0)?, outputs[0]);
    Some(patch)
}

/// What is added to each channel of an image with these axes, `[C]`, where that is what `added` says: one number for
/// each channel or for all, and nothing that would change the shape.
fn by_channel(added: &Tensor, dims: &[Dim]) -> Option<Tensor> {
    let channels = dims.get(1)?.known()?;
    // Aligned at the end, the channels lie this far from the front of what is added.
    let axis = (added.rank() + 1).checked_sub(dims.len());
    let fits = added.rank() <= dims.len() && added.shape().iter().enumerate().all(|(i, &d)| d == 1 || Some(i) == axis);
    if !fits || (added.len() != channels && added.len() != 1) {
        return None;
    }
    if added.len() == channels {
        return added.reshaped([channels]).ok();
    }
    let elements = vec![added.to_f64_vec().ok()?.first().copied()?; channels];
    Tensor::vector(elements).cast(added.dtype()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::graph::ValueId;

    const IMAGE: [usize; 4] = [2, 3, 4, 5];

    /// A convolution of three channels to two, and `added` added to it, from this side.
    fn biased(own: Option<Tensor>, added: Tensor, left: bool) -> (Graph, ValueId) {
        let (mut graph, x) = graph_of(&IMAGE);
        let mut inputs = vec![x, graph.constant("w", ramp(&[2, 3, 1, 1])).unwrap()];
        inputs.extend(own.map(|own| graph.constant("own", own).unwrap()));
        let conv = Conv::default();
        let value = graph.op("conv", conv, &inputs).unwrap();
        let added = graph.constant("added", added).unwrap();
        let operands = if left { [added, value] } else { [value, added] };
        let y = graph.op("y", Binary(BinaryKind::Add), &operands).unwrap();
        graph.output(y).unwrap();
        (graph, value)
    }

    #[test]
    fn a_convolution_takes_what_is_added_to_its_channels() {
        for own in [None, Some(ramp(&[2]))] {
            for shape in [&[2, 1, 1][..], &[1, 2, 1, 1], &[1], &[], &[1, 1, 1, 1]] {
                for left in [false, true] {
                    let (mut graph, _) = biased(own.clone(), ramp(shape), left);
                    check(&mut graph, fuse_bias, &[ramp(&IMAGE)], 1);
                }
            }
        }
    }

    #[test]
    fn a_product_takes_what_is_added_to_its_columns() {
        for (weight, added, nodes) in [
            (&[3, 4][..], &[4][..], 1),
            (&[3, 4], &[1, 4], 1),
            (&[3, 4], &[4, 1], 2),
            (&[3], &[4], 2),
            (&[3, 4], &[1], 2),
        ] {
            let (mut graph, x) = graph_of(&[4, 3]);
            let w = graph.constant("w", ramp(weight)).unwrap();
            let added = graph.constant("added", ramp(added)).unwrap();
            let y = graph.op("product", MatMul, &[x, w]).unwrap();
            let y = graph.op("y", Binary(BinaryKind::Add), &[y, added]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, fuse_bias, &[ramp(&[4, 3])], nodes);
        }
    }

    #[test]
    fn what_a_factor_of_zero_drops_is_not_added() {
        let (mut graph, x) = graph_of(&[4, 3]);
        let w = graph.constant("w", ramp(&[3, 4])).unwrap();
        let c = graph.constant("c", Tensor::vector(vec![f32::NAN; 4])).unwrap();
        let y = graph.op("y", Gemm { beta: 0.0, ..Gemm::default() }, &[x, w, c]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, fuse_bias, &[ramp(&[4, 3])], 1);
    }

    #[test]
    fn what_is_added_elsewhere_stays() {
        for shape in [&[5][..], &[4, 5], &[4, 1], &[2, 1, 5], &[2, 1, 1, 1], &[1, 1, 1, 1, 1]] {
            let (mut graph, _) = biased(None, ramp(shape), false);
            check(&mut graph, fuse_bias, &[ramp(&IMAGE)], 2);
        }
        let (mut graph, conv) = biased(None, ramp(&[2, 1, 1]), false);
        graph.output(conv).unwrap();
        check(&mut graph, fuse_bias, &[ramp(&IMAGE)], 2);
    }
}
