//! `Attention`: scaled dot products of queries and keys weigh the values.

use super::heads::{Heads, head_dims};
use super::mask::{Mask, Reach};
use crate::error::{Result, bail, ensure};
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};

/// `softmax(scale * Q K' + mask) V`, head by head.
///
/// Inputs: Q `[batch, q_heads, queries, size]` or `[batch, queries, q_heads * size]`, K and V alike with `kv_heads`
/// (each serves `q_heads / kv_heads` query heads), a mask that broadcasts to `[batch, q_heads, queries, keys]`?, past
/// keys and values `[batch, kv_heads, past, size]`?, the number of keys that are no padding `[batch]`?.
/// Outputs: Y in the layout of Q, present keys and values, and the scores at the stage that `qk_output` names.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// No query attends a key after its own position; positions count from the end of the keys.
    pub is_causal: bool,
    /// Heads of Q; needed where Q has rank 3.
    pub q_num_heads: Option<usize>,
    /// Heads of K and V; needed where they have rank 3.
    pub kv_num_heads: Option<usize>,
    /// What the dot products are multiplied by; one over the root of the head's size by default.
    pub scale: Option<f32>,
    /// Where above zero, scores become `softcap * tanh(score / softcap)` before the mask.
    pub softcap: f32,
    /// The dtype in which the softmax is asked to be computed.
    pub softmax_precision: Option<DType>,
    /// What output 3 holds, where the node has one.
    pub qk_output: Option<QkOutput>,
    /// How many positions before its own a query attends; all by default.
    pub left_window: Option<usize>,
    /// How many positions after its own a query attends; all by default.
    pub right_window: Option<usize>,
}

/// The stage at which the scores become an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkOutput {
    /// The scaled dot products.
    Scores,
    /// After the soft cap.
    Capped,
    /// After the mask.
    Masked,
    /// After the softmax.
    Weights,
}

const MODES: [QkOutput; 4] = [QkOutput::Scores, QkOutput::Capped, QkOutput::Masked, QkOutput::Weights];

mod input {
    pub(super) const Q: usize = 0;
    pub(super) const K: usize = 1;
    pub(super) const V: usize = 2;
    pub(super) const MASK: usize = 3;
    pub(super) const PAST_KEY: usize = 4;
    pub(super) const PAST_VALUE: usize = 5;
    pub(super) const VALID: usize = 6;
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let mode = node.int_or("qk_matmul_output_mode", 0)?;
    let Some(&mode) = usize::try_from(mode).ok().and_then(|m| MODES.get(m)) else {
        bail!(InvalidModel, "qk_matmul_output_mode is {mode}, not 0 to 3");
    };
    let heads = |node: &mut NodeReader, name: &str| -> Result<Option<usize>> {
        let Some(count) = node.int(name)? else { return Ok(None) };
        match usize::try_from(count) {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => bail!(InvalidModel, "{name} is {count}"),
        }
    };
    let window = |node: &mut NodeReader, name: &str| -> Result<Option<usize>> {
        let size = node.int_or(name, -1)?;
        ensure!(size >= -1, InvalidModel, "{name} is {size}");
        Ok(usize::try_from(size).ok())
    };
    let softcap = node.float_or("softcap", 0.0)?;
    ensure!(
        node.has_input(input::PAST_KEY) == node.has_input(input::PAST_VALUE),
        InvalidModel,
        "past keys and past values come together"
    );
    ensure!(
        !(node.has_input(input::PAST_KEY) && node.has_input(input::VALID)),
        InvalidModel,
        "past keys and the number of valid keys exclude each other"
    );
    Ok(Attention {
        is_causal: node.flag_or("is_causal", false)?,
        q_num_heads: heads(node, "q_num_heads")?,
        kv_num_heads: heads(node, "kv_num_heads")?,
        scale: node.float("scale")?,
        softcap,
        softmax_precision: node.dtype("softmax_precision")?,
        qk_output: (node.output_count() > 3).then_some(mode),
        left_window: window(node, "left_window_size")?,
        right_window: window(node, "right_window_size")?,
    }
    .into())
}

impl Attention {
    fn check_dtypes(&self, inputs: Inputs<'_, Fact>) -> Result<DType> {
        let dtype = inputs.require(input::Q)?.dtype;
        ensure!(dtype.is_float(), InvalidModel, "queries of {dtype} are no floats");
        ensure!(inputs.require(input::K)?.dtype == dtype, InvalidModel, "keys are not of {dtype} as the queries");
        if let Some(valid) = inputs.get(input::VALID) {
            ensure!(valid.dtype.is_integer(), InvalidModel, "numbers of keys of {}", valid.dtype);
        }
        Ok(dtype)
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, _output: &Shape) -> Option<usize> {
        // Keys stand before the last axis, and every query meets them twice.
        let keys = inputs.get(input::K)?.iter().rev().nth(1)?;
        inputs.get(input::Q)?.elements().checked_mul(*keys)?.checked_mul(2)
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let dtype = self.check_dtypes(inputs)?;
        let (q, k, v) = (inputs.require(input::Q)?, inputs.require(input::K)?, inputs.require(input::V)?);
        let merged = q.rank() == Some(3);
        let (Some([batch, q_heads, queries, size]), Some(k_dims), Some(v_dims)) = (
            head_dims(q, self.q_num_heads, "Q")?,
            head_dims(k, self.kv_num_heads, "K")?,
            head_dims(v, self.kv_num_heads, "V")?,
        ) else {
            return Ok(vec![
                Fact::unranked(dtype),
                Fact::unranked(dtype),
                Fact::unranked(v.dtype),
                Fact::unranked(dtype),
            ]);
        };
        let mut past = Dim::Known(0);
        if let Some(fact) = inputs.get(input::PAST_KEY) {
            past = match fact.dims() {
                Some([_, _, past, _]) => past.clone(),
                Some(_) => bail!(Shape, "past keys are {fact}, not of rank 4"),
                None => Dim::Unknown,
            };
        }
        if let Some(fact) = inputs.get(input::PAST_VALUE)
            && let Some(dims) = fact.dims()
        {
            let [_, _, length, _] = dims else { bail!(Shape, "past values are {fact}, not of rank 4") };
            past = past.unify(length)?;
        }
        let batch = batch.unify(&k_dims[0])?.unify(&v_dims[0])?;
        let kv_heads = k_dims[1].unify(&v_dims[1])?;
        let keys = k_dims[2].unify(&v_dims[2])?.plus(&past);
        let size = size.unify(&k_dims[3])?;
        if let (Some(q_heads), Some(kv_heads)) = (q_heads.known(), kv_heads.known()) {
            let shared = kv_heads > 0 && q_heads % kv_heads == 0;
            ensure!(shared, Shape, "{q_heads} query heads cannot share {kv_heads} key heads");
        }
        let value_size = v_dims[3].clone();
        let y = if merged {
            vec![batch.clone(), queries.clone(), q_heads.times(&value_size)]
        } else {
            vec![batch.clone(), q_heads.clone(), queries.clone(), value_size.clone()]
        };
        let mut facts = vec![
            Fact::new(dtype, y),
            Fact::new(dtype, vec![batch.clone(), kv_heads.clone(), keys.clone(), size]),
            Fact::new(v.dtype, vec![batch.clone(), kv_heads, keys.clone(), value_size]),
        ];
        if self.qk_output.is_some() {
            facts.push(Fact::new(dtype, vec![batch, q_heads, queries, keys]));
        }
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (q_in, k_in, v_in) = (inputs.require(input::Q)?, inputs.require(input::K)?, inputs.require(input::V)?);
        let mut held = budget.hold();
        let elements: usize = (0..inputs.count()).filter_map(|i| inputs.get(i)).map(Tensor::len).sum();
        held.set(elements.saturating_mul(2 * size_of::<f64>()))?;
        let q = Heads::read(q_in, self.q_num_heads, "Q")?;
        let mut k = Heads::read(k_in, self.kv_num_heads, "K")?;
        let mut v = Heads::read(v_in, self.kv_num_heads, "V")?;
        let mut past = None;
        if let (Some(key), Some(value)) = (inputs.get(input::PAST_KEY), inputs.get(input::PAST_VALUE)) {
            let key = Heads::read(key, None, "past keys")?;
            past = Some(key.length);
            k = k.after(key)?;
            v = v.after(Heads::read(value, None, "past values")?)?;
        }
        let (queries, keys) = (q.length, k.length);
        ensure!(v.length == keys && k.batch == q.batch && v.batch == q.batch, Shape, "Q, K and V do not fit together");
        let mask = inputs.get(input::MASK).map(|m| Mask::read(m, [q.batch, q.heads, queries, keys])).transpose()?;
        let valid = inputs.get(input::VALID).map(Tensor::to_i64_vec).transpose()?;
        if let Some(valid) = &valid {
            ensure!(valid.len() == q.batch, InvalidInput, "{} numbers of keys for batch {}", valid.len(), q.batch);
        }
        let scale = self.scale.map_or_else(|| 1.0 / (q.size as f64).sqrt(), f64::from);
        let softcap = f64::from(self.softcap);
        let score_elements =
            if self.qk_output.is_some() { [q.batch, q.heads, queries, keys].iter().product() } else { 0usize };
        held.set((elements.saturating_mul(2).saturating_add(score_elements)).saturating_mul(size_of::<f64>()))?;
        let mut scores_out = Vec::with_capacity(score_elements);
        let mut y = Heads::zeros(q.batch, q.heads, queries, v.size);
        let shared = q.heads / k.heads.max(1);
        for b in 0..q.batch {
            let reach = Reach {
                offset: match (&valid, past) {
                    (Some(valid), None) => valid[b].saturating_sub(queries as i64),
                    (_, past) => past.unwrap_or(0) as i64,
                },
                causal: self.is_causal,
                left: self.left_window,
                right: self.right_window,
                valid: valid.as_ref().map_or(keys, |v| usize::try_from(v[b]).unwrap_or(0)),
            };
            for h in 0..q.heads {
                let kv = h / shared;
                for i in 0..queries {
                    let bias = |j: usize| match &mask {
                        _ if !reach.allows(i, j) => f64::NEG_INFINITY,
                        Some(mask) => mask.at(b, h, i, j),
                        None => 0.0,
                    };
                    let bias: Vec<f64> = (0..keys).map(bias).collect();
                    let query = q.row(b, h, i);
                    let scores: Vec<f64> = (0..keys).map(|j| scale * dot(query, k.row(b, kv, j))).collect();
                    let capped = |s: f64| if softcap > 0.0 { softcap * (s / softcap).tanh() } else { s };
                    let masked: Vec<f64> = scores.iter().zip(&bias).map(|(s, bias)| capped(*s) + bias).collect();
                    let weights = masked_softmax(&masked, &bias);
                    match self.qk_output {
                        None => {}
                        Some(QkOutput::Scores) => scores_out.extend_from_slice(&scores),
                        Some(QkOutput::Capped) => scores_out.extend(scores.iter().map(|s| capped(*s))),
                        Some(QkOutput::Masked) => scores_out.extend_from_slice(&masked),
                        Some(QkOutput::Weights) => scores_out.extend_from_slice(&weights),
                    }
                    let out = y.row_mut(b, h, i);
                    for (j, weight) in weights.iter().enumerate().filter(|(j, _)| bias[*j] != f64::NEG_INFINITY) {
                        for (out, value) in out.iter_mut().zip(v.row(b, kv, j)) {
                            *out += weight * value;
                        }
                    }
                }
            }
        }
        let mut outputs = vec![y.to_layout_of(q_in)?, k.to_tensor(k_in)?, v.to_tensor(v_in)?];
        if self.qk_output.is_some() {
            outputs.push(Tensor::new([q.batch, q.heads, queries, keys], scores_out)?.cast(q_in.dtype())?);
        }
        Ok(outputs)
    }

    fn attrs(&self) -> Attrs {
        let length = |n: Option<usize>| n.map(|n| n as i64);
        Attrs::new()
            .flag("is_causal", self.is_causal)
            .int_opt("q_num_heads", length(self.q_num_heads))
            .int_opt("kv_num_heads", length(self.kv_num_heads))
            .float_opt("scale", self.scale)
            .float("softcap", self.softcap)
            .int_opt("softmax_precision", self.softmax_precision.map(dtype_to_onnx))
            .int_opt("qk_matmul_output_mode", self.qk_output.map(|mode| mode as i64))
            .int_opt("left_window_size", length(self.left_window))
            .int_opt("right_window_size", length(self.right_window))
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The softmax over the scores whose bias is not minus infinity; zeros where there is none.
fn masked_softmax(scores: &[f64], bias: &[f64]) -> Vec<f64> {
    let open = |bias: &f64| *bias != f64::NEG_INFINITY;
    let scored = || scores.iter().zip(bias).filter(|(_, bias)| open(bias)).map(|(score, _)| *score);
    let largest = scored().fold(f64::NEG_INFINITY, f64::max);
    let largest = if largest == f64::NEG_INFINITY { 0.0 } else { largest };
    let sum: f64 = scored().map(|s| (s - largest).exp()).sum();
    let sum = if sum == 0.0 { 1.0 } else { sum };
    let weight = |(score, bias): (&f64, &f64)| if open(bias) { (score - largest).exp() / sum } else { 0.0 };
    scores.iter().zip(bias).map(weight).collect()
}
