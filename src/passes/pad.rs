//! Padding moved into the convolution or pool after it, where that pads with the same.

use super::pattern::{each, integers, scalar, unary};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::elementwise::{Clip, UnaryKind};
use crate::ops::layout::{Pad, PadMode};
use crate::ops::nn::{Conv, Padding, Pool, PoolKind};
use std::sync::Arc;

pub(super) fn absorb_padding(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| absorb(graph, node))
}

/// A `Pad` by a constant: what it pads, how far each spatial axis on both sides, and with what.
struct Padded {
    x: ValueId,
    begin: Vec<i64>,
    end: Vec<i64>,
    fill: f64,
}

fn padded(graph: &Graph, value: ValueId) -> Option<Padded> {
    graph.single_user(value)?;
    let (_, node) = graph.producer(value)?;
    let x = node.input(0)?;
    let rank = graph.fact(x).rank()?;
    if node.op().downcast_ref::<Pad>()?.mode != PadMode::Constant {
        return None;
    }
    let fill = match node.input(2) {
        Some(fill) => scalar(graph, fill)?,
        None => 0.0,
    };
    let pads = integers(graph, node.input(1)?)?;
    let axes: Vec<i64> = match node.input(3) {
        Some(axes) => integers(graph, axes)?,
        None => (0..rank as i64).collect(),
    };
    if pads.len() != 2 * axes.len() || pads.iter().any(|&n| n < 0) {
        return None;
    }
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    for (index, axis) in axes.iter().enumerate() {
        let axis = usize::try_from(if *axis < 0 { axis + rank as i64 } else { *axis }).ok()?;
        (*begin.get_mut(axis)?, *end.get_mut(axis)?) = (pads[index], pads[axes.len() + index]);
    }
    let spatial = |list: Vec<i64>| list.get(..2)?.iter().all(|&n| n == 0).then(|| list[2..].to_vec());
    Some(Padded { x, begin: spatial(begin)?, end: spatial(end)?, fill })
}

/// Both paddings in one; `None` where one depends on the input's length.
fn joined(own: &Padding, pad: &Padded) -> Option<Padding> {
    let sum = |own: &[i64], more: &[i64]| -> Option<Vec<i64>> {
        match own.len() {
            0 => Some(more.to_vec()),
            n if n == more.len() => own.iter().zip(more).map(|(a, b)| a.checked_add(*b)).collect(),
            _ => None,
        }
    };
    match own {
        Padding::Explicit { begin, end } => {
            Some(Padding::Explicit { begin: sum(begin, &pad.begin)?, end: sum(end, &pad.end)? })
        }
        Padding::Valid => Some(Padding::Explicit { begin: pad.begin.clone(), end: pad.end.clone() }),
        Padding::SameUpper | Padding::SameLower => None,
    }
}

fn absorb(graph: &Graph, node: &Node) -> Option<Patch> {
    let pad = padded(graph, node.input(0)?)?;
    let op: Arc<dyn Op> = if let Some(conv) = node.op().downcast_ref::<Conv>() {
        let padding = joined(&conv.padding, &pad).filter(|_| pad.fill == 0.0)?;
        Arc::new(Conv { padding, ..conv.clone() })
    } else {
        Arc::new(pool(graph, node.op().downcast_ref()?, &pad)?)
    };
    if node.outputs().len() != 1 {
        return None;
    }
    let mut inputs: Vec<Option<Operand>> = node.inputs().iter().map(|v| v.map(Into::into)).collect();
    *inputs.first_mut()? = Some(pad.x.into());
    let mut patch = Patch::new();
    let made = patch.node(node.name(), op, &inputs, 1);
    patch.replace(node.output(0)?, made[0]);
    Some(patch)
}

/// The pool over the padding: each window must see something of the input, and count or ignore the rest as before.
fn pool(graph: &Graph, pool: &Pool, pad: &Padded) -> Option<Pool> {
    let none = matches!(&pool.padding, Padding::Valid)
        || matches!(&pool.padding, Padding::Explicit { begin, end } if begin.iter().chain(end).all(|&n| n == 0));
    let kind = match pool.kind {
        PoolKind::Average { count_include_pad } if pad.fill == 0.0 && (count_include_pad || none) => {
            PoolKind::Average { count_include_pad: true }
        }
        PoolKind::Max { .. } if pad.fill == f64::NEG_INFINITY => pool.kind,
        // A zero never exceeds what is no less than zero.
        PoolKind::Max { .. } if pad.fill == 0.0 && not_negative(graph, pad.x) => pool.kind,
        _ => return None,
    };
    let padding = joined(&pool.padding, pad)?;
    let Padding::Explicit { begin, end } = &padding else { return None };
    let narrow = |pads: &[i64]| pads.iter().zip(&pool.kernel).all(|(&pad, &kernel)| (pad as u64) < kernel as u64);
    let dense = pool.dilations.iter().all(|&d| d == 1);
    (narrow(begin) && narrow(end) && dense && !pool.ceil_mode).then(|| Pool { kind, padding, ..pool.clone() })
}

/// True where no element can be below zero.
fn not_negative(graph: &Graph, value: ValueId) -> bool {
    let Some((_, node)) = graph.producer(value) else { return false };
    if node.op().is::<Clip>() {
        return node.input(1).and_then(|low| scalar(graph, low)).is_some_and(|low| low >= 0.0)
            && node.input(2).is_none_or(|high| scalar(graph, high).is_some_and(|high| high >= 0.0));
    }
    matches!(unary(node), Some(UnaryKind::Relu | UnaryKind::Sigmoid | UnaryKind::Abs))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, list, number, ramp};
    use super::*;
    use crate::ops::elementwise::Unary;

    fn padded_graph(relu: bool, fill: f32, pads: &[i64]) -> (Graph, ValueId) {
        let (mut graph, mut x) = graph_of(&[1, 2, 5, 6]);
        if relu {
            x = graph.op("relu", Unary(UnaryKind::Relu), &[x]).unwrap();
        }
        let (pads, fill) = (list(&mut graph, pads), number(&mut graph, fill));
        let y = graph.op("pad", Pad { mode: PadMode::Constant }, &[x, pads, fill]).unwrap();
        (graph, y)
    }

    const SPATIAL: [i64; 8] = [0, 0, 1, 2, 0, 0, 0, 1];

    #[test]
    fn a_convolution_pads_for_itself() {
        let cases = [(0.0, SPATIAL, 1), (1.0, SPATIAL, 2), (0.0, [0, 0, 1, 0, 0, 0, 0, -1], 2)];
        for (fill, pads, nodes) in cases {
            let (mut graph, x) = padded_graph(false, fill, &pads);
            let w = graph.constant("w", ramp(&[3, 2, 3, 3])).unwrap();
            let conv = Conv { padding: Padding::symmetric(&[1, 0]), strides: vec![2, 1], ..Conv::default() };
            let y = graph.op("conv", conv, &[x, w]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, absorb_padding, &[ramp(&[1, 2, 5, 6])], nodes);
        }
    }

    #[test]
    fn a_pool_pads_with_what_it_ignores_or_counts() {
        let (average, max) = (PoolKind::Average { count_include_pad: false }, PoolKind::Max { storage_order: false });
        let cases =
            [(average, false, 0.0, 1), (max, false, 0.0, 2), (max, true, 0.0, 2), (max, false, f32::NEG_INFINITY, 1)];
        for (kind, relu, fill, nodes) in cases {
            let (mut graph, x) = padded_graph(relu, fill, &SPATIAL);
            let (strides, dilations) = (vec![2, 2], vec![]);
            let pool =
                Pool { kind, kernel: vec![3, 3], strides, dilations, padding: Padding::none(), ceil_mode: false };
            let y = graph.op("pool", pool, &[x]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, absorb_padding, &[ramp(&[1, 2, 5, 6])], nodes);
        }
    }
}
