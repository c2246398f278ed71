//! A batched answer equals the solo answer bit for bit: three models, requests of mixed sizes, many threads.

use onrush::graph::Graph;
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::layout::{Flatten, Transpose};
use onrush::ops::matrix::MatMul;
use onrush::ops::nn::{Conv, GlobalPool, GlobalPoolKind, LayerNormalization, Padding, Softmax};
use onrush::ops::quant::{DequantizeLinear, DynamicQuantizeLinear};
use onrush::{DType, Dim, Engine, Fact, Model, Symbol, Tensor};
use std::sync::Arc;
use std::time::Duration;

fn weights(shape: &[usize], seed: f32) -> Tensor {
    let elements: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin() * 0.3).collect();
    Tensor::new(shape, elements).unwrap()
}

fn input(graph: &mut Graph, shape: &[usize]) -> onrush::graph::ValueId {
    let mut dims = vec![Dim::Symbol(Symbol::new("N"))];
    dims.extend(shape.iter().map(|&d| Dim::Known(d)));
    graph.input("x", Fact::new(DType::F32, dims)).unwrap()
}

/// Three layers, the last with a sigmoid.
fn perceptron() -> Model {
    let mut g = Graph::new("perceptron");
    let mut x = input(&mut g, &[19]);
    for (layer, (from, to)) in [(19, 33), (33, 17), (17, 5)].into_iter().enumerate() {
        let w = g.constant(&format!("w{layer}"), weights(&[from, to], 0.37 + layer as f32)).unwrap();
        let b = g.constant(&format!("b{layer}"), weights(&[to], 0.71)).unwrap();
        let y = g.op(&format!("product{layer}"), MatMul, &[x, w]).unwrap();
        let y = g.op(&format!("sum{layer}"), Binary(BinaryKind::Add), &[y, b]).unwrap();
        let kind = if layer == 2 { UnaryKind::Sigmoid } else { UnaryKind::Relu };
        x = g.op(&format!("y{layer}"), Unary(kind), &[y]).unwrap();
    }
    g.output(x).unwrap();
    Model::from_graph(g).unwrap()
}

/// Two convolutions, a depthwise one between them, a global pool.
fn convolutions() -> Model {
    let mut g = Graph::new("convolutions");
    let mut x = input(&mut g, &[3, 9, 7]);
    for (layer, (group, shape)) in [(1, [20, 3, 3, 3]), (20, [20, 1, 3, 3]), (1, [6, 20, 1, 1])].into_iter().enumerate()
    {
        let pad = (shape[2] / 2) as i64;
        let conv = Conv {
            group,
            kernel: None,
            strides: vec![],
            dilations: vec![],
            padding: Padding::Explicit { begin: vec![pad; 2], end: vec![pad; 2] },
        };
        let w = g.constant(&format!("w{layer}"), weights(&shape, 0.53 + layer as f32)).unwrap();
        let y = g.op(&format!("conv{layer}"), conv, &[x, w]).unwrap();
        x = g.op(&format!("act{layer}"), Unary(UnaryKind::HardSwish), &[y]).unwrap();
    }
    let y = g.op("pool", GlobalPool { kind: GlobalPoolKind::Average }, &[x]).unwrap();
    let y = g.op("flat", Flatten { axis: 1 }, &[y]).unwrap();
    g.output(y).unwrap();
    Model::from_graph(g).unwrap()
}

/// Scores of a sequence with itself, softmax, and a normalization.
fn attention() -> Model {
    let mut g = Graph::new("attention");
    let x = input(&mut g, &[11, 24]);
    let t = g.op("t", Transpose { perm: Some(vec![0, 2, 1]) }, &[x]).unwrap();
    let scores = g.op("scores", MatMul, &[x, t]).unwrap();
    let p = g.op("p", Softmax { axis: -1 }, &[scores]).unwrap();
    let mixed = g.op("mixed", MatMul, &[p, x]).unwrap();
    let sum = g.op("sum", Binary(BinaryKind::Add), &[mixed, x]).unwrap();
    let (gamma, beta) = (g.constant("g", weights(&[24], 0.9)).unwrap(), g.constant("b", weights(&[24], 0.4)).unwrap());
    let y = g.op("y", LayerNormalization { axis: -1, epsilon: 1e-5 }, &[sum, gamma, beta]).unwrap();
    g.output(y).unwrap();
    Model::from_graph(g).unwrap()
}

#[test]
fn a_batched_answer_is_the_solo_answer() {
    for (model, row) in [(perceptron(), vec![19]), (convolutions(), vec![3, 9, 7]), (attention(), vec![11, 24])] {
        let name = model.graph().name().to_owned();
        let engine = Engine::builder(model)
            .max_batch_size(16)
            .max_queue_delay(Duration::from_millis(2))
            .workers(2)
            .build()
            .unwrap();
        let solo = engine.model().clone();
        std::thread::scope(|scope| {
            for client in 0..6usize {
                let (engine, solo, row, name) = (&engine, &solo, &row, &name);
                scope.spawn(move || {
                    let requests: Vec<Tensor> = (0..8)
                        .map(|n| {
                            let mut shape = vec![1 + (client + n) % 4];
                            shape.extend(row);
                            weights(&shape, 0.1 + (client * 8 + n) as f32 * 0.01)
                        })
                        .collect();
                    let tickets: Vec<_> = requests.iter().map(|r| engine.submit([r.clone()]).unwrap()).collect();
                    for (request, ticket) in requests.iter().zip(tickets) {
                        let together = ticket.wait().unwrap();
                        let rows: Vec<_> = (0..request.shape()[0])
                            .map(|r| solo.run([request.rows(r..r + 1).unwrap()]).unwrap().into_vec().remove(0))
                            .collect();
                        let alone: Vec<u8> = rows.iter().flat_map(|t| t.as_bytes().to_vec()).collect();
                        assert_eq!(together[0].as_bytes(), alone, "{name}");
                    }
                });
            }
        });
        let snapshot = engine.snapshot();
        assert_eq!(snapshot.requests.answered, 48, "{name}");
        assert!(snapshot.batch_rows.max() > 1, "{name}: nothing was batched");
    }
}

/// What is not a number in one row, and what overflows, is nobody else's trouble.
#[test]
fn not_a_number_touches_only_its_own_row() {
    for (model, row) in [(perceptron(), vec![19]), (convolutions(), vec![3, 9, 7]), (attention(), vec![11, 24])] {
        let name = model.graph().name().to_owned();
        let solo = model.compile(&onrush::CompileOptions::new()).unwrap();
        let mut shape = vec![1];
        shape.extend(&row);
        let requests: Vec<Tensor> = (0..12)
            .map(|n| match n % 4 {
                1 => Tensor::new(&shape[..], vec![f32::NAN; row.iter().product()]).unwrap(),
                3 => Tensor::new(&shape[..], vec![f32::INFINITY; row.iter().product()]).unwrap(),
                _ => weights(&shape, 0.1 + n as f32 * 0.01),
            })
            .collect();
        let engine = Engine::builder(solo.clone())
            .max_batch_size(12)
            .max_queue_delay(Duration::from_secs(10))
            .workers(1)
            .build()
            .unwrap();
        let tickets: Vec<_> = requests.iter().map(|request| engine.submit([request.clone()]).unwrap()).collect();
        for (request, ticket) in requests.iter().zip(tickets) {
            let (together, timing) = ticket.wait_timed();
            assert_eq!(timing.batch_requests, 12, "{name}: all ride in one batch");
            let (together, alone) = (together.unwrap(), solo.run([request.clone()]).unwrap());
            if request.as_slice::<f32>().unwrap()[0].is_finite() {
                assert!(together[0].as_slice::<f32>().unwrap().iter().all(|value| value.is_finite()), "{name}");
                assert_eq!(together[0].as_bytes(), alone[0].as_bytes(), "{name}");
            }
        }
    }
}

/// A softmax over the rows, which is none of each row.
fn over_rows() -> Model {
    let mut g = Graph::new("over rows");
    let x = input(&mut g, &[4]);
    let y = g.op("weights", Softmax { axis: 0 }, &[x]).unwrap();
    g.output(y).unwrap();
    Model::from_graph(g).unwrap()
}

/// A projection that is quantized with one scale for all rows.
fn one_scale() -> Model {
    let mut g = Graph::new("one scale");
    let x = input(&mut g, &[4]);
    let quantized =
        g.node("quantize", Arc::new(DynamicQuantizeLinear), &[Some(x)], &["q", "s", "z"].map(Some)).unwrap();
    let quantized: Vec<_> = quantized.into_iter().flatten().collect();
    let linear = DequantizeLinear { axis: 1, block_size: 0, output_dtype: None };
    let y = g.op("y", linear, &quantized).unwrap();
    g.output(y).unwrap();
    Model::from_graph(g).unwrap()
}

#[test]
fn a_model_that_mixes_rows_is_refused_with_the_node_that_does() {
    for (model, node) in [(over_rows as fn() -> Model, "\"weights\" (Softmax)"), (one_scale, "DynamicQuantizeLinear")] {
        let error = Engine::builder(model()).max_batch_size(8).build().unwrap_err();
        assert!(error.to_string().contains(node), "{error}");
        let alone = Engine::builder(model()).build().unwrap();
        let x = weights(&[3, 4], 0.9);
        let answer = alone.submit([x.clone()]).unwrap().wait().unwrap();
        assert_eq!(answer[0], model().run([x]).unwrap()[0]);
        assert!(Engine::builder(model()).max_batch_size(8).independent_rows().build().is_ok());
    }
}
