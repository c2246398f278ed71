//! `Attention` in f32: strided heads as they come, masks of numbers and of truth values.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::attention::{Attention, Heads, Inputs, MaskStrides};
use crate::ops::attention::Attention as Operator;
use crate::tensor::{DType, Shape};

/// Inputs that the kernel takes: queries, keys, values, mask.
const INPUTS: usize = 4;
const MASK: usize = 3;

/// What is added to the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mask {
    None,
    Numbers,
    /// So many truth values, widened to zero and minus infinity.
    Truth(usize),
}

/// One attention without a past.
#[derive(Debug)]
pub(super) struct Attend {
    isa: Isa,
    attention: Attention,
    mask: Mask,
    scratch: usize,
    /// The heads of a batch lie one behind the other, and not within its rows.
    by_heads: bool,
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
        let past = (INPUTS..spec.instruction.inputs.len()).any(|index| spec.input(index).is_some());
        let more = spec.instruction.outputs.iter().skip(1).any(Option::is_some);
        let wide = op.softmax_precision == Some(DType::F64);
        let windows = op.left_window.is_some() || op.right_window.is_some();
        if past || more || wide || windows || !(0..MASK).all(float) {
            return None;
        }
        let (q, k, v, out) = (spec.shape(0)?, spec.shape(1)?, spec.shape(2)?, spec.output_shape(0)?);
        let (heads_of_q, queries, head_size, q_heads) = heads(q, op.q_num_heads)?;
        let (kv_heads, keys, key_size, k_heads) = heads(k, op.kv_num_heads)?;
        let (value_heads, values, value_size, v_heads) = heads(v, op.kv_num_heads)?;
        let (_, _, _, out_heads) = heads(out, Some(heads_of_q))?;
        let batch = q[0];
        let fits = k[0] == batch && v[0] == batch && key_size == head_size && value_heads == kv_heads && values == keys;
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
            causal: op.is_causal.then_some(0),
        };
        Some(Attend { isa, attention, mask, scratch: attention.scratch_len(isa), by_heads: out.rank() == 4 })
    }

    /// Queries that may attend no key yield zeros; `out` begins at element `origin` of the output.
    fn clear_unseeing(&self, mask: &[f32], out: &mut [f32], origin: usize) {
        let Attention { batch, heads, queries, keys, value_size, causal, .. } = self.attention;
        let (Some(strides), at) = (self.attention.mask, self.attention.out) else { return };
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    let visible = if causal.is_some() { keys.min(i + 1) } else { keys };
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
        self.scratch.saturating_add(mask).saturating_mul(4)
    }

    fn division(&self) -> Division {
        let Attention { batch, kv_heads, queries, .. } = self.attention;
        if self.by_heads { Division::units(batch * kv_heads, 1) } else { Division::units(batch * queries, 8) }
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let workspace: &mut [f32] = bytemuck::cast_slice_mut(&mut context.workspace[..self.workspace()]);
        let (scratch, widened) = workspace.split_at_mut(self.scratch);
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
        let inputs = Inputs { q: io.input(0)?, k: io.input(1)?, v: io.input(2)?, mask };
        let Attention { batch, kv_heads, queries, .. } = self.attention;
        let each = if self.by_heads { kv_heads } else { queries };
        let (share, len) = (io.share(), out.len());
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
