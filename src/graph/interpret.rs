//! Running a graph by the reference evaluation of its operators: slow, plain, and the measure of everything else.

use super::Graph;
use crate::error::{At, Result, ensure, err};
use crate::ops::{Body, Budget, Inputs};
use crate::tensor::{Fact, Tensor};

impl Graph {
    /// The outputs for these inputs, by reference evaluation under a generous budget.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the inputs do not fit the graph's, and what an operator
    /// says, with its node as the place.
    pub fn interpret(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.interpret_within(inputs, &Budget::generous())
    }

    /// The same under a stated budget.
    ///
    /// # Errors
    /// As [`interpret`](Graph::interpret), and [`Limit`](crate::ErrorKind::Limit).
    pub fn interpret_within(&self, inputs: &[Tensor], budget: &Budget) -> Result<Vec<Tensor>> {
        ensure!(
            inputs.len() == self.inputs.len(),
            InvalidInput,
            "{} inputs are expected, {} were given",
            self.inputs.len(),
            inputs.len()
        );
        // What a node computes is computed, and counted, even where inference knows it already.
        let given = |v: &super::Value| v.fact.value.clone().filter(|_| v.producer.is_none());
        let mut values: Vec<Option<Tensor>> = self.values.iter().map(given).collect();
        for (id, input) in self.inputs.iter().zip(inputs) {
            let value = &self.values[id.index()];
            let given = Fact::concrete(input.dtype(), input.shape());
            value.fact.unify(&given).at(|| format!("input {:?}", value.name))?;
            values[id.index()] = Some(input.clone());
        }
        let mut uses: Vec<usize> = self.values.iter().map(|v| v.users.len()).collect();
        for id in &self.outputs {
            uses[id.index()] += 1;
        }
        let computed = |index: usize| self.values[index].producer.is_some();
        for (_, node) in self.nodes()? {
            budget.step().at(|| node.to_string())?;
            let operands: Vec<Option<Tensor>> = node
                .inputs
                .iter()
                .map(|input| match input {
                    None => Ok(None),
                    Some(id) => values[id.index()]
                        .clone()
                        .map(Some)
                        .ok_or_else(|| err!(Internal, "a value is used before it is made").at(node.to_string())),
                })
                .collect::<Result<_>>()?;
            let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
            let results = evaluate(node.op.as_ref(), &operands, budget).at(|| node.to_string())?;
            ensure!(
                results.len() >= node.outputs.len(),
                InvalidModel,
                "{node}: {} outputs are named, {} exist",
                node.outputs.len(),
                results.len()
            );
            for (output, result) in node.outputs.iter().zip(results) {
                if let Some(output) = output
                    && uses[output.index()] > 0
                {
                    budget.keep(&result);
                    values[output.index()] = Some(result);
                }
            }
            for input in node.inputs.iter().flatten() {
                let index = input.index();
                uses[index] -= 1;
                if uses[index] == 0
                    && computed(index)
                    && let Some(value) = values[index].take()
                {
                    budget.release(&value);
                }
            }
        }
        let results: Result<Vec<Tensor>> = self
            .outputs
            .iter()
            .map(|id| {
                let value = values[id.index()].clone();
                value.ok_or_else(|| err!(Internal, "output {:?} was not made", self.values[id.index()].name))
            })
            .collect();
        for (index, value) in values.iter().enumerate() {
            if computed(index)
                && let Some(value) = value
            {
                budget.release(value);
            }
        }
        results
    }
}

/// One operator on its inputs: memory is refused on what inference says before the evaluation allocates it.
pub(crate) fn evaluate(op: &dyn crate::ops::Op, inputs: &[Option<&Tensor>], budget: &Budget) -> Result<Vec<Tensor>> {
    let facts: Vec<Option<Fact>> = inputs.iter().map(|v| v.map(|v| Fact::constant(v.clone()))).collect();
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let outputs = op.infer(Inputs::new(&facts))?;
    let mut total = 0usize;
    for fact in &outputs {
        total = total.saturating_add(fact.bytes().unwrap_or(0));
    }
    budget.admit_bytes(total)?;
    budget.spend_on(op, Inputs::new(inputs), &outputs)?;
    op.eval(Inputs::new(inputs), budget)
}

impl Body for Graph {
    fn input_count(&self) -> usize {
        self.inputs.len()
    }

    fn output_count(&self) -> usize {
        self.outputs.len()
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let facts = self.infer_values(inputs, &Budget::new(1 << 20, 100_000).max_work(1 << 26))?;
        Ok(self.outputs.iter().map(|id| facts[id.index()].clone()).collect())
    }

    fn eval(&self, inputs: &[Tensor], budget: &Budget) -> Result<Vec<Tensor>> {
        self.interpret_within(inputs, budget)
    }
}
