//! Divided plans answer as whole ones do, bit for bit, on any number of threads.

use super::*;
use crate::backend::cpu::Cpu;
use crate::graph::ValueId;
use crate::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use crate::ops::layout::{Flatten, Transpose};
use crate::ops::matrix::MatMul;
use crate::ops::nn::{Conv, GlobalPool, GlobalPoolKind, Padding, Softmax};
use crate::passes;
use crate::tensor::{Dim, Fact, Symbol};

fn numbers(shape: &[usize], seed: f32) -> Tensor {
    let elements: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin() * 0.4).collect();
    Tensor::new(shape, elements).unwrap()
}

fn input(graph: &mut Graph, rest: &[usize]) -> ValueId {
    let dims = std::iter::once(Dim::Symbol(Symbol::new("N"))).chain(rest.iter().map(|&d| Dim::Known(d)));
    graph.input("x", Fact::new(DType::F32, dims.collect())).unwrap()
}

fn layers() -> Graph {
    let mut g = Graph::new("layers");
    let x = input(&mut g, &[37]);
    let (w, v) = (g.constant("w", numbers(&[37, 65], 0.3)).unwrap(), g.constant("v", numbers(&[65, 5], 0.7)).unwrap());
    let y = g.op("a", MatMul, &[x, w]).unwrap();
    let y = g.op("b", Unary(UnaryKind::Tanh), &[y]).unwrap();
    let y = g.op("c", MatMul, &[y, v]).unwrap();
    g.output(y).unwrap();
    g.output(x).unwrap();
    g
}

fn images() -> Graph {
    let mut g = Graph::new("images");
    let x = input(&mut g, &[3, 8, 9]);
    let pad = Padding::Explicit { begin: vec![1, 1], end: vec![1, 1] };
    let conv = Conv { padding: pad, ..Conv::default() };
    let (w, v) =
        (g.constant("w", numbers(&[17, 3, 3, 3], 0.3)).unwrap(), g.constant("v", numbers(&[17, 17, 3, 3], 0.7)));
    let a = g.op("a", conv.clone(), &[x, w]).unwrap();
    let b = g.op("b", conv, &[a, v.unwrap()]).unwrap();
    let c = g.op("c", Binary(BinaryKind::Add), &[a, b]).unwrap();
    let d = g.op("d", GlobalPool { kind: GlobalPoolKind::Average }, &[c]).unwrap();
    let e = g.op("e", Flatten { axis: 1 }, &[d]).unwrap();
    g.output(e).unwrap();
    g
}

fn scores() -> Graph {
    let mut g = Graph::new("scores");
    let x = input(&mut g, &[9, 16]);
    let turned = g.op("t", Transpose { perm: Some(vec![0, 2, 1]) }, &[x]).unwrap();
    let scores = g.op("s", MatMul, &[x, turned]).unwrap();
    let p = g.op("p", Softmax { axis: -1 }, &[scores]).unwrap();
    let y = g.op("y", MatMul, &[p, x]).unwrap();
    g.output(y).unwrap();
    g
}

const LIMITS: RunLimits = RunLimits { bytes: 1 << 30, steps: 1000 };

fn plan(graph: &Graph, shape: &Shape, threads: usize, micro_batch: Option<usize>) -> Plan {
    let division = Division { threads: Threads::eager(threads), micro_batch };
    let shapes = vec![shape.clone(); graph.inputs().len()];
    Plan::new(graph, &shapes, &Cpu::new().unwrap(), &Weights::new(), LIMITS, &division).unwrap()
}

fn answers(plan: &Plan, scratch: &mut Scratch, x: &Tensor) -> Vec<u8> {
    plan.run(scratch, std::slice::from_ref(x)).unwrap();
    (0..plan.outputs().len()).flat_map(|i| scratch.output(i).unwrap().as_bytes().to_vec()).collect()
}

#[test]
fn a_split_batch_is_the_whole_batch_is_the_rows_alone() {
    for (mut graph, rest) in [(layers(), vec![37]), (images(), vec![3, 8, 9]), (scores(), vec![9, 16])] {
        passes::optimize(&mut graph).unwrap();
        for rows in [1, 2, 5, 8] {
            let shape: Shape = std::iter::once(rows).chain(rest.iter().copied()).collect();
            let x = numbers(&shape, 0.11 + rows as f32);
            let whole = plan(&graph, &shape, 1, Some(rows));
            assert_eq!(whole.micro_batch(), None);
            let expected = answers(&whole, &mut whole.scratch().unwrap(), &x);
            let one: Shape = std::iter::once(1).chain(rest.iter().copied()).collect();
            let single = plan(&graph, &one, 1, None);
            let mut scratch = single.scratch().unwrap();
            for row in 0..rows {
                single.run(&mut scratch, &[x.rows(row..row + 1).unwrap()]).unwrap();
                let alone = scratch.output_bytes(0).unwrap();
                assert_eq!(alone, &expected[row * alone.len()..(row + 1) * alone.len()], "row {row} of {rows}");
            }
            for threads in [1, 2, 3] {
                for micro in [1, 2, 3, 4].into_iter().filter(|micro| *micro < rows) {
                    let split = plan(&graph, &shape, threads, Some(micro));
                    assert!(split.micro_batch().is_some_and(|rows| rows <= micro), "{} of {rows}", graph.name());
                    let mut scratch = split.scratch().unwrap();
                    for _ in 0..3 {
                        let got = answers(&split, &mut scratch, &x);
                        assert_eq!(got, expected, "{} of {rows} in {micro} on {threads}", graph.name());
                    }
                }
            }
        }
    }
}

#[test]
fn there_are_no_outputs_before_a_run() {
    let (graph, x) = (layers(), numbers(&[3, 37], 0.1));
    let plan = plan(&graph, x.shape(), 1, None);
    let mut scratch = plan.scratch().unwrap();
    let early = [scratch.output(0).map(|_| ()), scratch.output_bytes(0).map(|_| ()), scratch.output(9).map(|_| ())];
    for error in early {
        assert_eq!(error.unwrap_err().kind(), crate::ErrorKind::InvalidInput);
    }
    plan.run(&mut scratch, std::slice::from_ref(&x)).unwrap();
    assert_eq!(scratch.output(1).unwrap(), x);
    assert!(scratch.output(9).is_err());
}

#[test]
fn rows_that_mix_are_run_whole() {
    let mut g = Graph::new("mixed");
    let x = input(&mut g, &[4]);
    let y = g.op("y", Softmax { axis: 0 }, &[x]).unwrap();
    g.output(y).unwrap();
    assert_eq!(plan(&g, &Shape::from([6, 4]), 2, Some(2)).micro_batch(), None);
}

#[test]
fn a_failure_in_one_micro_batch_fails_the_run() {
    let mut g = Graph::new("picks");
    let dims = vec![Dim::Symbol(Symbol::new("N"))];
    let x = g.input("x", Fact::new(DType::I64, dims)).unwrap();
    let table = g.constant("table", numbers(&[5, 3], 0.3)).unwrap();
    let y = g.op("y", crate::ops::index::Gather { axis: 0 }, &[table, x]).unwrap();
    g.output(y).unwrap();
    for threads in [1, 2] {
        let plan = plan(&g, &Shape::from([6]), threads, Some(2));
        assert_eq!(plan.micro_batch(), Some(2));
        let mut scratch = plan.scratch().unwrap();
        let bad = Tensor::vector(vec![0i64, 1, 2, 99, 4, 0]);
        assert_eq!(plan.run(&mut scratch, &[bad]).unwrap_err().kind(), crate::ErrorKind::InvalidInput);
        let good = Tensor::vector(vec![0i64, 1, 2, 3, 4, 0]);
        plan.run(&mut scratch, &[good]).unwrap();
        let first = scratch.output(0).unwrap();
        assert_eq!(first.as_slice::<f32>().unwrap()[..3], first.as_slice::<f32>().unwrap()[15..]);
    }
}

#[test]
fn a_profile_of_a_split_plan_is_of_whole_runs() {
    let mut graph = images();
    passes::optimize(&mut graph).unwrap();
    let shape = Shape::from([6, 3, 8, 9]);
    let plan = plan(&graph, &shape, 2, Some(2));
    let mut profile = Profile::new();
    let mut scratch = plan.scratch().unwrap();
    for _ in 0..2 {
        plan.run_profiled(&mut scratch, &[numbers(&shape, 0.3)], &mut profile).unwrap();
    }
    assert_eq!(profile.runs, 2);
    assert!(!profile.steps.is_empty());
}

#[test]
fn a_lone_request_is_divided_inside_its_operators() {
    for (mut graph, rest) in [
        (layers(), vec![37]),
        (images(), vec![3, 8, 9]),
        (scores(), vec![9, 16]),
        (wide(), vec![3]),
        (filters(), vec![1, 4, 4]),
    ] {
        for optimized in [true, false] {
            if optimized {
                passes::optimize(&mut graph).unwrap();
            }
            for rows in [1, 3] {
                let shape: Shape = std::iter::once(rows).chain(rest.iter().copied()).collect();
                let x = numbers(&shape, 0.17);
                // As many rows at once as there are: nothing is left to divide but the operators.
                let serial = plan(&graph, &shape, 1, Some(rows));
                let expected = answers(&serial, &mut serial.scratch().unwrap(), &x);
                for threads in [2, 3, 7] {
                    let divided = plan(&graph, &shape, threads, Some(rows));
                    let mut scratch = divided.scratch().unwrap();
                    for _ in 0..10 {
                        let got = answers(&divided, &mut scratch, &x);
                        assert_eq!(got, expected, "{} of {rows} on {threads}", graph.name());
                    }
                    assert!(divided.threads.started());
                }
            }
        }
    }
}

/// One channel and many filters.
fn filters() -> Graph {
    let mut g = Graph::new("filters");
    let x = input(&mut g, &[1, 4, 4]);
    let conv = Conv { padding: Padding::Valid, ..Conv::default() };
    let (w, v) =
        (g.constant("w", numbers(&[200, 1, 3, 3], 0.3)).unwrap(), g.constant("v", numbers(&[150, 200, 1, 1], 0.7)));
    let y = g.op("a", conv.clone(), &[x, w]).unwrap();
    let y = g.op("b", conv, &[y, v.unwrap()]).unwrap();
    g.output(y).unwrap();
    g
}

/// Few rows and many columns, then many reshaped rows: products by columns, sums, softmax, a pool of none.
fn wide() -> Graph {
    let mut g = Graph::new("wide");
    let x = input(&mut g, &[3]);
    let (w, b) = (g.constant("w", numbers(&[3, 1030], 0.3)).unwrap(), g.constant("b", numbers(&[1030], 0.9)).unwrap());
    let y = g.op("a", MatMul, &[x, w]).unwrap();
    let y = g.op("b", Binary(BinaryKind::Add), &[y, b]).unwrap();
    let z = g.op("c", Unary(UnaryKind::Sigmoid), &[y]).unwrap();
    let z = g.op("d", Binary(BinaryKind::Mul), &[y, z]).unwrap();
    let shape = g.constant("shape", Tensor::vector(vec![-1i64, 103, 10])).unwrap();
    let z = g.op("e", crate::ops::layout::Reshape { allow_zero: false }, &[z, shape]).unwrap();
    let p = g.op("f", Softmax { axis: -1 }, &[z]).unwrap();
    let q = g.op("g", Softmax { axis: 1 }, &[z]).unwrap();
    let z = g.op("h", crate::ops::layout::Concat { axis: 2 }, &[p, q]).unwrap();
    let t = g.op("i", Transpose { perm: Some(vec![2, 0, 1]) }, &[z]).unwrap();
    g.output(t).unwrap();
    g.output(z).unwrap();
    g
}

#[test]
fn one_thread_starts_no_threads() {
    let shape = Shape::from([3, 37]);
    let plan = plan(&layers(), &shape, 1, None);
    plan.run(&mut plan.scratch().unwrap(), &[numbers(&shape, 0.3)]).unwrap();
    assert!(!plan.threads.started());
}

#[test]
fn an_error_in_a_part_of_a_step_is_the_error_of_the_run() {
    let mut g = Graph::new("picks");
    let x = g.input("x", Fact::concrete(DType::I64, &[4000])).unwrap();
    let table = g.constant("table", numbers(&[5, 3], 0.3)).unwrap();
    let picked = g.op("picked", crate::ops::index::Gather { axis: 0 }, &[table, x]).unwrap();
    let y = g.op("y", Unary(UnaryKind::Exp), &[picked]).unwrap();
    g.output(y).unwrap();
    let plan = plan(&g, &Shape::from([4000]), 2, None);
    let mut scratch = plan.scratch().unwrap();
    for at in [0, 3999] {
        let mut indices = vec![1i64; 4000];
        indices[at] = 77;
        let error = plan.run(&mut scratch, &[Tensor::vector(indices)]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("picked"), "{error}");
    }
    plan.run(&mut scratch, &[Tensor::vector(vec![1i64; 4000])]).unwrap();
}

/// `x` and four outputs that each are as long.
fn maps() -> Graph {
    let mut g = Graph::new("maps");
    let x = input(&mut g, &[]);
    for kind in [UnaryKind::Relu, UnaryKind::Exp, UnaryKind::Abs, UnaryKind::Neg] {
        let y = g.op(format!("{kind:?}").as_str(), Unary(kind), &[x]).unwrap();
        g.output(y).unwrap();
    }
    g
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let make = |rows: usize, bytes: usize| {
        let limits = RunLimits { bytes, ..LIMITS };
        let division = Division { threads: Threads::serial(), micro_batch: None };
        Plan::new(&maps(), &[Shape::from([rows])], &Cpu::new().unwrap(), &Weights::new(), limits, &division)
    };
    // Past the limit only together.
    assert!(make(1000, 16_000).is_ok());
    let error = make(1000, 15_000).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Limit, "{error}");
    // Within a limit that is none, but more than a process can address.
    let plan = make(1 << 46, usize::MAX).unwrap();
    let error = plan.scratch().unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Limit, "{error}");
    // More bytes than can be counted.
    let error = make(usize::MAX / 4, usize::MAX).and_then(|plan| plan.scratch()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Limit, "{error}");
}
