//! The declared type of a value to a fact.

use crate::error::{At, Result, bail, ensure, err};
use crate::onnx::proto::{DimensionProto, ValueInfoProto};
use crate::onnx::tensors::MOST_AXES;
use crate::ops::reader::dtype_from_onnx;
use crate::tensor::{Dim, Fact, Symbol};

/// What becomes of an axis that has no number.
pub(super) enum Unnamed<'a> {
    /// An input of the model: its name and axis make a symbol, so that a request can say how long it is. Says of a
    /// name whether the file has it already.
    Symbol(&'a dyn Fn(&str) -> bool),
    /// Elsewhere: only the names that the inputs of the model use say something.
    Unknown(&'a dyn Fn(&str) -> bool),
}

/// The declared type, where there is one.
pub(super) fn declared(info: &ValueInfoProto, unnamed: &Unnamed<'_>) -> Result<Option<Fact>> {
    let Some(r#type) = &info.r#type else { return Ok(None) };
    let other = [
        (&r#type.sequence_type, "a sequence"),
        (&r#type.map_type, "a map"),
        (&r#type.optional_type, "an optional"),
        (&r#type.sparse_tensor_type, "a sparse tensor"),
    ];
    if let Some((_, what)) = other.iter().find(|(field, _)| field.is_some()) {
        bail!(Unsupported, "{what}; only dense tensors are supported");
    }
    let Some(tensor) = &r#type.tensor_type else { return Ok(None) };
    if tensor.elem_type == 0 {
        return Ok(None);
    }
    let dtype = dtype_from_onnx(i64::from(tensor.elem_type)).at(|| "elem_type".into())?;
    let Some(shape) = &tensor.shape else { return Ok(Some(Fact::unranked(dtype))) };
    let rank = shape.dim.len();
    ensure!(rank <= MOST_AXES, Limit, "{rank} axes; at most {MOST_AXES} are read");
    let dims: Result<Vec<Dim>> = shape
        .dim
        .iter()
        .enumerate()
        .map(|(axis, dim)| read_dim(dim, &info.name, axis, unnamed).at(|| format!("dim {axis}")))
        .collect();
    Ok(Some(Fact::new(dtype, dims?)))
}

fn read_dim(dim: &DimensionProto, input: &str, axis: usize, unnamed: &Unnamed<'_>) -> Result<Dim> {
    if let Some(value) = dim.dim_value {
        let length = usize::try_from(value).map_err(|_| err!(Malformed, "a dimension of {value}"))?;
        return Ok(Dim::Known(length));
    }
    let name = dim.dim_param.as_deref().unwrap_or_default();
    Ok(match unnamed {
        Unnamed::Symbol(taken) if name.is_empty() => {
            let mut made = format!("{input}_{axis}");
            while taken(&made) {
                made.push('_');
            }
            Dim::Symbol(Symbol::new(&made))
        }
        Unnamed::Symbol(_) => Dim::Symbol(Symbol::new(name)),
        Unnamed::Unknown(known) if known(name) => Dim::Symbol(Symbol::new(name)),
        Unnamed::Unknown(_) => Dim::Unknown,
    })
}

/// The dimensions that a declaration names.
pub(super) fn named_dims(info: &ValueInfoProto) -> impl Iterator<Item = &str> {
    let shape = info.r#type.iter().flat_map(|t| &t.tensor_type).flat_map(|t| &t.shape);
    shape.flat_map(|s| &s.dim).filter_map(|d| d.dim_param.as_deref()).filter(|name| !name.is_empty())
}
