//! The crate as a host meets it: `Model`, `Engine`, `Ticket`; what they take, and what they refuse and how.

use onrush::onnx::LoadOptions;
use onrush::{CompileOptions, DType, Engine, ErrorKind, Model, Reason, Result, SubmitOptions, Tensor};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const MODEL: &[u8] = include_bytes!("../examples/data/digits.onnx");
const LONG: Duration = Duration::from_secs(60);

fn model() -> Model {
    Model::from_bytes(MODEL).unwrap()
}

/// So many images, each of its own gray.
fn images(rows: usize) -> Tensor {
    let pixels = (0..rows * 64).map(|i| (i / 64) as f32 / 16.0).collect();
    Tensor::new([rows, 1, 8, 8], pixels).unwrap()
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.map(|_| ()).unwrap_err().kind()
}

#[test]
fn a_model_comes_from_a_path_from_bytes_and_from_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.onnx");
    std::fs::write(&path, MODEL).unwrap();
    let answers = [Model::load(&path), Model::from_bytes(MODEL), Model::from_reader(MODEL, &LoadOptions::default())]
        .map(|model| model.unwrap().run([images(2)]).unwrap()["logits"].clone());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(kind(Model::load(folder.path().join("absent.onnx"))), ErrorKind::Io);
}

#[test]
fn a_summary_counts_parameters_and_products() {
    let summary = model().summary();
    assert_eq!((summary.layers.len(), summary.parameters), (7, 9_930));
    // Two convolutions of 8 x 8 pixels and one product, for one row.
    assert_eq!(summary.macs, 64 * 9 * 16 + 64 * 9 * 16 * 32 + 512 * 10);
    assert!(summary.to_string().contains("MaxPool") && summary.to_string().contains("9930 parameters"));
    let compiled = model().compile(&CompileOptions::default()).unwrap();
    assert_eq!(onrush::Summary::of(compiled.graph()).macs, summary.macs, "fused operators count as what is in them");
}

#[test]
fn inputs_that_do_not_fit_are_refused_and_come_back() {
    let engine = Engine::builder(model()).max_batch_size(4).workers(1).build().unwrap();
    let direct = engine.model().clone();
    let wrong: [(&str, Tensor); 6] = [
        ("pixels", images(1)),
        ("image", images(1).cast(DType::F64).unwrap()),
        ("image", Tensor::zeros(DType::F32, [1, 1, 8]).unwrap()),
        ("image", Tensor::zeros(DType::F32, [1, 1, 8, 9]).unwrap()),
        ("image", Tensor::zeros(DType::F32, [1, 2, 8, 8]).unwrap()),
        ("image", Tensor::scalar(0.0f32)),
    ];
    for (name, tensor) in wrong {
        assert_eq!(kind(direct.run([(name, tensor.clone())])), ErrorKind::InvalidInput, "{name} {tensor:?}");
        let refused = engine.submit([(name, tensor.clone())]).unwrap_err();
        assert!(
            matches!(refused.reason(), Reason::Invalid(e) if e.kind() == ErrorKind::InvalidInput),
            "{name} {tensor:?}"
        );
        assert_eq!(refused.into_request(), [tensor]);
    }
    assert_eq!(kind(direct.run(Vec::<Tensor>::new())), ErrorKind::InvalidInput);
    assert_eq!(kind(direct.run([images(1), images(1)])), ErrorKind::InvalidInput);
    let (mut scratch, plan) =
        (direct.plan(&[[2, 1, 8, 8].into()]).unwrap().scratch().unwrap(), direct.plan(&[[1, 1, 8, 8].into()]));
    assert_eq!(kind(plan.unwrap().run(&mut scratch, &[images(2)])), ErrorKind::InvalidInput);
    assert_eq!(engine.snapshot().requests.accepted, 0);
}

#[test]
fn no_rows_give_no_rows_alone_and_are_refused_in_a_batch() {
    for optimize in [true, false] {
        let direct = model().compile(&CompileOptions::new().optimize(optimize)).unwrap();
        assert_eq!(direct.run([images(0)]).unwrap()["logits"].shape().to_vec(), [0, 10]);
    }
    let engine = Engine::builder(model()).max_batch_size(4).build().unwrap();
    assert!(matches!(engine.submit([images(0)]).unwrap_err().reason(), Reason::Invalid(_)));
}

#[test]
fn a_request_larger_than_a_batch_runs_alone() {
    let engine = Engine::builder(model()).max_batch_size(4).workers(1).build().unwrap();
    let answer = engine.submit([images(9)]).unwrap().wait().unwrap();
    assert_eq!(answer["logits"], engine.model().run([images(9)]).unwrap()["logits"]);
}

/// Unparks the thread that it was made on.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_ticket_is_a_future() {
    let engine = Engine::builder(model()).max_batch_size(4).workers(1).build().unwrap();
    let solo = engine.model().run([images(2)]).unwrap();
    let answer = block_on(async {
        let first = engine.submit([images(2)])?.await?;
        let second = engine.submit_async([("image", images(2))])?.await?.await?;
        Ok::<_, onrush::Error>([first, second])
    });
    for answer in answer.unwrap() {
        assert_eq!(answer["logits"], solo["logits"]);
    }
}

#[test]
fn every_form_takes_options_and_many_requests_go_in_together() {
    let engine = Engine::builder(model()).max_batch_size(4).workers(1).build().unwrap();
    let solo = engine.model().run([images(1)]).unwrap();
    let passed = SubmitOptions::new().deadline_at(std::time::Instant::now());
    assert_eq!(engine.run_with([images(1)], passed).unwrap_err().kind(), ErrorKind::Deadline);
    let refused = block_on(engine.submit_async_with([images(1)], passed).unwrap()).unwrap_err();
    assert!(matches!(refused.reason(), Reason::WouldMissDeadline));
    let urgent = SubmitOptions::new().priority(0);
    let answers = engine.submit_many((0..9).map(|_| [images(1)]), urgent).unwrap().wait();
    assert_eq!(answers.len(), 9);
    answers.into_iter().for_each(|answer| assert_eq!(answer.unwrap()["logits"], solo["logits"]));
    let refused = engine.submit_many([vec![images(1)], vec![], vec![images(2)]], urgent).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)));
    assert_eq!(refused.into_request().iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1], "all come back");
    assert_eq!(engine.snapshot().requests.accepted, 9);
}

#[test]
fn a_full_queue_answers_at_once_and_a_shutdown_drains() {
    // A batch waits for company for longer than the test takes, so requests stay in the queue.
    let engine =
        Engine::builder(model()).max_batch_size(64).max_queue_delay(LONG).workers(1).queue_items(2).build().unwrap();
    let tickets = [images(1), images(2)].map(|request| engine.try_submit([request]).unwrap());
    let full = engine.try_submit([images(3)]).unwrap_err();
    assert!(matches!(full.reason(), Reason::Full { .. }), "{full:?}");
    assert_eq!(full.into_request(), [images(3)]);
    // A dropped ticket gives its place free.
    let [first, second] = tickets;
    drop(second);
    let third = engine.try_submit([images(3)]).unwrap();
    assert!(engine.shutdown(LONG));
    for (ticket, rows) in [(first, 1), (third, 3)] {
        assert_eq!(ticket.wait().unwrap()["logits"], engine.model().run([images(rows)]).unwrap()["logits"]);
    }
    assert!(matches!(engine.submit([images(1)]).unwrap_err().reason(), Reason::Closed));
    let requests = engine.snapshot().requests;
    assert_eq!((requests.accepted, requests.answered, requests.cancelled), (3, 2, 1));
}

#[test]
fn what_an_engine_cannot_do_is_refused_when_it_is_built() {
    let build = |rows: u32, workers: usize| Engine::builder(model()).max_batch_size(rows).workers(workers).build();
    assert_eq!(kind(build(0, 1)), ErrorKind::InvalidInput);
    assert_eq!(kind(build(1, 0)), ErrorKind::InvalidInput);
    assert!(build(1, 1).is_ok());
}
