//! Matrix products, normalizations, reductions, attention and recurrence.

use super::builder::{Builder, V, float, int, ints, text};
use onrush::{DType, Tensor};

impl Builder {
    pub(super) fn product(&mut self) -> Option<V> {
        let x = self.pick(|v| v.dtype() == DType::F32 && v.rank() >= 2 && !v.is_empty())?;
        let shape = self.shape(x);
        let inner = shape[shape.len() - 1];
        let out = self.one_of(&[1, 2, 3, 5, 8, 16, 17]);
        let scale = (3.0 / inner as f32).sqrt();
        let y = match self.between(0, 5) {
            0 | 1 => {
                let w = self.weights(&[inner, out], scale);
                let y = self.op("MatMul", &[], &[x, w])?;
                let bias = self.weights(&[out], 0.5);
                let (a, b) = if self.chance(70) { (y, bias) } else { (bias, y) };
                self.op("Add", &[], &[a, b])?
            }
            2 => {
                let w = self.weights(&[inner, out], scale);
                self.op("MatMul", &[], &[x, w])?
            }
            3 => {
                let axis = self.between(1, 2.min(shape.len()));
                let flat = self.op("Flatten", &[("axis", int(axis as i64))], &[x])?;
                let inner = self.shape(flat)[1];
                let transposed = self.chance(50);
                let shape = if transposed { [out, inner] } else { [inner, out] };
                let w = self.weights(&shape, (3.0 / inner as f32).sqrt());
                let bias = self.weights(&[out], 0.5);
                let alpha = self.one_of(&[1.0, 1.0, 0.5]);
                let attrs = [("transB", int(i64::from(transposed))), ("alpha", float(alpha))];
                self.op("Gemm", &attrs, &[flat, w, bias])?
            }
            4 => {
                // With itself, transposed.
                let mut order: Vec<usize> = (0..shape.len()).collect();
                order.swap(shape.len() - 1, shape.len() - 2);
                let turned = self.op("Transpose", &[("perm", ints(&order))], &[x])?;
                let y = self.op("MatMul", &[], &[x, turned])?;
                let scale = self.scalar(1.0 / (inner as f32).sqrt());
                self.op("Mul", &[], &[y, scale])?
            }
            _ => {
                let mut wide = shape.clone();
                let last = wide.len() - 1;
                (wide[last - 1], wide[last]) = (inner, out);
                let w = self.weights(&wide, scale);
                self.op("MatMul", &[], &[x, w])?
            }
        };
        match self.between(0, 4) {
            0 => self.op("Relu", &[], &[y]),
            1 => self.op("Tanh", &[], &[y]),
            2 => self.op("Gelu", &[], &[y]),
            _ => Some(y),
        }
    }

    pub(super) fn normalization(&mut self) -> Option<V> {
        let x = self.pick(|v| v.dtype() == DType::F32 && v.rank() >= 2 && !v.is_empty())?;
        let shape = self.shape(x);
        let last = shape[shape.len() - 1];
        match self.between(0, 6) {
            0 | 1 => {
                let (two, tiny) = (self.scalar(2.0), self.scalar(1e-3));
                let axes = self.integers(&[-1]);
                let mean = self.op("ReduceMean", &[], &[x, axes])?;
                let centered = self.op("Sub", &[], &[x, mean])?;
                let square = self.op("Pow", &[], &[centered, two])?;
                let variance = self.op("ReduceMean", &[], &[square, axes])?;
                let variance = self.op("Add", &[], &[variance, tiny])?;
                let deviation = self.op("Sqrt", &[], &[variance])?;
                let y = self.op("Div", &[], &[centered, deviation])?;
                let (scale, bias) = (self.weights(&[last], 1.0), self.weights(&[last], 0.5));
                let y = self.op("Mul", &[], &[y, scale])?;
                self.op("Add", &[], &[y, bias])
            }
            2 => {
                let (scale, bias) = (self.weights(&[last], 1.0), self.weights(&[last], 0.5));
                self.op("LayerNormalization", &[("axis", int(-1)), ("epsilon", float(1e-3))], &[x, scale, bias])
            }
            3 | 4 => {
                let axis = self.one_of(&[-1, -1, 1]);
                let name = self.one_of(&["Softmax", "Softmax", "LogSoftmax"]);
                self.op(name, &[("axis", int(axis))], &[x])
            }
            5 if shape.len() >= 3 => {
                let (scale, bias) = (self.weights(&[shape[1]], 1.0), self.weights(&[shape[1]], 0.5));
                self.op("InstanceNormalization", &[("epsilon", float(1e-3))], &[x, scale, bias])
            }
            _ => {
                let (two, tiny) = (self.scalar(2.0), self.scalar(1e-3));
                let axes = self.integers(&[-1]);
                let square = self.op("Pow", &[], &[x, two])?;
                let mean = self.op("ReduceMean", &[], &[square, axes])?;
                let mean = self.op("Add", &[], &[mean, tiny])?;
                let root = self.op("Sqrt", &[], &[mean])?;
                let y = self.op("Div", &[], &[x, root])?;
                let scale = self.weights(&[last], 1.0);
                self.op("Mul", &[], &[y, scale])
            }
        }
    }

    pub(super) fn reduction(&mut self) -> Option<V> {
        let x = self.pick(|v| v.dtype() == DType::F32 && v.rank() >= 1 && !v.is_empty())?;
        let rank = self.rank(x);
        if self.chance(25) {
            let axis = self.between(0, rank - 1) as i64;
            let keep = i64::from(self.chance(50));
            return match self.between(0, 2) {
                0 => self.op("ArgMax", &[("axis", int(axis)), ("keepdims", int(keep))], &[x]),
                1 => {
                    let axis = self.constant(Tensor::scalar(axis));
                    self.op("CumSum", &[], &[x, axis])
                }
                _ => {
                    let count = self.between(1, self.shape(x)[axis as usize]) as i64;
                    let count = self.integers(&[count]);
                    self.node("TopK", &[("axis", int(axis))], &[Some(x), Some(count)], 2)?.first().copied()
                }
            };
        }
        let name = self.one_of(&[
            "ReduceMean",
            "ReduceMean",
            "ReduceSum",
            "ReduceMax",
            "ReduceMin",
            "ReduceL2",
            "ReduceL1",
            "ReduceLogSumExp",
            "ReduceSumSquare",
            "ReduceProd",
        ]);
        let keep = i64::from(self.chance(60));
        let mut inputs = vec![x];
        if self.chance(80) {
            let count = self.between(1, rank);
            let mut axes: Vec<i64> = (0..rank as i64).collect();
            self.rng.shuffle(&mut axes);
            axes.truncate(count);
            let axes: Vec<i64> = axes.iter().map(|&a| if self.rng.bool() { a } else { a - rank as i64 }).collect();
            inputs.push(self.integers(&axes));
        }
        self.op(name, &[("keepdims", int(keep))], &inputs)
    }

    /// Attention over `[batch, length, features]`, written out or as one operator.
    pub(super) fn attention(&mut self) -> Option<V> {
        let x = self.pick_rank(3)?;
        let shape = self.shape(x);
        let (length, features) = (shape[1], shape[2]);
        let (heads, size) = (self.between(1, 3), self.one_of(&[1, 2, 4]));
        let hidden = heads * size;
        let scale = (3.0 / features as f32).sqrt();
        let project = |b: &mut Builder| -> Option<V> {
            let w = b.weights(&[features, hidden], scale);
            let y = b.op("MatMul", &[], &[x, w])?;
            let bias = b.weights(&[hidden], 0.3);
            b.op("Add", &[], &[y, bias])
        };
        let (q, k, v) = (project(self)?, project(self)?, project(self)?);
        if self.chance(30) {
            let causal = i64::from(self.chance(50));
            let attrs =
                [("q_num_heads", int(heads as i64)), ("kv_num_heads", int(heads as i64)), ("is_causal", int(causal))];
            return self.op("Attention", &attrs, &[q, k, v]);
        }
        let split = self.integers(&[0, 0, heads as i64, size as i64]);
        let apart = |b: &mut Builder, y: V, order: [usize; 4]| -> Option<V> {
            let y = b.op("Reshape", &[], &[y, split])?;
            b.op("Transpose", &[("perm", ints(&order))], &[y])
        };
        let q = apart(self, q, [0, 2, 1, 3])?;
        let k = apart(self, k, [0, 2, 3, 1])?;
        let v = apart(self, v, [0, 2, 1, 3])?;
        let mut scores = self.op("MatMul", &[], &[q, k])?;
        let root = (size as f32).sqrt();
        scores = if self.chance(50) {
            let root = self.scalar(root);
            self.op("Div", &[], &[scores, root])?
        } else {
            let root = self.scalar(1.0 / root);
            self.op("Mul", &[], &[scores, root])?
        };
        if self.chance(40) {
            let mask = self.weights(&[1, 1, length, length], 2.0);
            scores = self.op("Add", &[], &[scores, mask])?;
        }
        let weights = self.op("Softmax", &[("axis", int(-1))], &[scores])?;
        let mixed = self.op("MatMul", &[], &[weights, v])?;
        let together = self.op("Transpose", &[("perm", ints(&[0, 2, 1, 3]))], &[mixed])?;
        let merged = self.integers(&[0, 0, hidden as i64]);
        self.op("Reshape", &[], &[together, merged])
    }

    pub(super) fn recurrence(&mut self) -> Option<V> {
        let x = self.pick_rank(3)?;
        let width = self.shape(x)[2];
        let hidden = self.between(1, 4);
        let (name, gates) = self.one_of(&[("LSTM", 4), ("GRU", 3), ("RNN", 1)]);
        let direction = self.one_of(&["forward", "reverse", "bidirectional"]);
        let directions = if direction == "bidirectional" { 2 } else { 1 };
        let w = self.weights(&[directions, gates * hidden, width], 0.5);
        let r = self.weights(&[directions, gates * hidden, hidden], 0.5);
        let bias = self.weights(&[directions, 2 * gates * hidden], 0.3);
        let attrs = [("hidden_size", int(hidden as i64)), ("direction", text(direction))];
        let outputs = self.node(name, &attrs, &[Some(x), Some(w), Some(r), Some(bias)], 2)?;
        let axes = self.integers(&[1]);
        if directions == 1 { self.op("Squeeze", &[], &[outputs[0], axes]) } else { Some(outputs[1]) }
    }
}
