//! Elementwise operators: alone, and in the patterns that exporters write for activations.

use super::builder::{Builder, V, float, int, text};
use onrush::{DType, Tensor};

impl Builder {
    pub(super) fn unary(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        const PLAIN: [&str; 20] = [
            "Relu",
            "Relu",
            "Relu",
            "Sigmoid",
            "Sigmoid",
            "Tanh",
            "Tanh",
            "Abs",
            "Neg",
            "Erf",
            "Softplus",
            "Softsign",
            "HardSwish",
            "Mish",
            "Selu",
            "Sin",
            "Cos",
            "Floor",
            "Round",
            "Sign",
        ];
        match self.between(0, 9) {
            0 => {
                let alpha = self.one_of(&[0.01, 0.1, 0.3]);
                let name = self.one_of(&["LeakyRelu", "Elu", "Celu", "ThresholdedRelu"]);
                self.op(name, &[("alpha", float(alpha))], &[x])
            }
            1 => self.op("HardSigmoid", &[("alpha", float(0.25)), ("beta", float(0.5))], &[x]),
            2 => {
                let approximate = self.one_of(&["none", "tanh"]);
                self.op("Gelu", &[("approximate", text(approximate))], &[x])
            }
            3 => self.clipped(x),
            4 => {
                let positive = self.op("Abs", &[], &[x])?;
                let one = self.scalar(0.5);
                let positive = self.op("Add", &[], &[positive, one])?;
                let name = self.one_of(&["Sqrt", "Log", "Reciprocal"]);
                self.op(name, &[], &[positive])
            }
            5 if self.largest(x) < 4.0 => self.op("Exp", &[], &[x]),
            _ => {
                let name = self.one_of(&PLAIN);
                self.op(name, &[], &[x])
            }
        }
    }

    pub(super) fn clipped(&mut self, x: V) -> Option<V> {
        let (low, high) = self.one_of(&[(0.0, 6.0), (-1.0, 1.0), (0.0, 1.0)]);
        let (low, high) = (self.scalar(low), self.scalar(high));
        match self.between(0, 3) {
            0 => self.node("Clip", &[], &[Some(x), None, Some(high)], 1)?.first().copied(),
            1 => self.op("Clip", &[], &[x, low]),
            _ => self.op("Clip", &[], &[x, low, high]),
        }
    }

    /// A constant that broadcasts against a shape: a scalar, a channel, a row or all of it.
    fn operand(&mut self, shape: &[usize]) -> V {
        let mut own = match self.between(0, 3) {
            0 => vec![],
            1 if shape.len() >= 2 => {
                let mut own = vec![1; shape.len()];
                own[1] = shape[1];
                own
            }
            2 if !shape.is_empty() => vec![shape[shape.len() - 1]],
            _ => shape.to_vec(),
        };
        if own == shape && self.chance(30) {
            own.insert(0, 1);
        }
        self.weights(&own, 1.5)
    }

    pub(super) fn binary(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        let shape = self.shape(x);
        let partner = self.pick(|v| v.dtype() == DType::F32 && broadcasts(v.shape(), &shape));
        let y = match partner {
            Some(y) if self.chance(60) => y,
            _ => self.operand(&shape),
        };
        let (a, b) = if self.chance(50) { (x, y) } else { (y, x) };
        match self.between(0, 9) {
            0..=2 => self.op("Add", &[], &[a, b]),
            3 | 4 => self.op("Mul", &[], &[a, b]),
            5 => self.op("Sub", &[], &[a, b]),
            6 => self.op("Div", &[], &[a, b]),
            7 => {
                let name = self.one_of(&["Min", "Max", "Sum", "Mean"]);
                let third = self.operand(&shape);
                self.op(name, &[], &[a, b, third])
            }
            8 => {
                let exponent = self.one_of(&[2.0, 0.5, 3.0, 1.0, 0.0]);
                let exponent = self.scalar(exponent);
                let base = if self.chance(50) { self.op("Abs", &[], &[x])? } else { x };
                self.op("Pow", &[], &[base, exponent])
            }
            _ => {
                let slope = self.weights(&shape[shape.len().saturating_sub(1)..], 0.5);
                self.op("PRelu", &[], &[x, slope])
            }
        }
    }

    /// An activation written out.
    pub(super) fn activation_pattern(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        match self.between(0, 6) {
            0 => {
                let root = self.scalar(std::f32::consts::SQRT_2);
                let scaled = self.op("Div", &[], &[x, root])?;
                let erf = self.op("Erf", &[], &[scaled])?;
                let one = self.scalar(1.0);
                let half = self.scalar(0.5);
                let sum = self.op("Add", &[], &[erf, one])?;
                if self.chance(50) {
                    let product = self.op("Mul", &[], &[x, sum])?;
                    self.op("Mul", &[], &[product, half])
                } else {
                    let halved = self.op("Mul", &[], &[x, half])?;
                    self.op("Mul", &[], &[halved, sum])
                }
            }
            1 => {
                let (three, cubic) = (self.scalar(3.0), self.scalar(0.044715));
                let cube = self.op("Pow", &[], &[x, three])?;
                let cube = self.op("Mul", &[], &[cubic, cube])?;
                let sum = self.op("Add", &[], &[x, cube])?;
                let root = self.scalar((2.0 / std::f32::consts::PI).sqrt());
                let scaled = self.op("Mul", &[], &[root, sum])?;
                let tanh = self.op("Tanh", &[], &[scaled])?;
                let (one, half) = (self.scalar(1.0), self.scalar(0.5));
                let sum = self.op("Add", &[], &[one, tanh])?;
                let halved = self.op("Mul", &[], &[half, x])?;
                self.op("Mul", &[], &[halved, sum])
            }
            2 | 3 => {
                let gate = self.op("Sigmoid", &[], &[x])?;
                let (a, b) = if self.chance(50) { (x, gate) } else { (gate, x) };
                self.op("Mul", &[], &[a, b])
            }
            4 => {
                let (three, six, zero) = (self.scalar(3.0), self.scalar(6.0), self.scalar(0.0));
                let shifted = self.op("Add", &[], &[x, three])?;
                let gate = self.op("Clip", &[], &[shifted, zero, six])?;
                let product = self.op("Mul", &[], &[x, gate])?;
                self.op("Div", &[], &[product, six])
            }
            5 => {
                let gate = self.op("HardSigmoid", &[("alpha", float(1.0 / 6.0)), ("beta", float(0.5))], &[x])?;
                self.op("Mul", &[], &[x, gate])
            }
            _ => {
                let soft = self.op("Softplus", &[], &[x])?;
                let tanh = self.op("Tanh", &[], &[soft])?;
                self.op("Mul", &[], &[x, tanh])
            }
        }
    }

    /// Comparisons, logic, `Where` and casts.
    pub(super) fn selection(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        let threshold = self.operand(&self.shape(x));
        let name = self.one_of(&["Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"]);
        let mut mask = self.op(name, &[], &[x, threshold])?;
        if self.chance(30) {
            mask = self.op("Not", &[], &[mask])?;
        }
        if self.chance(30) {
            let other = self.op("Less", &[], &[threshold, x])?;
            let name = self.one_of(&["And", "Or", "Xor"]);
            mask = self.op(name, &[], &[mask, other])?;
        }
        if self.chance(30) {
            let number = self.op("Cast", &[("to", int(1))], &[mask])?;
            return self.op("Mul", &[], &[number, x]);
        }
        if self.chance(20) {
            let number = self.one_of(&[6, 7, 10, 11]); // i32, i64, f16, f64
            let there = self.op("Cast", &[("to", int(number))], &[x])?;
            return self.op("Cast", &[("to", int(1))], &[there]);
        }
        let other = self.scalar(0.25);
        let (a, b) = if self.chance(50) { (x, other) } else { (other, x) };
        self.op("Where", &[], &[mask, a, b])
    }

    /// Small steps that a good pass takes away.
    pub(super) fn identity(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        let (zero, one) = (self.scalar(0.0), self.constant(Tensor::vector(vec![1.0f32])));
        match self.between(0, 5) {
            0 => self.op("Identity", &[], &[x]),
            1 => self.op("Dropout", &[], &[x]),
            2 => self.op("Add", &[], &[x, zero]),
            3 => self.op("Mul", &[], &[one, x]),
            4 => self.op("Cast", &[("to", int(1))], &[x]),
            _ => {
                let negated = self.op("Neg", &[], &[x])?;
                self.op("Neg", &[], &[negated])
            }
        }
    }
}

/// Whether `from` broadcasts to something no larger than `to`.
fn broadcasts(from: &[usize], to: &[usize]) -> bool {
    from.len() <= to.len() && from.iter().rev().zip(to.iter().rev()).all(|(a, b)| a == b || *a == 1 || *b == 1)
}
