//! A graph at concrete shapes: every fact recomputed, and what became constant taken out of the data flow.

use super::Graph;
use crate::error::{At, Result, ensure};
use crate::ops::Budget;
use crate::tensor::{DType, Fact, Shape};
use std::sync::OnceLock;

impl Graph {
    /// The same graph for inputs of exactly these shapes, in the order of the inputs; shape arithmetic is gone.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when a shape contradicts what an input declares, and what
    /// inference says, with the node as its place.
    pub fn specialize(&self, shapes: &[Shape]) -> Result<Graph> {
        ensure!(
            shapes.len() == self.inputs.len(),
            InvalidInput,
            "{} inputs are expected, {} shapes were given",
            self.inputs.len(),
            shapes.len()
        );
        let dtypes: Vec<DType> = self.inputs.iter().map(|id| self.fact(*id).dtype).collect();
        let facts: Vec<Fact> = dtypes.iter().zip(shapes).map(|(d, s)| Fact::concrete(*d, s)).collect();
        let facts = self
            .infer_values(&facts, &Budget::new(64 << 20, 1_000_000).max_work(1 << 27))
            .at(|| format!("at {shapes:?}"))?;
        let mut graph = self.clone();
        for (value, fact) in graph.values.iter_mut().zip(facts) {
            value.fact = fact;
        }
        graph.detach_constants();
        Ok(graph)
    }

    /// Cuts the producers of values that have become constants, and drops what nothing needs any more.
    pub(crate) fn detach_constants(&mut self) {
        for index in 0..self.values.len() {
            let value = &mut self.values[index];
            if value.fact.value.is_none() {
                continue;
            }
            if let Some((node, slot)) = value.producer.take()
                && let Some(node) = &mut self.nodes[node.index()]
            {
                node.outputs[slot] = None;
                self.order = OnceLock::new();
            }
        }
        self.sweep();
    }
}
