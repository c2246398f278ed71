//! ONNX Runtime's own attention operators, said in ONNX's.
//!
//! What keeps keys and values from call to call (`past`, `present`) is not read: these forms are written for models
//! that see their whole input at once.

use super::{Attention, RotaryEmbedding};
use crate::error::{Result, bail, ensure};
use crate::ops::create::Range;
use crate::ops::elementwise::{Binary, BinaryKind, Cast, CastLike};
use crate::ops::layout::{Concat, Expand, ShapeOf, Split, Squeeze, Unsqueeze};
use crate::ops::matrix::MatMul;
use crate::ops::reader::Operand::{self, Constant, Input};
use crate::ops::sequence::{Sequence, input_if_present};
use crate::ops::{NodeReader, Reading};
use crate::tensor::{DType, Tensor};

pub(super) const DOMAIN: &str = "com.microsoft";

fn integers(values: &[i64]) -> Operand {
    Constant(Tensor::vector(values.to_vec()))
}

/// What the operators with heads share: the attributes, and that nothing is kept from call to call.
struct Common {
    attention: Attention,
    mask_filter: f32,
}

fn common(node: &mut NodeReader, past: &[usize]) -> Result<Common> {
    let stateless = node.output_count() == 1 && !past.iter().any(|&index| node.has_input(index));
    ensure!(stateless, Unsupported, "past and present keys are not supported; export without them");
    let heads = node.int("num_heads")?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    ensure!(heads.is_some(), InvalidModel, "num_heads is missing or not positive");
    Ok(Common {
        attention: Attention {
            is_causal: node.flag_or("unidirectional", false)?,
            q_num_heads: heads,
            kv_num_heads: heads,
            scale: node.float("scale")?.filter(|&scale| scale != 0.0),
            softcap: 0.0,
            softmax_precision: None,
            qk_output: None,
            left_window: None,
            right_window: None,
        },
        mask_filter: node.float_or("mask_filter_value", -10000.0)?,
    })
}

impl Common {
    /// What a mask of ones and zeros adds to the scores, in the dtype of `like`; none of it where the mask is one.
    fn penalty(&self, nodes: &mut Sequence, mask: Operand, axes: &[i64], like: Operand) -> Operand {
        let number = nodes.push(Cast { to: DType::F32 }, [mask]);
        let lacking = nodes.push(Binary(BinaryKind::Sub), [Constant(Tensor::scalar(1.0f32)), number]);
        let penalty = nodes.push(Binary(BinaryKind::Mul), [lacking, Constant(Tensor::scalar(self.mask_filter))]);
        let typed = nodes.push(CastLike, [penalty, like]);
        if axes.is_empty() { typed } else { nodes.push(Unsqueeze, [typed, integers(axes)]) }
    }

    fn attend(self, mut nodes: Sequence, [q, k, v]: [Operand; 3], masks: Vec<Operand>) -> Reading {
        let mut inputs = vec![q, k, v];
        let mask = masks.into_iter().reduce(|a, b| nodes.push(Binary(BinaryKind::Add), [a, b]));
        inputs.extend(mask);
        nodes.push(self.attention, inputs);
        nodes.finish()
    }
}

/// The three parts along the last axis: of the lengths `sizes`, or equal.
fn thirds(nodes: &mut Sequence, value: Operand, axis: i64, sizes: Option<&[i64]>) -> [Operand; 3] {
    let num_outputs = if sizes.is_some() { None } else { Some(3) };
    let inputs = [value].into_iter().chain(sizes.map(integers));
    nodes.push(Split { axis, num_outputs, outputs: 3 }, inputs);
    [nodes.output(0), nodes.output(1), nodes.output(2)]
}

/// `MultiHeadAttention`: query, key and value `[batch, length, hidden]`, bias for all three, padding mask `[batch,
/// keys]`, bias of the scores.
pub(super) fn multi_head(node: &mut NodeReader) -> Result<Reading> {
    let common = common(node, &[6, 7, 8, 9])?;
    let plain = |index: usize| node.has_input(index) && node.input_rank(index).is_none_or(|rank| rank == 3);
    ensure!((0..3).all(plain), Unsupported, "only separate queries, keys and values of rank 3 are supported");
    let mut nodes = Sequence::default();
    let mut parts = [Input(0), Input(1), Input(2)];
    if node.has_input(3) {
        let biases = thirds(&mut nodes, Input(3), 0, None);
        for (part, bias) in parts.iter_mut().zip(biases) {
            *part = nodes.push(Binary(BinaryKind::Add), [part.clone(), bias]);
        }
    }
    let mut masks = Vec::new();
    if node.has_input(4) {
        let rank = node.input_rank(4).unwrap_or(2);
        ensure!(rank == 2, Unsupported, "a key_padding_mask of rank {rank}; only [batch, keys] is supported");
        masks.push(common.penalty(&mut nodes, Input(4), &[1, 2], Input(0)));
    }
    masks.extend(input_if_present(node, 5));
    Ok(common.attend(nodes, parts, masks))
}

/// `Attention`: input `[batch, length, width]`, the weights of query, key and value side by side `[width, 3 * hidden]`,
/// their bias, a mask `[batch]` (lengths), `[batch, keys]` or `[batch, queries, keys]`, bias of the scores.
pub(super) fn projected(node: &mut NodeReader) -> Result<Reading> {
    let common = common(node, &[4, 6])?;
    let sizes = node.ints("qkv_hidden_sizes")?.filter(|sizes| !sizes.is_empty());
    ensure!(sizes.as_ref().is_none_or(|s| s.len() == 3), InvalidModel, "qkv_hidden_sizes is {sizes:?}, not three");
    ensure!(!node.flag_or("do_rotary", false)?, Unsupported, "do_rotary is not supported");
    node.int("rotary_embedding_dim")?;
    node.int("past_present_share_buffer")?;
    let mut nodes = Sequence::default();
    let mut all = nodes.push(MatMul, [Input(0), Input(1)]);
    if let Some(bias) = input_if_present(node, 2) {
        all = nodes.push(Binary(BinaryKind::Add), [all, bias]);
    }
    let parts = thirds(&mut nodes, all, -1, sizes.as_deref());
    let mut masks = Vec::new();
    if node.has_input(3) {
        masks.push(match node.input_rank(3).unwrap_or(2) {
            1 => {
                let keep = within(&mut nodes, Input(3), Input(0));
                common.penalty(&mut nodes, keep, &[1, 2], Input(0))
            }
            2 => common.penalty(&mut nodes, Input(3), &[1, 2], Input(0)),
            3 => common.penalty(&mut nodes, Input(3), &[1], Input(0)),
            rank => bail!(Unsupported, "a mask_index of rank {rank} is not supported"),
        });
    }
    masks.extend(input_if_present(node, 5));
    Ok(common.attend(nodes, parts, masks))
}

/// `[batch, length]`: whether a position lies within the length of its row.
fn within(nodes: &mut Sequence, lengths: Operand, input: Operand) -> Operand {
    let positions = positions(nodes, input, 1);
    let lengths = nodes.push(Cast { to: DType::I64 }, [lengths]);
    let lengths = nodes.push(Unsqueeze, [lengths, integers(&[1])]);
    nodes.push(Binary(BinaryKind::Less), [positions, lengths])
}

/// `0, 1, ..` along axis `axis` of a value.
fn positions(nodes: &mut Sequence, value: Operand, axis: i64) -> Operand {
    let length = nodes.push(ShapeOf { start: axis, end: Some(axis + 1) }, [value]);
    let length = nodes.push(Squeeze, [length, integers(&[0])]);
    nodes.push(Range, [Constant(Tensor::scalar(0i64)), length, Constant(Tensor::scalar(1i64))])
}

/// `RotaryEmbedding`: input, positions `[batch, length]` or one offset for all `[1]`, cosines and sines.
pub(super) fn rotary(node: &mut NodeReader) -> Result<Reading> {
    ensure!(node.float_or("scale", 1.0)? == 1.0, Unsupported, "a scale other than 1 is not supported");
    ensure!(!node.flag_or("is_packed_batching", false)?, Unsupported, "is_packed_batching is not supported");
    let op = RotaryEmbedding::read(node)?;
    let mut nodes = Sequence::default();
    let positions = match node.input_rank(1).unwrap_or(2) {
        2 => Input(1),
        1 => {
            let axis = if node.input_rank(0) == Some(4) { 2 } else { 1 };
            let steps = positions(&mut nodes, Input(0), axis);
            let steps = nodes.push(Binary(BinaryKind::Add), [steps, Input(1)]);
            let batch = nodes.push(ShapeOf { start: 0, end: Some(1) }, [Input(0)]);
            let length = nodes.push(ShapeOf { start: axis, end: Some(axis + 1) }, [Input(0)]);
            let shape = nodes.push(Concat { axis: 0 }, [batch, length]);
            nodes.push(Expand, [steps, shape])
        }
        rank => bail!(InvalidModel, "position_ids of rank {rank}"),
    };
    nodes.push(op, [Input(0), Input(2), Input(3), positions]);
    Ok(nodes.finish())
}
