//! Several elementwise operators in one step yield the bits of one step for each, whatever the operands' shapes.

use super::*;
use crate::backend::cpu::Cpu;
use crate::graph::ValueId;
use crate::ops::Op;
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind, Variadic, VariadicKind, Where};
use crate::ops::fused::{Elementwise, ElementwiseStep, Source};
use crate::tensor::Fact;

/// The inputs: two of every element, a row, a column, conditions of each element and of a column, and constants.
fn values(graph: &mut Graph, rows: usize, cols: usize) -> (Vec<ValueId>, Vec<Tensor>) {
    let shapes: [&[usize]; 4] = [&[rows, cols], &[rows, cols], &[cols], &[rows, 1]];
    let mut tensors: Vec<Tensor> = Vec::new();
    for (seed, shape) in shapes.into_iter().enumerate() {
        let count: usize = shape.iter().product();
        let elements = (0..count).map(|i| ((i * 31 + seed * 7) % 101) as f32 / 20.0 - 2.5);
        tensors.push(Tensor::new(shape, elements.collect::<Vec<f32>>()).unwrap());
    }
    for shape in [[rows, cols], [rows, 1]] {
        let elements = (0..shape[0] * shape[1]).map(|i| i % 3 == 0).collect::<Vec<bool>>();
        tensors.push(Tensor::new(shape, elements).unwrap());
    }
    let input = |(i, t): (usize, &Tensor)| graph.input(&format!("x{i}"), Fact::concrete(t.dtype(), t.shape())).unwrap();
    let mut ids: Vec<ValueId> = tensors.iter().enumerate().map(input).collect();
    for number in [2.0f32, -0.75] {
        ids.push(graph.constant("c", Tensor::scalar(number)).unwrap());
    }
    (ids, tensors)
}

/// The number of the first constant.
const CONSTANT: usize = 6;

fn steps(random: &mut fastrand::Rng) -> Vec<ElementwiseStep> {
    let mut steps: Vec<ElementwiseStep> = Vec::new();
    let count = random.usize(2..12);
    for at in 0..count {
        let whole = |random: &mut fastrand::Rng| match at {
            0 => Source::Input(random.usize(..2)),
            _ if random.u8(..4) == 0 => Source::Input(random.usize(..2)),
            _ => Source::Step(at - 1 - random.usize(..at.min(2))),
        };
        let any = |random: &mut fastrand::Rng| match random.u8(..4) {
            0 => Source::Input(random.usize(2..4)),
            1 => Source::Input(random.usize(CONSTANT..CONSTANT + 2)),
            _ => whole(random),
        };
        let (a, b) = (whole(random), any(random));
        let (op, operands): (Arc<dyn Op>, Vec<Source>) = match random.u8(..6) {
            0 | 1 => {
                use UnaryKind::*;
                let kinds = [Neg, Abs, Relu, Sigmoid, Tanh, Exp, Erf, Reciprocal, LeakyRelu { alpha: 0.1 }];
                (Arc::new(Unary(*random.choice(&kinds).unwrap())), vec![a])
            }
            2 | 3 => {
                use BinaryKind::*;
                let kind = *random.choice(&[Add, Sub, Mul, Div, PRelu]).unwrap();
                let turned = kind != PRelu && random.bool();
                (Arc::new(Binary(kind)), if turned { vec![b, a] } else { vec![a, b] })
            }
            4 => match random.u8(..3) {
                0 => (Arc::new(Clip), vec![a, Source::Input(CONSTANT + 1), Source::Input(CONSTANT)]),
                1 => (Arc::new(Binary(BinaryKind::Pow)), vec![a, Source::Input(CONSTANT)]),
                _ => (Arc::new(Variadic(VariadicKind::Max)), vec![b, a]),
            },
            _ => (Arc::new(Where), vec![Source::Input(random.usize(4..6)), b, a]),
        };
        steps.push(ElementwiseStep { op, operands: operands.into_iter().map(Some).collect() });
    }
    use BinaryKind::*;
    // A comparison, and what it decides.
    let kind = *random.choice(&[Equal, Less, LessOrEqual, Greater, GreaterOrEqual]).unwrap();
    let last = Source::Step(steps.len() - 1);
    let operands = vec![Some(last), Some(Source::Input(random.usize(..4)))];
    steps.push(ElementwiseStep { op: Arc::new(Binary(kind)), operands });
    let operands = [Source::Step(steps.len() - 1), last, Source::Input(random.usize(..4))];
    steps.push(ElementwiseStep { op: Arc::new(Where), operands: operands.map(Some).to_vec() });
    steps
}

#[test]
fn steps_in_one_yield_the_bits_of_steps_by_themselves() {
    let mut random = fastrand::Rng::with_seed(11);
    let limits = RunLimits { bytes: 1 << 30, steps: 1000 };
    for round in 0..60 {
        let steps = steps(&mut random);
        let (rows, cols) = *random.choice(&[(1, 1), (7, 5), (3, 600), (40, 33), (130, 16)]).unwrap();
        let plan = |fused: bool, threads: usize| {
            let mut graph = Graph::new("steps");
            let (ids, tensors) = values(&mut graph, rows, cols);
            let y = if fused {
                graph.op("y", Elementwise::new(steps.clone()).unwrap(), &ids).unwrap()
            } else {
                let mut made: Vec<ValueId> = Vec::new();
                for step in &steps {
                    let value = |source: &Option<Source>| match source.unwrap() {
                        Source::Input(input) => Some(ids[input]),
                        Source::Step(step) => Some(made[step]),
                    };
                    let operands: Vec<Option<ValueId>> = step.operands.iter().map(value).collect();
                    made.push(graph.node("y", step.op.clone(), &operands, &[Some("y")]).unwrap()[0].unwrap());
                }
                made[made.len() - 1]
            };
            graph.output(y).unwrap();
            let shapes: Vec<Shape> = tensors.iter().map(|t| t.shape().clone()).collect();
            let division = Division { threads: Threads::eager(threads), micro_batch: None };
            let plan = Plan::new(&graph, &shapes, &Cpu::new().unwrap(), &Weights::new(), limits, &division).unwrap();
            assert_eq!(plan.fallbacks(), Vec::<String>::new());
            let mut scratch = plan.scratch().unwrap();
            plan.run(&mut scratch, &tensors).unwrap();
            scratch.output(0).unwrap().as_bytes().to_vec()
        };
        let alone = plan(false, 1);
        for threads in [1, 3] {
            assert!(plan(true, threads) == alone, "round {round}: {rows} x {cols} by {threads}, {steps:?}");
        }
    }
}
