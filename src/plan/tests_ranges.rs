//! A step tells the range of what it yields, and a quantization takes it, as if the tensor itself were gone through: whatever
//! the kernel, and however the steps are divided.

use super::*;
use crate::backend::cpu::Cpu;
use crate::graph::ValueId;
use crate::ops::Inputs;
use crate::ops::Op;
use crate::ops::elementwise::{Unary, UnaryKind};
use crate::ops::fused::{Activation, ChannelsLast, Epilogue, Linear, QuantizeRanged, Quantized, Ranged};
use crate::ops::matrix::MatMul;
use crate::ops::nn::{Conv, LayerNormalization, Padding, Softmax};
use crate::ops::quant::DynamicQuantizeLinear;
use crate::tensor::{DType, Fact};

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let element = |i: usize| ((i * 31 + seed * 7) % 101) as f32 / 20.0 - 2.5;
    Tensor::new(shape, (0..shape.iter().product()).map(element).collect::<Vec<f32>>()).unwrap()
}

fn bytes(shape: &[usize]) -> Vec<u8> {
    (0..shape.iter().product()).map(|i: usize| (i * 37 % 251) as u8).collect()
}

/// An operator and its inputs: the first is the graph's, the others are constants.
type Case = (&'static str, Arc<dyn Op>, Vec<Tensor>);

fn product(rows: usize, depth: usize, columns: usize) -> Case {
    let op = Epilogue {
        bias: true,
        activation: Some(Activation::Unary(UnaryKind::Gelu { tanh: false })),
        ..Epilogue::of(Arc::new(MatMul), 2)
    };
    let inputs = vec![numbers(&[rows, depth], 1), numbers(&[depth, columns], 2), numbers(&[columns], 3)];
    ("a product", Arc::new(op), inputs)
}

fn of_bytes(rows: usize, depth: usize, columns: usize, function: Option<Activation>) -> Case {
    let epilogue = Epilogue { bias: true, activation: function, ..Epilogue::of(Arc::new(MatMul), 2) };
    let linear = |index: usize| Some(Linear { scale: 3 + 2 * index, zero_point: 4 + 2 * index, axis: 1 });
    let op = Quantized { op: Arc::new(epilogue), arity: 3, inputs: vec![linear(0), linear(1), None], output: None };
    let x = Tensor::new([rows, depth], bytes(&[rows, depth])).unwrap();
    let w = bytes(&[depth, columns]).into_iter().map(|b| b as i8).collect::<Vec<i8>>();
    let inputs = vec![
        x,
        Tensor::new([depth, columns], w).unwrap(),
        numbers(&[columns], 4),
        Tensor::scalar(0.02f32),
        Tensor::scalar(120u8),
        Tensor::scalar(0.005f32),
        Tensor::scalar(0i8),
    ];
    ("a product of bytes", Arc::new(op), inputs)
}

/// Images of a size, filters of `[filters, channels / groups, kernel, kernel]`, in f32 or in bytes.
fn convolution(size: [usize; 3], filters: [usize; 3], group: usize, quantized: bool, function: UnaryKind) -> Case {
    let [height, width, channels] = size;
    let [count, own, kernel] = filters;
    let edge = vec![kernel as i64 / 2; 2];
    let padding = Padding::Explicit { begin: edge.clone(), end: edge };
    let conv = Conv { group, padding, ..Conv::default() };
    let activation = Some(Activation::Unary(function));
    let op: Arc<dyn Op> = Arc::new(Epilogue { activation, ..Epilogue::of(Arc::new(conv), 3) });
    let (image, weight) = ([2, height, width, channels], [count, own, kernel, kernel]);
    if !quantized {
        let inputs = vec![numbers(&image, 1), numbers(&weight, 2), numbers(&[count], 3)];
        return ("a convolution", Arc::new(ChannelsLast { op, images: vec![0] }), inputs);
    }
    let linear = |index: usize| Some(Linear { scale: 3 + 2 * index, zero_point: 4 + 2 * index, axis: 0 });
    let op = Arc::new(Quantized { op, arity: 3, inputs: vec![linear(0), linear(1), None], output: None });
    let inputs = vec![
        Tensor::new(image, bytes(&image)).unwrap(),
        Tensor::new(weight, bytes(&weight).into_iter().map(|b| b as i8).collect::<Vec<i8>>()).unwrap(),
        numbers(&[count], 4),
        Tensor::scalar(0.02f32),
        Tensor::scalar(120u8),
        Tensor::scalar(0.005f32),
        Tensor::scalar(0i8),
    ];
    ("a convolution of bytes", Arc::new(ChannelsLast { op, images: vec![0] }), inputs)
}

fn cases() -> Vec<Case> {
    let strange = |rows: usize| {
        let mut strange = numbers(&[rows, 40], 6).as_slice::<f32>().unwrap().to_vec();
        (strange[50], strange[100]) = (f32::NAN, 40.0);
        Tensor::new([rows, 40], strange).unwrap()
    };
    vec![
        // Divided by columns, by rows, and not at all.
        product(8, 24, 300),
        product(80, 12, 33),
        ("products of a batch", Arc::new(MatMul), vec![numbers(&[4, 30, 8], 1), numbers(&[4, 8, 20], 2)]),
        of_bytes(8, 80, 300, None),
        of_bytes(80, 12, 33, Some(Activation::Unary(UnaryKind::Relu))),
        of_bytes(40, 16, 20, Some(Activation::Unary(UnaryKind::Tanh))),
        (
            "a normalization",
            Arc::new(LayerNormalization { axis: -1, epsilon: 1e-5 }),
            vec![numbers(&[60, 40], 5), numbers(&[40], 6)],
        ),
        convolution([6, 7, 16], [40, 16, 1], 1, false, UnaryKind::Sigmoid),
        convolution([9, 8, 32], [32, 32, 3], 1, false, UnaryKind::HardSwish),
        convolution([7, 7, 24], [24, 1, 3], 24, false, UnaryKind::Tanh),
        convolution([3, 3, 20], [150, 20, 1], 1, false, UnaryKind::Relu),
        convolution([9, 8, 3], [20, 3, 3], 1, true, UnaryKind::Sigmoid),
        convolution([9, 8, 32], [32, 32, 3], 1, true, UnaryKind::HardSwish),
        convolution([3, 11, 72], [72, 1, 3], 72, true, UnaryKind::Relu),
        convolution([6, 7, 12], [12, 1, 5], 12, true, UnaryKind::Relu),
        ("a softmax", Arc::new(Softmax { axis: -1 }), vec![numbers(&[30, 70], 5)]),
        ("a map", Arc::new(Unary(UnaryKind::Neg)), vec![strange(60)]),
        ("a small map", Arc::new(Unary(UnaryKind::Neg)), vec![strange(9)]),
    ]
}

fn graph((name, op, inputs): &Case) -> Graph {
    let mut graph = Graph::new("ranges");
    let x = graph.input("x", Fact::concrete(inputs[0].dtype(), inputs[0].shape())).unwrap();
    let mut operands = vec![Some(x)];
    operands.extend(inputs[1..].iter().map(|t| Some(graph.constant("c", t.clone()).unwrap())));
    let made = graph.node(name, Arc::new(Ranged { op: op.clone() }), &operands, &[Some("y"), Some("r")]).unwrap();
    let names = [Some("q"), Some("scale"), Some("zero")];
    let quantized = graph.node("q", Arc::new(QuantizeRanged), &made, &names).unwrap();
    for value in made.iter().take(1).chain(&quantized) {
        graph.output(value.unwrap() as ValueId).unwrap();
    }
    graph
}

#[test]
fn ranges_are_those_of_the_tensor() {
    let limits = RunLimits { bytes: 1 << 30, steps: 1000 };
    for case in cases() {
        let (graph, x) = (graph(&case), &case.2[0]);
        let alone =
            case.1.eval(Inputs::new(&case.2.iter().map(Some).collect::<Vec<_>>()), &Budget::generous()).unwrap();
        let mut first: Option<Vec<u8>> = None;
        for threads in [1, 3] {
            let division = Division { threads: Threads::eager(threads), micro_batch: None };
            let shapes = [x.shape().clone()];
            let plan = Plan::new(&graph, &shapes, &Cpu::new().unwrap(), &Weights::new(), limits, &division).unwrap();
            assert_eq!(plan.fallbacks(), Vec::<String>::new(), "{}", case.0);
            let mut scratch = plan.scratch().unwrap();
            plan.run(&mut scratch, std::slice::from_ref(x)).unwrap();
            let [y, q, scale, zero] = [0, 1, 2, 3].map(|index| scratch.output(index).unwrap());
            assert_eq!(y.dtype(), DType::F32);
            let dynamic = DynamicQuantizeLinear.eval(Inputs::new(&[Some(&y)]), &Budget::generous()).unwrap();
            assert_eq!(vec![scale, zero], dynamic[1..], "{} by {threads}", case.0);
            // What is no number has no byte either.
            let bytes = [&q, &dynamic[0]].map(|q| q.as_slice::<u8>().unwrap());
            let known = |at: &usize| !y.as_slice::<f32>().unwrap()[*at].is_nan();
            let same = (0..y.len()).filter(known).all(|at| bytes[0][at] == bytes[1][at]);
            assert!(same, "{} by {threads}: {q:?} is not {:?}", case.0, dynamic[0]);
            let bits = first.get_or_insert_with(|| y.as_bytes().to_vec());
            assert!(bits == y.as_bytes(), "{} by {threads} has other bits", case.0);
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs().max(1.0) || a.is_nan() && b.is_nan();
            let (y, expected) = (y.as_slice::<f32>().unwrap(), alone[0].as_slice::<f32>().unwrap());
            assert!(y.iter().zip(expected).all(close), "{} is something else", case.0);
        }
    }
}
