//! Group normalization out of the instance normalization of a reshaped image that spells it.

use super::pattern::{binary, constant, each, same_dims, told};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Patch, ValueId};
use crate::ops::elementwise::BinaryKind;
use crate::ops::layout::Reshape;
use crate::ops::nn::{GroupNormalization, InstanceNormalization};
use crate::tensor::{Dim, Tensor};

pub(super) fn recognize_group_norm(graph: &mut Graph) -> Result<usize> {
    each(graph, normalization)
}

/// `Reshape(InstanceNormalization(Reshape(x, [N, G, ..])), shape of x)`, and a scale and a shift of each channel behind it.
fn normalization(graph: &Graph, _: NodeId, node: &Node) -> Option<Patch> {
    let (grouped, back) = (node.input(0)?, node.input(1)?);
    if !node.op().is::<Reshape>() || !told(graph, back) {
        return None;
    }
    let (_, norm) = graph.producer(grouped)?;
    let epsilon = norm.op().downcast_ref::<InstanceNormalization>()?.epsilon;
    graph.single_user(grouped)?;
    let (_, before) = graph.producer(norm.input(0)?)?;
    if !before.op().is::<Reshape>() || !told(graph, before.input(1)?) {
        return None;
    }
    let x = before.input(0)?;
    let (own, groups) = (graph.fact(x).dims()?, graph.fact(grouped).dims()?);
    let (channels, count) = (own.get(1)?.known()?, groups.get(1)?.known()?);
    let images = own.first() == groups.first() && own.first() != Some(&Dim::Unknown);
    let divides = count > 0 && channels.is_multiple_of(count) && channels > 0;
    if !images || !divides || !same_dims(graph, x, node.output(0)?) || !graph.fact(x).dtype.is_float() {
        return None;
    }
    // One number of each group, for each of its channels.
    let spread = |value: ValueId| -> Option<Vec<f64>> {
        let each = constant(graph, value)?.to_f64_vec().ok()?;
        let channel = |c: usize| each.get(c / (channels / count)).copied();
        (0..channels).map(channel).collect()
    };
    let (mut scale, mut shift) = (spread(norm.input(1)?)?, spread(norm.input(2)?)?);
    let mut y = node.output(0)?;
    if let Some((product, by)) = parameter(graph, y, BinaryKind::Mul, channels) {
        y = product;
        (0..channels).for_each(|c| (scale[c], shift[c]) = (scale[c] * by[c], shift[c] * by[c]));
    }
    if let Some((sum, by)) = parameter(graph, y, BinaryKind::Add, channels) {
        y = sum;
        (0..channels).for_each(|c| shift[c] += by[c]);
    }
    let mut patch = Patch::new();
    let dtype = graph.fact(x).dtype;
    let scale = patch.constant("scale", Tensor::vector(scale).cast(dtype).ok()?);
    let shift = patch.constant("shift", Tensor::vector(shift).cast(dtype).ok()?);
    let op = GroupNormalization { epsilon, num_groups: count };
    let made = patch.op(norm.name(), op, &[x.into(), scale, shift]);
    patch.replace(y, made);
    Some(patch)
}

/// A constant for each channel, or one for all, and what the one node behind `value` makes with it.
fn parameter(graph: &Graph, value: ValueId, kind: BinaryKind, channels: usize) -> Option<(ValueId, Vec<f64>)> {
    let (_, node) = graph.single_user(value)?;
    let [a, b] = binary(node, kind)?;
    let by = constant(graph, if a == value { b } else { a })?;
    let axis = (by.rank() + 1).checked_sub(graph.fact(value).rank()?);
    let lone = by.shape().iter().enumerate().all(|(at, &n)| n == 1 || Some(at) == axis);
    let fits = lone && by.rank() <= graph.fact(value).rank()? && [1, channels].contains(&by.len());
    let elements = by.to_f64_vec().ok().filter(|_| fits)?;
    let of_channel = |c: usize| elements.get(c.min(elements.len() - 1)).copied();
    Some((node.output(0)?, (0..channels).map(of_channel).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, list, ramp};
    use super::*;
    use crate::ops::elementwise::Binary;

    /// As an exporter writes it, with `groups` of the 6 channels; the scale behind it has this shape.
    fn written(groups: i64, target: &[i64], scale: &[usize]) -> Graph {
        let (mut graph, x) = graph_of(&[2, 6, 2, 5]);
        let (to, back) = (list(&mut graph, &[0, groups, -1]), list(&mut graph, target));
        let each = graph.constant("s", Tensor::vector(vec![1.5f32; groups as usize])).unwrap();
        let shift = graph.constant("b", ramp(&[groups as usize])).unwrap();
        let (scale, added) = (ramp(scale), ramp(&[6, 1, 1]));
        let (scale, added) = (graph.constant("w", scale).unwrap(), graph.constant("c", added).unwrap());
        let y = graph.op("to", Reshape::default(), &[x, to]).unwrap();
        let y = graph.op("norm", InstanceNormalization { epsilon: 1e-3 }, &[y, each, shift]).unwrap();
        let y = graph.op("back", Reshape::default(), &[y, back]).unwrap();
        let y = graph.op("scaled", Binary(BinaryKind::Mul), &[y, scale]).unwrap();
        let y = graph.op("y", Binary(BinaryKind::Add), &[added, y]).unwrap();
        graph.output(y).unwrap();
        graph
    }

    #[test]
    fn groups_are_normalized_by_one_operator() {
        let x = [ramp(&[2, 6, 2, 5])];
        for groups in [1, 2, 3, 6] {
            check(&mut written(groups, &[2, 6, 2, 5], &[6, 1, 1]), recognize_group_norm, &x, 1);
        }
        check(&mut written(2, &[2, 6, 2, 5], &[1]), recognize_group_norm, &x, 1);
        check(&mut written(2, &[2, 6, 2, 5], &[2, 1]), recognize_group_norm, &x, 3);
        check(&mut written(2, &[2, 6, 5, 2], &[1]), recognize_group_norm, &x, 5);
    }
}
