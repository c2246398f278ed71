//! Operators spelled out in those that have kernels: sums of many, ONNX Runtime's fused products and normalizations, and a
//! `Gemm` that nothing else has taken.

use super::pattern::{constant, each};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Cast, Variadic, VariadicKind};
use crate::ops::image::{Filter, Resize};
use crate::ops::layout::Transpose;
use crate::ops::matrix::{FusedMatMul, Gemm, MatMul};
use crate::ops::nn::{LayerNormalization, RmsNormalization, SkipLayerNormalization};
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{DType, Tensor};

/// What patterns find the parts of.
pub(super) fn spell_fused(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| {
        variadic(graph, node)
            .or_else(|| fused_product(graph, node))
            .or_else(|| skip_norm(graph, node))
            .or_else(|| resize(graph, node))
    })
}

/// Once no pattern that knows `Gemm` has taken it.
pub(super) fn spell_gemm(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| gemm(graph, node))
}

fn float(graph: &Graph, value: ValueId) -> Option<DType> {
    Some(graph.fact(value).dtype).filter(|dtype| dtype.is_float())
}

fn number(patch: &mut Patch, value: f64, dtype: DType) -> Option<Operand> {
    Some(patch.constant("factor", Tensor::scalar(value).cast(dtype).ok()?))
}

/// Two at a time, from the first on.
fn variadic(graph: &Graph, node: &Node) -> Option<Patch> {
    let kind = node.op().downcast_ref::<Variadic>()?.0;
    let dtype = float(graph, node.output(0)?)?;
    let values: Vec<ValueId> = node.inputs().iter().copied().collect::<Option<_>>()?;
    let mean = kind == VariadicKind::Mean;
    if values.len() < 2 || (values.len() == 2 && !mean && kind != VariadicKind::Sum) {
        return None;
    }
    let mut patch = Patch::new();
    // Parts of a mean, so that a sum of large numbers does not overflow.
    let count = if mean { Some(number(&mut patch, values.len() as f64, dtype)?) } else { None };
    let part = |patch: &mut Patch, value: ValueId| match count {
        Some(count) => patch.op(node.name(), Binary(BinaryKind::Div), &[value.into(), count]),
        None => value.into(),
    };
    let mut y = part(&mut patch, *values.first()?);
    for value in &values[1..] {
        let operands = [y, part(&mut patch, *value)];
        y = match kind {
            VariadicKind::Sum | VariadicKind::Mean => patch.op(node.name(), Binary(BinaryKind::Add), &operands),
            VariadicKind::Max | VariadicKind::Min => patch.op(node.name(), Variadic(kind), &operands),
        };
    }
    patch.replace(node.output(0)?, y);
    Some(patch)
}

/// `value` with its last two axes the other way round.
fn turned(graph: &Graph, patch: &mut Patch, value: ValueId, turn: bool) -> Option<Operand> {
    if !turn {
        return Some(value.into());
    }
    let rank = graph.fact(value).rank().filter(|rank| *rank >= 2)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    Some(patch.op("turned", Transpose { perm: Some(perm) }, &[value.into()]))
}

/// `alpha * a' · b'`.
fn fused_product(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<FusedMatMul>()?;
    let dtype = float(graph, node.output(0)?)?;
    let mut patch = Patch::new();
    let a = turned(graph, &mut patch, node.input(0)?, op.trans_a)?;
    let b = turned(graph, &mut patch, node.input(1)?, op.trans_b)?;
    let mut y = patch.op(node.name(), MatMul, &[a, b]);
    if op.alpha != 1.0 {
        let alpha = number(&mut patch, f64::from(op.alpha), dtype)?;
        y = patch.op(node.name(), Binary(BinaryKind::Mul), &[y, alpha]);
    }
    patch.replace(node.output(0)?, y);
    Some(patch)
}

/// The sum, which may be an output as well, and its normalization.
fn skip_norm(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<SkipLayerNormalization>()?;
    float(graph, node.output(0)?)?;
    if node.outputs().iter().skip(1).take(2).any(Option::is_some) {
        return None;
    }
    let (shift, bias) = if op.simplified { (None, node.input(3)) } else { (node.input(3), node.input(4)) };
    let mut patch = Patch::new();
    let mut sum = patch.op(node.name(), Binary(BinaryKind::Add), &[node.input(0)?.into(), node.input(1)?.into()]);
    if let Some(bias) = bias {
        sum = patch.op(node.name(), Binary(BinaryKind::Add), &[sum, bias.into()]);
    }
    let mut inputs = vec![sum, node.input(2)?.into()];
    let y = if op.simplified {
        patch.op(node.name(), RmsNormalization { axis: -1, epsilon: op.epsilon }, &inputs)
    } else {
        inputs.extend(shift.map(Operand::from));
        patch.op(node.name(), LayerNormalization { axis: -1, epsilon: op.epsilon }, &inputs)
    };
    patch.replace(node.output(0)?, y);
    if let Some(output) = node.outputs().get(3).copied().flatten() {
        patch.replace(output, sum);
    }
    Some(patch)
}

/// Bytes resized between neighbors, by way of real numbers.
fn resize(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<Resize>()?;
    let dtype = graph.fact(node.output(0)?).dtype;
    if !matches!(dtype, DType::U8 | DType::I8) || matches!(op.filter, Filter::Nearest(_)) {
        return None;
    }
    let mut patch = Patch::new();
    let real = patch.op(node.name(), Cast { to: DType::F32 }, &[node.input(0)?.into()]);
    let others = node.inputs().iter().skip(1).map(|input| input.map(Operand::from));
    let inputs: Vec<Option<Operand>> = std::iter::once(Some(real)).chain(others).collect();
    let resized = patch.node(node.name(), node.op().clone(), &inputs, 1)[0];
    let y = patch.op(node.name(), Cast { to: dtype }, &[resized]);
    patch.replace(node.output(0)?, y);
    Some(patch)
}

/// A constant times a factor.
fn scaled(tensor: &Tensor, factor: f32) -> Option<Tensor> {
    let factor = Tensor::scalar(factor).cast(tensor.dtype()).ok()?;
    let inputs = [Some(tensor), Some(&factor)];
    Binary(BinaryKind::Mul).eval(Inputs::new(&inputs), &Budget::generous()).ok()?.into_iter().next()
}

/// `value * factor`, at once where it is a constant.
fn times(graph: &Graph, patch: &mut Patch, value: ValueId, factor: f32, dtype: DType) -> Option<Operand> {
    if factor == 1.0 {
        return Some(value.into());
    }
    if let Some(tensor) = constant(graph, value) {
        return Some(patch.constant("scaled", scaled(tensor, factor)?));
    }
    let factor = number(patch, f64::from(factor), dtype)?;
    Some(patch.op("scaled", Binary(BinaryKind::Mul), &[value.into(), factor]))
}

/// `alpha * a' · b' + beta * c`.
fn gemm(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<Gemm>()?;
    let dtype = float(graph, node.output(0)?)?;
    let mut patch = Patch::new();
    let a = turned(graph, &mut patch, node.input(0)?, op.trans_a)?;
    // The factor goes onto weights that are there, or onto the product.
    let weight = constant(graph, node.input(1)?);
    let (b, left) = match weight {
        Some(weight) => {
            let weight = if op.trans_b { weight.turned().ok()? } else { weight.clone() };
            let weight = if op.alpha == 1.0 { weight } else { scaled(&weight, op.alpha)? };
            (patch.constant("weight", weight), 1.0)
        }
        None => (turned(graph, &mut patch, node.input(1)?, op.trans_b)?, op.alpha),
    };
    let mut y = patch.op(node.name(), MatMul, &[a, b]);
    if left != 1.0 {
        let alpha = number(&mut patch, f64::from(left), dtype)?;
        y = patch.op(node.name(), Binary(BinaryKind::Mul), &[y, alpha]);
    }
    if let Some(c) = node.input(2).filter(|_| op.beta != 0.0) {
        let c = times(graph, &mut patch, c, op.beta, dtype)?;
        y = patch.op(node.name(), Binary(BinaryKind::Add), &[y, c]);
    }
    patch.replace(node.output(0)?, y);
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::tensor::Fact;
    use std::sync::Arc;

    #[test]
    fn many_are_added_two_at_a_time() {
        use VariadicKind::{Max, Mean, Min, Sum};
        for (kind, count, nodes) in
            [(Sum, 2, 1), (Sum, 4, 3), (Mean, 2, 3), (Mean, 3, 5), (Max, 2, 1), (Max, 3, 2), (Min, 3, 2), (Sum, 1, 1)]
        {
            let (mut graph, x) = graph_of(&[3, 4]);
            let mut values = vec![x];
            for shape in [&[4][..], &[3, 1], &[2, 1, 1]].into_iter().take(count - 1) {
                values.push(graph.constant("c", ramp(shape)).unwrap());
            }
            let y = graph.op("y", Variadic(kind), &values).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, spell_fused, &[ramp(&[3, 4])], nodes);
        }
    }

    #[test]
    fn a_product_of_everything_it_can_say() {
        for bits in 0..32 {
            let [trans_a, trans_b, constant, scaled, added] = [0, 1, 2, 3, 4].map(|bit| bits >> bit & 1 == 1);
            let (mut graph, x) = graph_of(if trans_a { &[3, 4] } else { &[4, 3] });
            let shape: &[usize] = if trans_b { &[5, 3] } else { &[3, 5] };
            let b = match constant {
                true => graph.constant("b", ramp(shape)).unwrap(),
                false => graph.input("b", Fact::concrete(DType::F32, shape)).unwrap(),
            };
            let (alpha, beta) = if scaled { (0.5, -2.0) } else { (1.0, 1.0) };
            let mut inputs = vec![x, b];
            if added {
                inputs.push(graph.constant("c", ramp(&[4, 1])).unwrap());
            }
            let y = graph.op("y", Gemm { alpha, beta, trans_a, trans_b }, &inputs).unwrap();
            graph.output(y).unwrap();
            let onto_product = usize::from(trans_b) + usize::from(scaled);
            let nodes = 1 + usize::from(trans_a) + usize::from(added) + if constant { 0 } else { onto_product };
            let mut tensors = vec![ramp(if trans_a { &[3, 4] } else { &[4, 3] })];
            if !constant {
                tensors.push(ramp(shape));
            }
            check(&mut graph, spell_gemm, &tensors, nodes);
        }
    }

    #[test]
    fn bytes_between_bytes_are_resized_as_numbers() {
        for (filter, nodes) in [(Filter::Linear, 3), (Filter::Nearest(Default::default()), 1)] {
            let mut graph = Graph::new("test");
            let x = graph.input("x", Fact::concrete(DType::U8, &[1, 1, 2, 3])).unwrap();
            let none = graph.constant("none", Tensor::vector(Vec::<f32>::new())).unwrap();
            let scales = graph.constant("scales", Tensor::vector(vec![1.0f32, 1.0, 2.0, 2.0])).unwrap();
            let op = Resize {
                filter,
                coordinates: Default::default(),
                antialias: false,
                exclude_outside: false,
                extrapolation_value: 0.0,
                axes: None,
                aspect: Default::default(),
            };
            let y = graph.op("y", op, &[x, none, scales]).unwrap();
            graph.output(y).unwrap();
            let x = Tensor::new([1, 1, 2, 3], vec![1u8, 4, 255, 0, 8, 16]).unwrap();
            check(&mut graph, spell_fused, &[x], nodes);
        }
    }

    #[test]
    fn fused_products_and_normalizations_are_their_parts() {
        let (mut graph, x) = graph_of(&[2, 3, 4]);
        let b = graph.constant("b", ramp(&[2, 5, 4])).unwrap();
        let op = FusedMatMul { alpha: 0.5, trans_a: false, trans_b: true };
        let y = graph.op("y", op, &[x, b]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, spell_fused, &[ramp(&[2, 3, 4])], 3);
        for simplified in [false, true] {
            let (mut graph, x) = graph_of(&[2, 3, 4]);
            let [skip, scale, shift, bias] = [&[2, 3, 4][..], &[4], &[4], &[4]].map(|shape| {
                let value = graph.constant("c", ramp(shape)).unwrap();
                Some(value)
            });
            let inputs =
                if simplified { vec![Some(x), skip, scale, bias] } else { vec![Some(x), skip, scale, shift, bias] };
            let op = Arc::new(SkipLayerNormalization { epsilon: 1e-3, simplified });
            let outputs = graph.node("skip", op, &inputs, &[Some("y"), None, None, Some("sum")]).unwrap();
            for output in outputs.into_iter().flatten() {
                graph.output(output).unwrap();
            }
            check(&mut graph, spell_fused, &[ramp(&[2, 3, 4])], 3);
        }
    }
}
