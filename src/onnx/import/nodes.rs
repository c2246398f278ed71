//! One `NodeProto` to nodes of the graph, by what its operator says of it.

use super::functions::resolve;
use super::graph::{Builder, Frame};
use super::opsets::canonical_domain;
use super::{attributes, constants};
use crate::error::{At, Result, bail, ensure, err};
use crate::graph::ValueId;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::ops::reader::Operand;
use crate::ops::{Attr, Body, NodeReader, Op, OpDef, Reading, registry};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

impl<'c, 'm> Builder<'c, 'm> {
    /// Emits a node, and binds its outputs.
    pub(super) fn node(&mut self, frame: &mut Frame<'c, 'm>, node: &'m NodeProto) -> Result<()> {
        let context = self.context;
        context.count_node()?;
        context.count_items(node.input.len().saturating_add(node.output.len()))?;
        let domain = canonical_domain(&node.domain);
        let place = |frame: &Frame<'c, 'm>| Builder::place(frame, node);
        if let Some((key, function)) = context.functions.get_key_value(&(domain, &node.op_type, &node.overload)) {
            return self.call(frame, node, *key, function).map_err(|e| e.at(place(frame)));
        }
        if domain.is_empty() && node.op_type == "Constant" {
            return self.constant(frame, node).map_err(|e| e.at(place(frame)));
        }
        let emission = self.read(frame, node, domain).map_err(|e| e.at(place(frame)))?;
        self.emit(frame, node, emission)
    }

    /// A `Constant` node as a constant.
    fn constant(&mut self, frame: &mut Frame<'c, 'm>, node: &'m NodeProto) -> Result<()> {
        ensure!(node.input.is_empty(), InvalidModel, "{} inputs; a Constant has none", node.input.len());
        let [output] = node.output.as_slice() else {
            bail!(InvalidModel, "{} outputs; a Constant has one", node.output.len());
        };
        frame.opsets.of("", "Constant")?;
        let (attrs, graphs) = self.attributes(frame, node)?;
        ensure!(graphs.is_empty(), InvalidModel, "a Constant has no graph");
        let value = constants::constant_node(attrs)?;
        let name = self.value_name(frame, output)?;
        let id = self.graph.constant(&name, value)?;
        frame.bind(output, Some(id))
    }

    /// The attributes that are values, and those that are graphs.
    #[allow(clippy::type_complexity)]
    fn attributes(
        &self,
        frame: &Frame<'c, 'm>,
        node: &'m NodeProto,
    ) -> Result<(BTreeMap<String, Attr>, Vec<(&'m str, &'m GraphProto)>)> {
        let mut attrs = BTreeMap::new();
        let mut graphs = Vec::new();
        for proto in &node.attribute {
            ensure!(!proto.name.is_empty(), InvalidModel, "an attribute has no name");
            let place = || format!("attribute {:?}", proto.name);
            if let Some(graph) = &proto.g {
                attributes::check_graph(proto).at(place)?;
                graphs.push((proto.name.as_str(), &**graph));
                continue;
            }
            let Some(value) = resolve(frame.arguments.as_deref(), proto)? else { continue };
            self.context.count_text(attributes::bytes(value))?;
            let value = attributes::convert(self.context, value).at(place)?;
            let previous = attrs.insert(proto.name.clone(), value);
            ensure!(previous.is_none(), InvalidModel, "attribute {:?} is given twice", proto.name);
        }
        Ok((attrs, graphs))
    }

    fn read(&self, frame: &Frame<'c, 'm>, node: &'m NodeProto, domain: &str) -> Result<Emission> {
        let op_type = node.op_type.as_str();
        let def = registry::find(domain, op_type)
            .ok_or_else(|| err!(Unsupported, "the operator {domain}:{op_type} is not known"))?;
        let opset = frame.opsets.of(domain, op_type)?;
        let named = last(node, |o| !o.is_empty());
        check_arity("outputs", named, &def.outputs)?;
        // Where each output has its own meaning, those at the end that nothing takes are left out.
        let outputs = match *def.outputs.end() {
            usize::MAX => named,
            _ => last(node, |o| frame.taken.contains(o)).max(*def.outputs.start()),
        };
        let inputs = self.inputs(frame, node, def)?;
        check_arity("inputs", inputs.len(), &def.inputs)?;
        let (mut attrs, graphs) = self.attributes(frame, node)?;
        let (bodies, captures) = self.bodies(frame, node, &graphs, &inputs)?;
        for (name, body) in bodies {
            let previous = attrs.insert(name.to_owned(), Attr::Body(body as Arc<dyn Body>));
            ensure!(previous.is_none(), InvalidModel, "attribute {name:?} is given twice");
        }
        let present = inputs.iter().map(Option::is_some).collect();
        let ranks = inputs.iter().map(|v| v.and_then(|id| self.graph.fact(id).rank())).collect();
        let mut reader = NodeReader::new(op_type, opset, attrs, present, outputs, captures.len()).with_ranks(ranks);
        let reading = (def.read)(&mut reader)?;
        let constants = reader.finish()?;
        Ok(Emission { reading, inputs, captures, constants, outputs })
    }

    /// The inputs without absent ones at the end, but as many as the operator asks for at least.
    fn inputs(&self, frame: &Frame<'c, 'm>, node: &'m NodeProto, def: &OpDef) -> Result<Vec<Option<ValueId>>> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { frame.get(name)? });
        }
        while inputs.len() > *def.inputs.start() && inputs.last() == Some(&None) {
            inputs.pop();
        }
        Ok(inputs)
    }

    fn emit(&mut self, frame: &mut Frame<'c, 'm>, node: &'m NodeProto, emission: Emission) -> Result<()> {
        let Emission { reading, mut inputs, captures, constants, outputs } = emission;
        let named = if node.name.is_empty() { node.output.iter().find(|o| !o.is_empty()) } else { Some(&node.name) };
        let name = frame.scope.name(named.map_or("", String::as_str)).0;
        self.context.count_text(name.len())?;
        for (index, value) in constants {
            if inputs.len() <= index {
                inputs.resize(index + 1, None);
            }
            inputs[index] = Some(self.constant_input(&name, value)?);
        }
        let output_names: Vec<Option<String>> = node.output[..outputs]
            .iter()
            .map(|o| if o.is_empty() { Ok(None) } else { self.value_name(frame, o).map(Some) })
            .collect::<Result<_>>()?;
        let output_names: Vec<Option<&str>> = output_names.iter().map(Option::as_deref).collect();
        let ids = match reading {
            Reading::Op(op) => {
                inputs.extend(captures.into_iter().map(Some));
                self.graph.node(&name, op, &inputs, &output_names)?
            }
            Reading::Nodes(nodes) => self.emit_several(&name, nodes, &inputs, &captures, &output_names)?,
        };
        for (output, id) in node.output.iter().zip(ids).filter(|(o, _)| !o.is_empty()) {
            frame.bind(output, id)?;
        }
        Ok(())
    }

    fn emit_several(
        &mut self,
        name: &str,
        nodes: Vec<(Arc<dyn Op>, Vec<Operand>)>,
        inputs: &[Option<ValueId>],
        captures: &[ValueId],
        output_names: &[Option<&str>],
    ) -> Result<Vec<Option<ValueId>>> {
        let count = nodes.len();
        let mut used = vec![1usize; count];
        for operand in nodes.iter().flat_map(|(_, operands)| operands) {
            if let Operand::Output { node, output } = operand
                && let Some(used) = used.get_mut(*node)
            {
                *used = (*used).max(output + 1);
            }
        }
        let mut made: Vec<Vec<Option<ValueId>>> = Vec::with_capacity(count);
        for (position, (op, operands)) in nodes.into_iter().enumerate() {
            let mut values = Vec::with_capacity(operands.len());
            for operand in operands {
                values.push(match operand {
                    Operand::Input(index) => inputs.get(index).copied().flatten(),
                    Operand::Constant(value) => Some(self.constant_input(name, value)?),
                    Operand::Output { node, output } => made.get(node).and_then(|m| m.get(output)).copied().flatten(),
                });
            }
            if op.captures() > 0 {
                values.extend(captures.iter().copied().map(Some));
            }
            if position + 1 == count {
                return self.graph.node(name, op, &values, output_names);
            }
            let names: Vec<String> = (0..used[position])
                .map(|output| self.fresh(&format!("{name}/{position}.{output}")))
                .collect::<Result<_>>()?;
            let names: Vec<Option<&str>> = names.iter().map(|n| Some(n.as_str())).collect();
            made.push(self.graph.node(name, op, &values, &names)?);
        }
        bail!(Internal, "{name:?} was read as no node at all")
    }

    fn constant_input(&mut self, node: &str, value: Tensor) -> Result<ValueId> {
        let name = self.fresh(&format!("{node}/constant"))?;
        self.graph.constant(&name, value)
    }

    /// The name in the graph of a value that this frame calls `name`.
    pub(super) fn value_name(&mut self, frame: &Frame<'c, 'm>, name: &str) -> Result<String> {
        match frame.scope.name(name) {
            (name, true) => self.fresh(&name),
            (name, false) => self.context.count_text(name.len()).map(|()| name),
        }
    }

    /// The same value under another name.
    pub(super) fn identity(&mut self, value: ValueId, name: &str) -> Result<ValueId> {
        let Some(def) = registry::find("", "Identity") else { bail!(Unsupported, "Identity is not known") };
        let mut reader = NodeReader::new("Identity", def.opset, BTreeMap::new(), vec![true], 1, 0);
        let Reading::Op(op) = (def.read)(&mut reader)? else { bail!(Internal, "Identity is one operator") };
        match self.graph.node(name, op, &[Some(value)], &[Some(name)])?.first() {
            Some(Some(id)) => Ok(*id),
            _ => bail!(Internal, "Identity yields nothing"),
        }
    }
}

/// A node as its operator read it.
struct Emission {
    reading: Reading,
    inputs: Vec<Option<ValueId>>,
    captures: Vec<ValueId>,
    constants: BTreeMap<usize, Tensor>,
    outputs: usize,
}

/// One more than the position of the last output that `counts`.
fn last(node: &NodeProto, counts: impl Fn(&str) -> bool) -> usize {
    node.output.iter().rposition(|o| !o.is_empty() && counts(o)).map_or(0, |last| last + 1)
}

fn check_arity(what: &str, count: usize, allowed: &std::ops::RangeInclusive<usize>) -> Result<()> {
    let (least, most) = (*allowed.start(), *allowed.end());
    let wanted = match most {
        most if most == least => format!("{least}"),
        usize::MAX => format!("at least {least}"),
        most => format!("{least} to {most}"),
    };
    ensure!(allowed.contains(&count), InvalidModel, "{count} {what}; the operator has {wanted}");
    Ok(())
}
