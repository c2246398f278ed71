//! The one way to change a graph: new nodes, and values that replace others, applied and checked as a whole.

use super::{Graph, NodeId, ValueId};
use crate::error::{At, Result, bail, ensure};
use crate::ops::Op;
use crate::tensor::Tensor;
use std::sync::{Arc, OnceLock};

/// A value in a patch: one of the graph, or one that the patch makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A value of the graph.
    Existing(ValueId),
    /// The value that the patch made as its n-th.
    New(usize),
}

impl From<ValueId> for Operand {
    fn from(id: ValueId) -> Self {
        Operand::Existing(id)
    }
}

enum Made {
    Constant(String, Tensor),
    Output { node: usize, slot: usize },
}

struct NewNode {
    name: String,
    op: Arc<dyn Op>,
    inputs: Vec<Option<Operand>>,
    outputs: usize,
}

/// A change to a graph, built up and then [applied](Graph::apply).
///
/// Nothing is removed by name: a node falls when nothing takes its outputs any more.
#[derive(Default)]
pub struct Patch {
    made: Vec<Made>,
    nodes: Vec<NewNode>,
    replaced: Vec<(ValueId, Operand)>,
}

impl Patch {
    /// An empty patch.
    #[must_use]
    pub fn new() -> Self {
        Patch::default()
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: &str, value: Tensor) -> Operand {
        self.made.push(Made::Constant(name.to_owned(), value));
        Operand::New(self.made.len() - 1)
    }

    /// Adds a node with `outputs` outputs.
    pub fn node(&mut self, name: &str, op: Arc<dyn Op>, inputs: &[Option<Operand>], outputs: usize) -> Vec<Operand> {
        let node = self.nodes.len();
        self.nodes.push(NewNode { name: name.to_owned(), op, inputs: inputs.to_vec(), outputs });
        (0..outputs)
            .map(|slot| {
                self.made.push(Made::Output { node, slot });
                Operand::New(self.made.len() - 1)
            })
            .collect()
    }

    /// Adds a node with one output whose inputs are all present.
    pub fn op(&mut self, name: &str, op: impl Op, inputs: &[Operand]) -> Operand {
        let inputs: Vec<_> = inputs.iter().map(|&o| Some(o)).collect();
        self.node(name, Arc::new(op), &inputs, 1)[0]
    }

    /// Lets everything that takes `old` take `new` instead, outputs of the graph included.
    pub fn replace(&mut self, old: ValueId, new: impl Into<Operand>) {
        self.replaced.push((old, new.into()));
    }
}

impl Graph {
    /// Applies a patch: adds its nodes, infers their facts, lets the new values take over the users of the old ones,
    /// and drops the nodes that nothing needs any more. A graph output keeps its name.
    ///
    /// # Errors
    /// What inference says of a new node; [`Shape`](crate::ErrorKind::Shape) when a value would be replaced by one of
    /// another dtype or a contradicting shape; [`InvalidModel`](crate::ErrorKind::InvalidModel) for a cycle. The graph
    /// is not usable after an error: throw it away.
    pub fn apply(&mut self, patch: Patch) -> Result<()> {
        let Patch { made, nodes, replaced } = patch;
        let mut ranks = match std::mem::take(&mut self.ranks) {
            ranks if ranks.len() == self.nodes.len() => ranks,
            _ => self.ranked()?,
        };
        let mut candidates = Vec::with_capacity(nodes.len() + replaced.len());
        let mut ids: Vec<Option<ValueId>> = vec![None; made.len()];
        for (index, made) in made.iter().enumerate() {
            if let Made::Constant(name, value) = made {
                ids[index] = Some(self.constant(name, value.clone())?);
            }
        }
        for (position, new) in nodes.into_iter().enumerate() {
            let resolve = |operand: &Option<Operand>| match operand {
                None => Ok(None),
                Some(Operand::Existing(id)) => Ok(Some(*id)),
                Some(Operand::New(n)) => match ids.get(*n).copied().flatten() {
                    Some(id) => Ok(Some(id)),
                    None => bail!(Internal, "a patch uses a value before making it"),
                },
            };
            let inputs: Vec<Option<ValueId>> = new.inputs.iter().map(resolve).collect::<Result<_>>()?;
            let base = if new.name.is_empty() { new.op.name() } else { new.name.as_str() };
            let names: Vec<String> =
                (0..new.outputs).map(|slot| format!("{base}#{}.{slot}", self.values.len())).collect();
            let names: Vec<Option<&str>> = names.iter().map(|n| Some(n.as_str())).collect();
            candidates.push(self.nodes.len());
            let outputs = self.node(&new.name, new.op, &inputs, &names)?;
            ranks.push(inputs.iter().flatten().map(|v| self.rank(&ranks, *v)).max().unwrap_or(0));
            for (index, made) in made.iter().enumerate() {
                if let Made::Output { node, slot } = made
                    && *node == position
                {
                    ids[index] = outputs[*slot];
                }
            }
        }
        for (old, new) in replaced {
            let new = match new {
                Operand::Existing(id) => id,
                Operand::New(n) => match ids.get(n).copied().flatten() {
                    Some(id) => id,
                    None => bail!(Internal, "a patch replaces by a value that it did not make"),
                },
            };
            let own = old.index().max(new.index()) < self.values.len();
            ensure!(own, InvalidModel, "a patch replaces a value that is none of the graph, or takes one");
            let rank = self.rank(&ranks, new);
            let later = old == new || self.values[old.index()].users.iter().all(|user| rank < ranks[user.index()]);
            candidates.extend(self.values[old.index()].producer.map(|(node, _)| node.index()));
            self.take_over(old, new)?;
            if !later {
                ranks = self.ranked()?;
            }
        }
        self.order = OnceLock::new();
        self.drop_unneeded(candidates);
        self.ranks = ranks;
        Ok(())
    }

    /// The place of every node in a topological order, an error where there is none.
    ///
    /// Patches keep it true without another walk: a new node stands where the last of its inputs stands, and whatever
    /// takes a replaced value must stand behind the new one. Nodes on one place take only what was there before them.
    fn ranked(&mut self) -> Result<Vec<u32>> {
        self.order = OnceLock::new();
        let mut ranks = vec![0; self.nodes.len()];
        for (rank, node) in (1..).zip(self.order()?.iter()) {
            ranks[node.index()] = rank;
        }
        Ok(ranks)
    }

    /// The place of the node that makes a value; inputs and constants come before all nodes.
    fn rank(&self, ranks: &[u32], value: ValueId) -> u32 {
        self.values[value.index()].producer.map_or(0, |(node, _)| ranks[node.index()])
    }

    fn take_over(&mut self, old: ValueId, new: ValueId) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let place = || format!("value {:?}", self.values[old.index()].name);
        let mut fact = self.values[new.index()].fact.unify(&self.values[old.index()].fact).at(place)?;
        fact.value = self.values[new.index()].fact.value.clone();
        self.values[new.index()].fact = fact;
        let users = std::mem::take(&mut self.values[old.index()].users);
        for &user in &users {
            if let Some(node) = &mut self.nodes[user.index()] {
                for input in node.inputs.iter_mut().flatten().filter(|v| **v == old) {
                    *input = new;
                }
            }
        }
        self.values[new.index()].users.extend(users);
        if self.is_output(old) {
            for output in self.outputs.iter_mut().filter(|v| **v == old) {
                *output = new;
            }
            self.values[old.index()].yielded = false;
            self.values[new.index()].yielded = true;
            if self.values[new.index()].producer.is_some() {
                let name = std::mem::take(&mut self.values[old.index()].name);
                self.values[new.index()].name = name;
            }
        }
        Ok(())
    }

    /// Drops every node none of whose outputs is taken by a node or yielded by the graph.
    pub(crate) fn sweep(&mut self) {
        self.drop_unneeded((0..self.nodes.len()).collect());
    }

    /// Forgets the values and nodes that are dead, and numbers the others anew in the order that they have. Every id from
    /// before names something else afterwards.
    pub(crate) fn compact(&mut self) {
        const DEAD: u32 = u32::MAX;
        let mut value_ids = vec![DEAD; self.values.len()];
        let in_nodes = self.nodes.iter().flatten().flat_map(|node| node.inputs.iter().chain(&node.outputs).flatten());
        for id in in_nodes.chain(&self.inputs).chain(&self.outputs) {
            value_ids[id.index()] = 0;
        }
        let number = |ids: &mut [u32]| {
            ids.iter_mut().filter(|id| **id != DEAD).zip(0..).for_each(|(id, next)| *id = next);
        };
        number(&mut value_ids);
        let mut node_ids: Vec<u32> = self.nodes.iter().map(|node| if node.is_some() { 0 } else { DEAD }).collect();
        number(&mut node_ids);
        let alive = value_ids.iter().map(|id| *id != DEAD);
        self.values =
            std::mem::take(&mut self.values).into_iter().zip(alive).filter_map(|(v, a)| a.then_some(v)).collect();
        self.nodes = std::mem::take(&mut self.nodes).into_iter().filter(Option::is_some).collect();
        for value in &mut self.values {
            value.producer = value.producer.map(|(node, slot)| (NodeId(node_ids[node.index()]), slot));
            value.users.iter_mut().for_each(|user| *user = NodeId(node_ids[user.index()]));
        }
        let rename = |id: &mut ValueId| *id = ValueId(value_ids[id.index()]);
        for node in self.nodes.iter_mut().flatten() {
            node.inputs.iter_mut().chain(&mut node.outputs).flatten().for_each(rename);
        }
        self.inputs.iter_mut().chain(&mut self.outputs).for_each(rename);
        self.values.shrink_to_fit();
        self.nodes.shrink_to_fit();
        self.order = OnceLock::new();
        self.ranks = Vec::new();
    }

    /// Drops those of the `candidates` that nothing needs, and what only they needed.
    fn drop_unneeded(&mut self, mut candidates: Vec<usize>) {
        while let Some(index) = candidates.pop() {
            let Some(node) = &self.nodes[index] else { continue };
            let needed = |v: &ValueId| !self.values[v.index()].users.is_empty() || self.is_output(*v);
            if node.outputs.iter().flatten().any(needed) {
                continue;
            }
            let Some(node) = self.nodes[index].take() else { continue };
            for input in node.inputs.iter().flatten() {
                let value = &mut self.values[input.index()];
                value.remove_user(NodeId(index as u32));
                if value.users.is_empty()
                    && let Some((producer, _)) = value.producer
                {
                    candidates.push(producer.index());
                }
            }
            for value in node.outputs.iter().flatten() {
                self.values[value.index()].producer = None;
            }
            self.order = OnceLock::new();
        }
    }

    /// The nodes by id that are alive now, for a pass that patches while it walks.
    ///
    /// # Errors
    /// As [`order`](Graph::order).
    pub fn node_ids(&self) -> Result<Vec<NodeId>> {
        Ok(self.order()?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};
    use crate::tensor::{DType, Fact, Tensor};

    #[test]
    fn what_is_dead_is_forgotten_and_the_answer_stays() {
        let mut graph = Graph::new("test");
        graph.constant("never used", Tensor::scalar(1.0f32)).unwrap();
        let x = graph.input("x", Fact::concrete(DType::F32, &[2])).unwrap();
        let dead = graph.op("dead", Unary(UnaryKind::Exp), &[x]).unwrap();
        graph.op("dead too", Unary(UnaryKind::Exp), &[dead]).unwrap();
        let neg = graph.op("neg", Unary(UnaryKind::Neg), &[x]).unwrap();
        let abs = graph.op("abs", Unary(UnaryKind::Abs), &[neg]).unwrap();
        [abs, x].into_iter().for_each(|id| graph.output(id).unwrap());
        let input = [Tensor::vector(vec![1.0f32, -2.0])];
        let before = graph.interpret(&input).unwrap();
        graph.sweep();
        graph.compact();
        graph.verify().unwrap();
        assert_eq!((graph.value_count(), graph.node_capacity(), graph.node_count()), (3, 2, 2));
        let names: Vec<&str> = graph.nodes().unwrap().map(|(_, node)| node.name()).collect();
        assert_eq!(names, ["neg", "abs"]);
        assert_eq!(graph.interpret(&input).unwrap(), before);
    }
}
