//! Tensors that the file holds: initializers, dense and sparse, and the `Constant` operator.

use super::Context;
use crate::error::{At, Result, bail, ensure, err};
use crate::onnx::proto::SparseTensorProto;
use crate::onnx::tensors::lengths;
use crate::ops::Attr;
use crate::tensor::{DType, Shape, Tensor};
use std::collections::BTreeMap;

/// The value of a `Constant` node from its attributes, of which there is one.
pub(super) fn constant_node(attrs: BTreeMap<String, Attr>) -> Result<Tensor> {
    let count = attrs.len();
    let Some((name, value)) = attrs.into_iter().next().filter(|_| count == 1) else {
        bail!(InvalidModel, "{count} attributes; a Constant has one");
    };
    Ok(match (name.as_str(), value) {
        ("value" | "sparse_value", Attr::Tensor(tensor)) => tensor,
        ("value_float", Attr::Float(v)) => Tensor::scalar(v),
        ("value_floats", Attr::Floats(v)) => Tensor::vector(v),
        ("value_int", Attr::Int(v)) => Tensor::scalar(v),
        ("value_ints", Attr::Ints(v)) => Tensor::vector(v),
        ("value_string" | "value_strings", _) => bail!(Unsupported, "{name}: tensors of strings are not supported"),
        ("value" | "sparse_value" | "value_float" | "value_floats" | "value_int" | "value_ints", _) => {
            bail!(InvalidModel, "attribute {name} has the wrong type")
        }
        _ => bail!(InvalidModel, "unknown attribute {name}"),
    })
}

/// A sparse tensor as a dense one. Indices are either linear, `[entries]`, or one row an entry, `[entries, rank]`.
pub(super) fn dense<'m>(context: &Context<'m>, proto: &'m SparseTensorProto) -> Result<Tensor> {
    let Some(values) = &proto.values else { bail!(InvalidModel, "values are missing") };
    let shape = lengths(&proto.dims)?;
    let len = shape.checked_len().at(|| "dims".into())?;
    let values = context.tensor(values).at(|| "values".into())?;
    let entries = match values.shape()[..] {
        [entries] => entries,
        _ => bail!(InvalidModel, "values of shape {}; they have one axis", values.shape()),
    };
    let indices = match &proto.indices {
        Some(indices) => context.tensor(indices).at(|| "indices".into())?,
        None => Tensor::zeros(DType::I64, [0])?,
    };
    let positions = positions(&indices, entries, &shape).at(|| "indices".into())?;
    let size = values.dtype().size();
    context.tensors.admit(len.saturating_mul(size))?;
    let mut dense = Tensor::zeros(values.dtype(), shape)?;
    let Some(target) = dense.as_bytes_mut() else { bail!(Internal, "a new tensor is shared") };
    for (position, value) in positions.into_iter().zip(values.as_bytes().chunks_exact(size)) {
        target[position * size..(position + 1) * size].copy_from_slice(value);
    }
    Ok(dense)
}

fn positions(indices: &Tensor, entries: usize, shape: &Shape) -> Result<Vec<usize>> {
    let given = indices.as_slice::<i64>()?;
    let len = shape.elements();
    let positions: Vec<usize> = match indices.shape()[..] {
        [count] if count == entries => given
            .iter()
            .map(|&i| {
                let position = usize::try_from(i).ok().filter(|&i| i < len);
                position.ok_or_else(|| err!(Malformed, "index {i} is outside {len} elements"))
            })
            .collect::<Result<_>>()?,
        [count, rank] if count == entries && rank == shape.rank() && rank > 0 => {
            given.chunks_exact(rank).map(|row| position(row, shape)).collect::<Result<_>>()?
        }
        _ => bail!(Malformed, "a shape of {}, for {entries} values of {shape}", indices.shape()),
    };
    ensure!(positions.is_sorted_by(|a, b| a < b), Malformed, "not in ascending order, or twice the same");
    Ok(positions)
}

fn position(row: &[i64], shape: &Shape) -> Result<usize> {
    let mut position = 0usize;
    for (&index, &length) in row.iter().zip(shape.iter()) {
        let index = usize::try_from(index).ok().filter(|&i| i < length);
        let Some(index) = index else { bail!(Malformed, "{row:?} is outside {shape}") };
        position = position * length + index;
    }
    Ok(position)
}
