//! `Loop`: a body that runs a number of times, or while a condition holds, or both.

use super::captured;
use super::facts::iterate;
use super::stack::{Stack, stacked_fact};
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Body, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor};
use std::sync::Arc;

/// Runs its body up to `M` times (input 0, optional) while the condition (input 1, optional) holds.
///
/// The inputs from 2 on are the first values of what is carried from one iteration to the next. The body takes the
/// number of the iteration, the condition, the carried values and the captured ones; it yields the condition, the
/// carried values, and what is stacked along a new axis 0 (the *scan outputs*).
#[derive(Debug, Clone)]
pub struct Loop {
    /// What runs in each iteration.
    pub body: Arc<dyn Body>,
    /// How many of the last inputs are captured values.
    pub captures: usize,
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let op = Loop { body: node.body("body")?, captures: node.captures() };
    let carried = node.input_count().saturating_sub(2);
    let takes = op.body.input_count();
    ensure!(
        takes == 2 + carried + op.captures,
        InvalidModel,
        "the body takes {takes} inputs, not {} ({carried} carried, {} captured)",
        2 + carried + op.captures,
        op.captures
    );
    ensure!(op.body.output_count() > carried, InvalidModel, "the body yields fewer values than it carries");
    ensure!(node.output_count() < op.body.output_count(), InvalidModel, "the body yields too few outputs");
    Ok(op.into())
}

/// Facts of a loop: of its carried values and of one element of each scan output, and how often it runs, where known.
struct LoopFacts {
    carried: Vec<Fact>,
    elements: Vec<Fact>,
    trips: Dim,
}

impl Loop {
    /// Input `index`, unless the inputs of the loop's own end before it.
    fn own<'a, T>(&self, inputs: Inputs<'a, T>, index: usize) -> Option<&'a T> {
        if index + self.captures < inputs.count() { inputs.get(index) } else { None }
    }

    fn carried_count(&self, count: usize) -> Result<usize> {
        let carried = count.saturating_sub(self.captures).saturating_sub(2);
        ensure!(
            self.body.input_count() == 2 + carried + self.captures && self.body.output_count() > carried,
            InvalidModel,
            "the body does not fit the {carried} carried and {} captured values",
            self.captures
        );
        Ok(carried)
    }

    fn facts(&self, inputs: Inputs<'_, Fact>) -> Result<LoopFacts> {
        let carried = self.carried_count(inputs.count())?;
        let mut facts = vec![Fact::concrete(DType::I64, &[]), Fact::constant(Tensor::scalar(true))];
        for index in 2..2 + carried {
            facts.push(inputs.require(index)?.clone());
        }
        facts.extend(captured(inputs, self.captures)?);
        let (outputs, carried_facts) = iterate(self.body.as_ref(), facts, 2, carried, 1)?;
        let limit = self.own(inputs, 0).map(|f| f.integers().and_then(|v| v.first().copied()));
        let first = match self.own(inputs, 1) {
            None => Some(true),
            Some(fact) => fact.value.as_ref().map(Tensor::to_scalar::<bool>).transpose()?,
        };
        // The body is asked what it says of a condition that holds, since it only runs while that is so.
        let goes_on = outputs[0].value.as_ref().is_some_and(|v| v.to_scalar::<bool>().unwrap_or(false));
        let trips = match (limit, first) {
            (_, Some(false)) => Dim::Known(0),
            (Some(Some(limit)), _) if limit <= 0 => Dim::Known(0),
            (Some(Some(limit)), Some(true)) if goes_on => Dim::Known(usize::try_from(limit).unwrap_or(usize::MAX)),
            _ => Dim::Unknown,
        };
        Ok(LoopFacts { carried: carried_facts, elements: outputs[1 + carried..].to_vec(), trips })
    }
}

impl Op for Loop {
    fn name(&self) -> &'static str {
        "Loop"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let LoopFacts { carried, elements, trips } = self.facts(inputs)?;
        let mut outputs = carried;
        for element in &elements {
            outputs.push(stacked_fact(element, 0, trips.clone())?);
        }
        Ok(outputs)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let carried = self.carried_count(inputs.count())?;
        let limit = self.own(inputs, 0).map(Tensor::to_scalar::<i64>).transpose()?;
        let mut goes_on = self.own(inputs, 1).map(Tensor::to_scalar::<bool>).transpose()?.unwrap_or(true);
        let captures = captured(inputs, self.captures)?;
        let mut values = Vec::with_capacity(carried);
        for index in 2..2 + carried {
            values.push(inputs.require(index)?.clone());
        }
        let mut stacks: Vec<Stack> = Vec::new();
        let mut held = budget.hold();
        let mut trip = 0i64;
        while goes_on && limit.is_none_or(|limit| trip < limit) {
            budget.step()?;
            let mut arguments = vec![Tensor::scalar(trip), Tensor::scalar(true)];
            arguments.append(&mut values);
            arguments.extend_from_slice(&captures);
            let mut outputs = self.body.eval(&arguments, budget)?;
            ensure!(outputs.len() == self.body.output_count(), Internal, "a body yields {} outputs", outputs.len());
            let elements = outputs.split_off(1 + carried);
            values = outputs.split_off(1);
            goes_on = outputs[0].to_scalar()?;
            if trip == 0 {
                stacks = elements.iter().map(|element| Stack::new(element.dtype())).collect();
            }
            let stacked = stacks.iter().map(Stack::byte_len).sum::<usize>();
            let fresh = values.iter().chain(&elements).map(|v| v.as_bytes().len()).sum::<usize>();
            held.set(stacked.saturating_add(fresh))?;
            for (stack, element) in stacks.iter_mut().zip(&elements) {
                stack.push(element)?;
            }
            trip += 1;
        }
        if trip == 0 {
            let facts: Vec<Option<Fact>> =
                (0..inputs.count()).map(|i| inputs.get(i).map(|v| Fact::constant(v.clone()))).collect();
            let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
            for element in self.facts(Inputs::new(&facts))?.elements {
                values.push(Stack::new(element.dtype).finish(&element)?);
            }
            return Ok(values);
        }
        for stack in stacks {
            values.push(stack.finish(&Fact::unranked(DType::F32))?);
        }
        Ok(values)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().body("body", self.body.clone())
    }

    fn captures(&self) -> usize {
        self.captures
    }

    fn with_bodies(&self, bodies: Vec<Arc<dyn Body>>, captures: usize) -> Option<Arc<dyn Op>> {
        let [body] = <[_; 1]>::try_from(bodies).ok()?;
        Some(Arc::new(Loop { body, captures }))
    }
}
