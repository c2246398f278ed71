//! `LinearAttention`: attention as a recurrence over a state of fixed size.

use super::heads::{Heads, head_dims};
use super::scaled_dot::dot;
use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// A state `[key size, value size]` for each head is updated with each key and value, and read with each query.
///
/// Inputs: queries `[batch, length, q_heads * key size]`, keys `[batch, length, kv_heads * key size]`, values `[batch,
/// length, kv_heads * value size]`, the past state `[batch, kv_heads, key size, value size]`?, the logarithm of the
/// decay `[batch, length, kv_heads * key size]` or `[batch, length, kv_heads]`?, the rate `[batch, length, kv_heads]`
/// or `[batch, length, 1]`?. Outputs: `[batch, length, q_heads * value size]` and the state.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearAttention {
    /// Heads of the queries.
    pub q_num_heads: usize,
    /// Heads of keys and values.
    pub kv_num_heads: usize,
    /// What the output is multiplied by; 0 stands for one over the root of the key's size.
    pub scale: f32,
    /// How the state is updated.
    pub rule: UpdateRule,
}

/// How a key `k` with its value `v` updates the state `S`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateRule {
    /// `S + k v'`.
    Linear,
    /// `exp(g) S + k v'`.
    Gated,
    /// `S + b k (v - S' k)'`.
    Delta,
    /// `exp(g) S + b k (v - exp(g) S' k)'`.
    GatedDelta,
}

const RULES: [(UpdateRule, &str); 4] = [
    (UpdateRule::Linear, "linear"),
    (UpdateRule::Gated, "gated"),
    (UpdateRule::Delta, "delta"),
    (UpdateRule::GatedDelta, "gated_delta"),
];

const PAST: usize = 3;
const DECAY: usize = 4;
const RATE: usize = 5;

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let heads = |node: &mut NodeReader, name: &str| -> Result<usize> {
        match node.int(name)?.map(usize::try_from) {
            Some(Ok(count)) if count > 0 => Ok(count),
            _ => bail!(InvalidModel, "{name} is missing or not positive"),
        }
    };
    let (q_num_heads, kv_num_heads) = (heads(node, "q_num_heads")?, heads(node, "kv_num_heads")?);
    ensure!(
        q_num_heads % kv_num_heads == 0,
        InvalidModel,
        "{q_num_heads} query heads cannot share {kv_num_heads} key heads"
    );
    node.int("chunk_size")?; // a hint for speed alone
    let rule = node.str_or("update_rule", "gated_delta")?;
    let Some(&(rule, _)) = RULES.iter().find(|(_, name)| *name == rule) else {
        bail!(InvalidModel, "update_rule {rule:?} is not known");
    };
    ensure!(!rule.decays() || node.has_input(DECAY), InvalidModel, "this update rule needs a decay");
    ensure!(!rule.corrects() || node.has_input(RATE), InvalidModel, "this update rule needs a rate");
    Ok(LinearAttention { q_num_heads, kv_num_heads, scale: node.float_or("scale", 0.0)?, rule }.into())
}

impl UpdateRule {
    fn decays(self) -> bool {
        matches!(self, UpdateRule::Gated | UpdateRule::GatedDelta)
    }

    fn corrects(self) -> bool {
        matches!(self, UpdateRule::Delta | UpdateRule::GatedDelta)
    }
}

impl Op for LinearAttention {
    fn name(&self) -> &'static str {
        "LinearAttention"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (q, k, v) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        ensure!(q.dtype.is_float(), InvalidModel, "queries of {} are no floats", q.dtype);
        for index in PAST..=RATE {
            let Some(fact) = inputs.get(index) else { continue };
            let rank = if index == PAST { 4 } else { 3 };
            ensure!(fact.rank().is_none_or(|r| r == rank), Shape, "input {index} is {fact}, not of rank {rank}");
        }
        let state = inputs.get(PAST).map_or(q.dtype, |past| past.dtype);
        let dims = |fact, heads, name| head_dims(fact, Some(heads), name);
        let (Some([batch, _, length, size]), Some(k), Some(v)) =
            (dims(q, self.q_num_heads, "Q")?, dims(k, self.kv_num_heads, "K")?, dims(v, self.kv_num_heads, "V")?)
        else {
            return Ok(vec![Fact::unranked(q.dtype), Fact::unranked(state)]);
        };
        let batch = batch.unify(&k[0])?.unify(&v[0])?;
        let length = length.unify(&k[2])?.unify(&v[2])?;
        let size = size.unify(&k[3])?;
        let out = vec![batch.clone(), length, v[3].times(&Dim::Known(self.q_num_heads))];
        let mut present = Fact::new(state, vec![batch, Dim::Known(self.kv_num_heads), size, v[3].clone()]);
        if let Some(past) = inputs.get(PAST) {
            present = present.unify(&Fact { value: None, content: None, ..past.clone() })?;
        }
        Ok(vec![Fact::new(q.dtype, out), present])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (q_in, k_in, v_in) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let mut held = budget.hold();
        let elements: usize = (0..inputs.count()).filter_map(|i| inputs.get(i)).map(Tensor::len).sum();
        held.set(elements.saturating_mul(2 * size_of::<f64>()))?;
        let q = Heads::read(q_in, Some(self.q_num_heads), "Q")?;
        let k = Heads::read(k_in, Some(self.kv_num_heads), "K")?;
        let v = Heads::read(v_in, Some(self.kv_num_heads), "V")?;
        let gate = |index: usize, used: bool, name: &str| -> Result<Option<Heads>> {
            let Some(value) = inputs.get(index).filter(|_| used) else { return Ok(None) };
            // A rate of one column serves all heads.
            let heads = if value.shape().last() == Some(&1) { 1 } else { self.kv_num_heads };
            let gate = Heads::read(value, Some(heads), name)?;
            let fits = gate.batch == k.batch && gate.length == k.length && (gate.size == 1 || gate.size == k.size);
            ensure!(fits, Shape, "{name} {} does not fit the keys", value.shape());
            Ok(Some(gate))
        };
        let decay = gate(DECAY, self.rule.decays(), "decay")?;
        let rate = gate(RATE, self.rule.corrects(), "rate")?;
        let mut state = match inputs.get(PAST) {
            Some(past) => Heads::read(past, None, "the past state")?,
            None => Heads::zeros(k.batch, k.heads, k.size, v.size),
        };
        let scale = if self.scale == 0.0 { 1.0 / (q.size as f64).sqrt() } else { f64::from(self.scale) };
        let shared = q.heads / k.heads.max(1);
        let rows = [q.batch, q.heads.saturating_add(k.heads), q.length, k.size];
        budget.spend(rows.iter().fold(v.size, |work, &n| work.saturating_mul(n)))?;
        let mut y = Heads::zeros(q.batch, q.heads, q.length, v.size);
        for b in 0..k.batch {
            for h in 0..k.heads {
                let row_of = |gate: &Heads| if gate.heads == 1 { 0 } else { h };
                for t in 0..k.length {
                    let key = k.row(b, h, t);
                    if let Some(decay) = &decay {
                        let decay = decay.row(b, row_of(decay), t);
                        for d in 0..k.size {
                            let factor = decay[if decay.len() == 1 { 0 } else { d }].exp();
                            state.row_mut(b, h, d).iter_mut().for_each(|s| *s *= factor);
                        }
                    }
                    let mut update = v.row(b, h, t).to_vec();
                    if let Some(rate) = &rate {
                        let rate = rate.row(b, row_of(rate), t)[0];
                        for (d, key) in key.iter().enumerate() {
                            for (update, s) in update.iter_mut().zip(state.row(b, h, d)) {
                                *update -= key * s;
                            }
                        }
                        update.iter_mut().for_each(|u| *u *= rate);
                    }
                    for (d, key) in key.iter().enumerate() {
                        for (s, update) in state.row_mut(b, h, d).iter_mut().zip(&update) {
                            *s += key * update;
                        }
                    }
                    for query_head in h * shared..(h + 1) * shared {
                        let query = q.row(b, query_head, t);
                        for e in 0..v.size {
                            let column: Vec<f64> = (0..k.size).map(|d| state.row(b, h, d)[e]).collect();
                            y.row_mut(b, query_head, t)[e] = scale * dot(query, &column);
                        }
                    }
                }
            }
        }
        Ok(vec![y.to_merged_tensor(q_in)?, state.to_tensor(inputs.get(PAST).unwrap_or(q_in))?])
    }

    fn attrs(&self) -> Attrs {
        let rule = RULES.iter().find(|(rule, _)| *rule == self.rule).map_or("gated_delta", |(_, name)| name);
        Attrs::new()
            .int("q_num_heads", self.q_num_heads as i64)
            .int("kv_num_heads", self.kv_num_heads as i64)
            .float("scale", self.scale)
            .str("update_rule", rule)
    }
}
