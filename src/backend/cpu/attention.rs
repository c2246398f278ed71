//! `Attention` in f32: strided heads as they come, masks of numbers and of truth values.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::attention::{Attention, Heads, Inputs, MaskStrides};
use crate::ops::attention::Attention as Operator;
use crate::tensor::{DType, Shape};

const MASK: usize = 3;
/// Past keys and values; behind them what the kernel does not take.
const PAST: [usize; 2] = [4, 5];
const OTHERS: usize = 6;

/// What is added to the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mask {
    None,
    Numbers,
    /// So many truth values, widened to zero and minus infinity.
    Truth(usize),
}

/// Keys or values that are kept from call to call: `[batch, heads, past + new, size]`.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// Rows of the past, and the new ones behind them.
    past: usize,
    rows: usize,
    heads: usize,
    size: usize,
    /// Where the new ones lie.
    new: Heads,
    /// Whether the step yields them; else they are put together in the workspace.
    yielded: bool,
}

impl Kept {
    fn len(&self, batch: usize) -> usize {
        [self.heads, self.past + self.rows, self.size].into_iter().fold(batch, usize::saturating_mul)
    }

    /// The past with what is new behind it, head by head.
    fn join(&self, past: Option<&[f32]>, new: &[f32], all: &mut [f32]) {
        let (before, size) = (self.past * self.size, self.size);
        for (at, all) in all.chunks_exact_mut(before + self.rows * size).enumerate() {
            let (first, rows) = all.split_at_mut(before);
            if let Some(past) = past {
                first.copy_from_slice(&past[at * before..(at + 1) * before]);
            }
            let from = at / self.heads * self.new.batch + at % self.heads * self.new.head;
            for (row, to) in rows.chunks_exact_mut(size).enumerate() {
                to.copy_from_slice(&new[from + row * self.new.row..][..size]);
            }
        }
    }
}

/// One attention, with or without a past.
#[derive(Debug)]
pub(super) struct Attend {
    isa: Isa,
    attention: Attention,
    mask: Mask,
    scratch: usize,
    /// The heads of a batch lie one behind the other, and not within its rows.
    by_heads: bool,
    /// Keys and values, where there is a past or they are kept for a next call.
    kept: Option<[Kept; 2]>,
}

/// Heads, rows and the elements of a row, and where they lie.
fn heads(shape: &Shape, count: Option<usize>) -> Option<(usize, usize, usize, Heads)> {
    match shape[..] {
        [_, heads, rows, size] if count.is_none_or(|n| n == heads) => {
            Some((heads, rows, size, Heads::before_rows(heads, rows, size)))
        }
        [_, rows, hidden] => {
            let heads = count.filter(|&n| n > 0 && hidden % n == 0)?;
            Some((heads, rows, hidden / heads, Heads::after_rows(heads, rows, hidden / heads)))
        }
        _ => None,
    }
}

/// The strides of a mask that broadcasts to `[batch, heads, queries, keys]` and has an element for each key.
fn mask_strides(shape: &Shape, target: [usize; 4]) -> Option<MaskStrides> {
    let first = 4usize.checked_sub(shape.rank())?;
    let plain = shape.strides();
    let mut strides = [0; 4];
    for (axis, &length) in shape.iter().enumerate() {
        match length {
            n if n == target[first + axis] => strides[first + axis] = plain[axis],
            1 if first + axis < 3 => {}
            _ => return None,
        }
    }
    let [batch, head, row, _] = strides;
    (shape.rank() > 0).then_some(MaskStrides { batch, head, row })
}

impl Attend {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<Operator>() else { return Ok(None) };
        Ok(Self::of(op, spec, isa))
    }

    fn of(op: &Operator, spec: &Spec<'_>, isa: Isa) -> Option<Self> {
        let float = |index: usize| spec.input(index).is_some_and(|slot| slot.dtype == DType::F32);
        let others = (OTHERS..spec.instruction.inputs.len()).any(|index| spec.input(index).is_some());
        let more = spec.instruction.outputs.iter().skip(3).any(Option::is_some);
        let pasts = PAST.map(|index| spec.input(index).is_some());
        let keeps = pasts[0] || [1, 2].into_iter().any(|index| spec.output(index).is_some());
        let wide = op.softmax_precision == Some(DType::F64);
        let windows = op.left_window.is_some() || op.right_window.is_some();
        let floats = (0..MASK).all(float) && PAST.into_iter().all(|index| !pasts[0] || float(index));
        if others || more || wide || windows || pasts[0] != pasts[1] || !floats {
            return None;
        }
        let (q, k, v, out) = (spec.shape(0)?, spec.shape(1)?, spec.shape(2)?, spec.output_shape(0)?);
        let (heads_of_q, queries, head_size, q_heads) = heads(q, op.q_num_heads)?;
        let (kv_heads, new, key_size, mut k_heads) = heads(k, op.kv_num_heads)?;
        let (value_heads, values, value_size, mut v_heads) = heads(v, op.kv_num_heads)?;
        let (_, _, _, out_heads) = heads(out, Some(heads_of_q))?;
        let batch = q[0];
        let fits = k[0] == batch && v[0] == batch && key_size == head_size && value_heads == kv_heads && values == new;
        let mut past = 0;
        let mut kept = None;
        if keeps {
            past = if pasts[0] { *spec.shape(PAST[0])?.get(2)? } else { 0 };
            let of = |which: usize, size: usize, new_heads: Heads| {
                let whole = spec.shape(PAST[which]).is_none_or(|own| own[..] == [batch, kv_heads, past, size]);
                let yielded = spec.output(1 + which).is_some();
                let kept = Kept { past, rows: new, heads: kv_heads, size, new: new_heads, yielded };
                let fits = spec.output_shape(1 + which).is_none_or(|out| out.elements() == kept.len(batch));
                (whole && fits && kept.len(1) > 0).then_some(kept)
            };
            kept = Some([of(0, key_size, k_heads)?, of(1, value_size, v_heads)?]);
            k_heads = Heads::before_rows(kv_heads, past + new, key_size);
            v_heads = Heads::before_rows(kv_heads, past + new, value_size);
        }
        let keys = past + new;
        let grouped = kv_heads > 0 && heads_of_q % kv_heads == 0;
        let filled = out.elements() == batch * heads_of_q * queries * value_size && keys > 0 && out.rank() == q.rank();
        if !(fits && grouped && filled) {
            return None;
        }
        let (mask, strides) = match spec.input(MASK) {
            None => (Mask::None, None),
            Some(slot) => {
                let shape = slot.shape.as_ref()?;
                let kind = match slot.dtype {
                    DType::F32 => Mask::Numbers,
                    DType::Bool => Mask::Truth(shape.elements()),
                    _ => return None,
                };
                (kind, Some(mask_strides(shape, [batch, heads_of_q, queries, keys])?))
            }
        };
        let attention = Attention {
            batch,
            heads: heads_of_q,
            kv_heads,
            queries,
            keys,
            head_size,
            value_size,
            q: q_heads,
            k: k_heads,
            v: v_heads,
            out: out_heads,
            mask: strides,
            scale: op.scale.unwrap_or_else(|| (1.0 / (head_size as f64).sqrt()) as f32),
            soft_cap: Some(op.softcap).filter(|&cap| cap > 0.0),
            causal: op.is_causal.then_some(past as isize),
        };
        Some(Attend { isa, attention, mask, scratch: attention.scratch_len(isa), by_heads: out.rank() == 4, kept })
    }

    /// Queries that may attend no key yield zeros; `out` begins at element `origin` of the output.
    fn clear_unseeing(&self, mask: &[f32], out: &mut [f32], origin: usize) {
        let Attention { batch, heads, queries, keys, value_size, causal, .. } = self.attention;
        let (Some(strides), at) = (self.attention.mask, self.attention.out) else { return };
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    let visible = causal.map_or(keys, |offset| keys.min(i + 1 + offset.unsigned_abs()));
                    let row = &mask[b * strides.batch + h * strides.head + i * strides.row..][..visible];
                    let place = (b * at.batch + h * at.head + i * at.row).checked_sub(origin);
                    let own = place.and_then(|place| out.get_mut(place..)?.get_mut(..value_size));
                    if let Some(own) = own.filter(|_| row.iter().all(|&m| m == f32::NEG_INFINITY)) {
                        own.fill(0.0);
                    }
                }
            }
        }
    }
}

impl Kernel for Attend {
    fn name(&self) -> String {
        let Attention { heads, queries, keys, head_size, .. } = self.attention;
        format!("attention {heads}x{queries}x{keys}x{head_size}")
    }

    fn workspace(&self) -> usize {
        let mask = if let Mask::Truth(len) = self.mask { len } else { 0 };
        let kept = self.kept.iter().flatten().filter(|kept| !kept.yielded).map(|kept| kept.len(self.attention.batch));
        kept.fold(self.scratch.saturating_add(mask), usize::saturating_add).saturating_mul(4)
    }

    fn division(&self) -> Division {
        let Attention { batch, kv_heads, queries, .. } = self.attention;
        if self.kept.is_some() {
            return Division::Whole;
        }
        if self.by_heads { Division::units(batch * kv_heads, 1) } else { Division::units(batch * queries, 8) }
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let workspace: &mut [f32] = bytemuck::cast_slice_mut(&mut context.workspace[..self.workspace()]);
        let (scratch, rest) = workspace.split_at_mut(self.scratch);
        let (widened, mut rest) = rest.split_at_mut(if let Mask::Truth(len) = self.mask { len } else { 0 });
        let mask: Option<&[f32]> = match self.mask {
            Mask::None => None,
            Mask::Numbers => Some(io.input(MASK)?),
            Mask::Truth(_) => {
                let truth: &[u8] = io.input(MASK)?;
                for (number, &truth) in widened.iter_mut().zip(truth) {
                    *number = if truth == 0 { f32::NEG_INFINITY } else { 0.0 };
                }
                Some(widened)
            }
        };
        let out: &mut [f32] = io.output(0)?;
        let Attention { batch, kv_heads, queries, .. } = self.attention;
        let mut sides: [&[f32]; 2] = [io.input(1)?, io.input(2)?];
        for (which, kept) in self.kept.iter().flatten().enumerate() {
            let all: &mut [f32] = if kept.yielded {
                io.output(1 + which)?
            } else {
                let (own, others) = rest.split_at_mut(kept.len(batch));
                rest = others;
                own
            };
            let past: Option<&[f32]> = if kept.past > 0 { Some(io.input(PAST[which])?) } else { None };
            kept.join(past, sides[which], all);
            sides[which] = all;
        }
        let inputs = Inputs { q: io.input(0)?, k: sides[0], v: sides[1], mask };
        let each = if self.by_heads { kv_heads } else { queries };
        let share = if self.kept.is_some() { 0..batch * each } else { io.share() };
        let len = out.len();
        let unit = len / share.len().max(1);
        let mut first = share.start;
        while first < share.end {
            // The units of one batch, or whole batches.
            let whole = first.is_multiple_of(each) && share.end - first >= each;
            let last = if whole { share.end - share.end % each } else { share.end.min((first / each + 1) * each) };
            let batches = first / each..last.div_ceil(each).min(batch);
            let within = if whole { 0..each } else { first % each..last - first / each * each };
            let (heads, rows) = if self.by_heads { (within, 0..queries) } else { (0..kv_heads, within) };
            let part = &mut out[(first - share.start) * unit..(last - share.start) * unit];
            self.attention.run_part(self.isa, inputs, batches, heads, rows, part, first * unit, scratch);
            first = last;
        }
        if let Some(mask) = mask {
            self.clear_unseeing(mask, out, share.start * unit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::tensor::{Fact, Tensor};
    use crate::{CompileOptions, Model};
    use std::sync::Arc;

    fn numbers(shape: &[usize], seed: usize) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::new(shape, (0..n).map(|i| ((i * 7919 + seed * 31) % 101) as f32 / 50.0 - 1.0).collect()).unwrap()
    }

    /// Four query heads share two of keys; two sequences, three new positions behind `past`.
    fn agrees(past: usize, split: bool, causal: bool, masked: bool, outputs: usize) {
        let operator = Operator {
            is_causal: causal,
            q_num_heads: Some(4),
            kv_num_heads: Some(2),
            scale: None,
            softcap: 0.0,
            softmax_precision: None,
            qk_output: None,
            left_window: None,
            right_window: None,
        };
        let [q, kv]: [Vec<usize>; 2] =
            if split { [vec![2, 4, 3, 8], vec![2, 2, 3, 8]] } else { [vec![2, 3, 32], vec![2, 3, 16]] };
        let shapes = [q, kv.clone(), kv, vec![3, past + 3], vec![2, 2, past, 8], vec![2, 2, past, 8]];
        let mut graph = Graph::new("test");
        let (mut inputs, mut tensors) = (Vec::new(), Vec::new());
        for (index, shape) in shapes.iter().enumerate() {
            if (index == MASK && !masked) || (index > MASK && past == 0) {
                inputs.push(None);
                continue;
            }
            inputs.push(Some(graph.input(&format!("x{index}"), Fact::concrete(DType::F32, shape)).unwrap()));
            tensors.push(numbers(shape, index));
        }
        let names = [Some("y"), Some("k"), Some("v")];
        for y in graph.node("a", Arc::new(operator), &inputs, &names[..outputs]).unwrap().into_iter().flatten() {
            graph.output(y).unwrap();
        }
        let expected = graph.interpret(&tensors).unwrap();
        let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
        let shapes: Vec<_> = tensors.iter().map(|t| t.shape().clone()).collect();
        assert_eq!(model.plan(&shapes).unwrap().fallbacks(), Vec::<String>::new());
        for (found, expected) in model.run(tensors).unwrap().into_vec().iter().zip(&expected) {
            assert_eq!(found.shape(), expected.shape());
            for (a, b) in found.to_f64_vec().unwrap().iter().zip(expected.to_f64_vec().unwrap()) {
                assert!((a - b).abs() <= 1e-5, "{a} against {b}: {past} {split} {causal} {masked}");
            }
        }
    }

    #[test]
    fn keys_and_values_are_kept_from_call_to_call() {
        for bits in 0..8 {
            let [split, causal, masked] = [0, 1, 2].map(|bit| bits >> bit & 1 == 1);
            for (past, outputs) in [(0, 1), (0, 3), (5, 1), (5, 3)] {
                agrees(past, split, causal, masked, outputs);
            }
        }
    }
}
