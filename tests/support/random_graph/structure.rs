//! Nodes that a pass should share, fold or drop.

use super::builder::{Builder, Made, V};
use onrush::graph::Graph;
use onrush::ops::Body;
use onrush::ops::control::{If, Loop};
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::{DType, Fact, Tensor};
use std::sync::Arc;

impl Builder {
    /// A node that is there already, once more, and a use of it.
    pub(super) fn duplicate(&mut self) -> Option<V> {
        let made = self.any_made()?;
        let again = self.add(made)?.first().copied()?;
        if self.chance(50) { self.op("Identity", &[], &[again]) } else { Some(again) }
    }

    /// Something computed from constants alone, and a use of it.
    pub(super) fn constant_expression(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        let shape = self.shape(x);
        let row = self.weights(&shape[shape.len().saturating_sub(1)..], 1.0);
        let other = self.scalar(0.5);
        let name = self.one_of(&["Add", "Mul", "Sub"]);
        let folded = self.op(name, &[], &[row, other])?;
        let folded = self.op("Tanh", &[], &[folded])?;
        self.op("Add", &[], &[x, folded])
    }

    /// `If` on a captured value, or a `Loop` that adds one to another a few times.
    pub(super) fn control_flow(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        let captured = || Fact::unranked(DType::F32);
        if self.chance(50) {
            let branch = |kind: UnaryKind| -> Arc<dyn Body> {
                let mut body = Graph::new("branch");
                let x = body.input("captured", captured()).expect("room");
                let y = body.op("y", Unary(kind), &[x]).expect("a float");
                body.output(y).expect("a value");
                Arc::new(body)
            };
            let axes = self.integers(&[]);
            let mean = self.op("ReduceMean", &[("keepdims", super::builder::int(0))], &[x])?;
            let mean = self.op("Reshape", &[], &[mean, axes])?;
            let edge = self.scalar(0.1);
            let condition = self.op("Greater", &[], &[mean, edge])?;
            let op = If { then_branch: branch(UnaryKind::Tanh), else_branch: branch(UnaryKind::Neg), captures: 1 };
            return self
                .add(Made { op: Arc::new(op), inputs: vec![Some(condition), Some(x)], outputs: 1 })?
                .first()
                .copied();
        }
        let trips = self.between(0, 3) as i64;
        let trips = self.constant(Tensor::scalar(trips));
        let first = self.weights(&self.shape(x), 1.0);
        let mut body = Graph::new("body");
        body.input("iteration", Fact::concrete(DType::I64, &[])).expect("room");
        let condition = body.input("condition", Fact::concrete(DType::Bool, &[])).expect("room");
        let sum = body.input("sum", captured()).expect("room");
        let addend = body.input("captured", captured()).expect("room");
        let next = body.op("next", Binary(BinaryKind::Add), &[sum, addend]).expect("floats");
        for output in [condition, next, next] {
            body.output(output).expect("a value");
        }
        let op = Arc::new(Loop { body: Arc::new(body), captures: 1 });
        let outputs = self.add(Made { op, inputs: vec![Some(trips), None, Some(first), Some(x)], outputs: 2 })?;
        self.op("Relu", &[], &[outputs[0]])
    }
}
