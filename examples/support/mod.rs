//! Made-up inputs for a model, for the examples that time one.

use onrush::{DType, Dim, Result, Shape, Tensor, ValueInfo};

/// How made-up inputs look.
#[derive(Debug, Clone)]
pub(crate) struct Made<'a> {
    /// Length of a symbolic first axis.
    pub(crate) batch: usize,
    /// Length of any other symbolic axis.
    pub(crate) seq: usize,
    /// `NAME=VALUE`: every element of this input.
    pub(crate) fill: &'a [String],
    /// `NAME=D,D,...`: the shape of this input, empty for a scalar.
    pub(crate) shape: &'a [String],
}

impl Made<'_> {
    /// One tensor for each input: floats in -1..1, integers in 0..250, unless filled.
    pub(crate) fn inputs(&self, infos: &[ValueInfo]) -> Result<Vec<Tensor>> {
        infos.iter().map(|info| self.input(info)).collect()
    }

    fn input(&self, info: &ValueInfo) -> Result<Tensor> {
        let shape = self.shape_of(info);
        let mut random = fastrand::Rng::with_seed(0);
        let fill = lookup(self.fill, &info.name).and_then(|v| v.parse::<f64>().ok());
        let element = |_| match fill {
            Some(value) => value,
            None if info.dtype.is_float() => random.f64() * 2.0 - 1.0,
            None if info.dtype == DType::Bool => u8::from(random.bool()).into(),
            None => random.u8(0..250).into(),
        };
        let elements: Vec<f64> = (0..shape.len()).map(element).collect();
        Tensor::new(shape, elements)?.cast(info.dtype)
    }

    fn shape_of(&self, info: &ValueInfo) -> Shape {
        if let Some(dims) = lookup(self.shape, &info.name) {
            return dims.split(',').filter_map(|d| d.trim().parse().ok()).collect();
        }
        let length = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Known(n) => *n,
            _ if axis == 0 => self.batch,
            _ => self.seq,
        };
        info.shape.iter().flatten().enumerate().map(length).collect()
    }
}

/// The value of `name=value` in a list of such.
fn lookup<'a>(list: &'a [String], name: &str) -> Option<&'a str> {
    list.iter().find_map(|entry| entry.rsplit_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}
