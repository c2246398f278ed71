//! A `GraphProto` to a graph: initializers, inputs, nodes, outputs, each name bound once.

use super::bodies::Outer;
use super::functions::{Arguments, Scope};
use super::opsets::Opsets;
use super::order::{self, describe};
use super::types::{Unnamed, declared};
use super::{Context, FunctionKey, Overridable, constants};
use crate::error::{At, Result, bail, ensure, err};
use crate::graph::{Graph, Metadata, ValueId};
use crate::onnx::names::Names;
use crate::onnx::proto::GraphProto;
use crate::tensor::{Dim, Fact, Tensor};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// What a capture counts for: in the body it is a value of its own.
const CAPTURE: usize = 8;

/// A graph that is being built.
pub(super) struct Builder<'c, 'm> {
    pub(super) context: &'c Context<'m>,
    pub(super) graph: Graph,
    /// Names that values have or will have.
    names: Names,
    /// See [`Metadata::declared`].
    declared: BTreeMap<String, Vec<Dim>>,
}

/// The names that nodes see: those of a graph, or of a function that is being inlined into one.
pub(super) struct Frame<'c, 'm> {
    pub(super) opsets: &'c Opsets,
    /// `None` for an input of a function that its call left out.
    pub(super) values: HashMap<&'m str, Option<ValueId>>,
    /// The names that something takes; an optional output outside is as good as absent.
    pub(super) taken: HashSet<&'m str>,
    /// The attributes of the call, within a function.
    pub(super) arguments: Option<Rc<Arguments<'m>>>,
    /// How values of this frame are named in the graph.
    pub(super) scope: Scope<'m>,
    /// Bodies and functions around.
    pub(super) depth: usize,
    /// The functions around.
    pub(super) calls: Vec<FunctionKey<'m>>,
}

impl<'c, 'm> Frame<'c, 'm> {
    pub(super) fn bind(&mut self, name: &'m str, value: Option<ValueId>) -> Result<()> {
        ensure!(self.values.insert(name, value).is_none(), InvalidModel, "value {name:?} is made twice");
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<ValueId>> {
        self.values.get(name).copied().ok_or_else(|| err!(InvalidModel, "value {name:?} is made by nothing"))
    }
}

/// The graph of the model, and its inputs that have a default.
pub(super) fn main_graph<'m>(
    context: &Context<'m>,
    proto: &'m GraphProto,
    opsets: &Opsets,
) -> Result<(Graph, Vec<Overridable>)> {
    ensure!(!proto.output.is_empty(), InvalidModel, "the graph has no outputs");
    let mut builder = Builder::new(context, proto);
    let mut frame = Frame {
        opsets,
        values: HashMap::new(),
        taken: HashSet::new(),
        arguments: None,
        scope: Scope::default(),
        depth: 0,
        calls: Vec::new(),
    };
    builder.initializers(&mut frame, proto)?;
    let kept = &context.options.overridable_inputs;
    let mut overridable = Vec::new();
    let mut seen = HashSet::new();
    for info in &proto.input {
        let place = || format!("input {:?}", info.name);
        ensure!(!info.name.is_empty(), InvalidModel, "an input has no name");
        ensure!(seen.insert(&info.name), InvalidModel, "input {:?} is listed twice", info.name);
        let taken = |name: &str| context.symbols.contains(name);
        let Some(fact) = declared(info, &Unnamed::Symbol(&taken)).at(place)? else {
            bail!(InvalidModel, "input {:?} has no type", info.name);
        };
        match frame.values.get(info.name.as_str()) {
            Some(Some(default)) => {
                let matches = builder.graph.fact(*default).unify(&fact);
                matches.map_err(|e| err!(InvalidModel, "its default does not fit: {}", e.message())).at(place)?;
                let constant = builder.graph.constant_of(*default).cloned();
                let tensor = constant.ok_or_else(|| err!(Internal, "a default that is no constant"))?;
                let value = match kept.contains(&info.name) {
                    false => *default,
                    true => builder.graph.input(&info.name, fact)?,
                };
                frame.values.insert(&info.name, Some(value));
                overridable.push(Overridable { name: info.name.clone(), default: tensor, value });
            }
            _ => {
                let id = builder.graph.input(&info.name, fact)?;
                frame.bind(&info.name, Some(id))?;
            }
        }
    }
    let known = |name: &&String| overridable.iter().any(|o: &Overridable| o.name == **name);
    if let Some(name) = kept.iter().find(|name| !known(name)) {
        bail!(InvalidInput, "the model has no input {name:?} with a default (overridable_inputs)");
    }
    builder.nodes_and_outputs(&mut frame, proto)?;
    Ok((builder.finish(super::remarks::of_model(context.model, proto)), overridable))
}

impl<'c, 'm> Builder<'c, 'm> {
    fn new(context: &'c Context<'m>, proto: &'m GraphProto) -> Self {
        let inputs = proto.input.iter().map(|i| &i.name);
        let initializers = proto.initializer.iter().map(|t| &t.name);
        let outputs = proto.node.iter().flat_map(|n| &n.output);
        let names = inputs.chain(initializers).chain(outputs).collect();
        Builder { context, graph: Graph::new(&proto.name), names, declared: BTreeMap::new() }
    }

    /// The graph with what the file says beside it.
    fn finish(self, metadata: Metadata) -> Graph {
        let mut graph = self.graph;
        graph.set_metadata(Metadata { declared: self.declared, ..metadata });
        graph
    }

    /// A body of a node in `outer`: its formal inputs, then the captures of the node as further inputs. A captured
    /// constant is shared instead. The shapes of captures are taken over where `shaped`.
    pub(super) fn body(
        context: &'c Context<'m>,
        proto: &'m GraphProto,
        outer: &Outer<'_, 'c, 'm>,
        shaped: bool,
    ) -> Result<Graph> {
        let depth = outer.frame.depth + 1;
        context.check_depth(depth)?;
        context.count_body()?;
        let mut builder = Builder::new(context, proto);
        let mut frame = Frame {
            opsets: outer.frame.opsets,
            values: HashMap::new(),
            taken: HashSet::new(),
            arguments: outer.frame.arguments.clone(),
            scope: Scope::default(),
            depth,
            calls: outer.frame.calls.clone(),
        };
        let used = super::bodies::free_names(context, proto);
        let captures = outer.captures.len().saturating_mul(CAPTURE);
        context.count_items(proto.input.len().saturating_add(captures))?;
        let names =
            proto.input.iter().map(|i| i.name.as_str()).chain(proto.initializer.iter().map(|t| t.name.as_str()));
        let captured = outer.captures.iter().map(|c| c.name).chain(used.iter().copied());
        context.count_text(names.chain(captured).fold(0, |bytes, name| bytes.saturating_add(name.len())))?;
        for (index, info) in proto.input.iter().enumerate() {
            let place = || format!("input {:?}", info.name);
            let known = |name: &str| context.symbols.contains(name);
            let fact = declared(info, &Unnamed::Unknown(&known)).at(place)?.or_else(|| outer.formal(index));
            let Some(fact) = fact else { bail!(InvalidModel, "input {:?} has no type", info.name) };
            let id = builder.graph.input(&info.name, fact)?;
            frame.bind(&info.name, Some(id))?;
        }
        let used: HashSet<&str> = used.iter().copied().collect();
        for capture in &outer.captures {
            let fact = if shaped { capture.fact.clone() } else { Fact::unranked(capture.fact.dtype) };
            let id = builder.graph.input(capture.name, fact)?;
            frame.bind(capture.name, Some(id))?;
        }
        for (name, value) in outer.constants.iter().filter(|(name, _)| used.contains(name)) {
            let id = builder.graph.constant(name, value.clone())?;
            frame.bind(name, Some(id))?;
        }
        for name in outer.absent.iter().filter(|name| used.contains(**name)) {
            frame.bind(name, None)?;
        }
        builder.initializers(&mut frame, proto)?;
        builder.nodes_and_outputs(&mut frame, proto)?;
        Ok(builder.finish(super::remarks::of_graph(proto)))
    }

    fn initializers(&mut self, frame: &mut Frame<'c, 'm>, proto: &'m GraphProto) -> Result<()> {
        for tensor in &proto.initializer {
            let value = self.context.tensor(tensor).at(|| "initializer".into())?;
            self.initializer(frame, &tensor.name, value)?;
        }
        for sparse in &proto.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |v| &v.name);
            let value = constants::dense(self.context, sparse).at(|| format!("sparse_initializer: tensor {name:?}"))?;
            self.initializer(frame, name, value)?;
        }
        Ok(())
    }

    fn initializer(&mut self, frame: &mut Frame<'c, 'm>, name: &'m str, value: Tensor) -> Result<()> {
        ensure!(!name.is_empty(), InvalidModel, "an initializer has no name");
        let id = self.graph.constant(name, value)?;
        frame.bind(name, Some(id)).at(|| "initializer".into())
    }

    fn nodes_and_outputs(&mut self, frame: &mut Frame<'c, 'm>, proto: &'m GraphProto) -> Result<()> {
        let outputs = proto.output.iter().map(|o| o.name.as_str());
        frame.taken = super::bodies::taken_names(self.context, &proto.node).chain(outputs).collect();
        for index in order::sorted(self.context, &proto.node, |name| frame.values.contains_key(name))? {
            self.node(frame, &proto.node[index])?;
        }
        for info in &proto.output {
            let place = || format!("output {:?}", info.name);
            let id = frame.get(&info.name).at(place)?;
            let Some(id) = id else { bail!(InvalidModel, "output {:?} is an input that was left out", info.name) };
            let known = |name: &str| self.context.symbols.contains(name);
            if let Some(fact) = declared(info, &Unnamed::Unknown(&known)).at(place)? {
                self.check_output(id, &fact).at(place)?;
                self.graph.name_lengths(id, &fact);
                if let (None, Some(dims)) = (self.graph.fact(id).rank(), fact.shape) {
                    self.declared.insert(self.graph.value(id).name().to_owned(), dims);
                }
            }
            self.graph.output(id)?;
        }
        Ok(())
    }

    /// The dtype must be the declared one. Where lengths differ, what the operators say is right and the file is
    /// stale, which is common after a model was edited.
    fn check_output(&self, id: ValueId, declared: &Fact) -> Result<()> {
        let found = self.graph.fact(id).dtype;
        ensure!(found == declared.dtype, InvalidModel, "declared as {}, computed as {found}", declared.dtype);
        Ok(())
    }

    /// A name like `wanted` that no value of the graph has.
    pub(super) fn fresh(&mut self, wanted: &str) -> Result<String> {
        self.context.count_text(wanted.len())?;
        Ok(self.names.fresh(wanted))
    }

    /// The inlined function around, and the node, as an error names them.
    pub(super) fn place(frame: &Frame<'c, 'm>, node: &'m crate::onnx::proto::NodeProto) -> String {
        match frame.calls.last() {
            Some((_, function, _)) => format!("function {function:?}: {}", describe(node)),
            None => describe(node),
        }
    }
}
