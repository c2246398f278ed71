//! Batch normalization folded into the convolution or product before it: at inference it is a scale and a shift of each
//! channel, which the weights and the bias can carry. Behind anything else it becomes a product and a sum.

use super::pattern::constant;
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch};
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::matrix::Gemm;
use crate::ops::nn::{BatchNormalization, Conv, ConvTranspose};
use crate::tensor::{DType, Shape, Tensor};

pub(super) fn fold_batch_norm(graph: &mut Graph) -> Result<usize> {
    let mut folded = 0;
    for id in graph.node_ids()? {
        let Some(patch) = graph.get(id).and_then(|node| fold(graph, node).or_else(|| spelled(graph, node))) else {
            continue;
        };
        graph.apply(patch)?;
        folded += 1;
    }
    Ok(folded)
}

/// `y = x * scale + shift`, by channel.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

fn affine(graph: &Graph, node: &Node) -> Option<Affine> {
    let op = node.op().downcast_ref::<BatchNormalization>()?;
    if op.training || node.outputs().iter().skip(1).any(Option::is_some) {
        return None;
    }
    let vector = |index: usize| constant(graph, node.input(index)?)?.to_f64_vec().ok();
    let (gamma, beta, mean, variance) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + f64::from(op.epsilon)).sqrt()).collect();
    let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    scale.iter().all(|s| s.is_finite()).then_some(Affine { scale, shift })
}

fn fold(graph: &Graph, node: &Node) -> Option<Patch> {
    let Affine { scale, shift } = affine(graph, node)?;
    let input = node.input(0)?;
    let (_, product) = graph.producer(input)?;
    graph.single_user(input)?;
    let weight = constant(graph, product.input(1)?)?;
    let axis = channel_axis(product, weight)?;
    if weight.shape()[axis] != scale.len() {
        return None;
    }
    let bias = match product.input(2) {
        Some(bias) => along_channels(constant(graph, bias)?, scale.len())?,
        None => vec![0.0],
    };
    let shifted: Vec<f64> =
        scale.iter().zip(&shift).enumerate().map(|(c, (s, t))| bias[c.min(bias.len() - 1)] * s + t).collect();
    let mut patch = Patch::new();
    let weight = patch.constant("weight", scaled(weight, axis, &scale)?);
    let bias = patch.constant("bias", Tensor::vector(shifted).cast(graph.fact(input).dtype).ok()?);
    let inputs: [Option<Operand>; 3] = [product.input(0).map(Into::into), Some(weight), Some(bias)];
    let outputs = patch.node(product.name(), product.op().clone(), &inputs, 1);
    patch.replace(node.output(0)?, outputs[0]);
    Some(patch)
}

/// `x * scale + shift`, where nothing before it takes them.
fn spelled(graph: &Graph, node: &Node) -> Option<Patch> {
    let Affine { scale, shift } = affine(graph, node)?;
    let x = node.input(0)?;
    let fact = graph.fact(x);
    let mut shape = vec![1; fact.rank()?.checked_sub(1)?];
    *shape.first_mut()? = scale.len();
    let mut patch = Patch::new();
    let [scale, shift] = [("scale", scale), ("shift", shift)].map(|(name, each)| {
        let each = Tensor::new(shape.clone(), each).and_then(|each| each.cast(fact.dtype));
        each.ok().map(|each| patch.constant(name, each))
    });
    let scaled = patch.op(node.name(), Binary(BinaryKind::Mul), &[x.into(), scale?]);
    let sum = patch.op(node.name(), Binary(BinaryKind::Add), &[scaled, shift?]);
    patch.replace(node.output(0)?, sum);
    Some(patch)
}

/// The elements of a bias that is one number, or one for each channel. C of a `Gemm` may hold one for each row as well.
fn along_channels(bias: &Tensor, channels: usize) -> Option<Vec<f64>> {
    let vector = bias.len() == channels && bias.shape().last() == Some(&channels);
    if bias.len() == 1 || vector { bias.to_f64_vec().ok() } else { None }
}

/// The axis of the weights that runs over the channels of the output.
fn channel_axis(product: &Node, weight: &Tensor) -> Option<usize> {
    let op = product.op();
    if op.is::<Conv>() {
        Some(0)
    } else if let Some(conv) = op.downcast_ref::<ConvTranspose>() {
        (conv.group == 1).then_some(1)
    } else if let Some(gemm) = op.downcast_ref::<Gemm>() {
        let plain = gemm.alpha == 1.0 && gemm.beta == 1.0 && weight.rank() == 2;
        plain.then_some(usize::from(!gemm.trans_b))
    } else {
        None
    }
}

/// `weight` with each slice along `axis` multiplied by its factor.
fn scaled(weight: &Tensor, axis: usize, factors: &[f64]) -> Option<Tensor> {
    if weight.dtype() == DType::F32 {
        return weight.scaled_along(axis, factors.to_vec()).ok();
    }
    let shape: &Shape = weight.shape();
    let inner: usize = shape[axis + 1..].iter().product::<usize>().max(1);
    let elements = weight.to_f64_vec().ok()?;
    let scaled: Vec<f64> = elements.iter().enumerate().map(|(i, w)| w * factors[i / inner % factors.len()]).collect();
    Tensor::new(shape.clone(), scaled).ok()?.cast(weight.dtype()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::tensor::Fact;

    #[test]
    fn a_bias_for_each_row_is_none_for_each_column() {
        for (shape, nodes) in [(&[3, 1][..], 3), (&[1, 3], 1), (&[3], 1), (&[1, 1], 1), (&[], 1), (&[3, 3], 3)] {
            let (mut graph, x) = graph_of(&[3, 2]);
            let w = graph.constant("w", ramp(&[2, 3])).unwrap();
            let c = graph.constant("c", ramp(shape)).unwrap();
            let mut values = vec![graph.op("gemm", Gemm::default(), &[x, w, c]).unwrap()];
            for (name, v) in
                [("g", [1.0f32, 2.0, -1.0]), ("b", [0.5, 0.0, 1.0]), ("m", [1.0, -1.0, 0.0]), ("v", [4.0, 1.0, 2.0])]
            {
                values.push(graph.constant(name, Tensor::vector(v.to_vec())).unwrap());
            }
            let bn = BatchNormalization { epsilon: 0.0, momentum: 0.9, training: false };
            let y = graph.op("bn", bn, &values).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, fold_batch_norm, &[ramp(&[3, 2])], nodes);
        }
    }

    #[test]
    fn behind_anything_else_it_is_a_product_and_a_sum() {
        for shape in [&[2, 3][..], &[2, 3, 4], &[2, 3, 2, 2]] {
            let (mut graph, x) = graph_of(shape);
            let mut values = vec![x];
            for (name, v) in
                [("g", [1.0f32, 2.0, -1.0]), ("b", [0.5, 0.0, 1.0]), ("m", [1.0, -1.0, 0.0]), ("v", [4.0, 1.0, 2.0])]
            {
                values.push(graph.constant(name, Tensor::vector(v.to_vec())).unwrap());
            }
            let bn = BatchNormalization { epsilon: 1e-3, momentum: 0.9, training: false };
            let y = graph.op("bn", bn, &values).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, fold_batch_norm, &[ramp(shape)], 2);
        }
    }

    #[test]
    fn a_convolution_carries_the_normalization_after_it() {
        let mut graph = Graph::new("test");
        let x = graph.input("x", Fact::concrete(DType::F32, &[1, 1, 2, 2])).unwrap();
        let w = graph.constant("w", Tensor::new([2, 1, 1, 1], vec![2.0f32, -1.0]).unwrap()).unwrap();
        let conv = Conv::default();
        let y = graph.op("conv", conv, &[x, w]).unwrap();
        let mut values = vec![y];
        for (name, v) in [("g", [1.0f32, 2.0]), ("b", [0.5, 0.0]), ("m", [1.0, -1.0]), ("v", [4.0, 1.0])] {
            values.push(graph.constant(name, Tensor::vector(v.to_vec())).unwrap());
        }
        let bn = BatchNormalization { epsilon: 0.0, momentum: 0.9, training: false };
        let z = graph.op("bn", bn, &values).unwrap();
        graph.output(z).unwrap();
        let input = [Tensor::new([1, 1, 2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap()];
        let before = graph.interpret(&input).unwrap();
        assert_eq!(fold_batch_norm(&mut graph).unwrap(), 1);
        assert_eq!(graph.node_count(), 1);
        assert_eq!(graph.interpret(&input).unwrap(), before);
    }
}
