//! Steps that the backend joins answer as they do apart, bit for bit, and their values are nowhere whole.

use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::{Profile, Slot};
use crate::graph::ValueId;
use crate::ops::Op;
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind};
use crate::ops::nn::{Conv, Padding};
use crate::passes;
use crate::tensor::Fact;

/// The same backend, which joins nothing.
#[derive(Debug)]
struct Apart(Cpu);

impl Backend for Apart {
    fn name(&self) -> &'static str {
        "apart"
    }

    fn in_place(&self, op: &dyn Op, inputs: &[Option<&Slot>], outputs: &[Option<&Slot>]) -> Option<usize> {
        self.0.in_place(op, inputs, outputs)
    }

    fn compile(&self, program: Program, weights: &Weights) -> Result<Box<dyn Executable>> {
        self.0.compile(program, weights)
    }
}

fn numbers(shape: &[usize], seed: f32) -> Tensor {
    let elements: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin() * 0.4).collect();
    Tensor::new(shape, elements).unwrap()
}

fn plan(graph: &Graph, x: &Tensor, backend: &dyn Backend, threads: usize) -> Plan {
    let limits = RunLimits { bytes: 1 << 30, steps: 1000 };
    let division = Division { threads: Threads::eager(threads), micro_batch: Some(x.shape()[0]) };
    Plan::new(graph, &[x.shape().clone()], backend, &Weights::new(), limits, &division).unwrap()
}

fn answer(plan: &Plan, x: &Tensor) -> Vec<u8> {
    let mut scratch = plan.scratch().unwrap();
    plan.run(&mut scratch, std::slice::from_ref(x)).unwrap();
    scratch.output(0).unwrap().as_bytes().to_vec()
}

/// Runs the graph joined and apart; returns the profile of the first.
fn check(mut graph: Graph, x: &Tensor, what: &str) -> Profile {
    passes::optimize(&mut graph).unwrap();
    let cpu = Cpu::new().unwrap();
    let apart = plan(&graph, x, &Apart(cpu), 1);
    let expected = answer(&apart, x);
    for threads in [1, 3] {
        let joined = plan(&graph, x, &cpu, threads);
        assert!(joined.fallbacks().is_empty(), "{what}: {:?}", joined.fallbacks());
        assert!(joined.scratch_bytes() < apart.scratch_bytes(), "{what}: the values are still in memory");
        assert!(answer(&joined, x) == expected, "{what} on {threads} threads");
    }
    let joined = plan(&graph, x, &cpu, 1);
    let mut profile = Profile::new();
    joined.run_profiled(&mut joined.scratch().unwrap(), std::slice::from_ref(x), &mut profile).unwrap();
    profile
}

fn chains(profile: &Profile) -> usize {
    profile.steps.iter().filter(|step| step.operator == "Chain").count()
}

fn conv(kernel: usize, stride: usize, groups: usize) -> Conv {
    let pad = kernel as i64 / 2;
    let padding = Padding::Explicit { begin: vec![pad; 2], end: vec![pad; 2] };
    Conv { group: groups, strides: vec![stride; 2], padding, ..Conv::default() }
}

/// An image of `[batch, 8, height, width]` to 160 channels, a depthwise convolution, and back.
struct Block {
    kernel: usize,
    stride: usize,
    first: usize,
    batch: usize,
    size: [usize; 2],
}

impl Block {
    fn graph(&self) -> (Graph, Tensor) {
        let Block { kernel, stride, first, batch, size: [height, width] } = *self;
        let x = numbers(&[batch, 8, height, width], 0.11);
        let mut g = Graph::new("block");
        let input = g.input("x", Fact::concrete(DType::F32, x.shape())).unwrap();
        let mut constant = |shape: &[usize], seed: f32| g.constant("c", numbers(shape, seed)).unwrap();
        let (a, b) = (constant(&[160, 8, first, first], 0.3), constant(&[160, 1, kernel, kernel], 0.7));
        let (c, bias) = (constant(&[8, 160, 1, 1], 0.9), constant(&[160], 0.5));
        let bounds = [0.0, 6.0].map(|bound| g.constant("bound", Tensor::scalar(bound as f32)).unwrap());
        let y = g.op("a", conv(first, 1, 1), &[input, a, bias]).unwrap();
        let y = g.op("a clip", Clip, &[y, bounds[0], bounds[1]]).unwrap();
        let y = g.op("b", conv(kernel, stride, 160), &[y, b]).unwrap();
        let y = g.op("b relu", Unary(UnaryKind::HardSwish), &[y]).unwrap();
        let mut y: ValueId = g.op("c", conv(1, 1, 1), &[y, c]).unwrap();
        if stride == 1 {
            y = g.op("d", Binary(BinaryKind::Add), &[y, input]).unwrap();
        }
        g.output(y).unwrap();
        (g, x)
    }
}

#[test]
fn convolutions_in_cascade() {
    let block = Block { kernel: 3, stride: 1, first: 1, batch: 1, size: [43, 39] };
    for block in [
        Block { first: 3, size: [43, 41], ..block },
        Block { stride: 2, batch: 2, ..block },
        Block { kernel: 5, ..block },
        Block { kernel: 5, stride: 2, size: [45, 38], ..block },
    ] {
        let Block { kernel, stride, first, batch, size } = block;
        let (graph, x) = block.graph();
        let what = format!("{first} x {first}, then {kernel} x {kernel} at stride {stride}, {batch} of {size:?}");
        let profile = check(graph, &x, &what);
        assert_eq!(chains(&profile), 1, "{what}: {profile}");
    }
}

#[test]
fn what_another_reads_is_not_joined() {
    let block = Block { kernel: 3, stride: 1, first: 1, batch: 1, size: [43, 39] };
    let (mut graph, x) = block.graph();
    let wanted = graph.nodes().unwrap().find(|(_, node)| node.name() == "b relu").and_then(|(_, node)| node.input(0));
    graph.output(wanted.unwrap()).unwrap();
    passes::optimize(&mut graph).unwrap();
    let plan = plan(&graph, &x, &Cpu::new().unwrap(), 1);
    let mut profile = Profile::new();
    plan.run_profiled(&mut plan.scratch().unwrap(), &[x], &mut profile).unwrap();
    let joined: Vec<&str> = profile.steps.iter().filter(|s| s.operator == "Chain").map(|s| s.kernel.as_str()).collect();
    assert_eq!(joined.len(), 1, "{profile}");
    assert!(!joined[0].contains("160->8"), "{profile}");
}

#[test]
fn sizes_that_make_no_sense_are_left_to_the_kernels() {
    let x = numbers(&[1, 8, 60, 60], 0.1);
    for (kernel, stride, dilation) in [(0, 1, 1), (3, usize::MAX, 1), (3, 1, usize::MAX / 2), (1, 0, 1)] {
        let mut g = Graph::new("sizes");
        let input = g.input("x", Fact::concrete(DType::F32, x.shape())).unwrap();
        let a = g.constant("a", numbers(&[160, 8, 1, 1], 0.3)).unwrap();
        let b = g.constant("b", numbers(&[160, 1, kernel, kernel], 0.7)).unwrap();
        let y = g.op("a", conv(1, 1, 1), &[input, a]).unwrap();
        let odd = Conv { dilations: vec![dilation; 2], strides: vec![stride; 2], ..conv(3, 1, 160) };
        // Refused by inference, or by the plan, or run: but no panic.
        let Ok(y) = g.op("b", odd, &[y, b]) else { continue };
        let made = g.output(y).and_then(|()| passes::optimize(&mut g).map(|_| ()));
        let limits = RunLimits { bytes: 1 << 30, steps: 1000 };
        let division = Division { threads: Threads::serial(), micro_batch: None };
        let shapes = [x.shape().clone()];
        let plan = made.and_then(|()| Plan::new(&g, &shapes, &Cpu::new()?, &Weights::new(), limits, &division));
        if let Ok(plan) = plan {
            plan.run(&mut plan.scratch().unwrap(), std::slice::from_ref(&x)).unwrap();
        }
    }
}
