//! `Scan`: a body that runs once for each element of its inputs along an axis.

use super::captured;
use super::facts::iterate;
use super::scan_batched::BatchScan;
use super::stack::{Stack, axis_to_front, front_to_axis, reversed_rows, stacked_fact};
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Body, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor, normalize_axis};
use std::sync::Arc;

/// Runs its body once for each element of the scan inputs.
///
/// Inputs: the first values of the state, the scan inputs, the captured values. The body takes the state, one element
/// of each scan input, and the captured values; it yields the state, and what is stacked along an axis.
#[derive(Debug, Clone)]
pub struct Scan {
    /// What runs for each element.
    pub body: Arc<dyn Body>,
    /// For each scan input: the axis along which it is taken apart, and whether from the end.
    pub inputs: Vec<ScanAxis>,
    /// For each scan output: the axis along which it is stacked, and whether from the end.
    pub outputs: Vec<ScanAxis>,
    /// How many of the last inputs are captured values.
    pub captures: usize,
}

/// Where a scan input or output has its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanAxis {
    /// The axis; negative ones count from the end.
    pub axis: i64,
    /// True where the elements go from the last to the first.
    pub reverse: bool,
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    if node.opset() < 9 {
        return BatchScan::read_opset_8(node);
    }
    let scanned = scan_input_count(node)?;
    let states = node.input_count().saturating_sub(scanned);
    let body = node.body("body")?;
    let stacked = body.output_count().saturating_sub(states);
    let inputs = axes(node, "scan_input_axes", "scan_input_directions", scanned)?;
    let outputs = axes(node, "scan_output_axes", "scan_output_directions", stacked)?;
    let op = Scan { body, inputs, outputs, captures: node.captures() };
    op.states(node.input_count() + op.captures)?;
    Ok(op.into())
}

pub(super) fn scan_input_count(node: &mut NodeReader) -> Result<usize> {
    let count = node.int("num_scan_inputs")?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let count = count.filter(|&n| n <= node.input_count());
    count.ok_or_else(|| crate::error::err!(InvalidModel, "num_scan_inputs is missing or does not fit the inputs"))
}

fn axes(node: &mut NodeReader, axes: &str, directions: &str, count: usize) -> Result<Vec<ScanAxis>> {
    let axis_list = node.ints(axes)?.unwrap_or_else(|| vec![0; count]);
    let direction_list = node.ints(directions)?.unwrap_or_else(|| vec![0; count]);
    ensure!(axis_list.len() == count, InvalidModel, "{axes} has {} entries, not {count}", axis_list.len());
    ensure!(
        direction_list.len() == count && direction_list.iter().all(|d| (0..=1).contains(d)),
        InvalidModel,
        "{directions} is {direction_list:?}, not {count} times 0 or 1"
    );
    Ok(axis_list.into_iter().zip(direction_list).map(|(axis, d)| ScanAxis { axis, reverse: d == 1 }).collect())
}

impl Scan {
    /// The number of state values, checked against the body; `count` is the number of inputs, captures included.
    pub(super) fn states(&self, count: usize) -> Result<usize> {
        let states = count.checked_sub(self.inputs.len() + self.captures);
        let fits = |&states: &usize| {
            self.body.input_count() == count && self.body.output_count() == states + self.outputs.len()
        };
        states.filter(fits).ok_or_else(|| {
            crate::error::err!(
                InvalidModel,
                "a body of {} inputs and {} outputs does not fit {count} inputs",
                self.body.input_count(),
                self.body.output_count()
            )
        })
    }

    /// Facts of the state, of one element of each scan output, and the number of iterations.
    fn facts(&self, inputs: Inputs<'_, Fact>) -> Result<(Vec<Fact>, Vec<Fact>, Dim)> {
        let states = self.states(inputs.count())?;
        let mut facts: Vec<Fact> = inputs.require_from(0)?.into_iter().cloned().collect();
        let mut length = Dim::Unknown;
        for (scan, fact) in self.inputs.iter().zip(&mut facts[states..]) {
            let Some(dims) = &fact.shape else {
                *fact = Fact::unranked(fact.dtype);
                continue;
            };
            let mut dims = dims.clone();
            let axis = normalize_axis(scan.axis, dims.len())?;
            length = length.unify(&dims.remove(axis))?;
            *fact = Fact::new(fact.dtype, dims);
        }
        let (outputs, state_facts) = iterate(self.body.as_ref(), facts, 0, states, 0)?;
        Ok((state_facts, outputs[states..].to_vec(), length))
    }
}

impl Op for Scan {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (mut facts, elements, length) = self.facts(inputs)?;
        for (element, scan) in elements.iter().zip(&self.outputs) {
            facts.push(stacked_fact(element, scan.axis, length.clone())?);
        }
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let count = self.states(inputs.count())?;
        let mut states: Vec<Tensor> = (0..count).map(|i| inputs.require(i).cloned()).collect::<Result<_>>()?;
        let mut held = budget.hold();
        let mut scanned = Vec::with_capacity(self.inputs.len());
        for (index, scan) in self.inputs.iter().enumerate() {
            let value = inputs.require(count + index)?;
            let axis = value.shape().axis(scan.axis)?;
            let value = if axis == 0 { value.clone() } else { axis_to_front(value, axis)? };
            scanned.push(value);
        }
        let moved = scanned.iter().map(|v| v.as_bytes().len()).sum::<usize>();
        held.set(moved)?;
        let length = scanned.first().map_or(0, |v| v.shape()[0]);
        ensure!(scanned.iter().all(|v| v.shape()[0] == length), Shape, "the scan inputs differ in length");
        let captures = captured(inputs, self.captures)?;
        let mut stacks: Vec<Stack> = Vec::new();
        for trip in 0..length {
            budget.step()?;
            let mut arguments = std::mem::take(&mut states);
            for (scan, value) in self.inputs.iter().zip(&scanned) {
                let row = if scan.reverse { length - 1 - trip } else { trip };
                arguments.push(value.rows(row..row + 1)?.reshaped(value.shape().replaced(0..1, &[]))?);
            }
            arguments.extend_from_slice(&captures);
            let mut outputs = self.body.eval(&arguments, budget)?;
            ensure!(outputs.len() == self.body.output_count(), Internal, "a body yields {} outputs", outputs.len());
            let elements = outputs.split_off(count);
            states = outputs;
            if trip == 0 {
                stacks = elements.iter().map(|element| Stack::new(element.dtype())).collect();
            }
            let stacked = stacks.iter().map(Stack::byte_len).sum::<usize>();
            let fresh = states.iter().chain(&elements).map(|v| v.as_bytes().len()).sum::<usize>();
            held.set(moved.saturating_add(stacked).saturating_add(fresh))?;
            for (stack, element) in stacks.iter_mut().zip(&elements) {
                stack.push(element)?;
            }
        }
        let facts: Vec<Fact> = inputs.require_from(0)?.into_iter().map(|v| Fact::constant(v.clone())).collect();
        let elements = if length == 0 {
            let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
            let (_, elements, _) = self.facts(Inputs::new(&facts))?;
            stacks = elements.iter().map(|element| Stack::new(element.dtype)).collect();
            elements
        } else {
            vec![Fact::unranked(crate::tensor::DType::F32); stacks.len()]
        };
        for ((stack, element), scan) in stacks.into_iter().zip(&elements).zip(&self.outputs) {
            let mut value = stack.finish(element)?;
            if scan.reverse {
                value = reversed_rows(&value)?;
            }
            let axis = value.shape().axis(scan.axis)?;
            states.push(if axis == 0 { value } else { front_to_axis(&value, axis)? });
        }
        Ok(states)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .body("body", self.body.clone())
            .int("num_scan_inputs", self.inputs.len() as i64)
            .ints("scan_input_axes", self.inputs.iter().map(|s| s.axis))
            .ints("scan_input_directions", self.inputs.iter().map(|s| i64::from(s.reverse)))
            .ints("scan_output_axes", self.outputs.iter().map(|s| s.axis))
            .ints("scan_output_directions", self.outputs.iter().map(|s| i64::from(s.reverse)))
    }

    fn captures(&self) -> usize {
        self.captures
    }

    fn with_bodies(&self, bodies: Vec<Arc<dyn Body>>, captures: usize) -> Option<Arc<dyn Op>> {
        let [body] = <[_; 1]>::try_from(bodies).ok()?;
        Some(Arc::new(Scan { body, captures, ..self.clone() }))
    }
}
