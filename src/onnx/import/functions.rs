//! Model-local functions, inlined where they are called.

use super::bodies::taken_names;
use super::graph::{Builder, Frame};
use super::order;
use super::{Function, FunctionKey};
use crate::error::{At, Result, bail, ensure};
use crate::onnx::proto::{AttributeProto, FunctionProto, NodeProto};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// The attributes of a call by name, references among them resolved.
pub(super) type Arguments<'m> = BTreeMap<&'m str, &'m AttributeProto>;

/// How values are named in the graph. The names of a function are prefixed; what it yields is named by the call.
#[derive(Default)]
pub(super) struct Scope<'m> {
    prefix: String,
    renamed: HashMap<&'m str, String>,
}

impl Scope<'_> {
    /// The name in the graph, and whether it may be changed to be unique.
    pub(super) fn name(&self, name: &str) -> (String, bool) {
        match self.renamed.get(name) {
            Some(renamed) => (renamed.clone(), false),
            None => (format!("{}{name}", self.prefix), !self.prefix.is_empty()),
        }
    }
}

impl<'c, 'm> Builder<'c, 'm> {
    /// Emits the nodes of a function in place of a call.
    pub(super) fn call(
        &mut self,
        frame: &mut Frame<'c, 'm>,
        node: &'m NodeProto,
        key: FunctionKey<'m>,
        function: &'c Function<'m>,
    ) -> Result<()> {
        let proto = function.proto;
        ensure!(!frame.calls.contains(&key), InvalidModel, "function {:?} calls itself", proto.name);
        let depth = frame.depth + 1;
        self.context.check_depth(depth)?;
        let (inputs, outputs) = (node.input.len(), node.output.len());
        ensure!(
            inputs <= proto.input.len() && outputs <= proto.output.len(),
            InvalidModel,
            "{inputs} inputs and {outputs} outputs; the function has {} and {}",
            proto.input.len(),
            proto.output.len()
        );
        let arguments = arguments(frame, node, function)?;
        let label = if node.name.is_empty() { node.output.first().unwrap_or(&node.op_type) } else { &node.name };
        let mut inner = Frame {
            opsets: &function.opsets,
            values: HashMap::new(),
            taken: taken_names(self.context, &proto.node).chain(proto.output.iter().map(String::as_str)).collect(),
            arguments: Some(Rc::new(arguments)),
            scope: Scope { prefix: format!("{}/", frame.scope.name(label).0), renamed: HashMap::new() },
            depth,
            calls: frame.calls.iter().copied().chain([key]).collect(),
        };
        for (index, name) in proto.input.iter().enumerate() {
            let value = match node.input.get(index).map(String::as_str) {
                None | Some("") => None,
                Some(outer) => frame.get(outer)?,
            };
            inner.bind(name, value)?;
        }
        let own = self.name_outputs(frame, &mut inner, proto, node)?;
        for index in order::sorted(self.context, &proto.node, |name| inner.values.contains_key(name))? {
            self.node(&mut inner, &proto.node[index])?;
        }
        for ((inner_name, outer), own) in proto.output.iter().zip(&node.output).zip(own) {
            if outer.is_empty() {
                continue;
            }
            let Some(mut value) = inner.get(inner_name).at(|| format!("output {inner_name:?}"))? else {
                bail!(InvalidModel, "output {inner_name:?} is an input that was left out");
            };
            if !own {
                let name = self.value_name(frame, outer)?;
                value = self.identity(value, &name)?;
            }
            frame.bind(outer, Some(value))?;
        }
        Ok(())
    }

    /// Gives what the function yields the names of the call's outputs. False for an output that has its name from
    /// elsewhere, because it passes through or is yielded twice: it takes an identity to name it.
    fn name_outputs(
        &mut self,
        frame: &Frame<'c, 'm>,
        inner: &mut Frame<'c, 'm>,
        proto: &'m FunctionProto,
        node: &'m NodeProto,
    ) -> Result<Vec<bool>> {
        let mut own = Vec::with_capacity(node.output.len());
        for (inner_name, outer) in proto.output.iter().zip(&node.output) {
            let taken = inner.values.contains_key(inner_name.as_str());
            let free = !outer.is_empty() && !taken && !inner.scope.renamed.contains_key(inner_name.as_str());
            if free {
                let name = self.value_name(frame, outer)?;
                inner.scope.renamed.insert(inner_name, name);
            }
            own.push(free);
        }
        Ok(own)
    }
}

/// The attributes of the call, and the defaults of those that it leaves out.
fn arguments<'m>(frame: &Frame<'_, 'm>, node: &'m NodeProto, function: &Function<'m>) -> Result<Arguments<'m>> {
    let proto = function.proto;
    let mut arguments = function.defaults.clone();
    for attribute in &node.attribute {
        let name = attribute.name.as_str();
        let known = proto.attribute.iter().any(|a| a == name) || arguments.contains_key(name);
        ensure!(known, InvalidModel, "unknown attribute {name:?}");
        ensure!(attribute.g.is_none(), Unsupported, "attribute {name:?}: graphs as arguments of functions");
        if let Some(value) = resolve(frame.arguments.as_deref(), attribute)? {
            arguments.insert(name, value);
        }
    }
    Ok(arguments)
}

/// The attribute itself, or the argument that it refers to; `None` where the call left that out.
pub(super) fn resolve<'m>(
    arguments: Option<&Arguments<'m>>,
    attribute: &'m AttributeProto,
) -> Result<Option<&'m AttributeProto>> {
    let name = attribute.ref_attr_name.as_str();
    if name.is_empty() {
        return Ok(Some(attribute));
    }
    let Some(arguments) = arguments else {
        bail!(InvalidModel, "attribute {:?} refers to {name:?} outside of a function", attribute.name);
    };
    Ok(arguments.get(name).copied())
}
