//! The graph: nodes and values, checked after every change, and changed only through a [`Patch`].
//!
//! A value is a graph input, a constant, or an output of a node. Subgraphs are bodies of operators and see nothing but
//! their inputs ([`Body`](crate::ops::Body)), so every edge of the data flow is an edge here.

mod cut;
mod infer;
mod interpret;
mod metadata;
mod patch;
mod specialize;
mod verify;

pub use cut::Stage;
pub use metadata::{Metadata, Remark};
pub use patch::{Operand, Patch};

use crate::error::{Result, bail};
use crate::ops::Op;
use crate::tensor::{Fact, Tensor};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Names a value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

/// Names a node of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl ValueId {
    /// A dense index below [`Graph::value_count`], for tables on the side.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    /// A dense index below [`Graph::node_capacity`], for tables on the side.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Something that flows: an input, a constant, or what a node yields.
#[derive(Debug, Clone)]
pub struct Value {
    name: String,
    fact: Fact,
    producer: Option<(NodeId, usize)>,
    users: Vec<NodeId>,
    /// Where the last user was removed.
    removed: usize,
    /// Whether the graph yields it.
    yielded: bool,
}

impl Value {
    /// The name; unique among the live values of a graph that came from a file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of it.
    #[must_use]
    pub fn fact(&self) -> &Fact {
        &self.fact
    }

    /// The node that yields it and which of its outputs it is; `None` for an input and a constant.
    #[must_use]
    pub fn producer(&self) -> Option<(NodeId, usize)> {
        self.producer
    }

    /// The nodes that take it, one entry a use.
    #[must_use]
    pub fn users(&self) -> &[NodeId] {
        &self.users
    }

    /// Removes one use by a node. Nodes fall in an order much like that of the list, so the search goes outward from where
    /// the last one was found: a value may have all uses that there are.
    fn remove_user(&mut self, node: NodeId) {
        let (users, near) = (&self.users, self.removed.min(self.users.len()));
        let mut outward = (0..users.len()).flat_map(|n| [Some(near + n), near.checked_sub(n + 1)]).flatten();
        let found = outward.find(|at| users.get(*at) == Some(&node));
        if let Some(position) = found {
            self.users.swap_remove(position);
            self.removed = position;
        }
    }
}

/// An operator with its inputs and outputs.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    op: Arc<dyn Op>,
    inputs: Vec<Option<ValueId>>,
    outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// The name; may be empty, and need not be unique.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator.
    #[must_use]
    pub fn op(&self) -> &Arc<dyn Op> {
        &self.op
    }

    /// The inputs in order, captures last; an optional input may be absent.
    #[must_use]
    pub fn inputs(&self) -> &[Option<ValueId>] {
        &self.inputs
    }

    /// Input `index`, where it is present.
    #[must_use]
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The outputs in order; an output that nobody named is absent.
    #[must_use]
    pub fn outputs(&self) -> &[Option<ValueId>] {
        &self.outputs
    }

    /// Output `index`, where it is present.
    #[must_use]
    pub fn output(&self, index: usize) -> Option<ValueId> {
        self.outputs.get(index).copied().flatten()
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {:?} ({})", self.name, self.op.name())
    }
}

/// A data-flow graph.
///
/// ```
/// use onrush::graph::Graph;
/// use onrush::{DType, Fact, Tensor};
/// let mut graph = Graph::new("doubled");
/// let x = graph.input("x", Fact::concrete(DType::F32, &[2]))?;
/// graph.output(x)?;
/// let y = graph.interpret(&[Tensor::vector(vec![1.0f32, 2.0])])?;
/// assert_eq!(y[0].as_slice::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), onrush::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Graph {
    name: String,
    values: Vec<Value>,
    nodes: Vec<Option<Node>>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    metadata: Arc<Metadata>,
    order: OnceLock<Arc<[NodeId]>>,
    /// Places of the nodes, kept by patches; stale where there is not one for each node.
    ranks: Vec<u32>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the model file says beside what it computes.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Sets what the model file says beside what it computes.
    pub fn set_metadata(&mut self, metadata: Metadata) {
        self.metadata = Arc::new(metadata);
    }

    /// Adds an input.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when there are too many values.
    pub fn input(&mut self, name: &str, fact: Fact) -> Result<ValueId> {
        let id = self.add_value(name, fact, None)?;
        self.inputs.push(id);
        Ok(id)
    }

    /// Adds a constant.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when there are too many values.
    pub fn constant(&mut self, name: &str, value: Tensor) -> Result<ValueId> {
        self.add_value(name, Fact::constant(value), None)
    }

    /// Adds a node whose inputs exist; `outputs` names its outputs, `None` for one that nobody wants. Infers their
    /// facts.
    ///
    /// # Errors
    /// What [`Op::infer`] says, with the node as its place; [`InvalidModel`](crate::ErrorKind::InvalidModel) when an
    /// input is a value of another graph.
    pub fn node(
        &mut self,
        name: &str,
        op: Arc<dyn Op>,
        inputs: &[Option<ValueId>],
        outputs: &[Option<&str>],
    ) -> Result<Vec<Option<ValueId>>> {
        let facts = self.infer_node(name, op.as_ref(), inputs, outputs.len())?;
        let id = NodeId(self.nodes.len() as u32);
        let mut ids = Vec::with_capacity(outputs.len());
        for (index, (name, fact)) in outputs.iter().zip(facts).enumerate() {
            ids.push(match name {
                Some(name) => Some(self.add_value(name, fact, Some((id, index)))?),
                None => None,
            });
        }
        for input in inputs.iter().flatten() {
            self.values[input.index()].users.push(id);
        }
        self.nodes.push(Some(Node { name: name.to_owned(), op, inputs: inputs.to_vec(), outputs: ids.clone() }));
        self.order = OnceLock::new();
        Ok(ids)
    }

    /// Adds a node with one output named after it, and yields that output.
    ///
    /// # Errors
    /// As [`node`](Graph::node).
    pub fn op(&mut self, name: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs: Vec<_> = inputs.iter().map(|&v| Some(v)).collect();
        match self.node(name, Arc::new(op), &inputs, &[Some(name)])?.first() {
            Some(Some(id)) => Ok(*id),
            _ => bail!(Internal, "a node without the output it was given"),
        }
    }

    /// Makes a value an output of the graph.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when the value is not of this graph.
    pub fn output(&mut self, value: ValueId) -> Result<()> {
        if value.index() >= self.values.len() {
            bail!(InvalidModel, "an output that is no value of the graph");
        }
        self.values[value.index()].yielded = true;
        self.outputs.push(value);
        Ok(())
    }

    /// Makes input `index` a constant: the graph then has one input less.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the tensor does not fit the input.
    pub fn bind_input(&mut self, index: usize, value: Tensor) -> Result<()> {
        let Some(&id) = self.inputs.get(index) else { bail!(InvalidInput, "there is no input {index}") };
        let fact = self.fact(id).unify(&Fact::constant(value))?;
        self.values[id.index()].fact = fact;
        self.inputs.remove(index);
        Ok(())
    }

    fn add_value(&mut self, name: &str, fact: Fact, producer: Option<(NodeId, usize)>) -> Result<ValueId> {
        let Ok(id) = u32::try_from(self.values.len()) else { bail!(Limit, "too many values in one graph") };
        self.values.push(Value {
            name: name.to_owned(),
            fact,
            producer,
            users: Vec::new(),
            removed: 0,
            yielded: false,
        });
        Ok(ValueId(id))
    }

    /// The inputs in order.
    #[must_use]
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The outputs in order; one value may be several outputs.
    #[must_use]
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The value of this id.
    ///
    /// # Panics
    /// Where the id is of another graph, and this one has no value of that index.
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// What is known of a value.
    ///
    /// # Panics
    /// As [`value`](Graph::value).
    #[must_use]
    pub fn fact(&self, id: ValueId) -> &Fact {
        &self.values[id.index()].fact
    }

    /// The tensor of a constant.
    ///
    /// # Panics
    /// As [`value`](Graph::value).
    #[must_use]
    pub fn constant_of(&self, id: ValueId) -> Option<&Tensor> {
        self.fact(id).value.as_ref()
    }

    /// The node of this id, unless a patch removed it.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())?.as_ref()
    }

    /// The node that yields a value, with its id.
    ///
    /// # Panics
    /// As [`value`](Graph::value).
    #[must_use]
    pub fn producer(&self, value: ValueId) -> Option<(NodeId, &Node)> {
        let (id, _) = self.value(value).producer?;
        Some((id, self.get(id)?))
    }

    /// How many values there are, dead ones included.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// One more than the largest node index.
    #[must_use]
    pub fn node_capacity(&self) -> usize {
        self.nodes.len()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// True where the value is an output of the graph.
    #[must_use]
    pub fn is_output(&self, value: ValueId) -> bool {
        self.values.get(value.index()).is_some_and(|value| value.yielded)
    }

    /// The one node that takes this value, where exactly one does, once, and the graph does not yield it.
    ///
    /// # Panics
    /// As [`value`](Graph::value).
    #[must_use]
    pub fn single_user(&self, value: ValueId) -> Option<(NodeId, &Node)> {
        match self.value(value).users() {
            [user] if !self.is_output(value) => Some((*user, self.get(*user)?)),
            _ => None,
        }
    }

    /// The nodes, each after those whose outputs it takes; among equals the older first.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when there is a cycle.
    pub fn order(&self) -> Result<Arc<[NodeId]>> {
        if let Some(order) = self.order.get() {
            return Ok(order.clone());
        }
        let order = verify::topological_order(self)?;
        Ok(self.order.get_or_init(|| order).clone())
    }

    /// The nodes with their ids, in topological order.
    ///
    /// # Errors
    /// As [`order`](Graph::order).
    pub fn nodes(&self) -> Result<impl Iterator<Item = (NodeId, &Node)>> {
        let order = self.order()?;
        Ok((0..order.len()).filter_map(move |i| Some((order[i], self.get(order[i])?))))
    }
}
