//! Runs of nodes that the backend computes in one step, so that what lies between them is never whole in memory.
//!
//! A run is nodes each of which alone takes, as its first input, the only output of the one before. It takes the place of
//! its last node.

use crate::backend::{Backend, Instruction, Place, Program, Slot, SlotId};
use crate::error::Result;
use crate::graph::{Graph, NodeId, ValueId};
use crate::ops::Op;
use crate::ops::fused::Chain;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Nodes in one run, at most.
const MOST_NODES: usize = 8;

/// Bytes of the smallest value that a backend is asked about: smaller ones stay in a near cache as they are.
const LEAST_BYTES: usize = 256 * 1024;

/// The runs of a graph at concrete shapes.
#[derive(Default)]
pub(super) struct Joins {
    /// By the last node of each, the nodes in order, and the program that they are.
    runs: HashMap<NodeId, (Vec<NodeId>, Program)>,
    /// All nodes that are not the last of their runs.
    inner: HashSet<NodeId>,
}

/// A run as one step.
pub(super) struct Joined {
    pub(super) op: Arc<dyn Op>,
    pub(super) inputs: Vec<Option<ValueId>>,
    pub(super) program: Program,
}

impl Joins {
    /// The runs that the backend wants, each as long as it wants it.
    pub(super) fn of(graph: &Graph, backend: &dyn Backend) -> Result<Self> {
        let mut joins = Joins::default();
        for (id, _) in graph.nodes()? {
            if joins.inner.contains(&id) || joins.runs.contains_key(&id) {
                continue;
            }
            let (mut nodes, mut program) = (vec![id], None);
            while let Some(next) = nodes.last().and_then(|last| follower(graph, *last)) {
                nodes.push(next);
                match program_of(graph, &nodes).filter(|program| nodes.len() <= MOST_NODES && backend.joins(program)) {
                    Some(longer) => program = Some(longer),
                    None => {
                        nodes.pop();
                        break;
                    }
                }
            }
            if let (Some(program), Some((last, inner))) = (program, nodes.split_last()) {
                joins.inner.extend(inner);
                joins.runs.insert(*last, (nodes, program));
            }
        }
        Ok(joins)
    }

    /// Whether it is computed where the last node of its run stands.
    pub(super) fn is_inner(&self, id: NodeId) -> bool {
        self.inner.contains(&id)
    }

    /// What a node's step takes, of its whole run.
    pub(super) fn inputs<'g>(&self, graph: &'g Graph, id: NodeId) -> impl Iterator<Item = ValueId> + use<'g> {
        let nodes = self.runs.get(&id).map_or_else(|| vec![id], |(nodes, _)| nodes.clone());
        nodes.into_iter().filter_map(|id| graph.get(id)).flat_map(|node| node.inputs()).flatten().copied()
    }

    /// The run that ends with this node.
    pub(super) fn take(&mut self, graph: &Graph, id: NodeId) -> Option<Joined> {
        let (nodes, program) = self.runs.remove(&id)?;
        let (first, rest) = nodes.split_first()?;
        let first = graph.get(*first)?;
        let (mut op, mut inputs) = (first.op().clone(), first.inputs().to_vec());
        for node in rest {
            let node = graph.get(*node)?;
            op = Arc::new(Chain { first: op, arity: inputs.len(), second: node.op().clone() });
            inputs.extend(&node.inputs()[1..]);
        }
        Some(Joined { op, inputs, program })
    }
}

/// The node that alone takes the one output of another, as its first input.
fn follower(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let &[Some(between)] = graph.get(id)?.outputs() else { return None };
    let (next, node) = graph.single_user(between)?;
    graph.fact(between).bytes().filter(|bytes| *bytes >= LEAST_BYTES)?;
    (node.input(0) == Some(between) && node.outputs().len() == 1).then_some(next)
}

/// Nodes of a run as a program, where all shapes are static.
fn program_of(graph: &Graph, nodes: &[NodeId]) -> Option<Program> {
    let mut program = Program::default();
    let mut slots: HashMap<ValueId, SlotId> = HashMap::new();
    for (position, id) in nodes.iter().enumerate() {
        let node = graph.get(*id)?;
        let mut inputs = Vec::with_capacity(node.inputs().len());
        for input in node.inputs() {
            inputs.push(match input {
                Some(value) => Some(slot(graph, &mut program, &mut slots, *value, None)?),
                None => None,
            });
        }
        let made = if position + 1 == nodes.len() { Place::Output(0) } else { Place::Arena(program.arena_bytes) };
        let output = slot(graph, &mut program, &mut slots, node.output(0)?, Some(made))?;
        program.arena_bytes =
            program.arena_bytes.checked_add(program.slot(output).bytes().checked_next_multiple_of(64)?)?;
        program.outputs = vec![output];
        let (name, op) = (node.name().to_owned(), node.op().clone());
        program.steps.push(Instruction { name, op, inputs, outputs: vec![Some(output)], bodies: Vec::new() });
    }
    Some(program)
}

/// The slot of a value: a new one where it has none.
fn slot(
    graph: &Graph,
    program: &mut Program,
    slots: &mut HashMap<ValueId, SlotId>,
    value: ValueId,
    made: Option<Place>,
) -> Option<SlotId> {
    if let Some(slot) = slots.get(&value) {
        return Some(*slot);
    }
    let fact = graph.fact(value);
    let shape = Some(fact.concrete_shape()?);
    let id = SlotId(u32::try_from(program.slots.len()).ok()?);
    let place = match (made, graph.constant_of(value)) {
        (Some(place), _) => place,
        (None, Some(tensor)) => Place::Constant(tensor.clone()),
        (None, None) => {
            program.inputs.push(id);
            Place::Input(program.inputs.len() - 1)
        }
    };
    program.slots.push(Slot { dtype: fact.dtype, shape, place });
    slots.insert(value, id);
    Some(id)
}
