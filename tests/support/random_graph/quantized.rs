//! Quantized convolutions and products, as pairs of `QuantizeLinear` and `DequantizeLinear` around float operators.

use super::builder::{Builder, V, int, ints};
use onrush::{DType, Tensor};

impl Builder {
    /// A pair around a value, with a scale that its range fills.
    fn requantized(&mut self, x: V) -> Option<V> {
        let range = self.largest(x).max(0.5) as f32;
        let (scale, zero) = if self.chance(50) {
            let zero = self.rng.u8(100..=156);
            (range / 99.0, Tensor::scalar(zero))
        } else {
            let zero = if self.chance(70) { 0 } else { self.rng.i8(-8..=8) };
            (range / 119.0, Tensor::scalar(zero))
        };
        let (scale, zero) = (self.scalar(scale), self.constant(zero));
        let q = self.op("QuantizeLinear", &[], &[x, scale, zero])?;
        self.op("DequantizeLinear", &[], &[q, scale, zero])
    }

    /// Integer weights with one scale, or one for each index of `axis`.
    fn integer_weights(&mut self, shape: &[usize], axis: usize, magnitude: f32) -> Option<V> {
        let elements: Vec<i8> = (0..shape.iter().product()).map(|_| self.rng.i8(-127..=127)).collect();
        let w = self.constant(Tensor::new(shape, elements).ok()?);
        let scale = if self.chance(50) {
            let scales = (0..shape[axis]).map(|_| magnitude / 127.0 * (0.5 + self.rng.f32())).collect();
            Tensor::vector::<f32>(scales)
        } else {
            Tensor::scalar(magnitude / 127.0)
        };
        let scale = self.constant(scale);
        let zero = self.constant(Tensor::zeros(DType::I8, self.shape(scale)).ok()?);
        let inputs = if self.chance(60) { vec![w, scale, zero] } else { vec![w, scale] };
        self.op("DequantizeLinear", &[("axis", int(axis as i64))], &inputs)
    }

    pub(super) fn quantized(&mut self) -> Option<V> {
        if self.chance(15) {
            let x = self.pick_float()?;
            return self.requantized(x);
        }
        if self.chance(50) {
            let x = self.pick_rank(4)?;
            let shape = self.shape(x);
            let (channels, kernel) = (shape[1], self.one_of(&[[1, 1], [3, 3]]));
            let depthwise = self.chance(30);
            let (group, out) = if depthwise { (channels, channels) } else { (1, self.between(1, 5)) };
            let x = self.requantized(x)?;
            let fan = channels / group * kernel[0] * kernel[1];
            let w = [out, channels / group, kernel[0], kernel[1]];
            let w = self.integer_weights(&w, 0, (3.0 / fan as f32).sqrt())?;
            let pads = [kernel[0] / 2; 4];
            let attrs = [("kernel_shape", ints(&kernel)), ("pads", ints(&pads)), ("group", int(group as i64))];
            let mut inputs = vec![x, w];
            if self.chance(50) {
                inputs.push(self.weights(&[out], 0.5));
            }
            let mut y = self.op("Conv", &attrs, &inputs)?;
            if self.chance(40) {
                y = self.op("Relu", &[], &[y])?;
            }
            return self.requantized(y);
        }
        let x = self.pick(|v| v.dtype() == DType::F32 && v.rank() >= 2 && !v.is_empty())?;
        let inner = self.shape(x)[self.rank(x) - 1];
        let out = self.between(1, 9);
        if self.chance(30) {
            return self.dynamic(x, inner, out);
        }
        let x = self.requantized(x)?;
        let w = self.integer_weights(&[inner, out], 1, (3.0 / inner as f32).sqrt())?;
        let mut y = self.op("MatMul", &[], &[x, w])?;
        if self.chance(50) {
            let bias = self.weights(&[out], 0.5);
            y = self.op("Add", &[], &[y, bias])?;
        }
        self.requantized(y)
    }

    /// Activations quantized while running.
    fn dynamic(&mut self, x: V, inner: usize, out: usize) -> Option<V> {
        let elements: Vec<i8> = (0..inner * out).map(|_| self.rng.i8(-127..=127)).collect();
        let w = self.constant(Tensor::new([inner, out], elements).ok()?);
        let scale = self.scalar(0.01);
        let zero = self.constant(Tensor::scalar(0i8));
        let parts = self.node("DynamicQuantizeLinear", &[], &[Some(x)], 3)?;
        let sums = self.op("MatMulInteger", &[], &[parts[0], w, parts[2], zero])?;
        let sums = self.op("Cast", &[("to", int(1))], &[sums])?;
        let scale = self.op("Mul", &[], &[parts[1], scale])?;
        self.op("Mul", &[], &[sums, scale])
    }
}
