//! Random tensors: uniform, normal, Bernoulli and multinomial, from a small generator.
//!
//! ONNX does not say which numbers a seed yields, so they differ from other runtimes' numbers.

use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::length;
use crate::ops::numeric::from_f64;
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64 (Steele, Lea and Flood, 2014): one state word, and good enough for sampling.
pub(super) struct Generator(u64);

impl Generator {
    /// The generator of a seed: the same numbers at every run. Without a seed, different ones at every run.
    pub(super) fn new(seed: Option<f32>) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        Generator(match seed {
            Some(seed) => u64::from(seed.to_bits()),
            None => RandomState::new().hash_one(RUNS.fetch_add(1, Ordering::Relaxed)),
        })
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..1`.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// What a random tensor is drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Distribution {
    /// Uniform between two bounds.
    Uniform {
        /// The lower bound.
        low: f32,
        /// The upper bound.
        high: f32,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: f32,
        /// The standard deviation.
        scale: f32,
    },
}

impl Distribution {
    fn read(node: &mut NodeReader) -> Result<Self> {
        Ok(if node.op_type().starts_with("RandomUniform") {
            Distribution::Uniform { low: node.float_or("low", 0.0)?, high: node.float_or("high", 1.0)? }
        } else {
            Distribution::Normal { mean: node.float_or("mean", 0.0)?, scale: node.float_or("scale", 1.0)? }
        })
    }

    fn attrs(self) -> Attrs {
        match self {
            Distribution::Uniform { low, high } => Attrs::new().float("low", low).float("high", high),
            Distribution::Normal { mean, scale } => Attrs::new().float("mean", mean).float("scale", scale),
        }
    }

    fn draw(self, dtype: DType, shape: Shape, seed: Option<f32>) -> Result<Tensor> {
        let mut generator = Generator::new(seed);
        let mut one = || match self {
            Distribution::Uniform { low, high } => {
                f64::from(low) + (f64::from(high) - f64::from(low)) * generator.uniform()
            }
            Distribution::Normal { mean, scale } => f64::from(mean) + f64::from(scale) * generator.normal(),
        };
        let len = shape.checked_len()?;
        from_f64(dtype, shape, (0..len).map(|_| one()).collect())
    }
}

fn check_float(dtype: DType) -> Result<()> {
    ensure!(dtype.is_float(), InvalidModel, "random numbers of {dtype}");
    Ok(())
}

/// `RandomUniform` or `RandomNormal`: a random tensor of a stated shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Random {
    /// What is drawn.
    pub distribution: Distribution,
    /// The dtype.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
    /// The seed; without it, every run draws other numbers.
    pub seed: Option<f32>,
}

impl Random {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let dtype = node.dtype("dtype")?.unwrap_or(DType::F32);
        check_float(dtype)?;
        let Some(shape) = node.lengths("shape")? else { bail!(InvalidModel, "attribute shape is missing") };
        Ok(Random { distribution: Distribution::read(node)?, dtype, shape, seed: node.float("seed")? }.into())
    }
}

impl Op for Random {
    fn name(&self) -> &'static str {
        match self.distribution {
            Distribution::Uniform { .. } => "RandomUniform",
            Distribution::Normal { .. } => "RandomNormal",
        }
    }

    fn infer(&self, _inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        Ok(vec![Fact::concrete(self.dtype, &self.shape)])
    }

    fn eval(&self, _inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![self.distribution.draw(self.dtype, Shape::from(self.shape.clone()), self.seed)?])
    }

    fn attrs(&self) -> Attrs {
        let attrs = self.distribution.attrs().int("dtype", dtype_to_onnx(self.dtype));
        attrs.lengths("shape", &self.shape).float_opt("seed", self.seed)
    }

    fn is_pure(&self) -> bool {
        false
    }
}

/// `RandomUniformLike` or `RandomNormalLike`: a random tensor as large as the input.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomLike {
    /// What is drawn.
    pub distribution: Distribution,
    /// The dtype; without it, that of the input.
    pub dtype: Option<DType>,
    /// The seed; without it, every run draws other numbers.
    pub seed: Option<f32>,
}

impl RandomLike {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let (dtype, seed) = (node.dtype("dtype")?, node.float("seed")?);
        Ok(RandomLike { distribution: Distribution::read(node)?, dtype, seed }.into())
    }
}

impl Op for RandomLike {
    fn name(&self) -> &'static str {
        match self.distribution {
            Distribution::Uniform { .. } => "RandomUniformLike",
            Distribution::Normal { .. } => "RandomNormalLike",
        }
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let dtype = self.dtype.unwrap_or(x.dtype);
        check_float(dtype)?;
        Ok(vec![Fact { shape: x.shape.clone(), ..Fact::unranked(dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        Ok(vec![self.distribution.draw(self.dtype.unwrap_or(x.dtype()), x.shape().clone(), self.seed)?])
    }

    fn attrs(&self) -> Attrs {
        let attrs = self.distribution.attrs().int_opt("dtype", self.dtype.map(dtype_to_onnx));
        attrs.float_opt("seed", self.seed)
    }

    fn is_pure(&self) -> bool {
        false
    }
}

/// Ones with the probabilities that the input holds, and zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct Bernoulli {
    /// The dtype; without it, that of the input.
    pub dtype: Option<DType>,
    /// The seed; without it, every run draws other numbers.
    pub seed: Option<f32>,
}

impl Bernoulli {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Bernoulli { dtype: node.dtype("dtype")?, seed: node.float("seed")? }.into())
    }
}

impl Op for Bernoulli {
    fn name(&self) -> &'static str {
        "Bernoulli"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        check_float(x.dtype)?;
        Ok(vec![Fact { shape: x.shape.clone(), ..Fact::unranked(self.dtype.unwrap_or(x.dtype)) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let mut generator = Generator::new(self.seed);
        let draws = x.to_f64_vec()?.into_iter().map(|p| f64::from(u8::from(generator.uniform() < p))).collect();
        Ok(vec![from_f64(self.dtype.unwrap_or(x.dtype()), x.shape().clone(), draws)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int_opt("dtype", self.dtype.map(dtype_to_onnx)).float_opt("seed", self.seed)
    }

    fn is_pure(&self) -> bool {
        false
    }
}

/// Classes drawn by unnormalized log-probabilities: `[batch, classes]` to `[batch, samples]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Multinomial {
    /// The dtype of the drawn classes: `i32` or `i64`.
    pub dtype: DType,
    /// How many are drawn for each row.
    pub sample_size: usize,
    /// The seed; without it, every run draws other classes.
    pub seed: Option<f32>,
}

impl Multinomial {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let dtype = node.dtype("dtype")?.unwrap_or(DType::I32);
        ensure!(matches!(dtype, DType::I32 | DType::I64), InvalidModel, "classes of {dtype}");
        let sample_size = length(node.int_or("sample_size", 1)?)?;
        Ok(Multinomial { dtype, sample_size, seed: node.float("seed")? }.into())
    }
}

impl Op for Multinomial {
    fn name(&self) -> &'static str {
        "Multinomial"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        check_float(x.dtype)?;
        let rows = match x.dims() {
            None => Dim::Unknown,
            Some([rows, classes]) => {
                ensure!(*classes != Dim::Known(0), Shape, "there are no classes to draw from");
                rows.clone()
            }
            Some(_) => bail!(Shape, "{x} is no matrix"),
        };
        Ok(vec![Fact::new(self.dtype, vec![rows, Dim::Known(self.sample_size)])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let &[rows, classes] = &**x.shape() else { bail!(Shape, "{} is no matrix", x.shape()) };
        let mut generator = Generator::new(self.seed);
        let mut drawn = Vec::new();
        for row in x.to_f64_vec()?.chunks_exact(classes.max(1)) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = row.iter().map(|v| (v - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for _ in 0..self.sample_size {
                let mut left = generator.uniform() * total;
                let class = weights.iter().position(|weight| {
                    left -= weight;
                    left < 0.0
                });
                drawn.push(class.unwrap_or(classes - 1) as f64);
            }
        }
        Ok(vec![from_f64(self.dtype, [rows, self.sample_size], drawn)?])
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().int("dtype", dtype_to_onnx(self.dtype));
        attrs.int("sample_size", self.sample_size as i64).float_opt("seed", self.seed)
    }

    fn is_pure(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;
    use crate::ops::testing::{run_node, run_one};

    fn draw(op_type: &str, attrs: &[(&str, Attr)]) -> Vec<f64> {
        let shape = ("shape", Attr::Ints(vec![40, 50]));
        run_node(op_type, 22, &[attrs, &[shape]].concat(), &[]).unwrap()[0].to_f64_vec().unwrap()
    }

    fn moments(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    #[test]
    fn draws_have_their_moments_and_repeat_with_a_seed() {
        let seed = ("seed", Attr::Float(7.0));
        let uniform = draw("RandomUniform", &[seed.clone(), ("low", Attr::Float(2.0)), ("high", Attr::Float(4.0))]);
        assert!(uniform.iter().all(|v| (2.0..=4.0).contains(v)));
        let (mean, variance) = moments(&uniform);
        assert!((mean - 3.0).abs() < 0.1 && (variance - 1.0 / 3.0).abs() < 0.05);
        let normal = draw("RandomNormal", &[seed.clone(), ("mean", Attr::Float(-1.0)), ("scale", Attr::Float(2.0))]);
        let (mean, variance) = moments(&normal);
        assert!((mean + 1.0).abs() < 0.2 && (variance - 4.0).abs() < 0.5);
        assert_eq!(normal, draw("RandomNormal", &[seed, ("mean", Attr::Float(-1.0)), ("scale", Attr::Float(2.0))]));
        assert_ne!(draw("RandomNormal", &[]), draw("RandomNormal", &[]));
    }

    #[test]
    fn probabilities_are_kept() {
        let x = Tensor::new([1, 3], vec![0.0f32, 1.0, 1.0]).unwrap();
        let drawn = run_one(&Bernoulli { dtype: Some(DType::U8), seed: None }, &[&x]).unwrap();
        assert_eq!(drawn.as_slice::<u8>().unwrap(), [0, 1, 1]);
        let logits = Tensor::new([2, 2], vec![0.0f32, f32::NEG_INFINITY, -900.0, 0.0]).unwrap();
        let drawn = run_one(&Multinomial { dtype: DType::I64, sample_size: 3, seed: None }, &[&logits]).unwrap();
        assert_eq!(drawn.as_slice::<i64>().unwrap(), [0, 0, 0, 1, 1, 1]);
        let like = RandomLike { distribution: Distribution::Uniform { low: 0.0, high: 1.0 }, dtype: None, seed: None };
        assert_eq!(run_one(&like, &[&x]).unwrap().shape().to_vec(), [1, 3]);
        assert!(!like.is_pure());
    }
}
