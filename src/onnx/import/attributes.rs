//! `AttributeProto` to [`Attr`]: the declared type must be that of the field which holds the value.

use super::Context;
use super::constants;
use crate::error::{At, Result, bail, ensure, err};
use crate::onnx::proto::{AttributeProto, attribute_type as kind};
use crate::ops::Attr;
use bytes::Bytes;

/// The value of an attribute that is no graph.
pub(super) fn convert<'m>(context: &Context<'m>, proto: &'m AttributeProto) -> Result<Attr> {
    let held = held(proto);
    ensure!(held.len() <= 1, InvalidModel, "it holds several values");
    let held = held.first().copied();
    let declared = if proto.r#type == 0 { held.unwrap_or(0) } else { proto.r#type };
    if let Some(held) = held {
        ensure!(held == declared, InvalidModel, "its type is {declared}, but it holds a value of type {held}");
    }
    Ok(match declared {
        kind::FLOAT => Attr::Float(proto.f.unwrap_or_default()),
        kind::INT => Attr::Int(proto.i.unwrap_or_default()),
        kind::STRING => Attr::Str(text(proto.s.as_ref())?),
        kind::FLOATS => Attr::Floats(proto.floats.clone()),
        kind::INTS => Attr::Ints(proto.ints.clone()),
        kind::STRINGS => Attr::Strs(proto.strings.iter().map(|s| text(Some(s))).collect::<Result<_>>()?),
        kind::TENSOR => {
            let Some(tensor) = &proto.t else { bail!(InvalidModel, "it has no value") };
            Attr::Tensor(context.tensor(tensor).at(|| "t".into())?)
        }
        kind::SPARSE_TENSOR => {
            let Some(sparse) = &proto.sparse_tensor else { bail!(InvalidModel, "it has no value") };
            Attr::Tensor(constants::dense(context, sparse)?)
        }
        9 | 10 | 12 | 13 | 14 => bail!(Unsupported, "attributes of type {declared} are not supported"),
        _ => bail!(InvalidModel, "{declared} is no type of an attribute"),
    })
}

/// What the value takes once read; tensors count for themselves.
pub(super) fn bytes(proto: &AttributeProto) -> usize {
    let lists = proto.floats.len().saturating_mul(4).saturating_add(proto.ints.len().saturating_mul(8));
    let strings = proto.strings.iter().chain(&proto.s);
    strings.fold(lists.saturating_add(proto.name.len()), |bytes, s| bytes.saturating_add(s.len()))
}

/// Checks that an attribute which holds a graph holds nothing else.
pub(super) fn check_graph(proto: &AttributeProto) -> Result<()> {
    let declared = matches!(proto.r#type, 0 | kind::GRAPH);
    ensure!(declared, InvalidModel, "its type is {}, but it holds a graph", proto.r#type);
    ensure!(held(proto) == [kind::GRAPH], InvalidModel, "it holds several values");
    Ok(())
}

/// The types of the fields that are filled.
fn held(proto: &AttributeProto) -> Vec<i32> {
    [
        (proto.f.is_some(), kind::FLOAT),
        (proto.i.is_some(), kind::INT),
        (proto.s.is_some(), kind::STRING),
        (proto.t.is_some(), kind::TENSOR),
        (proto.g.is_some(), kind::GRAPH),
        (!proto.floats.is_empty(), kind::FLOATS),
        (!proto.ints.is_empty(), kind::INTS),
        (!proto.strings.is_empty(), kind::STRINGS),
        (proto.sparse_tensor.is_some(), kind::SPARSE_TENSOR),
    ]
    .into_iter()
    .filter_map(|(filled, kind)| filled.then_some(kind))
    .collect()
}

fn text(bytes: Option<&Bytes>) -> Result<String> {
    let bytes = bytes.map_or(&[][..], |b| b);
    String::from_utf8(bytes.to_vec()).map_err(|e| err!(Malformed, "a string that is no UTF-8").with_source(e))
}
