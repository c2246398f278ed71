//! Requests of unequal lengths in one batch, along an axis that is declared safe to pad.

use onrush::exec::SubmitOptions;
use onrush::graph::Graph;
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::matrix::MatMul;
use onrush::ops::reduce::{Reduce, ReduceKind};
use onrush::{CompiledModel, DType, Dim, Engine, ErrorKind, Fact, Model, Outputs, Reason, Symbol, Tensor};
use std::time::Duration;

const WIDTH: usize = 6;

fn weights(shape: &[usize], seed: f32) -> Tensor {
    let elements: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin() * 0.3).collect();
    Tensor::new(shape, elements).unwrap()
}

/// `x [N, L, 6]` and `mask [N, L]`: each position by itself `[N, L, 4]`, and the masked sum over the positions `[N, 4]`.
fn masked() -> Model {
    let mut g = Graph::new("masked");
    let (n, l) = (Dim::Symbol(Symbol::new("N")), Dim::Symbol(Symbol::new("L")));
    let x = g.input("x", Fact::new(DType::F32, vec![n.clone(), l.clone(), Dim::Known(WIDTH)])).unwrap();
    let mask = g.input("mask", Fact::new(DType::F32, vec![n, l])).unwrap();
    let w = g.constant("w", weights(&[WIDTH, 4], 0.7)).unwrap();
    let bias = g.constant("bias", weights(&[4], 0.9)).unwrap();
    let last = g.constant("last", Tensor::vector(vec![2_i64])).unwrap();
    let over = g.constant("over", Tensor::vector(vec![1_i64])).unwrap();
    let y = g.op("product", MatMul, &[x, w]).unwrap();
    let y = g.op("sum", Binary(BinaryKind::Add), &[y, bias]).unwrap();
    let y = g.op("y", Unary(UnaryKind::Tanh), &[y]).unwrap();
    let column = g.op("column", onrush::ops::layout::Unsqueeze, &[mask, last]).unwrap();
    let kept = g.op("kept", Binary(BinaryKind::Mul), &[y, column]).unwrap();
    let sum = Reduce { kind: ReduceKind::Sum, keep_dims: false, noop_with_empty_axes: false };
    let z = g.op("z", sum, &[kept, over]).unwrap();
    g.output(y).unwrap();
    g.output(z).unwrap();
    Model::from_graph(g).unwrap()
}

fn request(rows: usize, length: usize, seed: f32) -> [Tensor; 2] {
    let ones = Tensor::new([rows, length], vec![1.0_f32; rows * length]).unwrap();
    [weights(&[rows, length, WIDTH], seed), ones]
}

fn agree(together: &Outputs, alone: &Outputs) {
    for (name, whole) in alone.iter() {
        let own = &together[name];
        assert_eq!(own.shape(), whole.shape(), "{name}");
        let pairs = own.as_slice::<f32>().unwrap().iter().zip(whole.as_slice::<f32>().unwrap());
        assert!(pairs.into_iter().all(|(own, whole)| (own - whole).abs() < 1e-5), "{name}");
    }
}

/// Batches of as many requests as are handed in at once.
fn engine(model: &CompiledModel, requests: u32, elements: u64) -> onrush::EngineBuilder {
    Engine::builder(model.clone())
        .max_batch_size(requests)
        .max_queue_delay(Duration::from_secs(10))
        .workers(1)
        .pad("L", elements)
}

#[test]
fn unequal_lengths_ride_together_and_each_gets_its_own_back() {
    let model = masked().compile(&onrush::CompileOptions::new()).unwrap();
    let lengths = [3, 9, 1, 9, 5, 0];
    let requests: Vec<_> = lengths.iter().map(|&length| request(1, length, 0.1 + length as f32)).collect();
    for staged in [false, true] {
        let builder = engine(&model, 6, 1000);
        let engine = if staged { builder.stages(2, 4) } else { builder }.build().unwrap();
        let tickets: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
        for (request, ticket) in requests.iter().zip(tickets) {
            let (together, timing) = ticket.wait_timed();
            assert_eq!(timing.batch_requests, 6);
            agree(&together.unwrap(), &model.run(request.clone()).unwrap());
        }
    }
}

#[test]
fn equal_lengths_are_not_padded_and_answer_bit_for_bit() {
    let model = masked().compile(&onrush::CompileOptions::new()).unwrap();
    let engine = engine(&model, 6, 1000).build().unwrap();
    let requests: Vec<_> = (1..4).map(|rows| request(rows, 7, rows as f32)).collect();
    let tickets: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    for (request, ticket) in requests.iter().zip(tickets) {
        let (together, timing) = ticket.wait_timed();
        assert_eq!((timing.batch_requests, timing.batch_rows), (3, 6));
        let (together, alone) = (together.unwrap(), model.run(request.clone()).unwrap());
        assert!((0..2).all(|output| together[output].as_bytes() == alone[output].as_bytes()));
    }
}

#[test]
fn the_budget_bounds_what_padding_adds() {
    let model = masked().compile(&onrush::CompileOptions::new()).unwrap();
    // To a row of ten positions and one of eight come two, to a row of three seven more: past the budget.
    let engine = engine(&model, 2, 2).executor(|settings| settings.look_ahead(8)).build().unwrap();
    let lengths = [10, 3, 8, 4];
    let tickets: Vec<_> = lengths.iter().map(|&length| engine.submit(request(1, length, 0.3)).unwrap()).collect();
    for ticket in tickets {
        let (answer, timing) = ticket.wait_timed();
        assert_eq!((answer.is_ok(), timing.batch_requests), (true, 2));
    }
}

#[test]
fn what_cannot_be_padded_is_refused() {
    let model = masked().compile(&onrush::CompileOptions::new()).unwrap();
    let build = |axis: &str| Engine::builder(model.clone()).max_batch_size(4).pad(axis, 100).build().map(drop);
    assert_eq!(build("N").unwrap_err().kind(), ErrorKind::InvalidInput, "rows are stacked");
    assert_eq!(build("M").unwrap_err().kind(), ErrorKind::InvalidInput, "there is none");
    let engine = engine(&model, 4, 100).build().unwrap();
    let [x, _] = request(1, 5, 0.2);
    let [_, short] = request(1, 4, 0.2);
    let refused = engine.try_submit_with([x, short], SubmitOptions::new()).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)), "its lengths differ");
}
