//! Made-up inputs for a model, for the examples that time one.

use onrush::{DType, Dim, Error, ErrorKind, Result, Shape, Tensor, ValueInfo};

/// Elements of one input; more is a typing error.
const MOST_ELEMENTS: usize = 1 << 30;

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
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an entry that names no input or cannot be read.
    pub(crate) fn inputs(&self, infos: &[ValueInfo]) -> Result<Vec<Tensor>> {
        for entry in self.fill.iter().chain(self.shape) {
            let known = infos.iter().any(|info| value_of(entry, &info.name).is_some());
            if !known {
                let names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
                return Err(invalid(format!("{entry:?} is not NAME=..., with NAME one of the inputs {names:?}")));
            }
        }
        infos.iter().map(|info| self.input(info)).collect()
    }

    fn input(&self, info: &ValueInfo) -> Result<Tensor> {
        let shape = self.shape_of(info)?;
        if shape.elements() > MOST_ELEMENTS {
            return Err(invalid(format!("input {info} in the shape {shape} has more than {MOST_ELEMENTS} elements")));
        }
        let mut random = fastrand::Rng::with_seed(0);
        let number = |text: &str| {
            text.parse::<f64>().map_err(|e| invalid(format!("--fill {}={text}: {e}", info.name)).with_source(e))
        };
        let fill = lookup(self.fill, &info.name).map(number).transpose()?;
        let element = |_| match fill {
            Some(value) => value,
            None if info.dtype.is_float() => random.f64() * 2.0 - 1.0,
            None if info.dtype == DType::Bool => u8::from(random.bool()).into(),
            None => random.u8(0..250).into(),
        };
        let elements: Vec<f64> = (0..shape.elements()).map(element).collect();
        Tensor::new(shape, elements)?.cast(info.dtype)
    }

    fn shape_of(&self, info: &ValueInfo) -> Result<Shape> {
        if let Some(dims) = lookup(self.shape, &info.name) {
            let length = |text: &str| {
                text.trim().parse().map_err(|e| invalid(format!("--shape {}={dims}: {e}", info.name)).with_source(e))
            };
            return if dims.is_empty() { Ok(Shape::scalar()) } else { dims.split(',').map(length).collect() };
        }
        let length = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Known(n) => *n,
            _ if axis == 0 => self.batch,
            _ => self.seq,
        };
        match &info.shape {
            Some(dims) => Ok(dims.iter().enumerate().map(length).collect()),
            None => Err(invalid(format!("input {info} says no rank; give it a --shape {}=D,D,...", info.name))),
        }
    }
}

/// The value of `name=value` in a list of such.
fn lookup<'a>(list: &'a [String], name: &str) -> Option<&'a str> {
    list.iter().find_map(|entry| value_of(entry, name))
}

/// The value of `name=value`; a name may itself have a `=` in it.
fn value_of<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.rsplit_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
