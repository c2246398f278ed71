//! Facts through the graph: what each value is, for given facts of the inputs.

use super::{Graph, ValueId};
use crate::error::{At, Result, ensure};
use crate::ops::control::has_bodies;
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{Dim, Fact, Tensor};

/// Shape arithmetic up to this many elements is folded while inferring.
const FOLDED_ELEMENTS: usize = 4096;

/// The same while a graph is built, where nobody has set a budget: enough for lists of axes and lengths.
const FOLDED_WHEN_BUILT: usize = 64;

impl Graph {
    pub(super) fn infer_node(
        &self,
        name: &str,
        op: &dyn Op,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<Vec<Fact>> {
        let own = inputs.iter().flatten().all(|input| input.index() < self.values.len());
        ensure!(own, InvalidModel, "node {name:?} ({}) takes a value that is none of the graph", op.name());
        let facts: Vec<Option<&Fact>> = inputs.iter().map(|v| v.map(|v| &self.values[v.index()].fact)).collect();
        let budget = Budget::new(1 << 16, 1).max_work(1 << 16);
        infer_op(op, &facts, outputs, &budget, FOLDED_WHEN_BUILT).at(|| format!("node {name:?} ({})", op.name()))
    }

    /// Names the lengths that a file names and inference does not know. Numbers are not taken over: what a file says of
    /// an output is often stale, and would contradict what the operators turn out to yield.
    pub(crate) fn name_lengths(&mut self, id: ValueId, declared: &Fact) {
        let fact = &mut self.values[id.index()].fact;
        if let (Some(dims), Some(declared)) = (&mut fact.shape, &declared.shape)
            && dims.len() == declared.len()
        {
            for (dim, declared) in dims.iter_mut().zip(declared) {
                if *dim == Dim::Unknown && matches!(declared, Dim::Symbol(_)) {
                    *dim = declared.clone();
                }
            }
        }
    }

    /// The fact of every value, by index, for these facts of the inputs. Shape arithmetic is folded on the way.
    ///
    /// # Errors
    /// What an operator's inference says, with the node as its place.
    pub fn infer_values(&self, inputs: &[Fact], budget: &Budget) -> Result<Vec<Fact>> {
        ensure!(inputs.len() == self.inputs.len(), InvalidInput, "{} inputs, not {}", self.inputs.len(), inputs.len());
        let mut facts: Vec<Fact> = self.values.iter().map(|v| v.fact.clone()).collect();
        for (id, fact) in self.inputs.iter().zip(inputs) {
            let declared = &self.values[id.index()];
            facts[id.index()] = declared.fact.unify(fact).at(|| format!("input {:?}", declared.name))?;
        }
        for (_, node) in self.nodes()? {
            let known: Vec<Option<&Fact>> = node.inputs.iter().map(|v| v.map(|v| &facts[v.index()])).collect();
            let inferred = infer_op(node.op.as_ref(), &known, node.outputs.len(), budget, FOLDED_ELEMENTS)
                .at(|| node.to_string())?;
            for (output, fact) in node.outputs.iter().zip(inferred) {
                if let Some(output) = output {
                    facts[output.index()] = fact;
                }
            }
        }
        Ok(facts)
    }
}

/// An operator's facts, with content that is wholly known turned into a value, and with the outputs computed where
/// inputs and outputs are constants of at most so many elements.
fn infer_op(
    op: &dyn Op,
    inputs: &[Option<&Fact>],
    outputs: usize,
    budget: &Budget,
    folded: usize,
) -> Result<Vec<Fact>> {
    let mut facts = op.infer(Inputs::new(inputs))?;
    ensure!(facts.len() >= outputs, InvalidModel, "{outputs} outputs are named, {} exist", facts.len());
    for fact in &mut facts {
        content_to_value(fact)?;
    }
    if let Some(values) = fold(op, inputs, &facts, budget, folded) {
        for (fact, value) in facts.iter_mut().zip(values) {
            *fact = Fact::constant(value);
        }
    }
    Ok(facts)
}

fn content_to_value(fact: &mut Fact) -> Result<()> {
    if fact.value.is_none()
        && let (Some(content), Some(rank)) = (&fact.content, fact.rank())
        && rank <= 1
        && let Some(elements) = content.iter().map(|d| d.known().map(|n| n as i64)).collect::<Option<Vec<_>>>()
    {
        let value = Tensor::vector(elements).cast(fact.dtype)?;
        let shape: Vec<usize> = if rank == 0 { vec![] } else { vec![content.len()] };
        *fact = Fact::constant(value.reshaped(shape)?);
    }
    Ok(())
}

/// The outputs of a pure operator on constants, where all of it has at most `most` elements. An operator that fails
/// here is left to fail when it runs, since it may stand in a branch that never does.
fn fold(op: &dyn Op, inputs: &[Option<&Fact>], facts: &[Fact], budget: &Budget, most: usize) -> Option<Vec<Tensor>> {
    if !op.is_pure() || has_bodies(op) || facts.iter().all(|f| f.value.is_some()) {
        return None;
    }
    let small = |fact: &Fact| fact.concrete_shape().is_some_and(|s| s.elements() <= most);
    if inputs.is_empty() || !facts.iter().all(small) {
        return None;
    }
    let values: Vec<Option<&Tensor>> = inputs
        .iter()
        .map(|fact| match fact {
            None => Some(None),
            Some(fact) if small(fact) => fact.value.as_ref().map(Some),
            Some(_) => None,
        })
        .collect::<Option<_>>()?;
    // What is folded stays as a fact, so all of it counts together.
    let made = facts.iter().fold(0usize, |sum, fact| sum.saturating_add(fact.bytes().unwrap_or(0)));
    budget.admit_bytes(made).ok()?;
    budget.step().ok()?;
    budget.spend_on(op, Inputs::new(&values), facts).ok()?;
    let values = op.eval(Inputs::new(&values), budget).ok()?;
    values.iter().for_each(|value| budget.keep(value));
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::super::Patch;
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};
    use crate::tensor::DType;

    #[test]
    fn a_value_of_another_graph_is_refused() {
        let mut other = Graph::new("other");
        other.input("a", Fact::concrete(DType::F32, &[1])).unwrap();
        let foreign = other.input("b", Fact::concrete(DType::F32, &[1])).unwrap();
        let mut graph = Graph::new("test");
        graph.input("x", Fact::concrete(DType::F32, &[1])).unwrap();
        let error = graph.op("y", Unary(UnaryKind::Relu), &[foreign]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidModel);
        assert_eq!(graph.node_count(), 0);
        let own = graph.inputs()[0];
        for (old, new) in [(own, foreign), (foreign, own)] {
            let mut patch = Patch::new();
            patch.replace(old, new);
            assert_eq!(graph.clone().apply(patch).unwrap_err().kind(), crate::ErrorKind::InvalidModel);
        }
    }
}
