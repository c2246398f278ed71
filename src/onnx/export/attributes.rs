//! [`Attr`] to `AttributeProto`.

use super::Exporter;
use crate::error::{At, Result, bail};
use crate::graph::Graph;
use crate::onnx::proto::{AttributeProto, attribute_type as kind};
use crate::onnx::tensors::to_proto;
use crate::ops::{Attr, Body, Op};
use bytes::Bytes;
use std::any::Any;

impl Exporter {
    /// The attributes of a node, whose bodies take the values named `captured`.
    pub(super) fn attributes(&mut self, op: &dyn Op, captured: &[String]) -> Result<Vec<AttributeProto>> {
        let mut protos = Vec::new();
        for (name, value) in op.attrs().iter() {
            let mut proto = match value {
                Attr::Body(body) => {
                    let graph = self.body(body.as_ref(), captured).at(|| format!("attribute {name:?}"))?;
                    AttributeProto { r#type: kind::GRAPH, g: Some(Box::new(graph)), ..AttributeProto::default() }
                }
                Attr::Op(op) => bail!(Unsupported, "it wraps the operator {}", op.name()),
                value => plain(value),
            };
            proto.name = name.to_owned();
            protos.push(proto);
        }
        Ok(protos)
    }

    fn body(&mut self, body: &dyn Body, captured: &[String]) -> Result<super::GraphProto> {
        let Some(graph) = (body as &dyn Any).downcast_ref::<Graph>() else {
            bail!(Unsupported, "a body that is no graph");
        };
        self.graph(graph, Some(captured))
    }
}

fn plain(value: &Attr) -> AttributeProto {
    let empty = AttributeProto::default();
    let text = |s: &String| Bytes::copy_from_slice(s.as_bytes());
    match value {
        Attr::Int(v) => AttributeProto { r#type: kind::INT, i: Some(*v), ..empty },
        Attr::Float(v) => AttributeProto { r#type: kind::FLOAT, f: Some(*v), ..empty },
        Attr::Str(v) => AttributeProto { r#type: kind::STRING, s: Some(text(v)), ..empty },
        Attr::Tensor(v) => AttributeProto { r#type: kind::TENSOR, t: Some(Box::new(to_proto("", v))), ..empty },
        Attr::Ints(v) => AttributeProto { r#type: kind::INTS, ints: v.clone(), ..empty },
        Attr::Floats(v) => AttributeProto { r#type: kind::FLOATS, floats: v.clone(), ..empty },
        Attr::Strs(v) => AttributeProto { r#type: kind::STRINGS, strings: v.iter().map(text).collect(), ..empty },
        Attr::Body(_) | Attr::Op(_) => empty,
    }
}
