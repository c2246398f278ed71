//! From a graph at concrete shapes to a program: what is an alias, what is done in place, where each value lives.

use super::join::{Joined, Joins};
use super::memory::{Block, layout};
use crate::backend::{Backend, Instruction, Place, Program, Slot, SlotId};
use crate::error::{At, Result, bail, ensure, err};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::control::If;
use crate::ops::elementwise::{Unary, UnaryKind};
use crate::ops::layout::{Flatten, Reshape, Squeeze, Transpose, Unsqueeze};
use crate::ops::nn::Dropout;
use crate::ops::{Attr, Op};
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// A use that never ends: the value is an output.
const FOREVER: usize = usize::MAX;

/// Where a value is, before blocks have offsets.
#[derive(Clone)]
enum Home {
    Constant(Tensor),
    Input(usize),
    Block(usize),
    Dynamic(usize),
}

struct Lowering<'a> {
    graph: &'a Graph,
    backend: &'a dyn Backend,
    max_bytes: usize,
    last_use: Vec<usize>,
    slots: Vec<(Slot, Home)>,
    slot_of: HashMap<ValueId, SlotId>,
    blocks: Vec<Block>,
    /// Which output of the program a block is written to.
    pinned: Vec<Option<usize>>,
    steps: Vec<Instruction>,
    dynamics: usize,
    joins: Joins,
}

/// Lowers a graph whose inputs have concrete shapes; a program that needs more than `max_bytes` is refused.
pub(super) fn lower(graph: &Graph, backend: &dyn Backend, max_bytes: usize) -> Result<Program> {
    let mut last_use = vec![0; graph.value_count()];
    let joins = Joins::of(graph, backend)?;
    for (position, (id, _)) in graph.nodes()?.enumerate() {
        for input in joins.inputs(graph, id) {
            last_use[input.index()] = position;
        }
    }
    for output in graph.outputs() {
        last_use[output.index()] = FOREVER;
    }
    let mut lowering = Lowering {
        graph,
        backend,
        max_bytes,
        last_use,
        slots: Vec::new(),
        slot_of: HashMap::new(),
        blocks: Vec::new(),
        pinned: Vec::new(),
        steps: Vec::new(),
        dynamics: 0,
        joins,
    };
    for (index, &id) in graph.inputs().iter().enumerate() {
        lowering.add(id, Home::Input(index))?;
    }
    for (position, (id, node)) in graph.nodes()?.enumerate() {
        if lowering.joins.is_inner(id) {
            continue;
        }
        if let Some(joined) = lowering.joins.take(graph, id) {
            lowering.joined(position, node, joined).at(|| node.to_string())?;
            continue;
        }
        lowering.node(position, node).at(|| node.to_string())?;
    }
    lowering.finish()
}

impl Lowering<'_> {
    fn add(&mut self, value: ValueId, home: Home) -> Result<SlotId> {
        let fact = self.graph.fact(value);
        let slot = Slot { dtype: fact.dtype, shape: fact.concrete_shape(), place: Place::Dynamic(0) };
        slot.shape.as_ref().map_or(Ok(0), Shape::checked_len)?;
        let id = self.push(slot, home)?;
        self.slot_of.insert(value, id);
        Ok(id)
    }

    fn push(&mut self, slot: Slot, home: Home) -> Result<SlotId> {
        let Ok(id) = u32::try_from(self.slots.len()) else { bail!(Limit, "too many values in one plan") };
        self.slots.push((slot, home));
        Ok(SlotId(id))
    }

    /// The slot of a value that exists: an input, a constant, or the output of an earlier step.
    fn slot(&mut self, value: ValueId) -> Result<SlotId> {
        if let Some(&slot) = self.slot_of.get(&value) {
            return Ok(slot);
        }
        match self.graph.constant_of(value) {
            Some(tensor) => self.add(value, Home::Constant(tensor.clone())),
            None => bail!(Internal, "value {:?} is used before it is made", self.graph.value(value).name()),
        }
    }

    fn home(&self, slot: SlotId) -> &Home {
        &self.slots[slot.index()].1
    }

    fn new_block(&mut self, bytes: usize, start: usize, end: usize) -> Result<Home> {
        let most = self.max_bytes;
        ensure!(bytes <= most, Limit, "a value of {bytes} bytes is past the limit of {most}");
        self.blocks.push(Block { bytes, start, end });
        self.pinned.push(None);
        Ok(Home::Block(self.blocks.len() - 1))
    }

    fn dynamic(&mut self) -> Home {
        self.dynamics += 1;
        Home::Dynamic(self.dynamics - 1)
    }

    fn node(&mut self, position: usize, node: &Node) -> Result<()> {
        if let Some((input, output)) = alias_of(self.graph, node) {
            let source = self.slot(input)?;
            let shape = self.graph.fact(output).concrete_shape();
            if let (Some(shape), false) = (&shape, matches!(self.home(source), Home::Dynamic(_))) {
                return self.alias(source, output, shape);
            }
        }
        let inputs = self.inputs(node.inputs())?;
        let outputs = self.outputs(position, node.op().as_ref(), node.outputs(), &inputs)?;
        let bodies = self.bodies(node, &inputs, &outputs)?;
        self.steps.push(Instruction { name: node.name().to_owned(), op: node.op().clone(), inputs, outputs, bodies });
        Ok(())
    }

    /// A run of nodes, of which this is the last, as one step.
    fn joined(&mut self, position: usize, node: &Node, Joined { op, inputs, program }: Joined) -> Result<()> {
        let inputs = self.inputs(&inputs)?;
        let outputs = self.outputs(position, op.as_ref(), node.outputs(), &inputs)?;
        let (name, bodies) = (node.name().to_owned(), vec![Some(program)]);
        self.steps.push(Instruction { name, op, inputs, outputs, bodies });
        Ok(())
    }

    fn inputs(&mut self, values: &[Option<ValueId>]) -> Result<Vec<Option<SlotId>>> {
        values.iter().map(|value| value.map(|value| self.slot(value)).transpose()).collect()
    }

    fn alias(&mut self, source: SlotId, output: ValueId, shape: &Shape) -> Result<()> {
        let same = self.slots[source.index()].0.shape.as_ref().is_some_and(|own| own.elements() == shape.elements());
        ensure!(same, Internal, "a view of {shape} on another number of elements");
        let home = match self.home(source).clone() {
            Home::Constant(tensor) => Home::Constant(tensor.reshaped(shape.clone())?),
            Home::Block(block) => {
                let end = self.last_use[output.index()];
                self.blocks[block].end = self.blocks[block].end.max(end);
                Home::Block(block)
            }
            home => home,
        };
        self.add(output, home).map(|_| ())
    }

    fn outputs(
        &mut self,
        position: usize,
        op: &dyn Op,
        values: &[Option<ValueId>],
        inputs: &[Option<SlotId>],
    ) -> Result<Vec<Option<SlotId>>> {
        let reused = self.reusable_input(position, op, values, inputs);
        let mut outputs = Vec::with_capacity(values.len());
        for (index, output) in values.iter().enumerate() {
            let Some(output) = output else {
                outputs.push(None);
                continue;
            };
            let end = self.last_use[output.index()].max(position);
            let home = match (self.graph.fact(*output).bytes(), reused) {
                (None, _) => self.dynamic(),
                (Some(_), Some(block)) if index == 0 => {
                    self.blocks[block].end = end;
                    Home::Block(block)
                }
                (Some(bytes), _) => self.new_block(bytes, position, end)?,
            };
            outputs.push(Some(self.add(*output, home)?));
        }
        Ok(outputs)
    }

    /// The block of the input that the first output may overwrite: its last use is this step, and it is the size of
    /// the output.
    fn reusable_input(
        &self,
        position: usize,
        op: &dyn Op,
        outputs: &[Option<ValueId>],
        inputs: &[Option<SlotId>],
    ) -> Option<usize> {
        let slots: Vec<Option<&Slot>> = inputs.iter().map(|id| id.map(|id| &self.slots[id.index()].0)).collect();
        let made: Vec<Option<Slot>> = outputs
            .iter()
            .map(|v| {
                v.map(|v| {
                    let fact = self.graph.fact(v);
                    Slot { dtype: fact.dtype, shape: fact.concrete_shape(), place: Place::Dynamic(0) }
                })
            })
            .collect();
        let made: Vec<Option<&Slot>> = made.iter().map(Option::as_ref).collect();
        let index = self.backend.in_place(op, &slots, &made)?;
        let input = inputs.get(index).copied().flatten()?;
        let Home::Block(block) = self.home(input) else { return None };
        let output = made.first().copied().flatten()?;
        let uses = inputs.iter().flatten().filter(|id| matches!(self.home(**id), Home::Block(b) if b == block));
        let fits = self.blocks[*block].end == position
            && output.bytes() == self.blocks[*block].bytes
            && output.shape.is_some()
            && uses.count() == 1;
        fits.then_some(*block)
    }

    /// The branches of an `If` whose captures have static shapes, lowered to programs of their own.
    fn bodies(
        &self,
        node: &Node,
        inputs: &[Option<SlotId>],
        outputs: &[Option<SlotId>],
    ) -> Result<Vec<Option<Program>>> {
        if !node.op().is::<If>() {
            return Ok(Vec::new());
        }
        let shapes: Option<Vec<Shape>> =
            inputs[1..].iter().map(|id| self.slots[(*id)?.index()].0.shape.clone()).collect();
        let wanted: Option<Vec<Shape>> = outputs.iter().map(|id| self.slots[(*id)?.index()].0.shape.clone()).collect();
        let (Some(shapes), Some(wanted)) = (shapes, wanted) else { return Ok(Vec::new()) };
        let mut programs = Vec::new();
        for (_, attr) in node.op().attrs().iter() {
            let Attr::Body(body) = attr else { continue };
            let Some(body) = (body.as_ref() as &dyn Any).downcast_ref::<Graph>() else { return Ok(Vec::new()) };
            // A branch that cannot run on these shapes is one that is never taken.
            let Ok(concrete) = body.specialize(&shapes) else {
                programs.push(None);
                continue;
            };
            let same = concrete.outputs().iter().zip(&wanted);
            if !same.clone().all(|(id, shape)| concrete.fact(*id).concrete_shape().as_ref() == Some(shape)) {
                return Ok(Vec::new());
            }
            programs.push(Some(lower(&concrete, self.backend, self.max_bytes)?));
        }
        Ok(if programs.iter().any(Option::is_some) { programs } else { Vec::new() })
    }

    fn finish(mut self) -> Result<Program> {
        let mut outputs = Vec::new();
        for (index, &value) in self.graph.outputs().iter().enumerate() {
            let slot = self.slot(value)?;
            let free = match self.home(slot) {
                Home::Block(block) if self.pinned[*block].is_none() => Some(*block),
                _ => None,
            };
            match (free, self.home(slot)) {
                (_, Home::Dynamic(_)) => outputs.push(slot),
                (Some(block), _) => {
                    self.pinned[block] = Some(index);
                    outputs.push(slot);
                }
                _ => outputs.push(self.copy_to_output(slot, index)?),
            }
        }
        self.place(outputs)
    }

    /// A step that copies a slot that cannot itself be output `index`: an input, a constant, or another output.
    fn copy_to_output(&mut self, slot: SlotId, index: usize) -> Result<SlotId> {
        let copy = self.slots[slot.index()].0.clone();
        let position = self.steps.len();
        let home = self.new_block(copy.bytes(), position, FOREVER)?;
        if let Home::Block(block) = home {
            self.pinned[block] = Some(index);
        }
        let target = self.push(copy, home)?;
        let op: Arc<dyn Op> = Arc::new(Unary(UnaryKind::Identity));
        let name = format!("output {index}");
        self.steps.push(Instruction {
            name,
            op,
            inputs: vec![Some(slot)],
            outputs: vec![Some(target)],
            bodies: Vec::new(),
        });
        Ok(target)
    }

    fn place(self, outputs: Vec<SlotId>) -> Result<Program> {
        let arena: Vec<usize> = (0..self.blocks.len()).filter(|&b| self.pinned[b].is_none()).collect();
        let blocks: Vec<Block> = arena.iter().map(|&b| self.blocks[b].clone()).collect();
        let (offsets, arena_bytes) = layout(&blocks);
        ensure!(
            arena_bytes <= self.max_bytes,
            Limit,
            "the plan needs {arena_bytes} bytes of working memory; the limit is {}",
            self.max_bytes
        );
        let mut offset_of = vec![0; self.blocks.len()];
        for (block, offset) in arena.into_iter().zip(offsets) {
            offset_of[block] = offset;
        }
        let slots = self
            .slots
            .into_iter()
            .map(|(slot, home)| {
                let place = match home {
                    Home::Constant(tensor) => Place::Constant(tensor),
                    Home::Input(index) => Place::Input(index),
                    Home::Dynamic(index) => Place::Dynamic(index),
                    Home::Block(block) => match self.pinned[block] {
                        Some(output) => Place::Output(output),
                        None => Place::Arena(offset_of[block]),
                    },
                };
                Slot { place, ..slot }
            })
            .collect();
        let inputs = self
            .graph
            .inputs()
            .iter()
            .map(|v| self.slot_of.get(v).copied().ok_or_else(|| err!(Internal, "an input without a slot")))
            .collect::<Result<_>>()?;
        Ok(Program { slots, steps: self.steps, inputs, outputs, arena_bytes, dynamics: self.dynamics })
    }
}

/// The input and output of a node that only gives the same bytes another shape.
fn alias_of(graph: &Graph, node: &Node) -> Option<(ValueId, ValueId)> {
    let op = node.op();
    // What a list says that is not known yet may turn out not to fit.
    let told = node.inputs().iter().skip(1).flatten().all(|v| graph.constant_of(*v).is_some());
    let pure_view = (told && (op.is::<Reshape>() || op.is::<Squeeze>() || op.is::<Unsqueeze>()))
        || op.is::<Flatten>()
        || op.downcast_ref::<Unary>() == Some(&Unary(UnaryKind::Identity))
        || moves_unit_axes_only(graph, node)
        || (op.is::<Dropout>() && node.output(1).is_none() && node.input(2).is_none());
    pure_view.then(|| Some((node.input(0)?, node.output(0)?))).flatten()
}

/// Whether a transposition leaves the order of the axes that are longer than one.
fn moves_unit_axes_only(graph: &Graph, node: &Node) -> bool {
    let Some(transpose) = node.op().downcast_ref::<Transpose>() else { return false };
    let Some(shape) = node.input(0).and_then(|v| graph.fact(v).concrete_shape()) else { return false };
    let reversed = (0..shape.rank()).rev().collect();
    let perm: &Vec<usize> = transpose.perm.as_ref().unwrap_or(&reversed);
    let long: Vec<usize> = perm.iter().copied().filter(|&axis| shape.get(axis).is_some_and(|&d| d != 1)).collect();
    long.is_sorted()
}
