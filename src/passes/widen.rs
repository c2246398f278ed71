//! Computes in f32 what is written in float16, with casts where an island of such nodes begins and ends.
//!
//! Machines for which plans are made have few instructions for float16, and none of the fused forms. Within an island
//! nothing is rounded to float16, so that results are nearer to the exact ones; functions with steps, where a rounding
//! decides between two results, stay as they are.

use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::attention::Attention;
use crate::ops::elementwise::{Binary, BinaryKind, Cast, Clip, Unary, UnaryKind, Variadic};
use crate::ops::image::{DepthToSpace, Resize, SpaceToDepth};
use crate::ops::index::Slice;
use crate::ops::layout::{Concat, Expand, Flatten, Pad, Reshape, Split, Squeeze, Tile, Transpose, Unsqueeze};
use crate::ops::matrix::{Einsum, FusedMatMul, Gemm, MatMul};
use crate::ops::nn::{
    BatchNormalization, Conv, ConvTranspose, Dropout, GlobalPool, GroupNormalization, InstanceNormalization,
    LayerNormalization, LogSoftmax, Pool, RmsNormalization, Softmax,
};
use crate::ops::quant::MatMulNBits;
use crate::ops::recurrent::{Gru, Lstm, Rnn};
use crate::ops::reduce::Reduce;
use crate::tensor::DType;
use std::collections::{HashMap, HashSet};

/// What a node does to the numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Continuous arithmetic: widened wherever it stands.
    Computes,
    /// The same numbers elsewhere: widened after what computes, since it costs no more to move float16.
    Moves,
}

fn role(op: &dyn Op) -> Option<Role> {
    macro_rules! any {
        ($($kind:ty),+) => { $(op.is::<$kind>())||+ };
    }
    if let Some(Unary(kind)) = op.downcast_ref::<Unary>() {
        use UnaryKind as U;
        return match kind {
            U::Identity => Some(Role::Moves),
            U::Sign | U::Ceil | U::Floor | U::Round | U::ThresholdedRelu { .. } | U::Shrink { .. } => None,
            _ => Some(Role::Computes),
        };
    }
    if let Some(Binary(kind)) = op.downcast_ref::<Binary>() {
        use BinaryKind as B;
        let smooth = matches!(kind, B::Add | B::Sub | B::Mul | B::Div | B::Pow | B::PRelu);
        return smooth.then_some(Role::Computes);
    }
    if any!(Conv, ConvTranspose, MatMul, Gemm, Pool, GlobalPool, Softmax, LogSoftmax, Clip, Variadic, Reduce, Attention)
        || any!(BatchNormalization, LayerNormalization, RmsNormalization, InstanceNormalization, GroupNormalization)
        || any!(MatMulNBits, Einsum, FusedMatMul, Lstm, Gru, Rnn, Resize)
    {
        return Some(Role::Computes);
    }
    let moves = any!(Concat, Dropout, Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Expand, Pad, Split)
        || any!(Slice, Tile, DepthToSpace, SpaceToDepth);
    moves.then_some(Role::Moves)
}

/// What the pass has made so far.
struct Island<'a> {
    graph: &'a Graph,
    patch: Patch,
    wide: HashMap<ValueId, Operand>,
    /// The values that widened nodes yield.
    computed: HashSet<ValueId>,
}

impl Island<'_> {
    fn is_half(&self, value: ValueId) -> bool {
        self.graph.fact(value).dtype == DType::F16
    }

    /// True for a node that the island takes in, given that everything before it is decided.
    fn takes(&self, node: &Node) -> bool {
        let Some(role) = role(node.op().as_ref()) else { return false };
        let mut outputs = node.outputs().iter().flatten();
        let yields = outputs.next().is_some_and(|&first| self.is_half(first));
        // Further outputs of other operators may be of a dtype that does not follow the first.
        let op = node.op();
        let recurs = op.is::<Lstm>() || op.is::<Gru>() || op.is::<Rnn>();
        let known = node.outputs().len() == 1 || op.is::<Dropout>() || op.is::<Pool>() || op.is::<Split>() || recurs;
        let mut inputs = node.inputs().iter().flatten();
        let first = node.input(0).is_some_and(|x| self.is_half(x));
        yields && known && first && (role == Role::Computes || inputs.any(|&v| self.computed.contains(&v)))
    }

    /// The value in f32, cast or converted now unless that was done before.
    fn widened(&mut self, value: ValueId) -> Result<Operand> {
        if let Some(&wide) = self.wide.get(&value) {
            return Ok(wide);
        }
        let name = self.graph.value(value).name();
        let wide = match self.graph.constant_of(value) {
            Some(constant) => self.patch.constant(name, constant.widened()?),
            None => self.patch.op(name, Cast { to: DType::F32 }, &[value.into()]),
        };
        self.wide.insert(value, wide);
        Ok(wide)
    }

    fn take(&mut self, node: &Node) -> Result<()> {
        let mut inputs = Vec::with_capacity(node.inputs().len());
        for input in node.inputs() {
            inputs.push(match *input {
                Some(value) if self.is_half(value) => Some(self.widened(value)?),
                other => other.map(Operand::from),
            });
        }
        let made = self.patch.node(node.name(), node.op().clone(), &inputs, node.outputs().len());
        for (old, new) in node.outputs().iter().zip(made) {
            let Some(old) = *old else { continue };
            if self.is_half(old) {
                self.wide.insert(old, new);
                self.computed.insert(old);
            } else {
                self.patch.replace(old, new);
            }
        }
        Ok(())
    }
}

pub(super) fn widen_halves(graph: &mut Graph) -> Result<usize> {
    let (patch, taken) = {
        let graph: &Graph = graph;
        let mut island = Island { graph, patch: Patch::new(), wide: HashMap::new(), computed: HashSet::new() };
        let mut taken = 0;
        for (_, node) in graph.nodes()? {
            if island.takes(node) {
                island.take(node)?;
                taken += 1;
            }
        }
        if taken == 0 {
            return Ok(0);
        }
        for (_, node) in graph.nodes()? {
            for &value in node.outputs().iter().flatten().filter(|v| island.computed.contains(v)) {
                // Where nothing outside takes it, the sweep removes this cast again.
                let Some(&wide) = island.wide.get(&value) else { continue };
                let half = island.patch.op(graph.value(value).name(), Cast { to: DType::F16 }, &[wide]);
                island.patch.replace(value, half);
            }
        }
        (island.patch, taken)
    };
    graph.apply(patch)?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, ramp};
    use super::*;
    use crate::tensor::{Fact, Tensor};

    fn half(shape: &[usize]) -> Tensor {
        ramp(shape).cast(DType::F16).unwrap()
    }

    #[test]
    fn an_island_is_cast_at_its_edges_only() {
        let mut graph = Graph::new("test");
        let x = graph.input("x", Fact::concrete(DType::F16, &[1, 2, 4, 4])).unwrap();
        let w = graph.constant("w", half(&[2, 2, 1, 1])).unwrap();
        let moved = graph.op("moved", Transpose { perm: Some(vec![0, 1, 3, 2]) }, &[x]).unwrap();
        let conv = graph.op("conv", Conv::default(), &[moved, w]).unwrap();
        let relu = graph.op("relu", Unary(UnaryKind::Relu), &[conv]).unwrap();
        let both = graph.op("both", Concat { axis: 1 }, &[relu, moved]).unwrap();
        let steps = graph.op("steps", Unary(UnaryKind::Floor), &[both]).unwrap();
        for value in [both, steps] {
            graph.output(value).unwrap();
        }
        // The five and a cast on either side.
        check(&mut graph, widen_halves, &[half(&[1, 2, 4, 4])], 7);
        assert_eq!(widen_halves(&mut graph).unwrap(), 0);
    }

    #[test]
    fn a_recurrence_is_widened_with_all_its_outputs() {
        let mut graph = Graph::new("test");
        let x = graph.input("x", Fact::concrete(DType::F16, &[3, 1, 2])).unwrap();
        let [w, r] = [("w", [1, 2, 2]), ("r", [1, 2, 2])].map(|(name, shape)| {
            let value = graph.constant(name, half(&shape)).unwrap();
            Some(value)
        });
        let recurrence = crate::ops::recurrent::Recurrence {
            hidden_size: Some(2),
            direction: crate::ops::recurrent::Direction::Forward,
            batch_first: false,
            activations: vec![crate::ops::recurrent::Activation::Relu],
            clip: None,
        };
        let outputs = graph
            .node("rnn", std::sync::Arc::new(Rnn { recurrence }), &[Some(x), w, r], &[Some("y"), Some("h")])
            .unwrap();
        for y in outputs.into_iter().flatten() {
            graph.output(y).unwrap();
        }
        let input = Tensor::new([3, 1, 2], vec![1.0f32, 0.5, 0.0, 0.25, 0.5, 0.125]).unwrap();
        // It, and a cast before and behind each output.
        check(&mut graph, widen_halves, &[input.cast(DType::F16).unwrap()], 4);
    }

    #[test]
    fn what_only_moves_stays() {
        let mut graph = Graph::new("test");
        let x = graph.input("x", Fact::concrete(DType::F16, &[2, 3])).unwrap();
        let y = graph.op("y", Transpose { perm: None }, &[x]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, widen_halves, &[half(&[2, 3])], 1);
    }
}
