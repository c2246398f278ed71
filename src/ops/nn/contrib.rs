//! What ONNX Runtime's optimizer writes in its own domain: a normalization of a sum, and a convolution or Gemm with
//! its activation.

use super::conv::Conv;
use super::layer_norm::{LayerNormalization, RmsNormalization};
use crate::error::{Result, bail, ensure};
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind};
use crate::ops::matrix::Gemm;
use crate::ops::numeric::from_f64;
use crate::ops::reader::Operand::{self, Input};
use crate::ops::sequence::{Sequence, input_if_present};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, OpDef, Reading};
use crate::tensor::{DType, Fact, Shape, Tensor, broadcast_index, broadcast_shapes};

const DOMAIN: &str = "com.microsoft";

pub(super) const SKIP_LAYER_NORMALIZATION: OpDef =
    OpDef::new("SkipLayerNormalization", 1, 3..=5, |n| SkipLayerNormalization::read(n, false))
        .domain(DOMAIN)
        .outputs(1..=4);
pub(super) const SKIP_SIMPLIFIED_LAYER_NORMALIZATION: OpDef =
    OpDef::new("SkipSimplifiedLayerNormalization", 1, 3..=4, |n| SkipLayerNormalization::read(n, true))
        .domain(DOMAIN)
        .outputs(1..=4);
pub(super) const FUSED_CONV: OpDef = OpDef::new("FusedConv", 1, 2..=4, fused_conv).domain(DOMAIN);
pub(super) const FUSED_GEMM: OpDef = OpDef::new("FusedGemm", 1, 2..=3, fused_gemm).domain(DOMAIN);

/// Normalizes the last axis of `x + skip + bias`: x and skip `[.., size]`, scale, optional shift (not in the
/// simplified form, which takes the root mean square) and bias, each `[size]`. Outputs: the rows, mean, inverse
/// deviation, and the sum before normalization.
#[derive(Debug, Clone, PartialEq)]
pub struct SkipLayerNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether rows are scaled by their root mean square, and not centered.
    pub simplified: bool,
}

impl SkipLayerNormalization {
    fn read(node: &mut NodeReader, simplified: bool) -> Result<Reading> {
        let default = if simplified { 1e-5 } else { 1e-12 };
        Ok(SkipLayerNormalization { epsilon: node.float_or("epsilon", default)?, simplified }.into())
    }

    /// The scale, the shift and the bias among the inputs.
    fn parameters<'a, T>(&self, inputs: Inputs<'a, T>) -> (Option<&'a T>, Option<&'a T>, Option<&'a T>) {
        if self.simplified {
            (inputs.get(2), None, inputs.get(3))
        } else {
            (inputs.get(2), inputs.get(3), inputs.get(4))
        }
    }
}

/// `a + b`, where b broadcasts to a.
fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = broadcast_shapes(&[a.shape(), b.shape()])?;
    ensure!(shape == *a.shape(), Shape, "{} does not broadcast to {}", b.shape(), a.shape());
    let (mut sums, added) = (a.to_f64_vec()?, b.to_f64_vec()?);
    sums.iter_mut().zip(broadcast_index(b.shape(), &shape)).for_each(|(v, i)| *v += added[i]);
    from_f64(a.dtype(), shape, sums)
}

/// The statistics of rows that are not centered: a mean of zero, and the inverse root mean square.
fn uncentered(x: &Tensor, epsilon: f32) -> Result<[Tensor; 2]> {
    let [batch @ .., size] = &x.shape()[..] else { bail!(Shape, "a scalar has no rows") };
    let shape: Shape = batch.iter().copied().chain([1]).collect();
    let values = x.to_f64_vec()?;
    let inverse = |row: &[f64]| {
        let square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        1.0 / (square + f64::from(epsilon)).sqrt()
    };
    let mut inverses: Vec<f64> = values.chunks_exact((*size).max(1)).map(inverse).collect();
    inverses.resize(shape.checked_len()?, f64::NAN);
    Ok([Tensor::zeros(DType::F32, shape.clone())?, from_f64(DType::F32, shape, inverses)?])
}

impl Op for SkipLayerNormalization {
    fn name(&self) -> &'static str {
        if self.simplified { "SkipSimplifiedLayerNormalization" } else { "SkipLayerNormalization" }
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        inputs.require(1)?;
        inputs.require(2)?;
        super::layer_norm::check(inputs, -1)?;
        let x = inputs.require(0)?;
        let scale = self.parameters(inputs).0;
        let mut facts = LayerNormalization { axis: -1, epsilon: self.epsilon }.infer(Inputs::new(&[Some(x), scale]))?;
        facts.push(facts[0].clone());
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (scale, shift, bias) = self.parameters(inputs);
        let mut sum = add(inputs.require(0)?, inputs.require(1)?)?;
        if let Some(bias) = bias {
            sum = add(&sum, bias)?;
        }
        let rows = [Some(&sum), scale, shift];
        let mut outputs = if self.simplified {
            let y = RmsNormalization { axis: -1, epsilon: self.epsilon }.eval(Inputs::new(&rows[..2]), budget)?;
            let [mean, deviation] = uncentered(&sum, self.epsilon)?;
            y.into_iter().chain([mean, deviation]).collect()
        } else {
            LayerNormalization { axis: -1, epsilon: self.epsilon }.eval(Inputs::new(&rows), budget)?
        };
        outputs.push(sum);
        Ok(outputs)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().float("epsilon", self.epsilon)
    }
}

/// Appends the activation that ONNX Runtime names, with its parameters.
fn activate(nodes: &mut Sequence, value: Operand, name: &str, parameters: &[f32]) -> Result<()> {
    let parameter = |index: usize| match parameters.get(index) {
        Some(&value) => Ok(value),
        None => bail!(InvalidModel, "the activation {name} has only {} parameters", parameters.len()),
    };
    let kind = match name {
        "" => return Ok(()),
        "Relu" => UnaryKind::Relu,
        "Tanh" => UnaryKind::Tanh,
        "Sigmoid" => UnaryKind::Sigmoid,
        "LeakyRelu" => UnaryKind::LeakyRelu { alpha: parameter(0)? },
        "HardSigmoid" => UnaryKind::HardSigmoid { alpha: parameter(0)?, beta: parameter(1)? },
        "Clip" => {
            let limits = [parameter(0)?, parameter(1)?].map(|v| Operand::Constant(Tensor::scalar(v)));
            nodes.push(Clip, [value].into_iter().chain(limits));
            return Ok(());
        }
        other => bail!(Unsupported, "the activation {other} is not supported"),
    };
    nodes.push(Unary(kind), [value]);
    Ok(())
}

/// x, w, optional bias and optional summand: a convolution, the sum, the activation.
fn fused_conv(node: &mut NodeReader) -> Result<Reading> {
    let (name, parameters) = (node.str_or("activation", "")?, node.floats("activation_params")?.unwrap_or_default());
    let mut nodes = Sequence::default();
    let mut y = nodes.push(Conv::read_attrs(node)?, [Input(0), Input(1)].into_iter().chain(input_if_present(node, 2)));
    if node.has_input(3) {
        y = nodes.push(Binary(BinaryKind::Add), [y, Input(3)]);
    }
    activate(&mut nodes, y, &name, &parameters)?;
    Ok(nodes.finish())
}

/// a, b and optional c: a Gemm, then the activation.
fn fused_gemm(node: &mut NodeReader) -> Result<Reading> {
    let name = node.str_or("activation", "")?;
    let mut parameters = Vec::new();
    for attribute in ["activation_alpha", "activation_beta", "activation_gamma"] {
        parameters.extend(node.float(attribute)?);
    }
    let mut nodes = Sequence::default();
    let operands = [Input(0), Input(1)].into_iter().chain(input_if_present(node, 2));
    let y = nodes.push(Gemm::read_attrs(node)?, operands);
    activate(&mut nodes, y, &name, &parameters)?;
    Ok(nodes.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;

    #[test]
    fn the_sum_is_yielded_beside_its_normalization() {
        let (x, skip) =
            (Tensor::new([1, 2], vec![1.0f32, 2.0]).unwrap(), Tensor::new([1, 2], vec![0.0f32, 5.0]).unwrap());
        let (scale, bias) = (Tensor::vector(vec![1.0f32, 2.0]), Tensor::vector(vec![0.0f32, 10.0]));
        let run = |simplified: bool, inputs: &[Option<&Tensor>]| {
            let op = SkipLayerNormalization { epsilon: 0.0, simplified };
            let outputs = op.eval(Inputs::new(inputs), &Budget::generous()).unwrap();
            let facts: Vec<Option<Fact>> = inputs.iter().map(|t| t.map(|t| Fact::constant(t.clone()))).collect();
            let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
            let facts = op.infer(Inputs::new(&facts)).unwrap();
            assert!(facts.iter().zip(&outputs).all(|(f, t)| f.concrete_shape().as_ref() == Some(t.shape())));
            outputs.iter().map(|t| t.to_f32_vec().unwrap()).collect::<Vec<_>>()
        };
        let full = run(false, &[Some(&x), Some(&skip), Some(&scale), None, Some(&bias)]);
        assert_eq!(full, [vec![-1.0, 2.0], vec![9.0], vec![0.125], vec![1.0, 17.0]]);
        let simple = run(true, &[Some(&x), Some(&skip), Some(&scale)]);
        assert_eq!(simple, [vec![0.2, 2.8], vec![0.0], vec![0.2], vec![1.0, 7.0]]);
    }

    #[test]
    fn activations_follow_their_operator() {
        let attrs = [("activation", Attr::Str("Clip".into())), ("activation_params", Attr::Floats(vec![0.0, 6.0]))];
        let attrs = attrs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut node = NodeReader::new("FusedConv", 1, attrs, vec![true, true, false, true], 1, 0);
        let Reading::Nodes(nodes) = fused_conv(&mut node).unwrap() else { panic!("one node") };
        assert_eq!(nodes.iter().map(|(op, _)| op.name()).collect::<Vec<_>>(), ["Conv", "Add", "Clip"]);
        assert_eq!(nodes[0].1.len(), 2);
    }
}
