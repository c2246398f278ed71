//! Moving elements about, and the arithmetic on shapes that exporters write for it.

use super::builder::{Builder, V, int, ints, text};
use onrush::DType;

impl Builder {
    pub(super) fn rearrangement(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        let shape = self.shape(x);
        let rank = shape.len();
        if rank == 0 {
            let axes = self.integers(&[0]);
            return self.op("Unsqueeze", &[], &[x, axes]);
        }
        let axis = self.between(0, rank - 1);
        match self.between(0, 12) {
            0 | 1 => {
                let mut order: Vec<usize> = (0..rank).collect();
                self.rng.shuffle(&mut order);
                let y = self.op("Transpose", &[("perm", ints(&order))], &[x])?;
                if self.chance(40) {
                    let name = self.one_of(&["Relu", "Sigmoid"]);
                    let y = self.op(name, &[], &[y])?;
                    let mut back = vec![0; rank];
                    order.iter().enumerate().for_each(|(i, &o)| back[o] = i);
                    return self.op("Transpose", &[("perm", ints(&back))], &[y]);
                }
                Some(y)
            }
            2 => {
                let wanted = if rank >= 2 && self.chance(50) { vec![0, -1] } else { vec![-1] };
                let wanted = self.integers(&wanted);
                self.op("Reshape", &[], &[x, wanted])
            }
            3 => {
                // One axis as two.
                let factors: Vec<usize> = (1..=shape[axis]).filter(|f| shape[axis].is_multiple_of(*f)).collect();
                let factor = self.one_of(&factors);
                let mut wanted: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
                wanted.splice(axis..=axis, [factor as i64, (shape[axis] / factor) as i64]);
                if axis > 0 {
                    wanted[0] = 0;
                }
                let wanted = self.integers(&wanted);
                self.op("Reshape", &[], &[x, wanted])
            }
            4 => {
                let axes = self.integers(&[axis as i64]);
                let y = self.op("Unsqueeze", &[], &[x, axes])?;
                if self.chance(50) { self.op("Squeeze", &[], &[y, axes]) } else { Some(y) }
            }
            5 => {
                let ones: Vec<i64> = (1..rank).filter(|&a| shape[a] == 1).map(|a| a as i64).collect();
                if ones.is_empty() {
                    return None;
                }
                let axes = self.integers(&ones);
                self.op("Squeeze", &[], &[x, axes])
            }
            6 => {
                let other = self.pick(|v| {
                    let same = v.shape().iter().zip(&shape).enumerate().all(|(a, (d, e))| a == axis || d == e);
                    v.dtype() == DType::F32 && v.rank() == rank && same
                })?;
                self.op("Concat", &[("axis", int(axis as i64))], &[x, other])
            }
            7 => {
                if shape[axis] < 2 {
                    return None;
                }
                let first = self.between(1, shape[axis] - 1);
                let lengths = self.integers(&[first as i64, (shape[axis] - first) as i64]);
                let parts = self.node("Split", &[("axis", int(axis as i64))], &[Some(x), Some(lengths)], 2)?;
                if self.chance(40) {
                    let axis = int(axis as i64);
                    return self.op("Concat", &[("axis", axis)], &[parts[1], parts[0]]);
                }
                Some(parts[0])
            }
            8 => {
                let length = shape[axis] as i64;
                let start = self.rng.i64(0..length);
                let end = self.rng.i64(start + 1..=length);
                let step = self.one_of(&[1, 1, 2]);
                let (start, end, step) = if self.chance(20) { (-1, i64::MIN + 1, -1) } else { (start, end, step) };
                let inputs = [vec![start], vec![end], vec![axis as i64], vec![step]].map(|v| self.integers(&v));
                self.op("Slice", &[], &[&[x][..], &inputs].concat())
            }
            9 => {
                let count = self.between(1, 4);
                let length = shape[axis] as i64;
                let indices: Vec<i64> = (0..count).map(|_| self.rng.i64(-length..length)).collect();
                let indices = if self.chance(30) {
                    self.constant(onrush::Tensor::scalar(indices[0]))
                } else {
                    self.integers(&indices)
                };
                self.op("Gather", &[("axis", int(axis as i64))], &[x, indices])
            }
            10 => {
                let mut wanted: Vec<i64> = shape.iter().map(|&d| if d == 1 { 3 } else { d as i64 }).collect();
                if self.chance(50) {
                    wanted.insert(0, 2);
                }
                let wanted = self.integers(&wanted);
                self.op("Expand", &[], &[x, wanted])
            }
            11 => {
                let edges: Vec<i64> = (0..2 * rank).map(|_| self.rng.i64(0..=1)).collect();
                let edges = self.integers(&edges);
                let mode = self.one_of(&["constant", "edge"]);
                self.op("Pad", &[("mode", text(mode))], &[x, edges])
            }
            _ => {
                let repeats: Vec<i64> = (0..rank).map(|_| self.rng.i64(1..=2)).collect();
                let repeats = self.integers(&repeats);
                self.op("Tile", &[], &[x, repeats])
            }
        }
    }

    /// `Shape`, something done with it, and a `Reshape` or `Expand` by the outcome.
    pub(super) fn shape_arithmetic(&mut self) -> Option<V> {
        let x = self.pick(|v| v.dtype() == DType::F32 && v.rank() >= 2 && !v.is_empty())?;
        let rank = self.rank(x);
        let shape = self.op("Shape", &[], &[x])?;
        match self.between(0, 4) {
            0 | 1 => {
                let first = self.constant(onrush::Tensor::scalar(0i64));
                let (rest, axes) = (self.integers(&[-1]), self.integers(&[0]));
                let batch = self.op("Gather", &[("axis", int(0))], &[shape, first])?;
                let batch = self.op("Unsqueeze", &[], &[batch, axes])?;
                let wanted = self.op("Concat", &[("axis", int(0))], &[batch, rest])?;
                self.op("Reshape", &[], &[x, wanted])
            }
            2 => {
                let ends = [vec![0], vec![rank as i64 - 1]].map(|v| self.integers(&v));
                let leading = self.op("Slice", &[], &[shape, ends[0], ends[1]])?;
                let tail = self.integers(&[1, -1]);
                let wanted = self.op("Concat", &[("axis", int(0))], &[leading, tail])?;
                self.op("Reshape", &[], &[x, wanted])
            }
            3 => {
                let row = self.weights(&[self.shape(x)[rank - 1]], 1.0);
                let row = self.op("Expand", &[], &[row, shape])?;
                self.op("Add", &[], &[x, row])
            }
            _ => {
                let parts: Vec<usize> = (0..rank).map(|_| 1).collect();
                let lengths = self.integers(&parts.iter().map(|&p| p as i64).collect::<Vec<_>>());
                let lengths = [Some(shape), Some(lengths)];
                let dims = self.node("Split", &[("axis", int(0))], &lengths, rank)?;
                let product = self.op("Mul", &[], &[dims[rank - 2], dims[rank - 1]])?;
                let mut wanted = dims[..rank - 2].to_vec();
                wanted.push(product);
                let wanted = self.op("Concat", &[("axis", int(0))], &wanted)?;
                self.op("Reshape", &[], &[x, wanted])
            }
        }
    }
}
