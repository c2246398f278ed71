//! Convolutions with what exporters put around them, and pools.

use super::builder::{Builder, V, float, int, ints, text};
use onrush::ops::Attr;
use onrush::{DType, Tensor};

impl Builder {
    pub(super) fn pick_image(&mut self) -> Option<V> {
        self.pick(|v| v.dtype() == DType::F32 && (3..=4).contains(&v.rank()) && !v.is_empty())
    }

    /// `[Pad ->] Conv [-> BatchNormalization] [-> Add] [-> activation]`.
    pub(super) fn convolution(&mut self) -> Option<V> {
        let mut x = self.pick_image()?;
        let batch_and_channels = self.shape(x)[..2].to_vec();
        let spatial = self.rank(x) - 2;
        let channels = batch_and_channels[1];
        let kernel = match self.between(0, 3) {
            0 | 1 => vec![1; spatial],
            _ => (0..spatial).map(|_| self.one_of(&[1, 2, 3, 3, 5])).collect::<Vec<_>>(),
        };
        if self.chance(20) {
            let edges: Vec<i64> =
                (0..2 * (spatial + 2)).map(|i| if i % (spatial + 2) < 2 { 0 } else { self.rng.i64(0..=2) }).collect();
            let edges = self.integers(&edges);
            x = self.op("Pad", &[("mode", text("constant"))], &[x, edges])?;
        }
        let group = match self.between(0, 3) {
            0 => channels,
            1 if channels.is_multiple_of(2) => 2,
            _ => 1,
        };
        let out = group * self.between(1, 3);
        let fan = channels / group * kernel.iter().product::<usize>();
        let mut shape = vec![out, channels / group];
        shape.extend(&kernel);
        let w = self.weights(&shape, (3.0 / fan as f32).sqrt());
        let mut attrs = self.window(&self.shape(x)[2..], &kernel, true)?;
        attrs.push(("group", int(group as i64)));
        let mut inputs = vec![x, w];
        if self.chance(60) {
            inputs.push(self.weights(&[out], 0.5));
        }
        let mut y = self.op("Conv", &attrs, &inputs)?;
        if self.chance(50) {
            y = self.batch_norm(y)?;
        }
        if self.chance(30) {
            let shape = self.shape(y);
            let residual = self.pick(|v| v.dtype() == DType::F32 && **v.shape() == *shape)?;
            y = self.op("Add", &[], &[y, residual])?;
        }
        match self.between(0, 5) {
            0 | 1 => self.op("Relu", &[], &[y]),
            2 => self.clipped(y),
            3 => {
                let gate = self.op("Sigmoid", &[], &[y])?;
                self.op("Mul", &[], &[y, gate])
            }
            4 => self.op("HardSwish", &[], &[y]),
            _ => Some(y),
        }
    }

    fn batch_norm(&mut self, x: V) -> Option<V> {
        let channels = self.shape(x)[1];
        let around_one = |b: &mut Builder| {
            let elements = (0..channels).map(|_| 0.5 + b.rng.f32()).collect();
            b.constant(Tensor::vector::<f32>(elements))
        };
        let (scale, variance) = (around_one(self), around_one(self));
        let (bias, mean) = (self.weights(&[channels], 0.5), self.weights(&[channels], 0.5));
        let epsilon = self.one_of(&[1e-5, 1e-3]);
        self.op("BatchNormalization", &[("epsilon", float(epsilon))], &[x, scale, bias, mean, variance])
    }

    /// Strides, dilations and padding under which a window fits.
    fn window(&mut self, spatial: &[usize], kernel: &[usize], dilated: bool) -> Option<Vec<(&'static str, Attr)>> {
        let strides: Vec<usize> = kernel.iter().map(|_| self.one_of(&[1, 1, 1, 2])).collect();
        let dilations: Vec<usize> =
            kernel.iter().map(|_| if dilated { self.one_of(&[1, 1, 1, 2]) } else { 1 }).collect();
        let reach: Vec<usize> = kernel.iter().zip(&dilations).map(|(k, d)| (k - 1) * d + 1).collect();
        let mut attrs = vec![("kernel_shape", ints(kernel)), ("strides", ints(&strides))];
        if dilated {
            attrs.push(("dilations", ints(&dilations)));
        }
        if self.chance(20) {
            let rule = self.one_of(&["SAME_UPPER", "SAME_LOWER"]);
            attrs.push(("auto_pad", text(rule)));
            return Some(attrs);
        }
        let mut pads = vec![0; 2 * kernel.len()];
        for (axis, k) in kernel.iter().enumerate() {
            if self.chance(60) {
                let limit = k / 2;
                pads[axis] = self.between(0, limit);
                pads[axis + kernel.len()] = if self.chance(80) { pads[axis] } else { self.between(0, limit) };
            }
        }
        let fits = (0..kernel.len()).all(|a| spatial[a] + pads[a] + pads[a + kernel.len()] >= reach[a]);
        attrs.push(("pads", ints(&pads)));
        fits.then_some(attrs)
    }

    pub(super) fn pooling(&mut self) -> Option<V> {
        let x = self.pick_image()?;
        let spatial = self.shape(x)[2..].to_vec();
        let kernel: Vec<usize> = spatial.iter().map(|_| self.one_of(&[1, 2, 2, 3])).collect();
        match self.between(0, 6) {
            0 => self.op("GlobalAveragePool", &[], &[x]),
            1 => self.op("GlobalMaxPool", &[], &[x]),
            2 | 3 => {
                let attrs = self.window(&spatial, &kernel, false)?;
                self.op("MaxPool", &attrs, &[x])
            }
            4 => {
                let mut attrs = self.window(&spatial, &kernel, false)?;
                let counted = i64::from(self.chance(50));
                attrs.push(("count_include_pad", int(counted)));
                self.op("AveragePool", &attrs, &[x])
            }
            5 => {
                let channels = self.shape(x)[1];
                let mut shape = vec![channels, self.between(1, 3)];
                shape.extend(&kernel);
                let w = self.weights(&shape, 0.5);
                let strides: Vec<usize> = kernel.iter().map(|_| self.one_of(&[1, 2])).collect();
                self.op("ConvTranspose", &[("kernel_shape", ints(&kernel)), ("strides", ints(&strides))], &[x, w])
            }
            _ => {
                if self.rank(x) != 4 {
                    return None;
                }
                let scales = self.constant(Tensor::vector(vec![1.0f32, 1.0, 2.0, 2.0]));
                let inputs = [Some(x), None, Some(scales)];
                let mode = self.one_of(&["nearest", "linear"]);
                let attrs = [("mode", text(mode)), ("coordinate_transformation_mode", text("asymmetric"))];
                self.node("Resize", &attrs, &inputs, 1)?.first().copied()
            }
        }
    }
}
