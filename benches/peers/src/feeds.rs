//! Made-up inputs that every engine is given alike.

use onrush::{DType, Dim, ValueInfo};

/// One input of a model.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Its elements in order, rounded where the type needs it.
    pub(crate) values: Vec<f64>,
}

/// What a caller says of the inputs.
#[derive(Debug)]
pub(crate) struct Wishes<'a> {
    /// Length of a symbolic first axis.
    pub(crate) batch: usize,
    /// Length of any other symbolic axis.
    pub(crate) seq: usize,
    /// `NAME=VALUE`: every element of this input.
    pub(crate) fill: &'a [String],
    /// `NAME=D,D,...`: the shape of this input, empty for a scalar.
    pub(crate) shape: &'a [String],
}

/// A feed for each input: floats in -1..1, integers in 0..250, unless filled.
pub(crate) fn feeds(infos: &[ValueInfo], wishes: &Wishes<'_>) -> Result<Vec<Feed>, String> {
    infos.iter().map(|info| feed(info, wishes)).collect()
}

fn feed(info: &ValueInfo, wishes: &Wishes<'_>) -> Result<Feed, String> {
    let shape = match (lookup(wishes.shape, &info.name), &info.shape) {
        (Some(""), _) => Vec::new(),
        (Some(dims), _) => {
            let length = |text: &str| text.trim().parse().map_err(|e| format!("--shape {}={dims}: {e}", info.name));
            dims.split(',').map(length).collect::<Result<_, _>>()?
        }
        (None, Some(dims)) => {
            let length = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Known(n) => *n,
                _ if axis == 0 => wishes.batch,
                _ => wishes.seq,
            };
            dims.iter().enumerate().map(length).collect()
        }
        (None, None) => return Err(format!("input {info} says no rank; give it a --shape")),
    };
    let fill = lookup(wishes.fill, &info.name).map(str::parse::<f64>).transpose();
    let fill = fill.map_err(|e| format!("--fill of {}: {e}", info.name))?;
    // The low bits of a multiplicative sequence are enough to keep branches and caches honest.
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let element = |_| match fill {
        Some(value) => value,
        None if info.dtype.is_float() => random() * 2.0 - 1.0,
        None if info.dtype == DType::Bool => (random() * 2.0).floor(),
        None => (random() * 250.0).floor(),
    };
    let values = (0..shape.iter().product()).map(element).collect();
    Ok(Feed { name: info.name.clone(), dtype: info.dtype, shape, values })
}

/// The value of `name=value` in a list of such; a name may itself have a `=` in it.
fn lookup<'a>(list: &'a [String], name: &str) -> Option<&'a str> {
    list.iter().find_map(|entry| entry.rsplit_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}
