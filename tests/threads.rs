//! A call answers the same bits on one thread, on several of its own, and on a host's pool that is busy or not.

use onrush::graph::Graph;
use onrush::ops::elementwise::{Unary, UnaryKind};
use onrush::ops::matrix::MatMul;
use onrush::{CompileOptions, DType, Dim, Engine, Fact, Model, Symbol, Tensor};
use rayon::ThreadPoolBuilder;
use std::sync::Arc;

fn numbers(shape: &[usize], seed: f32) -> Tensor {
    let elements: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin() * 0.1).collect();
    Tensor::new(shape, elements).unwrap()
}

/// Work enough that a call is divided: maps of 160,000 elements a row, a product.
fn model() -> Model {
    let mut g = Graph::new("maps");
    let dims = vec![Dim::Symbol(Symbol::new("N")), Dim::Known(2000), Dim::Known(80)];
    let mut x = g.input("x", Fact::new(DType::F32, dims)).unwrap();
    for kind in [UnaryKind::Abs, UnaryKind::Sqrt, UnaryKind::Relu] {
        x = g.op("map", Unary(kind), &[x]).unwrap();
    }
    let w = g.constant("w", numbers(&[80, 3], 0.3)).unwrap();
    let y = g.op("y", MatMul, &[x, w]).unwrap();
    g.output(y).unwrap();
    Model::from_graph(g).unwrap()
}

#[test]
fn threads_do_not_show_in_the_answers() {
    let model = model();
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let serial = model.compile(&CompileOptions::new().threads(1)).unwrap();
    let inputs: Vec<Tensor> = [1, 3].iter().map(|&rows| numbers(&[rows, 2000, 80], 0.7)).collect();
    let expected: Vec<Tensor> = inputs.iter().map(|x| serial.run([x.clone()]).unwrap()[0].clone()).collect();
    let options = [
        CompileOptions::new(),
        CompileOptions::new().threads(2),
        CompileOptions::new().threads(5).micro_batch(1),
        CompileOptions::new().pool(pool.clone()),
        CompileOptions::new().pool(pool.clone()).threads(1),
    ];
    for options in options {
        let compiled = model.compile(&options).unwrap();
        // Several callers at once share the helpers that there are.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for (x, expected) in inputs.iter().zip(&expected) {
                        let y = compiled.run([x.clone()]).unwrap();
                        assert_eq!(y[0].as_bytes(), expected.as_bytes(), "{options:?}");
                    }
                });
            }
        });
        // A caller that is itself one of the pool's threads.
        let inside = pool.install(|| compiled.run([inputs[1].clone()]).unwrap());
        assert_eq!(inside[0].as_bytes(), expected[1].as_bytes(), "{options:?}");
    }
}

#[test]
fn an_engine_of_one_worker_answers_alike() {
    let expected = model().compile(&CompileOptions::new().threads(1)).unwrap();
    let options = CompileOptions::new().threads(2);
    let engine = Engine::builder(model()).compile_options(options).workers(1).max_batch_size(4).build().unwrap();
    let x = numbers(&[1, 2000, 80], 0.9);
    let expected = expected.run([x.clone()]).unwrap();
    assert_eq!(engine.run([x.clone()]).unwrap()[0].as_bytes(), expected[0].as_bytes());
    let tickets: Vec<_> = (0..6).map(|_| engine.submit([x.clone()]).unwrap()).collect();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap()[0].as_bytes(), expected[0].as_bytes());
    }
}
