//! Nodes that a pass should share, fold or drop.

use super::builder::{Builder, Made, V, int};
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

    /// A few steps in half precision between conversions.
    pub(super) fn halves(&mut self) -> Option<V> {
        let x = self.pick_float()?;
        let half = self.op("Cast", &[("to", int(10))], &[x])?;
        let name = self.one_of(&["Tanh", "Neg", "Relu", "Abs"]);
        let half = self.op(name, &[], &[half])?;
        let half = if self.chance(50) { self.op("Add", &[], &[half, half])? } else { half };
        self.op("Cast", &[("to", int(1))], &[half])
    }

    fn known_condition(&mut self) -> V {
        let known = self.chance(50);
        self.constant(Tensor::scalar(known))
    }

    fn condition_on(&mut self, x: V) -> Option<V> {
        let axes = self.integers(&[]);
        let mean = self.op("ReduceMean", &[("keepdims", int(0))], &[x])?;
        let mean = self.op("Reshape", &[], &[mean, axes])?;
        let edge = self.scalar(0.1);
        self.op("Greater", &[], &[mean, edge])
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
            let condition = if self.chance(50) { self.known_condition() } else { self.condition_on(x)? };
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
