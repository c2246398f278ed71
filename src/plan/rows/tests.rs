//! Graphs whose rows keep apart, and graphs whose rows mix.

use super::*;
use crate::ops::Op;
use crate::ops::create::{ConstantOfShape, Range};
use crate::ops::elementwise::{Binary, BinaryKind, Cast, Unary, UnaryKind};
use crate::ops::index::{Gather, NonZero, Slice};
use crate::ops::layout::{Concat, Expand, Flatten, Reshape, ShapeOf, Squeeze, Tile, Transpose, Unsqueeze};
use crate::ops::matrix::{Einsum, Gemm, MatMul};
use crate::ops::nn::{
    BatchNormalization, Conv, LayerNormalization, MeanVarianceNormalization, Padding, Pool, PoolKind, Softmax,
};
use crate::ops::quant::DynamicQuantizeLinear;
use crate::ops::recurrent::{Activation, Direction, Lstm, Recurrence};
use crate::ops::reduce::{ArgExtreme, CumSum, Reduce, ReduceKind, TopK};
use crate::tensor::{DType, Fact};

/// A graph under construction with its last value.
struct Case {
    graph: Graph,
    x: ValueId,
    rest: Vec<usize>,
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::vector(values.to_vec())
}

fn floats(shape: &[usize]) -> Tensor {
    Tensor::new(shape, (0..shape.iter().product()).map(|i: usize| i as f32 + 1.0).collect::<Vec<f32>>()).unwrap()
}

impl Case {
    /// Starts with an input `[N, rest..]`.
    fn new(rest: &[usize]) -> Self {
        let mut graph = Graph::new("case");
        let x = input(&mut graph, "x", rest);
        Case { graph, x, rest: rest.to_vec() }
    }

    fn then(mut self, op: impl Op, more: &[Tensor]) -> Self {
        let mut inputs = vec![self.x];
        for tensor in more {
            inputs.push(self.graph.constant("c", tensor.clone()).unwrap());
        }
        self.x = self.graph.op("y", op, &inputs).unwrap();
        self
    }

    /// The lengths of the input, and an operator on them.
    fn lengths(&mut self) -> ValueId {
        let x = self.graph.inputs()[0];
        self.graph.op("lengths", ShapeOf { start: 0, end: None }, &[x]).unwrap()
    }

    fn apart(mut self) -> bool {
        self.graph.output(self.x).unwrap();
        let labels = input_labels(&self.graph).unwrap();
        let shape: Shape = std::iter::once(7).chain(self.rest.iter().copied()).collect();
        let shapes = vec![shape; self.graph.inputs().len()];
        assert_eq!(rows_of(&labels, &shapes), Some(7));
        let large = self.graph.specialize(&shapes).unwrap();
        [1, 2, 3].into_iter().all(|few| match self.graph.specialize(&with_rows(&labels, &shapes, few)) {
            Ok(small) => keep_apart(&large, &small, (7, few), &labels),
            Err(_) => false,
        })
    }
}

fn input(graph: &mut Graph, name: &str, rest: &[usize]) -> ValueId {
    let mut dims = vec![Dim::Symbol(Symbol::new("N"))];
    dims.extend(rest.iter().map(|&d| Dim::Known(d)));
    graph.input(name, Fact::new(DType::F32, dims)).unwrap()
}

fn conv() -> Conv {
    Conv { padding: Padding::Valid, ..Conv::default() }
}

fn reduce(keep_dims: bool) -> Reduce {
    Reduce { kind: ReduceKind::Sum, keep_dims, noop_with_empty_axes: false }
}

#[test]
fn rows_that_keep_apart() {
    let relu = || Unary(UnaryKind::Relu);
    let mut cases = vec![
        ("relu", Case::new(&[4]).then(relu(), &[])),
        ("add", Case::new(&[4]).then(Binary(BinaryKind::Add), &[floats(&[4])])),
        ("add a row", Case::new(&[4]).then(Binary(BinaryKind::Add), &[floats(&[1, 4])])),
        ("product", Case::new(&[4]).then(MatMul, &[floats(&[4, 3])])),
        (
            "einsum",
            Case::new(&[2, 4])
                .then(Einsum { equation: "bxi, io -> xbo".into() }, &[floats(&[4, 3])])
                .then(Transpose { perm: Some(vec![1, 0, 2]) }, &[]),
        ),
        ("product of stacks", Case::new(&[2, 4]).then(MatMul, &[floats(&[4, 3])])),
        ("conv", Case::new(&[2, 5, 5]).then(conv(), &[floats(&[3, 2, 3, 3])])),
        ("softmax", Case::new(&[2, 4]).then(Softmax { axis: -1 }, &[])),
        ("norm", Case::new(&[4]).then(LayerNormalization { axis: -1, epsilon: 1e-5 }, &[floats(&[4]), floats(&[4])])),
        ("sum", Case::new(&[2, 4]).then(reduce(false), &[ints(&[1])])),
        ("sum kept", Case::new(&[2, 4]).then(reduce(true), &[ints(&[1, -1])])),
        ("there and back", {
            let turn = || Transpose { perm: Some(vec![1, 0, 2]) };
            Case::new(&[2, 4]).then(turn(), &[]).then(Softmax { axis: 0 }, &[]).then(turn(), &[])
        }),
        ("flat", Case::new(&[2, 4]).then(Flatten { axis: 1 }, &[])),
        ("folded in", {
            let shape = |list: &[i64]| [ints(list)];
            let folded = Case::new(&[6]).then(Reshape { allow_zero: false }, &shape(&[-1, 3]));
            folded.then(Softmax { axis: -1 }, &[]).then(Reshape { allow_zero: false }, &shape(&[-1, 6]))
        }),
        ("unsqueezed", Case::new(&[4]).then(Unsqueeze, &[ints(&[1])]).then(Squeeze, &[ints(&[1])])),
        ("sliced", Case::new(&[4]).then(Slice, &[ints(&[1]), ints(&[3]), ints(&[1])])),
        ("gathered", Case::new(&[4]).then(Gather { axis: 1 }, &[ints(&[0, 3])])),
        ("cumulated", Case::new(&[4]).then(CumSum { exclusive: false, reverse: false }, &[Tensor::scalar(1i64)])),
        ("tiled", Case::new(&[4]).then(Tile, &[ints(&[1, 2])])),
        ("arg max", Case::new(&[4]).then(ArgExtreme { max: true, axis: 1, keep_dims: false, select_last: false }, &[])),
        ("joined", {
            let mut case = Case::new(&[4]);
            case.x = case.graph.op("y", Concat { axis: 1 }, &[case.x, case.x]).unwrap();
            case
        }),
        ("scores", {
            let mut case = Case::new(&[3, 4]);
            let turned = case.graph.op("t", Transpose { perm: Some(vec![0, 2, 1]) }, &[case.x]).unwrap();
            case.x = case.graph.op("y", MatMul, &[case.x, turned]).unwrap();
            case
        }),
        ("two inputs", {
            let mut case = Case::new(&[4]);
            let second = input(&mut case.graph, "second", &[4]);
            case.x = case.graph.op("y", Binary(BinaryKind::Mul), &[case.x, second]).unwrap();
            case
        }),
    ];
    let mut zeros = Case::new(&[4]);
    let lengths = zeros.lengths();
    let filled = zeros.graph.op("zeros", ConstantOfShape { value: Tensor::scalar(2.0f32) }, &[lengths]).unwrap();
    zeros.x = zeros.graph.op("y", Binary(BinaryKind::Add), &[zeros.x, filled]).unwrap();
    cases.push(("a constant for each row", zeros));
    let mut spread = Case::new(&[4]);
    let lengths = spread.lengths();
    let row = spread.graph.constant("row", floats(&[1, 4])).unwrap();
    let rows = spread.graph.op("rows", Expand, &[row, lengths]).unwrap();
    spread.x = spread.graph.op("y", Concat { axis: 1 }, &[spread.x, rows]).unwrap();
    cases.push(("a row for each row", spread));
    let mut reshaped = Case::new(&[6]);
    let lengths = reshaped.lengths();
    reshaped = reshaped.then(Reshape { allow_zero: false }, &[ints(&[-1, 3, 2])]);
    reshaped.x = reshaped.graph.op("y", Reshape { allow_zero: false }, &[reshaped.x, lengths]).unwrap();
    cases.push(("back to the lengths of the input", reshaped));
    for (name, case) in cases {
        assert!(case.apart(), "{name}");
    }
}

#[test]
fn rows_that_mix_or_may() {
    let mut cases = vec![
        ("softmax over the batch", Case::new(&[4]).then(Softmax { axis: 0 }, &[])),
        ("sum over the batch", Case::new(&[4]).then(reduce(true), &[ints(&[0])])),
        ("einsum over the batch", Case::new(&[4]).then(Einsum { equation: "bi->i".into() }, &[])),
        ("einsum of every row with every row", {
            let mut case = Case::new(&[4]);
            let op = Einsum { equation: "bi,ci->bc".into() };
            case.x = case.graph.op("y", op, &[case.x, case.x]).unwrap();
            case
        }),
        ("sum of all", Case::new(&[4]).then(reduce(false), &[])),
        ("turned", Case::new(&[4]).then(Transpose { perm: None }, &[])),
        ("batch as depth", {
            let turned = Case::new(&[4]).then(Transpose { perm: None }, &[]);
            let mut case = turned;
            let x = case.graph.inputs()[0];
            case.x = case.graph.op("y", MatMul, &[case.x, x]).unwrap();
            case
        }),
        ("every row with every row", {
            let mut case = Case::new(&[4]);
            let turned = case.graph.op("t", Transpose { perm: None }, &[case.x]).unwrap();
            case.x = case.graph.op("y", MatMul, &[case.x, turned]).unwrap();
            case
        }),
        ("gemm of a transposed batch", {
            let mut case = Case::new(&[7]);
            let gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: true, trans_b: false };
            case.x = case.graph.op("y", gemm, &[case.x, case.x]).unwrap();
            case
        }),
        ("norm of the batch", {
            let norm = MeanVarianceNormalization { axes: vec![0, 2, 3] };
            Case::new(&[2, 3, 3]).then(norm, &[])
        }),
        ("norm in training", {
            let mut case = Case::new(&[2, 3]);
            let mut inputs = vec![Some(case.x)];
            inputs.extend((0..4).map(|_| Some(case.graph.constant("c", floats(&[2])).unwrap())));
            let norm = BatchNormalization { epsilon: 1e-5, momentum: 0.9, training: true };
            let made = case.graph.node("y", Arc::new(norm), &inputs, &[Some("y"), Some("m"), Some("v")]).unwrap();
            case.x = made[0].unwrap();
            case
        }),
        (
            "norm over the batch",
            Case::new(&[4]).then(LayerNormalization { axis: 0, epsilon: 1e-5 }, &[floats(&[7, 4])]),
        ),
        ("dynamic quantization", {
            let mut case = Case::new(&[4]);
            let names = [Some("y"), Some("scale"), Some("zero")];
            let made = case.graph.node("q", Arc::new(DynamicQuantizeLinear), &[Some(case.x)], &names).unwrap();
            case.x = made[0].unwrap();
            case
        }),
        ("top of the batch", {
            let mut case = Case::new(&[4]);
            let k = case.graph.constant("k", ints(&[1])).unwrap();
            let op = TopK { axis: 0, largest: true, sorted: true };
            let made = case.graph.node("t", Arc::new(op), &[Some(case.x), Some(k)], &[Some("v"), Some("i")]).unwrap();
            case.x = made[0].unwrap();
            case
        }),
        ("where it is not zero", Case::new(&[4]).then(NonZero, &[]).then(Transpose { perm: None }, &[])),
        ("reversed", Case::new(&[4]).then(Slice, &[ints(&[-1]), ints(&[i64::MIN]), ints(&[0]), ints(&[-1])])),
        (
            "cumulated over the batch",
            Case::new(&[4]).then(CumSum { exclusive: false, reverse: false }, &[Tensor::scalar(0i64)]),
        ),
        ("rows folded together", Case::new(&[4]).then(Reshape { allow_zero: false }, &[ints(&[4, -1])])),
        ("indices through the batch", {
            let mut case = Case::new(&[1, 4, 4]);
            let pool = Pool {
                kind: PoolKind::Max { storage_order: false },
                kernel: vec![2, 2],
                strides: vec![2, 2],
                dilations: vec![],
                padding: Padding::Valid,
                ceil_mode: false,
            };
            let made = case.graph.node("p", Arc::new(pool), &[Some(case.x)], &[Some("y"), Some("i")]).unwrap();
            case.x = made[1].unwrap();
            case
        }),
        ("joined along the batch", {
            let mut case = Case::new(&[4]);
            case.x = case.graph.op("y", Concat { axis: 0 }, &[case.x, case.x]).unwrap();
            case
        }),
        ("one row picked", Case::new(&[4]).then(Gather { axis: 0 }, &[ints(&[0])])),
        ("a weight for each place in the batch", Case::new(&[4]).then(Binary(BinaryKind::Add), &[floats(&[7, 4])])),
    ];
    let mut mean = Case::new(&[4]);
    let lengths = mean.lengths();
    let first = mean.graph.constant("0", ints(&[0])).unwrap();
    let rows = mean.graph.op("rows", Gather { axis: 0 }, &[lengths, first]).unwrap();
    let rows = mean.graph.op("float", Cast { to: DType::F32 }, &[rows]).unwrap();
    mean.x = mean.graph.op("y", Binary(BinaryKind::Div), &[mean.x, rows]).unwrap();
    cases.push(("divided by the number of rows", mean));
    let mut numbered = Case::new(&[4]);
    let lengths = numbered.lengths();
    let at = |graph: &mut Graph, value: i64| graph.constant("c", Tensor::scalar(value)).unwrap();
    let (zero, one) = (at(&mut numbered.graph, 0), at(&mut numbered.graph, 1));
    let rows = numbered.graph.op("rows", Gather { axis: 0 }, &[lengths, zero]).unwrap();
    let numbers = numbered.graph.op("numbers", Range, &[zero, rows, one]).unwrap();
    let axes = numbered.graph.constant("axes", ints(&[1])).unwrap();
    let numbers = numbered.graph.op("upright", Unsqueeze, &[numbers, axes]).unwrap();
    let numbers = numbered.graph.op("f", Cast { to: DType::F32 }, &[numbers]).unwrap();
    numbered.x = numbered.graph.op("y", Binary(BinaryKind::Add), &[numbered.x, numbers]).unwrap();
    cases.push(("rows that are numbered", numbered));
    for (name, case) in cases {
        assert!(!case.apart(), "{name}");
    }
}

#[test]
fn sequences_in_front_of_the_batch() {
    let build = |turned: bool| {
        let mut case = Case::new(&[5, 3]);
        if turned {
            case = case.then(Transpose { perm: Some(vec![1, 0, 2]) }, &[]);
        }
        let recurrence = Recurrence {
            hidden_size: None,
            direction: Direction::Forward,
            batch_first: false,
            activations: vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
            clip: None,
        };
        let w = case.graph.constant("w", floats(&[1, 8, 3])).unwrap();
        let r = case.graph.constant("r", floats(&[1, 8, 2])).unwrap();
        let op = Lstm { recurrence, input_forget: false };
        let inputs = [Some(case.x), Some(w), Some(r)];
        let made = case.graph.node("lstm", Arc::new(op), &inputs, &[None, Some("h"), None]).unwrap();
        case.x = made[1].unwrap();
        case.then(Transpose { perm: Some(vec![1, 0, 2]) }, &[])
    };
    assert!(build(true).apart());
    // Here the batch stands where the sequence belongs.
    assert!(!build(false).apart());
}

#[test]
fn a_batch_that_is_not_in_front_has_no_labels() {
    let mut graph = Graph::new("state");
    input(&mut graph, "x", &[4]);
    let n = || Dim::Symbol(Symbol::new("N"));
    graph.input("state", Fact::new(DType::F32, vec![Dim::Known(2), n(), Dim::Known(3)])).unwrap();
    assert!(input_labels(&graph).is_none());
}
