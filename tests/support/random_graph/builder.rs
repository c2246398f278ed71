//! Growing a graph node by node, with what each value is at hand.

use super::{RandomGraph, epsilon};
use onrush::graph::{Graph, ValueId};
use onrush::ops::{Attr, Budget, Inputs, NodeReader, Op, Reading, registry};
use onrush::{DType, Dim, Fact, Symbol, Tensor};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A value of the growing graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct V(usize);

struct Entry {
    id: ValueId,
    /// Plain, and with noise of either sign.
    samples: [Tensor; 3],
    constant: bool,
}

/// A node as it was added, to add it again.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) op: Arc<dyn Op>,
    pub(super) inputs: Vec<Option<V>>,
    pub(super) outputs: usize,
}

pub(super) struct Builder {
    seed: u64,
    pub(super) rng: fastrand::Rng,
    graph: Graph,
    entries: Vec<Entry>,
    inputs: Vec<V>,
    made: Vec<Made>,
    used: HashSet<usize>,
}

/// Relative noise on what a node yields, in units of the dtype's last place: far above the error of any order of
/// summation, far below what would hide a wrong answer.
const NOISE: f64 = 50.0;
/// The largest tensor that is made.
const MAX_ELEMENTS: usize = 3000;
/// The largest number that is made.
const MAX_VALUE: f64 = 200.0;

impl Builder {
    pub(super) fn new(seed: u64) -> Self {
        Builder {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            graph: Graph::new("random"),
            entries: Vec::new(),
            inputs: Vec::new(),
            made: Vec::new(),
            used: HashSet::new(),
        }
    }

    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        self.rng.usize(low..=high)
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.rng.usize(0..100) < percent
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(0..choices.len())]
    }

    pub(super) fn node_count(&self) -> usize {
        self.made.len()
    }

    /// Images, sequences and rows; the batch is one symbol in half of the graphs.
    pub(super) fn add_inputs(&mut self) {
        let batch = self.between(1, 3);
        let symbolic = self.chance(50);
        for index in 0..self.between(1, 3) {
            let shape = match self.between(0, 4) {
                0 | 1 => vec![batch, self.between(1, 6), self.between(1, 9), self.between(1, 9)],
                2 | 3 => vec![batch, self.between(1, 7), self.one_of(&[1, 3, 4, 6, 8])],
                _ => vec![batch, self.between(1, 17)],
            };
            let value = self.random_tensor(&shape, 2.0);
            let mut dims: Vec<Dim> = shape.iter().map(|&d| Dim::Known(d)).collect();
            if symbolic {
                dims[0] = Dim::Symbol(Symbol::new("N"));
            }
            let id = self.graph.input(&format!("x{index}"), Fact::new(DType::F32, dims)).expect("room");
            let samples = [value.clone(), noisy(&value, 1.0, self.seed), noisy(&value, -1.0, self.seed)];
            self.entries.push(Entry { id, samples, constant: false });
            self.inputs.push(V(self.entries.len() - 1));
        }
    }

    /// Numbers within `-scale..=scale`.
    pub(super) fn random_tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let len = shape.iter().product();
        let elements: Vec<f32> = (0..len).map(|_| (self.rng.f32() * 2.0 - 1.0) * scale).collect();
        Tensor::new(shape, elements).expect("as many as the shape says")
    }

    pub(super) fn constant(&mut self, value: Tensor) -> V {
        let name = format!("c{}", self.entries.len());
        let id = self.graph.constant(&name, value.clone()).expect("room");
        self.entries.push(Entry { id, samples: [value.clone(), value.clone(), value], constant: true });
        V(self.entries.len() - 1)
    }

    pub(super) fn weights(&mut self, shape: &[usize], scale: f32) -> V {
        let value = self.random_tensor(shape, scale);
        self.constant(value)
    }

    pub(super) fn scalar(&mut self, value: f32) -> V {
        self.constant(Tensor::scalar(value))
    }

    pub(super) fn integers(&mut self, values: &[i64]) -> V {
        self.constant(Tensor::vector(values.to_vec()))
    }

    pub(super) fn value(&self, v: V) -> &Tensor {
        &self.entries[v.0].samples[0]
    }

    pub(super) fn shape(&self, v: V) -> Vec<usize> {
        self.value(v).shape().to_vec()
    }

    pub(super) fn rank(&self, v: V) -> usize {
        self.value(v).rank()
    }

    pub(super) fn largest(&self, v: V) -> f64 {
        largest(self.value(v))
    }

    /// A value that is no constant, the newest ones first.
    pub(super) fn pick(&mut self, fits: impl Fn(&Tensor) -> bool) -> Option<V> {
        let all: Vec<usize> = (0..self.entries.len())
            .filter(|&i| !self.entries[i].constant && fits(&self.entries[i].samples[0]))
            .collect();
        if all.is_empty() {
            return None;
        }
        let newest = &all[all.len().saturating_sub(3)..];
        let chosen = if self.rng.u8(0..100) < 70 { newest } else { &all[..] };
        Some(V(chosen[self.rng.usize(0..chosen.len())]))
    }

    pub(super) fn pick_float(&mut self) -> Option<V> {
        self.pick(|v| v.dtype() == DType::F32 && !v.is_empty())
    }

    pub(super) fn pick_rank(&mut self, rank: usize) -> Option<V> {
        self.pick(|v| v.dtype() == DType::F32 && v.rank() == rank && !v.is_empty())
    }

    /// A node with one output.
    pub(super) fn op(&mut self, name: &str, attrs: &[(&str, Attr)], inputs: &[V]) -> Option<V> {
        let inputs: Vec<Option<V>> = inputs.iter().copied().map(Some).collect();
        self.node(name, attrs, &inputs, 1)?.first().copied()
    }

    /// A node, unless its operator is not there or what it computes is unfit for comparing.
    pub(super) fn node(
        &mut self,
        name: &str,
        attrs: &[(&str, Attr)],
        inputs: &[Option<V>],
        outputs: usize,
    ) -> Option<Vec<V>> {
        let def = registry::find("", name)?;
        let attrs: BTreeMap<String, Attr> = attrs.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
        let present = inputs.iter().map(Option::is_some).collect();
        let mut reader = NodeReader::new(name, def.opset, attrs, present, outputs, 0);
        let reading = (def.read)(&mut reader).unwrap_or_else(|e| panic!("seed {}: {name}: {e}", self.seed));
        match reading {
            Reading::Op(op) => self.add(Made { op, inputs: inputs.to_vec(), outputs }),
            Reading::Nodes(_) => None,
        }
    }

    /// Evaluates a node, and adds it where its answers are fit for comparing.
    pub(super) fn add(&mut self, made: Made) -> Option<Vec<V>> {
        let fail = |e: onrush::Error| -> ! { panic!("seed {}: {}: {e}", self.seed, made.op.name()) };
        let mut samples: Vec<Vec<Tensor>> = Vec::new();
        let mut facts: Vec<Fact> = Vec::new();
        for index in 0..3 {
            let inputs: Vec<Option<&Tensor>> =
                made.inputs.iter().map(|v| v.map(|v| &self.entries[v.0].samples[index])).collect();
            if index == 0 {
                let known: Vec<Option<Fact>> = inputs.iter().map(|v| v.map(|v| Fact::constant(v.clone()))).collect();
                let known: Vec<Option<&Fact>> = known.iter().map(Option::as_ref).collect();
                facts = made.op.infer(Inputs::new(&known)).unwrap_or_else(|e| fail(e));
            }
            let large = |f: &Fact| f.concrete_shape().is_some_and(|s| s.elements() > MAX_ELEMENTS);
            if facts.iter().any(large) {
                return None;
            }
            samples.push(made.op.eval(Inputs::new(&inputs), &Budget::generous()).unwrap_or_else(|e| fail(e)));
        }
        for (slot, fact) in facts.iter().take(made.outputs).enumerate() {
            let plain = &samples[0][slot];
            let agrees = fact.dtype == plain.dtype()
                && fact.dims().is_none_or(|dims| {
                    dims.len() == plain.rank()
                        && dims.iter().zip(plain.shape().iter()).all(|(d, n)| d.known().is_none_or(|d| d == *n))
                });
            assert!(agrees, "seed {}: {}: inferred {fact}, computed {plain:?}", self.seed, made.op.name());
        }
        let [plain, plus, minus] = [0, 1, 2].map(|i| &samples[i][..made.outputs]);
        let stable =
            plain.iter().zip(plus).zip(minus).all(|((plain, plus), minus)| fit(plain, plus) && fit(plain, minus));
        if !stable {
            return None;
        }
        let names: Vec<String> = (0..made.outputs).map(|slot| format!("v{}", self.entries.len() + slot)).collect();
        let names: Vec<Option<&str>> = names.iter().map(|n| Some(n.as_str())).collect();
        let inputs: Vec<Option<ValueId>> = made.inputs.iter().map(|v| v.map(|v| self.entries[v.0].id)).collect();
        let name = format!("n{}", self.made.len());
        let ids = self.graph.node(&name, made.op.clone(), &inputs, &names).unwrap_or_else(|e| fail(e));
        self.used.extend(made.inputs.iter().flatten().map(|v| v.0));
        let mut outputs = Vec::new();
        for (slot, id) in ids.into_iter().enumerate() {
            let seed = self.seed.wrapping_add(self.entries.len() as u64);
            let samples =
                [samples[0][slot].clone(), noisy(&samples[1][slot], 1.0, seed), noisy(&samples[2][slot], -1.0, seed)];
            let id = id.expect("the output was named");
            self.entries.push(Entry { id, samples, constant: false });
            outputs.push(V(self.entries.len() - 1));
        }
        self.made.push(made);
        Some(outputs)
    }

    /// A node that was added before.
    pub(super) fn any_made(&mut self) -> Option<Made> {
        if self.made.is_empty() {
            return None;
        }
        let index = self.between(0, self.made.len() - 1);
        Some(self.made[index].clone())
    }

    /// The graph: most of what nothing uses becomes an output, the rest stays dead.
    pub(super) fn finish(mut self) -> RandomGraph {
        let mut outputs: Vec<usize> = Vec::new();
        for index in (0..self.entries.len()).rev() {
            let unused = !self.entries[index].constant && !self.used.contains(&index);
            if unused && outputs.len() < 4 && (outputs.is_empty() || self.chance(75)) {
                outputs.push(index);
            }
        }
        // Now and then a value inside the graph, an input, or one value twice.
        if self.chance(30) || outputs.is_empty() {
            let any: Vec<usize> = (0..self.entries.len()).filter(|&i| !self.entries[i].constant).collect();
            outputs.push(any[self.rng.usize(0..any.len())]);
        }
        for &index in &outputs {
            self.graph.output(self.entries[index].id).expect("a value of the graph");
        }
        RandomGraph {
            seed: self.seed,
            inputs: self.inputs.iter().map(|v| self.entries[v.0].samples[0].clone()).collect(),
            outputs: outputs.iter().map(|&i| self.entries[i].samples[0].clone()).collect(),
            tolerances: outputs.iter().map(|&i| tolerance(&self.entries[i].samples)).collect(),
            values: self.entries.iter().map(|e| (e.id, e.samples[0].clone())).collect(),
            graph: self.graph,
        }
    }
}

fn largest(value: &Tensor) -> f64 {
    value.to_f64_vec().expect("numbers").into_iter().fold(0.0, |n, v| n.max(v.abs()))
}

fn spread(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_f64_vec().expect("numbers"), b.to_f64_vec().expect("numbers"));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Whether an answer stays what it is under noise: exactly for integers, nearly for floats.
fn fit(plain: &Tensor, noisy: &Tensor) -> bool {
    if plain.shape() != noisy.shape() || plain.len() > MAX_ELEMENTS {
        return false;
    }
    if !plain.dtype().is_float() {
        return plain == noisy;
    }
    let finite = |t: &Tensor| t.to_f64_vec().expect("numbers").iter().all(|v| v.is_finite());
    let largest = largest(plain);
    let allowed = 2e-3_f64.max(8.0 * NOISE * epsilon(plain.dtype()));
    finite(plain) && finite(noisy) && largest <= MAX_VALUE && spread(plain, noisy) <= allowed * largest.max(0.1)
}

/// Noise in proportion to each element and a little to the largest: a sum may cancel.
fn noisy(value: &Tensor, sign: f64, seed: u64) -> Tensor {
    if !value.dtype().is_float() {
        return value.clone();
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let unit = NOISE * epsilon(value.dtype()) * sign;
    let common = largest(value).min(10.0) * 0.2;
    let shaken = |v: f64| v + unit * (v.abs() + common) * if rng.bool() { 1.0 } else { -1.0 };
    let elements: Vec<f64> = value.to_f64_vec().expect("numbers").into_iter().map(shaken).collect();
    Tensor::new(value.shape().clone(), elements).and_then(|t| t.cast(value.dtype())).expect("the same shape")
}

/// What noise did to an output, and some units in the last place.
fn tolerance([plain, plus, minus]: &[Tensor; 3]) -> f64 {
    if !plain.dtype().is_float() {
        return 0.0;
    }
    let floor = 20.0 * epsilon(plain.dtype()) * largest(plain).max(0.1);
    spread(plain, plus).max(spread(plain, minus)).max(floor)
}

pub(super) fn int(value: i64) -> Attr {
    Attr::Int(value)
}

pub(super) fn ints(values: &[usize]) -> Attr {
    Attr::Ints(values.iter().map(|&v| v as i64).collect())
}

pub(super) fn float(value: f32) -> Attr {
    Attr::Float(value)
}

pub(super) fn text(value: &str) -> Attr {
    Attr::Str(value.to_owned())
}
