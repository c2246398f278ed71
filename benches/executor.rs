//! What the executor costs with a runner that does nothing: a call, a submit, and many of them from two threads.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onrush::exec::{Batch, BatchRunner, Executor, SubmitOptions, Ticket};
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

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

fn submit(executor: &Executor<Nothing>, value: u64) -> Ticket<Nothing> {
    match executor.submit(black_box(value), SubmitOptions::new()) {
        Ok(ticket) => ticket,
        Err(refused) => panic!("{refused}"),
    }
}

/// `requests` requests in all from `threads` threads that each keep `outstanding` of them in the executor.
fn closed_loop(executor: &Executor<Nothing>, threads: u64, outstanding: usize, requests: u64) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut tickets = VecDeque::with_capacity(outstanding);
                for value in 0..requests / threads {
                    if tickets.len() == outstanding {
                        tickets.pop_front().map(Ticket::wait);
                    }
                    tickets.push_back(submit(executor, value));
                }
                tickets.into_iter().for_each(|ticket| drop(ticket.wait()));
            });
        }
    });
    start.elapsed()
}

fn overhead(criterion: &mut Criterion) {
    let executor = Executor::builder(Nothing).max_batch_size(64).workers(2).build().expect("settings are possible");
    let mut group = criterion.benchmark_group("executor");
    group.bench_function("call inline", |bencher| {
        bencher.iter(|| executor.call(black_box(1), SubmitOptions::new()));
    });
    group.bench_function("submit and wait", |bencher| bencher.iter(|| submit(&executor, 1).wait()));
    group.throughput(Throughput::Elements(1));
    for threads in [1, 2, 4] {
        group.bench_function(format!("closed loop of 64 from {threads} threads"), |bencher| {
            bencher.iter_custom(|requests| closed_loop(&executor, threads, 64, requests));
        });
    }
    group.finish();
    println!("{}", executor.snapshot());
}

criterion_group!(benches, overhead);
criterion_main!(benches);
