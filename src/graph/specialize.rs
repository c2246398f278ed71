//! A graph at concrete shapes: every fact recomputed, and what became constant taken out of the data flow.

use super::Graph;
use crate::error::{At, Result, ensure};
use crate::ops::Budget;
use crate::tensor::{DType, Fact, Shape};
use std::borrow::Cow;
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

    /// As [`specialize`](Graph::specialize), without a copy where inference has nothing to add: the inputs are declared with
    /// these shapes, every node yields known shapes to somebody, and none takes constants alone.
    pub(crate) fn specialized(&self, shapes: &[Shape]) -> Result<Cow<'_, Graph>> {
        if self.is_settled_at(shapes) { Ok(Cow::Borrowed(self)) } else { self.specialize(shapes).map(Cow::Owned) }
    }

    fn is_settled_at(&self, shapes: &[Shape]) -> bool {
        let declared = shapes.len() == self.inputs.len()
            && self
                .inputs
                .iter()
                .zip(shapes)
                .all(|(id, shape)| self.fact(*id).concrete_shape().as_ref() == Some(shape));
        declared
            && self.nodes.iter().flatten().all(|node| {
                let mut made = node.outputs.iter().flatten();
                let open = |fact: &Fact| fact.concrete_shape().is_some() && fact.value.is_none();
                let known = made.clone().all(|id| open(self.fact(*id)));
                let read = made.any(|id| self.is_output(*id) || !self.value(*id).users.is_empty());
                known && read && node.inputs.iter().flatten().any(|id| self.constant_of(*id).is_none())
            })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{Unary, UnaryKind};
    use crate::tensor::{Dim, Symbol, Tensor};

    #[test]
    fn what_is_settled_is_not_copied() {
        let build = |dim: Dim, of_constants: bool, dead: bool| {
            let mut graph = Graph::new("test");
            let x = graph.input("x", Fact::new(DType::F32, vec![dim, Dim::Known(3)])).unwrap();
            let y = graph.op("y", Unary(UnaryKind::Relu), &[x]).unwrap();
            graph.output(y).unwrap();
            // More than what is folded while a graph is built.
            let c = graph.constant("c", Tensor::zeros(DType::F32, [100]).unwrap()).unwrap();
            if of_constants {
                let z = graph.op("z", Unary(UnaryKind::Relu), &[c]).unwrap();
                graph.output(z).unwrap();
            }
            if dead {
                graph.op("dead", Unary(UnaryKind::Relu), &[x]).unwrap();
            }
            graph
        };
        let cases = [
            (Dim::Known(2), false, false, true),
            (Dim::Symbol(Symbol::new("rows")), false, false, false),
            (Dim::Known(2), true, false, false),
            (Dim::Known(2), false, true, false),
        ];
        for (dim, of_constants, dead, settled) in cases {
            let graph = build(dim, of_constants, dead);
            let shapes = [Shape::from([2, 3])];
            let specialized = graph.specialized(&shapes).unwrap();
            assert_eq!(matches!(specialized, Cow::Borrowed(_)), settled);
            assert_eq!(specialized.node_count(), 1);
            let copied = graph.specialize(&shapes).unwrap();
            let facts = |graph: &Graph| graph.outputs().iter().map(|id| graph.fact(*id).clone()).collect::<Vec<_>>();
            assert_eq!(facts(&specialized), facts(&copied));
        }
        assert!(build(Dim::Known(2), false, false).specialized(&[Shape::from([3, 3])]).is_err());
    }
}
