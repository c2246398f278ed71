//! The warm way in allocates the ticket and nothing else: counted by an allocator that counts.

#[path = "support/counting.rs"]
mod counting;

use counting::allocations;
use onrush::exec::{Batch, BatchRunner, Executor, SubmitOptions, Ticket};
use onrush::{Engine, Model, Tensor};
use std::time::Duration;

struct Nothing;

impl BatchRunner for Nothing {
    type Request = u64;
    type Response = u64;
    type Scratch = ();

    fn scratch(&self) {}

    fn run(&self, _: &mut (), batch: &mut Batch<'_, u64, u64>) -> onrush::Result<()> {
        for at in 0..batch.len() {
            let answer = *batch.request(at);
            batch.answer(at, Ok(answer));
        }
        Ok(())
    }
}

fn settle(ticket: Ticket<Nothing>) {
    while !ticket.is_done() {
        std::thread::yield_now();
    }
    drop(ticket);
}

#[test]
fn a_submit_allocates_the_ticket_alone() {
    for options in
        [SubmitOptions::new(), SubmitOptions::new().priority(0).tenant(7).deadline_in(Duration::from_secs(60))]
    {
        let executor = Executor::builder(Nothing).workers(2).tenant_items(100).class_items(0, 100).build().unwrap();
        for warm in 0..100 {
            settle(executor.submit(warm, options).unwrap());
        }
        for value in 0..100 {
            let (count, ticket) = allocations(|| executor.try_submit(value, options).unwrap());
            assert_eq!(count, 1);
            settle(ticket);
            let (count, ticket) = allocations(|| executor.submit(value, options).unwrap());
            assert_eq!(count, 1);
            settle(ticket);
        }
        let snapshot = executor.snapshot();
        assert_eq!(snapshot.requests.answered, 300);
    }
}

#[test]
fn a_call_on_an_idle_engine_allocates_nothing() {
    let executor = Executor::builder(Nothing).workers(1).build().unwrap();
    executor.call(1, SubmitOptions::new()).unwrap();
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let inline = executor.snapshot().requests.inline;
        let (count, answer) = allocations(|| executor.call(2, SubmitOptions::new()));
        assert_eq!(answer.unwrap(), 2);
        if executor.snapshot().requests.inline > inline {
            assert_eq!(count, 0);
            break;
        }
        assert!(std::time::Instant::now() < patience, "it never runs inline");
    }
}

/// The model's own front adds what the request is: its list of tensors, which is taken over as it is given.
#[test]
fn a_tensor_costs_its_lists_and_the_ticket() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/digits.onnx");
    let engine = Engine::builder(Model::load(file).unwrap()).max_batch_size(8).workers(1).build().unwrap();
    let image = Tensor::zeros(onrush::DType::F32, [1, 1, 8, 8]).unwrap();
    let mut counts = Vec::new();
    for _ in 0..50 {
        let image = image.clone();
        let (count, ticket) = allocations(|| engine.try_submit([image]).unwrap());
        counts.push(count);
        while !ticket.is_done() {
            std::thread::yield_now();
        }
    }
    assert!(counts.iter().all(|&count| count <= 2), "{counts:?}");
}
