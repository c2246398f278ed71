//! An engine whose models and replicas change while it answers: swaps, shares, divided requests.

use onrush::exec::SubmitOptions;
use onrush::graph::Graph;
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::layout::Flatten;
use onrush::ops::matrix::MatMul;
use onrush::ops::nn::{Conv, GlobalPool, GlobalPoolKind, Padding};
use onrush::sched::FirstCome;
use onrush::{DType, Dim, Engine, ErrorKind, Fact, Model, Reason, Symbol, Tensor};
use std::future::Future;
use std::task::{Context, Waker};
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

/// Layers of a perceptron that takes rows of `width`.
fn perceptron(width: usize, seed: f32) -> Model {
    let mut g = Graph::new("perceptron");
    let mut x = input(&mut g, &[width]);
    for (layer, (from, to)) in [(width, 40), (40, 24), (24, 32), (32, 5)].into_iter().enumerate() {
        let w = g.constant(&format!("w{layer}"), weights(&[from, to], seed + layer as f32)).unwrap();
        let b = g.constant(&format!("b{layer}"), weights(&[to], 0.71)).unwrap();
        let y = g.op(&format!("product{layer}"), MatMul, &[x, w]).unwrap();
        let y = g.op(&format!("sum{layer}"), Binary(BinaryKind::Add), &[y, b]).unwrap();
        x = g.op(&format!("y{layer}"), Unary(UnaryKind::Relu), &[y]).unwrap();
    }
    g.output(x).unwrap();
    Model::from_graph(g).unwrap()
}

/// Convolutions, a depthwise one among them, with a connection around two of them.
fn convolutions() -> Model {
    let mut g = Graph::new("convolutions");
    let mut x = input(&mut g, &[3, 9, 7]);
    let mut around = x;
    let shapes = [(1, [20, 3, 3, 3]), (20, [20, 1, 3, 3]), (1, [20, 20, 1, 1]), (1, [6, 20, 1, 1])];
    for (layer, (group, shape)) in shapes.into_iter().enumerate() {
        let pad = vec![(shape[2] / 2) as i64; 2];
        let padding = Padding::Explicit { begin: pad.clone(), end: pad };
        let conv = Conv { group, kernel: None, strides: vec![], dilations: vec![], padding };
        let w = g.constant(&format!("w{layer}"), weights(&shape, 0.53 + layer as f32)).unwrap();
        x = g.op(&format!("conv{layer}"), conv, &[x, w]).unwrap();
        x = g.op(&format!("act{layer}"), Unary(UnaryKind::HardSwish), &[x]).unwrap();
        match layer {
            0 => around = x,
            2 => x = g.op("around", Binary(BinaryKind::Add), &[x, around]).unwrap(),
            _ => {}
        }
    }
    let y = g.op("pool", GlobalPool { kind: GlobalPoolKind::Average }, &[x]).unwrap();
    let y = g.op("flat", Flatten { axis: 1 }, &[y]).unwrap();
    g.output(y).unwrap();
    Model::from_graph(g).unwrap()
}

/// The trained network of the digits example.
fn digits() -> Model {
    Model::load(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/digits.onnx")).unwrap()
}

fn rows(count: usize, row: &[usize], seed: f32) -> Tensor {
    let mut shape = vec![count];
    shape.extend(row);
    weights(&shape, seed)
}

fn bytes(outputs: onrush::Outputs) -> Vec<u8> {
    outputs.into_vec()[0].as_bytes().to_vec()
}

#[test]
fn a_swap_answers_old_requests_with_the_old_model_and_refuses_what_does_not_fit_the_new() {
    let (old, new, other) = (perceptron(8, 0.3), perceptron(8, 0.9), perceptron(6, 0.4));
    let x = rows(1, &[8], 0.2);
    let (by_old, by_new) = (bytes(old.run([x.clone()]).unwrap()), bytes(new.run([x.clone()]).unwrap()));
    assert_ne!(by_old, by_new);
    let engine = Engine::builder(old).max_batch_size(16).workers(2).build().unwrap();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while answers.last() != Some(&by_new) {
                        let ticket = engine.submit([x.clone()]).unwrap();
                        answers.push(bytes(ticket.wait().unwrap()));
                    }
                    answers
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(3));
        engine.swap(new).unwrap();
        assert_eq!(bytes(engine.run([x.clone()]).unwrap()), by_new, "who asks after the swap gets the new one");
        for client in clients {
            let answers = client.join().unwrap();
            let turn = answers.iter().position(|answer| *answer == by_new).unwrap();
            assert!(answers[..turn].iter().all(|answer| *answer == by_old));
        }
    });
    engine.swap(other).unwrap();
    let refused = engine.try_submit([x]).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)) && refused.into_request().len() == 1);
    assert!(engine.run([rows(1, &[6], 0.2)]).is_ok());
    let mut fixed = Graph::new("fixed");
    let x = fixed.input("x", Fact::concrete(DType::F32, &[1, 2])).unwrap();
    let y = fixed.op("y", Unary(UnaryKind::Relu), &[x]).unwrap();
    fixed.output(y).unwrap();
    let error = engine.swap(Model::from_graph(fixed).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "it cannot be batched");
    assert_eq!(engine.snapshot().models[0].generation, 2);
}

#[test]
fn several_models_are_served_by_name() {
    let (one, two) = (perceptron(8, 0.3), convolutions());
    let (x, image) = (rows(1, &[8], 0.2), rows(2, &[3, 9, 7], 0.2));
    let (by_one, by_two) = (bytes(one.run([x.clone()]).unwrap()), bytes(two.run([image.clone()]).unwrap()));
    let builder = Engine::builder(one).named("rows", 2).model("images", two, 1).max_batch_size(8).policy(FirstCome);
    let engine = builder.build().unwrap();
    let images = engine.of("images").unwrap();
    let tickets: Vec<_> =
        (0..20).map(|_| (engine.submit([x.clone()]).unwrap(), images.submit([image.clone()]).unwrap())).collect();
    for (one, two) in tickets {
        assert_eq!((bytes(one.wait().unwrap()), bytes(two.wait().unwrap())), (by_one.clone(), by_two.clone()));
    }
    assert_eq!(bytes(images.run([image.clone()]).unwrap()), by_two);
    assert!(images.try_submit_with([x], SubmitOptions::new()).is_err(), "wrong for this model");
    assert_eq!(engine.of("sounds").unwrap_err().kind(), ErrorKind::InvalidInput);
    let models = engine.snapshot().models;
    assert_eq!((models[0].name.as_str(), models[0].answered), ("rows", 20));
    assert_eq!((models[1].name.as_str(), models[1].answered, models[1].share), ("images", 21, 1));
    let twice = Engine::builder(perceptron(8, 0.3)).model("model", perceptron(8, 0.3), 1).build();
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_model_is_added_warmed_up_and_removed_while_others_answer() {
    let (one, two) = (perceptron(8, 0.3), convolutions());
    let (x, image) = (rows(1, &[8], 0.2), rows(2, &[3, 9, 7], 0.2));
    let (by_one, by_two) = (bytes(one.run([x.clone()]).unwrap()), bytes(two.run([image.clone()]).unwrap()));
    let engine = Engine::builder(one).max_batch_size(8).build().unwrap();
    engine.warm_up([x.clone()]).unwrap();
    let images = engine.add_model("images", two, 2).unwrap();
    images.warm_up([image.clone()]).unwrap();
    let mut rows: Vec<u32> = engine.snapshot().costs.iter().map(|cost| cost.rows).collect();
    rows.sort_unstable();
    assert_eq!(rows, [1, 1, 2, 2, 4, 4, 8, 8], "both models' costs are known before any request");
    let tickets: Vec<_> =
        (0..20).map(|_| (engine.submit([x.clone()]).unwrap(), images.submit([image.clone()]).unwrap())).collect();
    assert!(engine.remove_model("images", Duration::from_secs(60)).unwrap(), "when its requests have ended");
    for (one, two) in tickets {
        assert!(two.is_done());
        assert_eq!((bytes(one.wait().unwrap()), bytes(two.wait().unwrap())), (by_one.clone(), by_two.clone()));
    }
    let refused = images.submit([image]).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)));
    assert_eq!(engine.of("images").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(engine.remove_model("model", Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(engine.add_model("model", perceptron(8, 0.9), 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    engine.add_model("images", perceptron(6, 0.9), 1).unwrap();
    engine.set_share("images", 5).unwrap();
    assert_eq!(engine.snapshot().models[1].share, 5);
}

#[test]
fn zero_rows_are_refused_by_batches_and_are_no_fault_elsewhere() {
    let none = || [Tensor::zeros(DType::F32, [0, 1, 8, 8]).unwrap()];
    let batches = Engine::builder(digits()).max_batch_size(8).build().unwrap();
    let refused = [
        batches.try_submit(none()).map(drop).unwrap_err(),
        batches.submit(none()).map(drop).unwrap_err(),
        batches.submit_divided(none()).map(drop).unwrap_err(),
    ];
    for refused in refused {
        assert!(matches!(refused.reason(), Reason::Invalid(error) if error.kind() == ErrorKind::InvalidInput));
        assert_eq!(refused.into_request()[0].shape()[..], [0, 1, 8, 8], "it comes back");
    }
    assert_eq!(batches.snapshot().requests.accepted, 0);
    let lone = Engine::builder(digits()).build().unwrap();
    match lone.run(none()) {
        Ok(outputs) => assert_eq!(outputs["logits"].shape()[..], [0, 10]),
        Err(error) => assert_ne!(error.kind(), ErrorKind::Panicked, "{error}"),
    }
    lone.run([rows(1, &[1, 8, 8], 0.3)]).unwrap();
}

#[test]
fn a_deadline_that_no_run_can_meet_is_refused_after_a_warm_up() {
    let engine = Engine::builder(convolutions()).max_batch_size(4).build().unwrap();
    let image = rows(1, &[3, 9, 7], 0.2);
    engine.warm_up([image.clone()]).unwrap();
    let hopeless = SubmitOptions::new().deadline_in(Duration::from_nanos(500));
    let refused = engine.try_submit_with([image], hopeless).unwrap_err();
    assert!(matches!(refused.reason(), Reason::WouldMissDeadline));
}

#[test]
fn a_divided_request_is_answered_as_if_it_were_whole() {
    for (model, row) in [(perceptron(8, 0.3), vec![8]), (convolutions(), vec![3, 9, 7]), (digits(), vec![1, 8, 8])] {
        let x = rows(23, &row, 0.37);
        let whole = bytes(model.run([x.clone()]).unwrap());
        let engine = Engine::builder(model).max_batch_size(64).workers(3).build().unwrap();
        let ticket = engine.submit_divided([x.clone()]).unwrap();
        assert_eq!(ticket.parts(), 3);
        assert_eq!(bytes(ticket.wait().unwrap()), whole);
        assert!(engine.snapshot().batch_rows.max() <= 8, "no two parts ride together");
        assert_eq!(engine.submit_divided([rows(1, &row, 0.1)]).unwrap().parts(), 1);
        assert!(engine.submit_divided([rows(0, &row, 0.1)]).is_err());
        let narrow = Engine::builder(engine.model()).max_batch_size(4).workers(2).build().unwrap();
        let ticket = narrow.submit_divided([x]).unwrap();
        assert_eq!(ticket.parts(), 6, "none has more rows than a batch may have");
        assert_eq!(bytes(ticket.wait().unwrap()), whole);
    }
}

/// Rows of a table by their numbers: a number that is out of range is found when the row runs.
fn table() -> Model {
    let mut g = Graph::new("table");
    let dims = vec![Dim::Symbol(Symbol::new("N"))];
    let x = g.input("x", Fact::new(DType::I64, dims)).unwrap();
    let w = g.constant("w", weights(&[10, 3], 0.4)).unwrap();
    let y = g.op("y", onrush::ops::index::Gather { axis: 0 }, &[w, x]).unwrap();
    g.output(y).unwrap();
    Model::from_graph(g).unwrap()
}

#[test]
fn a_divided_request_waits_for_room_part_by_part() {
    let model = perceptron(8, 0.3);
    let x = rows(40, &[8], 0.37);
    let whole = bytes(model.run([x.clone()]).unwrap());
    let engine = Engine::builder(model).max_batch_size(4).workers(2).queue_items(3).build().unwrap();
    let refused = engine.try_submit_divided([x.clone()]).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)), "ten parts never fit at once");
    assert_eq!(refused.into_request()[0].shape(), x.shape(), "it comes back whole");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let ticket = engine.submit_divided([x.clone()]).unwrap();
                    assert_eq!(ticket.parts(), 10);
                    assert_eq!(bytes(ticket.wait().unwrap()), whole);
                }
            });
        }
    });
    let requests = engine.snapshot().requests;
    assert_eq!((requests.answered, requests.waiting), (400, 0));
    assert!(engine.shutdown(Duration::from_secs(60)));
    let refused = engine.submit_divided([x]).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Closed) && refused.into_request().len() == 1);
}

#[test]
fn a_divided_request_waits_for_room_without_a_thread() {
    let model = perceptron(8, 0.3);
    let x = rows(40, &[8], 0.37);
    let whole = bytes(model.run([x.clone()]).unwrap());
    let engine = Engine::builder(model).max_batch_size(4).workers(2).queue_items(3).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let client = async || {
        for _ in 0..10 {
            let ticket = engine.submit_divided_async([x.clone()]).unwrap().await.unwrap();
            assert_eq!(ticket.parts(), 10);
            assert_eq!(bytes(ticket.await.unwrap()), whole);
        }
    };
    runtime.block_on(async { tokio::join!(client(), client(), client(), client()) });
    // One that is given up on its way takes its parts back, and its place among those that wait for room.
    for _ in 0..50 {
        let mut submitting = Box::pin(engine.submit_divided_async([x.clone()]).unwrap());
        let _ = submitting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    assert_eq!(bytes(engine.submit_divided([x.clone()]).unwrap().wait().unwrap()), whole);
    assert!(engine.shutdown(Duration::from_secs(60)));
    let requests = engine.snapshot().requests;
    assert_eq!((requests.answered + requests.cancelled, requests.waiting), (requests.accepted, 0));
    let refused = runtime.block_on(engine.submit_divided_async([x.clone()]).unwrap()).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Closed));
    assert_eq!(refused.into_request()[0].shape(), x.shape(), "it comes back whole");
}

#[test]
fn a_part_that_fails_fails_the_whole_and_leaves_others_alone() {
    let engine = Engine::builder(table()).max_batch_size(2).workers(2).build().unwrap();
    let numbers = |bad: i64| Tensor::vector((0..8).map(|n| if n == 5 { bad } else { n }).collect::<Vec<i64>>());
    let good = engine.submit_divided([numbers(5)]).unwrap();
    let bad = engine.submit_divided([numbers(99)]).unwrap();
    assert_eq!((good.parts(), bad.parts()), (4, 4));
    assert!(bad.wait().is_err());
    assert_eq!(good.wait().unwrap()[0].shape()[..], [8, 3]);
    let requests = engine.snapshot().requests;
    assert_eq!((requests.accepted, requests.answered, requests.failed), (8, 7, 1), "three parts of it were well");
}

#[test]
fn a_divided_request_that_is_cancelled_leaves_nothing() {
    let engine = Engine::builder(perceptron(8, 0.3)).max_batch_size(1).workers(1).build().unwrap();
    for _ in 0..20 {
        let ticket = engine.submit_divided([rows(30, &[8], 0.37)]).unwrap();
        ticket.cancel();
    }
    assert!(engine.shutdown(Duration::from_secs(60)));
    let requests = engine.snapshot().requests;
    assert_eq!((requests.accepted, requests.waiting), (600, 0));
    assert_eq!(requests.answered + requests.cancelled, 600, "{requests:?}");
}

#[test]
fn stages_answer_as_the_whole_does() {
    for (model, row) in [(perceptron(8, 0.3), vec![8]), (convolutions(), vec![3, 9, 7]), (digits(), vec![1, 8, 8])] {
        for count in [2, 3] {
            let requests: Vec<Tensor> = (1..30).map(|n| rows(1 + n % 5, &row, 0.1 + n as f32)).collect();
            let whole: Vec<Vec<u8>> = requests.iter().map(|x| bytes(model.run([x.clone()]).unwrap())).collect();
            let compiled = model.compile(&onrush::CompileOptions::new()).unwrap();
            let builder = Engine::builder(compiled).max_batch_size(16).workers(2).stages(count, 3);
            let engine = builder.build().unwrap();
            let stages = engine.stages();
            assert!(
                stages.len() == count && stages.iter().all(|stage| stage.nodes > 0 && stage.bytes > 0),
                "{stages:?}"
            );
            let tickets: Vec<_> = requests.iter().map(|x| engine.submit([x.clone()]).unwrap()).collect();
            for (ticket, whole) in tickets.into_iter().zip(&whole) {
                assert_eq!(bytes(ticket.wait().unwrap()), *whole);
            }
            assert_eq!(bytes(engine.run([requests[7].clone()]).unwrap()), whole[7]);
            engine.swap(model.compile(&onrush::CompileOptions::new()).unwrap()).unwrap();
            assert_eq!(bytes(engine.submit_divided([requests[3].clone()]).unwrap().wait().unwrap()), whole[3]);
        }
        let error = Engine::builder(model.compile(&onrush::CompileOptions::new()).unwrap()).stages(500, 1).build();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// `ONRUSH_SOAK=600 cargo test --release --test serving -- --nocapture soak` does it for so many seconds.
#[test]
fn soak_of_swaps_replicas_and_divided_requests_keeps_no_model() {
    let seconds = std::env::var("ONRUSH_SOAK").ok().and_then(|seconds| seconds.parse().ok());
    let time = seconds.map_or(Duration::from_millis(400), Duration::from_secs);
    let models = || [perceptron(8, 0.3), perceptron(8, 0.9)];
    let answers = models().map(|model| bytes(model.run([rows(5, &[8], 0.2)]).unwrap()));
    let [first, _] = models();
    let engine = Engine::builder(first).max_batch_size(8).workers(2).build().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    let over = &over;
    let mut samples = Vec::new();
    let (start, mut swaps) = (std::time::Instant::now(), 0);
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (engine, answers) = (&engine, &answers);
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let x = rows(5, &[8], 0.2);
                    let answer = match client {
                        0 => engine.run([x]),
                        1 => engine.submit([x]).unwrap().wait(),
                        _ => engine.submit_divided([x]).unwrap().wait(),
                    };
                    assert!(answers.contains(&bytes(answer.unwrap())), "every part by one and the same model");
                }
            });
        }
        while start.elapsed() < time {
            let model = models().into_iter().nth((swaps + 1) % 2).unwrap();
            swaps += usize::from(engine.swap(model).is_ok());
            if swaps % 3 == 0 {
                let added = engine.add_replica().unwrap();
                engine.remove_replica(added, Duration::from_secs(60)).unwrap();
            }
            if swaps % 64 == 0 {
                samples.extend(resident_kib());
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let requests = engine.snapshot().requests;
    assert_eq!(requests.accepted, requests.answered);
    let tenth = samples.len() / 10;
    if let (Some(early), Some(last)) = (samples.get(tenth), samples.last())
        && seconds.is_some()
    {
        let course: Vec<_> = samples.iter().step_by(tenth.max(1)).collect();
        println!("{} answered, {swaps} swaps, resident KiB {course:?}", requests.answered);
        assert!(*last < early + early / 4 + 16 * 1024, "memory grew from {early} to {last} KiB");
    }
}
