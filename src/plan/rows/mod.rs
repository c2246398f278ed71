//! Whether the rows of a batch keep apart: proven node by node, never assumed.
//!
//! A graph is looked at twice: at all rows, and at the few that a micro-batch would have. Every value gets a label that
//! says how the two relate. The claim carried along the graph: *whichever consecutive rows the small inputs are, a
//! small value is exactly those rows of the large one*. An operator that no rule knows, and any doubt, ends the proof;
//! the batch is then run whole. What the rules are is in [`rules`]; where to cut is decided elsewhere.

mod rules;
#[cfg(test)]
mod tests;

use crate::error::{Result, bail, ensure, err};
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::tensor::{DType, Dim, Shape, Symbol, Tensor};
use std::sync::Arc;

/// How a value relates to the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// The same whatever the rows are.
    Shared,
    /// Axis `axis` has `per` entries for each row, one row after another; nothing else depends on the rows.
    Rows { axis: usize, per: usize },
    /// A constant that depends on how many rows there are, such as the target of a `Reshape`: only what it does to
    /// shapes is known.
    Lengths,
}

/// A value at all rows.
#[derive(Debug, Clone)]
struct Operand {
    label: Label,
    dtype: DType,
    large: Shape,
    /// The tensor, for a constant.
    constant: Option<Tensor>,
}

/// The labels of a graph's inputs: the batch is the symbolic first axis of the first input that has one. `None` where
/// an input carries that symbol anywhere but in front.
pub(super) fn input_labels(graph: &Graph) -> Option<Vec<Label>> {
    let dims = |id: &ValueId| graph.fact(*id).dims().map(<[Dim]>::to_vec);
    let symbol: Symbol = graph.inputs().iter().find_map(|id| match dims(id)?.first()? {
        Dim::Symbol(symbol) => Some(symbol.clone()),
        _ => None,
    })?;
    let label = |id: &ValueId| {
        let dims = dims(id)?;
        let carries = |dim: &Dim| matches!(dim, Dim::Symbol(s) if *s == symbol);
        match (dims.first().is_some_and(carries), dims.iter().skip(1).any(carries)) {
            (_, true) => None,
            (true, _) => Some(Label::Rows { axis: 0, per: 1 }),
            (false, _) => Some(Label::Shared),
        }
    };
    graph.inputs().iter().map(label).collect()
}

/// The rows that inputs of these shapes carry, where they agree.
pub(super) fn rows_of(labels: &[Label], shapes: &[Shape]) -> Option<usize> {
    let mut rows = None;
    for (label, shape) in labels.iter().zip(shapes) {
        if *label == Label::Shared {
            continue;
        }
        let own = *shape.first()?;
        if *rows.get_or_insert(own) != own {
            return None;
        }
    }
    rows
}

/// The shapes of the inputs at `rows` rows.
pub(super) fn with_rows(labels: &[Label], shapes: &[Shape], rows: usize) -> Vec<Shape> {
    let at = |(label, shape): (&Label, &Shape)| match label {
        Label::Rows { .. } => shape.replaced(0..1, &[rows]),
        _ => shape.clone(),
    };
    labels.iter().zip(shapes).map(at).collect()
}

/// Proves that the outputs of `small`, run on any consecutive rows of the inputs, are those rows of the outputs of
/// `large`, along their first axes. Both are one graph, specialized for `rows.0` and for `rows.1` rows.
pub(super) fn keep_apart(large: &Graph, small: &Graph, rows: (usize, usize), inputs: &[Label]) -> bool {
    let in_front = |label: &Label| matches!(label, Label::Rows { axis: 0, .. });
    prove(large, small, rows, inputs).is_ok_and(|outputs| outputs.iter().all(in_front))
}

/// The axis of the rows of each output, where it is proven that one row's outputs depend on that row of the inputs alone.
/// `axes` are those of the rows of the inputs, and `shapes` the inputs' shapes at so many rows.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) with the node or output at which the proof ends.
pub(super) fn output_axes(
    graph: &Graph,
    axes: &[Option<usize>],
    shapes: impl Fn(usize) -> Vec<Shape>,
) -> Result<Vec<usize>> {
    let inputs: Vec<Label> =
        axes.iter().map(|axis| axis.map_or(Label::Shared, |axis| Label::Rows { axis, per: 1 })).collect();
    let large = graph.specialize(&shapes(MANY))?;
    let mut found = Vec::new();
    for few in 1..MANY {
        let small = graph.specialize(&shapes(few))?;
        found = prove(&large, &small, (MANY, few), &inputs)?;
    }
    let axis = |(label, id): (&Label, &ValueId)| match label {
        Label::Rows { axis, per: 1 } => Ok(*axis),
        _ => bail!(InvalidInput, "output {:?} does not have one row for each row in", large.value(*id).name()),
    };
    found.iter().zip(large.outputs()).map(axis).collect()
}

/// Rows for which a proof stands for any number of them.
const MANY: usize = 3;

/// The labels of the outputs.
fn prove(large: &Graph, small: &Graph, rows: (usize, usize), inputs: &[Label]) -> Result<Vec<Label>> {
    let mut labels: Vec<Option<Label>> = vec![None; large.value_count()];
    for (id, label) in large.inputs().iter().zip(inputs) {
        labels[id.index()] = Some(*label);
    }
    let both = Both { large, small, rows };
    for (id, node) in large.nodes()? {
        let apart = both.follow(id, node, &mut labels).is_some();
        ensure!(apart, InvalidInput, "node {:?} ({}) may mix the rows of a batch", node.name(), node.op().name());
    }
    let output = |id: &ValueId| {
        let label = both.operand(*id, labels[id.index()]).map(|operand| operand.label);
        let rows = label.filter(|label| matches!(label, Label::Rows { .. }));
        rows.ok_or_else(|| err!(InvalidInput, "output {:?} has no rows", large.value(*id).name()))
    };
    large.outputs().iter().map(output).collect()
}

/// `Some(None)` where there is nothing, `None` where something failed.
trait TransposeSome<T> {
    fn transpose_some(self) -> Option<Option<T>>;
}

impl<T> TransposeSome<T> for Option<Option<T>> {
    fn transpose_some(self) -> Option<Option<T>> {
        match self {
            None => Some(None),
            Some(inner) => inner.map(Some),
        }
    }
}

struct Both<'a> {
    large: &'a Graph,
    small: &'a Graph,
    rows: (usize, usize),
}

impl Both<'_> {
    /// Labels the outputs of a node; `None` where rows might mix.
    fn follow(&self, id: NodeId, node: &Node, labels: &mut [Option<Label>]) -> Option<()> {
        let twin = self.small.get(id)?;
        if !Arc::ptr_eq(node.op(), twin.op()) || !node.op().is_pure() || node.outputs() != twin.outputs() {
            return None;
        }
        let operands = node.inputs().iter().map(|id| id.map(|id| self.operand(id, labels[id.index()])));
        let inputs = operands.map(TransposeSome::transpose_some).collect::<Option<_>>()?;
        let shapes = node.outputs().iter().map(|id| id.map(|id| self.shapes(id)).transpose_some());
        let outputs: Vec<Option<(Shape, Shape)>> = shapes.collect::<Option<_>>()?;
        let step = rules::Step { op: node.op().as_ref(), inputs, outputs, rows: self.rows };
        let found = rules::follow(&step)?;
        for (index, id) in node.outputs().iter().enumerate() {
            let (Some(id), Some(Some((large, small)))) = (id, step.outputs.get(index)) else { continue };
            let label = *found.get(index)?;
            agrees(label, large, small, self.rows).then_some(())?;
            labels[id.index()] = Some(label);
        }
        Some(())
    }

    fn shapes(&self, id: ValueId) -> Option<(Shape, Shape)> {
        Some((self.large.fact(id).concrete_shape()?, self.small.fact(id).concrete_shape()?))
    }

    /// A value with its label: the one found, or that of a constant.
    fn operand(&self, id: ValueId, label: Option<Label>) -> Option<Operand> {
        let (large, _) = self.shapes(id)?;
        let (constant, label) = match (self.large.constant_of(id), self.small.constant_of(id)) {
            (Some(a), Some(b)) => (Some(a.clone()), constant_label(a, b, self.rows)),
            (None, None) => (None, label?),
            _ => return None,
        };
        Some(Operand { label, dtype: self.large.fact(id).dtype, large, constant })
    }
}

/// Whether the shapes at all rows and at few are those of a value with this label.
fn agrees(label: Label, large: &Shape, small: &Shape, (all, few): (usize, usize)) -> bool {
    match label {
        Label::Shared => large == small,
        Label::Lengths => false,
        Label::Rows { axis, per } => {
            let lengths = (large.get(axis), small.get(axis));
            lengths == (all.checked_mul(per).as_ref(), few.checked_mul(per).as_ref())
                && large.rank() == small.rank()
                && large.iter().zip(small.iter()).enumerate().all(|(at, (a, b))| at == axis || a == b)
        }
    }
}

/// The label of a constant: the same at both sizes, or one row many times, or else lengths.
fn constant_label(large: &Tensor, small: &Tensor, rows: (usize, usize)) -> Label {
    if large.shape() == small.shape() {
        // Most are weights, which need not be read for that.
        let same = large.address() == small.address() || large == small;
        return if same { Label::Shared } else { Label::Lengths };
    }
    match grown(large.shape(), small.shape(), rows) {
        Some((axis, per)) if alike(large, small, axis, per) => Label::Rows { axis, per },
        _ => Label::Lengths,
    }
}

/// The one axis that grows with the rows, and its entries for each of them.
fn grown(large: &Shape, small: &Shape, rows: (usize, usize)) -> Option<(usize, usize)> {
    let axis = large.iter().zip(small.iter()).position(|(a, b)| a != b)?;
    let per = large[axis] / rows.0.max(1);
    agrees(Label::Rows { axis, per }, large, small, rows).then_some((axis, per))
}

/// Whether every row of both constants is the first row of the small one.
fn alike(large: &Tensor, small: &Tensor, axis: usize, per: usize) -> bool {
    let tail: usize = large.shape()[axis + 1..].iter().product();
    let row = per * tail * large.dtype().size();
    if row == 0 {
        return true;
    }
    let whole = |tensor: &Tensor| tensor.shape()[axis] * tail * tensor.dtype().size();
    let outer = small.as_bytes().chunks_exact(whole(small)).zip(large.as_bytes().chunks_exact(whole(large)));
    outer.into_iter().all(|(few, all)| {
        let first = &few[..row];
        few.chunks_exact(row).chain(all.chunks_exact(row)).all(|chunk| chunk == first)
    })
}
