//! `FlexAttention`: attention whose scores and weights may be changed by bodies.

use super::heads::{Heads, head_dims};
use super::scaled_dot::dot;
use crate::error::{Result, ensure, err};
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Body, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor};
use std::sync::Arc;

/// The domain of operators that ONNX tries out.
pub(super) const PREVIEW: &str = "ai.onnx.preview";

/// `prob_mod(softmax(score_mod(scale * Q K'))) V`, head by head.
///
/// Inputs: Q `[batch, q_heads, queries, size]`, K and V `[batch, kv_heads, keys, size]`, captured values. Each body
/// takes and yields `[batch, q_heads, queries, keys]`, and takes the captured values.
#[derive(Debug, Clone)]
pub struct FlexAttention {
    /// What the dot products are multiplied by; one over the root of the head's size by default.
    pub scale: Option<f32>,
    /// The dtype in which the bodies see scores and weights; `f64` for `f64` by default, else `f32`.
    pub softmax_precision: Option<DType>,
    /// Changes the scores.
    pub score_mod: Option<Arc<dyn Body>>,
    /// Changes the weights.
    pub prob_mod: Option<Arc<dyn Body>>,
    /// How many of the last inputs are captured values.
    pub captures: usize,
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let captures = node.captures();
    let body = |node: &mut NodeReader, name: &str| -> Result<Option<Arc<dyn Body>>> {
        let Some(body) = node.body_opt(name)? else { return Ok(None) };
        let fits = body.input_count() == 1 + captures && body.output_count() == 1;
        ensure!(fits, InvalidModel, "{name} does not turn one tensor into one");
        Ok(Some(body))
    };
    Ok(FlexAttention {
        scale: node.float("scale")?,
        softmax_precision: node.dtype("softmax_precision")?,
        score_mod: body(node, "score_mod")?,
        prob_mod: body(node, "prob_mod")?,
        captures,
    }
    .into())
}

impl FlexAttention {
    fn precision(&self, dtype: DType) -> DType {
        self.softmax_precision.unwrap_or(if dtype == DType::F64 { DType::F64 } else { DType::F32 })
    }

    fn modify(
        &self,
        body: Option<&Arc<dyn Body>>,
        scores: Vec<f64>,
        shape: &[usize],
        dtype: DType,
        inputs: Inputs<'_, Tensor>,
        budget: &Budget,
    ) -> Result<Vec<f64>> {
        let Some(body) = body else { return Ok(scores) };
        let mut arguments = vec![Tensor::new(shape, scores)?.cast(dtype)?];
        arguments.extend(inputs.require_from(3)?.into_iter().cloned());
        let changed = body.eval(&arguments, budget)?;
        let changed = changed.first().filter(|c| **c.shape() == *shape);
        changed.ok_or_else(|| err!(InvalidModel, "a body changes the shape of the scores"))?.to_f64_vec()
    }
}

impl Op for FlexAttention {
    fn name(&self) -> &'static str {
        "FlexAttention"
    }

    fn domain(&self) -> &'static str {
        PREVIEW
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (q, k, v) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        ensure!(q.dtype.is_float() && k.dtype == q.dtype, InvalidModel, "queries of {}, keys of {}", q.dtype, k.dtype);
        ensure!(inputs.count() == 3 + self.captures, InvalidModel, "{} inputs", inputs.count());
        let (Some([batch, heads, queries, size]), Some(k), Some(v)) =
            (head_dims(q, None, "Q")?, head_dims(k, None, "K")?, head_dims(v, None, "V")?)
        else {
            return Ok(vec![Fact::unranked(q.dtype)]);
        };
        let batch = batch.unify(&k[0])?.unify(&v[0])?;
        size.unify(&k[3])?;
        k[2].unify(&v[2])?;
        if let (Some(heads), Some(shared)) = (heads.known(), k[1].unify(&v[1])?.known()) {
            ensure!(shared > 0 && heads % shared == 0, Shape, "{heads} query heads cannot share {shared} key heads");
        }
        Ok(vec![Fact::new(q.dtype, vec![batch, heads, queries, v[3].clone()])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let q_in = inputs.require(0)?;
        let mut held = budget.hold();
        let elements: usize = (0..inputs.count()).filter_map(|i| inputs.get(i)).map(Tensor::len).sum();
        let q = Heads::read(q_in, None, "Q")?;
        let k = Heads::read(inputs.require(1)?, None, "K")?;
        let v = Heads::read(inputs.require(2)?, None, "V")?;
        let shape = [q.batch, q.heads, q.length, k.length];
        let count = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        held.set(elements.saturating_add(count.saturating_mul(2)).saturating_mul(size_of::<f64>()))?;
        budget.spend(count.saturating_mul(q.size.saturating_add(v.size)))?;
        let dtype = self.precision(q_in.dtype());
        let scale = self.scale.map_or_else(|| 1.0 / (q.size as f64).sqrt(), f64::from);
        let shared = q.heads / k.heads.max(1);
        let mut scores = Vec::with_capacity(count);
        for b in 0..q.batch {
            for h in 0..q.heads {
                for i in 0..q.length {
                    scores.extend((0..k.length).map(|j| scale * dot(q.row(b, h, i), k.row(b, h / shared, j))));
                }
            }
        }
        let mut weights = self.modify(self.score_mod.as_ref(), scores, &shape, dtype, inputs, budget)?;
        for row in weights.chunks_exact_mut(k.length.max(1)) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|score| *score = (*score - largest).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|weight| *weight /= sum);
        }
        let weights = self.modify(self.prob_mod.as_ref(), weights, &shape, dtype, inputs, budget)?;
        let mut y = Heads::zeros(q.batch, q.heads, q.length, v.size);
        for (index, row) in weights.chunks_exact(k.length.max(1)).enumerate() {
            let (i, h, b) = (index % q.length, index / q.length % q.heads, index / q.length / q.heads);
            let out = y.row_mut(b, h, i);
            for (j, weight) in row.iter().enumerate() {
                for (out, value) in out.iter_mut().zip(v.row(b, h / shared, j)) {
                    *out += weight * value;
                }
            }
        }
        Ok(vec![y.to_tensor(q_in)?])
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = Attrs::new()
            .float_opt("scale", self.scale)
            .int_opt("softmax_precision", self.softmax_precision.map(dtype_to_onnx));
        for (name, body) in [("score_mod", &self.score_mod), ("prob_mod", &self.prob_mod)] {
            if let Some(body) = body {
                attrs = attrs.body(name, body.clone());
            }
        }
        attrs
    }

    fn captures(&self) -> usize {
        self.captures
    }

    fn with_bodies(&self, bodies: Vec<Arc<dyn Body>>, captures: usize) -> Option<Arc<dyn Op>> {
        let mut bodies = bodies.into_iter();
        let mut next = |old: &Option<Arc<dyn Body>>| match old {
            None => Some(None),
            Some(_) => bodies.next().map(Some),
        };
        let (score_mod, prob_mod) = (next(&self.score_mod)?, next(&self.prob_mod)?);
        Some(Arc::new(FlexAttention { score_mod, prob_mod, captures, ..self.clone() }))
    }
}
