//! Steps whose constants let a kernel take them answer as the reference does, which the node suite cannot show: there,
//! weights are inputs.

use onrush::graph::{Graph, ValueId};
use onrush::ops::attention::Attention;
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::image::{AspectPolicy, Coordinates, Filter, Nearest, Resize};
use onrush::ops::nn::{ConvTranspose, Padding};
use onrush::ops::recurrent::{Activation, Direction, Gru, Lstm, Recurrence};
use onrush::{CompileOptions, DType, Fact, Model, Tensor};
use std::sync::Arc;

/// Numbers in -1..1, other ones for another seed.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let element = |i: usize| ((i * 37 + seed * 101 + i * i % 13 * 5) % 128) as f32 / 64.0 - 1.0;
    Tensor::new(shape, (0..len).map(element).collect::<Vec<f32>>()).unwrap()
}

/// Compiles the graph, sees that a kernel took every step, and compares with the interpreter.
fn check(graph: Graph, inputs: &[Tensor], what: &str) {
    let expected = graph.interpret(inputs).unwrap();
    let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape().clone()).collect();
    let plan = model.plan(&shapes).unwrap();
    assert!(plan.fallbacks().is_empty(), "{what}: {:?}", plan.fallbacks());
    let got = model.run(inputs).unwrap().into_vec();
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.shape(), expected.shape(), "{what}");
        let pairs = got.to_f64_vec().unwrap().into_iter().zip(expected.to_f64_vec().unwrap());
        for (at, (got, expected)) in pairs.enumerate() {
            assert!((got - expected).abs() < 1e-4, "{what}: element {at} is {got}, not {expected}");
        }
    }
}

fn recurrence(direction: Direction, batch_first: bool, clip: Option<f32>, cell: &[Activation]) -> Recurrence {
    let activations = cell.repeat(direction.count());
    Recurrence { hidden_size: None, direction, batch_first, activations, clip }
}

#[test]
fn recurrent_networks() {
    let (length, batch, width, hidden) = (5, 2, 3, 9);
    let cases = [Direction::Forward, Direction::Reverse, Direction::Bidirectional].into_iter().flat_map(|direction| {
        let forms = [(false, None, false), (true, Some(0.5), false), (false, None, true), (true, None, true)];
        forms.into_iter().flat_map(move |form| [4, 3].map(|gates| (direction, form, gates)))
    });
    for (direction, (batch_first, clip, full), gates) in cases {
        let count = direction.count();
        let x_shape = if batch_first { [batch, length, width] } else { [length, batch, width] };
        let state = if batch_first { [batch, count, hidden] } else { [count, batch, hidden] };
        let mut graph = Graph::new("recurrent");
        let x = graph.input("x", Fact::concrete(DType::F32, &x_shape)).unwrap();
        let mut constant = |shape: &[usize], seed| Some(graph.constant("c", numbers(shape, seed)).unwrap());
        let mut inputs: Vec<Option<ValueId>> = vec![Some(x)];
        inputs.push(constant(&[count, gates * hidden, width], 1));
        inputs.push(constant(&[count, gates * hidden, hidden], 2));
        if full {
            inputs.extend([constant(&[count, 2 * gates * hidden], 3), None, constant(&state, 4)]);
            if gates == 4 {
                inputs.extend([constant(&state, 5), constant(&[count, 3 * hidden], 6)]);
            }
        }
        let (sigmoid, tanh) = (Activation::Sigmoid, Activation::Tanh);
        let (op, names): (std::sync::Arc<dyn onrush::ops::Op>, &[_]) = if gates == 4 {
            let recurrence = recurrence(direction, batch_first, clip, &[sigmoid, tanh, tanh]);
            (std::sync::Arc::new(Lstm { recurrence, input_forget: clip.is_some() }), &[Some("y"), Some("h"), Some("c")])
        } else {
            let recurrence = recurrence(direction, batch_first, clip, &[sigmoid, tanh]);
            let linear_before_reset = batch_first != full;
            (std::sync::Arc::new(Gru { recurrence, linear_before_reset }), &[Some("y"), Some("h")])
        };
        for output in graph.node("node", op, &inputs, names).unwrap().into_iter().flatten() {
            graph.output(output).unwrap();
        }
        let what = format!("{direction:?}, batch first {batch_first}, clip {clip:?}, full {full}, {gates} gates");
        check(graph, &[numbers(&x_shape, 7)], &what);
    }
}

#[test]
fn attention() {
    let (batch, heads, shared, queries, keys, size) = (2, 4, 2, 6, 7, 5);
    let truth: Vec<bool> = (0..queries * keys).map(|i| i / keys != 2 && i % 3 != 0).collect();
    let masks = [
        None,
        Some(Tensor::new([queries, keys], truth).unwrap()),
        Some(numbers(&[batch, 1, 1, keys], 4)),
        Some(numbers(&[1, heads, queries, keys], 5)),
    ];
    for (case, mask) in masks.into_iter().enumerate() {
        for (merged, is_causal) in [(false, false), (true, true)] {
            let shape = |heads: usize, length: usize| match merged {
                true => vec![batch, length, heads * size],
                false => vec![batch, heads, length, size],
            };
            let mut graph = Graph::new("attention");
            let tensors = [numbers(&shape(heads, queries), 1), numbers(&shape(shared, keys), 2)];
            let tensors = [tensors[0].clone(), tensors[1].clone(), numbers(&shape(shared, keys), 3)];
            let mut inputs: Vec<ValueId> = Vec::new();
            for (name, tensor) in ["q", "k", "v"].into_iter().zip(&tensors) {
                inputs.push(graph.input(name, Fact::concrete(DType::F32, tensor.shape())).unwrap());
            }
            if let Some(mask) = &mask {
                inputs.push(graph.constant("mask", mask.clone()).unwrap());
            }
            let op = Attention {
                is_causal,
                q_num_heads: Some(heads),
                kv_num_heads: Some(shared),
                scale: (case == 2).then_some(0.7),
                softcap: if case == 3 { 0.8 } else { 0.0 },
                softmax_precision: None,
                qk_output: None,
                left_window: None,
                right_window: None,
            };
            let y = graph.op("y", op, &inputs).unwrap();
            graph.output(y).unwrap();
            check(graph, &tensors, &format!("mask {case}, merged {merged}"));
        }
    }
}

#[test]
fn products_in_bfloat16_are_asked_for() {
    let mut graph = Graph::new("product");
    let x = graph.input("x", Fact::concrete(DType::F32, &[6, 300])).unwrap();
    let w = graph.constant("w", numbers(&[300, 70], 2)).unwrap();
    let y = graph.op("y", onrush::ops::matrix::MatMul, &[x, w]).unwrap();
    graph.output(y).unwrap();
    // Numbers that bfloat16 does not hold.
    let x = numbers(&[6, 300], 1).to_f32_vec().unwrap().iter().map(|v| v * 1.01).collect::<Vec<_>>();
    let x = Tensor::new([6, 300], x).unwrap();
    let run = |options: CompileOptions| {
        let model = Model::from_graph(graph.clone()).unwrap().compile(&options).unwrap();
        model.run([x.clone()]).unwrap().into_vec()[0].to_f32_vec().unwrap()
    };
    let (exact, rounded) = (run(CompileOptions::new()), run(CompileOptions::new().bfloat16(true)));
    assert_ne!(exact, rounded);
    assert_eq!(rounded, run(CompileOptions::new().bfloat16(true).threads(2).micro_batch(1)));
    for (rounded, exact) in rounded.iter().zip(&exact) {
        assert!((rounded - exact).abs() < 300.0 / 512.0 * (2.0f32 / 300.0).sqrt() * 4.0, "{rounded} for {exact}");
    }
}

#[test]
fn weights_in_float16_answer_bit_for_bit_however_many_the_rows() {
    // Large enough that few rows read it in float16, which many do not.
    let (k, n) = (1030, 520);
    let w = numbers(&[k, n], 2).cast(DType::F16).unwrap();
    let answers = [1, 3, 12].map(|rows| {
        let mut graph = Graph::new("product");
        let x = graph.input("x", Fact::concrete(DType::F16, &[rows, k])).unwrap();
        let w = graph.constant("w", w.clone()).unwrap();
        let y = graph.op("y", onrush::ops::matrix::MatMul, &[x, w]).unwrap();
        let wide = graph.op("wide", onrush::ops::elementwise::Cast { to: DType::F32 }, &[y]).unwrap();
        graph.output(wide).unwrap();
        let x = numbers(&[rows, k], 1).cast(DType::F16).unwrap();
        let model = Model::from_graph(graph).unwrap();
        let run = |threads: usize| {
            let model = model.compile(&CompileOptions::new().threads(threads)).unwrap();
            assert!(model.plan(&[x.shape().clone()]).unwrap().fallbacks().is_empty());
            model.run([x.clone()]).unwrap().into_vec()[0].to_f32_vec().unwrap()
        };
        let answer = run(1);
        assert_eq!(answer, run(2));
        answer
    });
    assert!(answers.iter().all(|answer| answer[..n] == answers[2][..n]));
}

#[test]
fn transposed_convolutions() {
    let explicit = |begin: &[i64], end: &[i64]| Padding::Explicit { begin: begin.into(), end: end.into() };
    let of = |strides: &[usize], padding| ConvTranspose { strides: strides.into(), padding, ..Default::default() };
    let cases: [(ConvTranspose, &[usize], &[usize]); 8] = [
        (ConvTranspose::default(), &[2, 3, 4, 5], &[3, 7, 3, 2]),
        (of(&[2, 2], explicit(&[1, 1], &[1, 1])), &[2, 5, 4, 3], &[5, 20, 4, 4]),
        (of(&[2, 3], explicit(&[0, 2], &[1, 0])), &[1, 5, 4, 3], &[5, 2, 4, 4]),
        (of(&[2, 2], Padding::SameUpper), &[1, 4, 3, 3], &[4, 6, 3, 3]),
        (
            ConvTranspose { output_padding: vec![1, 1], ..of(&[2, 2], explicit(&[1, 1], &[1, 1])) },
            &[1, 4, 3, 3],
            &[4, 17, 3, 3],
        ),
        (
            ConvTranspose { group: 2, dilations: vec![1, 2], ..of(&[2, 2], Padding::Valid) },
            &[2, 4, 3, 5],
            &[4, 3, 3, 3],
        ),
        (ConvTranspose { group: 6, ..of(&[2, 2], explicit(&[1, 1], &[1, 1])) }, &[2, 6, 3, 5], &[6, 1, 4, 4]),
        (ConvTranspose { output_shape: Some(vec![13]), ..of(&[3], Padding::SameLower) }, &[2, 6, 4], &[6, 5, 4]),
    ];
    for (case, (op, x_shape, w_shape)) in cases.into_iter().enumerate() {
        let what = format!("{op:?}");
        let filters = w_shape[1] * op.group;
        let mut graph = Graph::new("transposed");
        let x = graph.input("x", Fact::concrete(DType::F32, x_shape)).unwrap();
        let w = graph.constant("w", numbers(w_shape, 2)).unwrap();
        let bias = graph.constant("bias", numbers(&[filters], 3)).unwrap();
        let operands = [x, w, bias];
        let y = graph.op("y", op, &operands[..if case % 2 == 0 { 3 } else { 2 }]).unwrap();
        let shape = graph.fact(y).concrete_shape().unwrap();
        // A summand and an activation, which become its epilogue.
        let mut inputs = vec![numbers(x_shape, 7)];
        let mut last = y;
        if case % 3 > 0 {
            let added = graph.input("added", Fact::concrete(DType::F32, &shape)).unwrap();
            last = graph.op("sum", Binary(BinaryKind::Add), &[last, added]).unwrap();
            inputs.push(numbers(&shape, 8));
        }
        last = graph.op("act", Unary(if case % 2 == 0 { UnaryKind::Relu } else { UnaryKind::Tanh }), &[last]).unwrap();
        graph.output(last).unwrap();
        check(graph, &inputs, &what);
    }
}

#[test]
fn images_are_resized() {
    let filters = [Nearest::RoundPreferFloor, Nearest::Ceil].map(Filter::Nearest).into_iter().chain([Filter::Linear]);
    let transforms = [Coordinates::HalfPixel, Coordinates::Asymmetric, Coordinates::AlignCorners];
    for (filter, coordinates) in filters.flat_map(|filter| transforms.map(|transform| (filter, transform))) {
        for (scales, sizes) in [(vec![1.0f32, 1.0, 2.0, 0.6], vec![]), (vec![], vec![2i64, 3, 7, 9])] {
            let mut graph = Graph::new("resize");
            let x = graph.input("x", Fact::concrete(DType::F32, &[2, 3, 4, 5])).unwrap();
            let given = if sizes.is_empty() {
                [Some(graph.constant("scales", Tensor::vector(scales)).unwrap()), None]
            } else {
                [None, Some(graph.constant("sizes", Tensor::vector(sizes)).unwrap())]
            };
            let op = Resize {
                filter,
                coordinates,
                antialias: false,
                exclude_outside: false,
                extrapolation_value: 0.0,
                axes: None,
                aspect: AspectPolicy::Stretch,
            };
            let what = format!("{op:?}");
            let y =
                graph.node("y", Arc::new(op), &[Some(x), None, given[0], given[1]], &[Some("y")]).unwrap()[0].unwrap();
            graph.output(y).unwrap();
            check(graph, &[numbers(&[2, 3, 4, 5], 7)], &what);
        }
    }
}
