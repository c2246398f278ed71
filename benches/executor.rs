//! What the executor costs with a runner that does nothing: a call, a submit, and many of them from two threads; how long
//! single submits take, as quantiles; and what callers that bring groups gain by helping.

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

/// Nanoseconds of each of `count` submits, in order of size; never more than `outstanding` are in the executor.
fn submits(executor: &Executor<Nothing>, outstanding: usize, count: usize) -> Vec<u64> {
    let mut tickets: VecDeque<Ticket<Nothing>> = VecDeque::with_capacity(outstanding);
    let mut times: Vec<u64> = (0..count as u64)
        .map(|value| {
            if tickets.len() == outstanding
                && let Some(oldest) = tickets.pop_front()
            {
                while !oldest.is_done() {
                    std::hint::spin_loop();
                }
            }
            let start = Instant::now();
            let ticket = executor.try_submit(black_box(value), SubmitOptions::new());
            let time = start.elapsed();
            tickets.extend(ticket);
            time.as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    times
}

fn quantiles(name: &str, times: &[u64]) {
    let at = |q: f64| times[((times.len() as f64 * q) as usize).min(times.len() - 1)];
    println!("{name}: p50 {} ns, p99 {} ns, p99.9 {} ns", at(0.5), at(0.99), at(0.999));
}

/// A batch takes 20 microseconds, and one more for each row.
struct Busy;

impl BatchRunner for Busy {
    type Request = u64;
    type Response = u64;
    type Scratch = ();

    fn scratch(&self) {}

    fn run(&self, _: &mut (), batch: &mut Batch<'_, u64, u64>) -> onrush::Result<()> {
        let (start, time) = (Instant::now(), Duration::from_micros(20 + u64::from(batch.rows())));
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
        for at in 0..batch.len() {
            let answer = *batch.request(at);
            batch.answer(at, Ok(answer));
        }
        Ok(())
    }
}

/// Requests per second, and the mean batch, of `callers` threads that each bring groups of `size` and wait for them.
fn groups(callers: usize, size: u64, help: bool) -> (f64, f64) {
    let executor = Executor::builder(Busy).max_batch_size(64).workers(2).build().expect("settings are possible");
    let (start, time) = (Instant::now(), Duration::from_millis(400));
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                while start.elapsed() < time {
                    let Ok(group) = executor.submit_many((0..size).collect(), SubmitOptions::new()) else { continue };
                    if help {
                        let _ = group.wait();
                    } else {
                        let timeout = Duration::from_secs(60);
                        group.into_tickets().into_iter().for_each(|ticket| drop(ticket.wait_timeout(timeout)));
                    }
                }
            });
        }
    });
    let snapshot = executor.snapshot();
    (snapshot.requests.answered as f64 / start.elapsed().as_secs_f64(), snapshot.batch_rows.mean())
}

fn submit_quantiles(_: &mut Criterion) {
    let timing = std::env::args().any(|argument| argument == "--bench");
    let count = if timing { 300_000 } else { 1000 };
    let executor = Executor::builder(Nothing).max_batch_size(64).workers(2).build().expect("settings are possible");
    for outstanding in [1, 64, 1024] {
        submits(&executor, outstanding, count / 10);
        quantiles(&format!("submit with up to {outstanding} outstanding"), &submits(&executor, outstanding, count));
    }
    let clock: Vec<u64> = (0..1000).map(|_| Instant::now().elapsed().as_nanos() as u64).collect();
    println!("of which the clock takes {} ns", clock.iter().min().unwrap_or(&0));
    for (callers, size) in if timing { vec![(1, 8), (4, 8), (32, 8), (32, 32)] } else { vec![(2, 2)] } {
        for help in [true, false] {
            let (rate, batch) = groups(callers, size, help);
            let how = if help { "waited for together" } else { "waited for one by one, without help" };
            println!("groups of {size} from {callers} threads, {how}: {rate:.0} requests/s, {batch:.1} rows a batch");
        }
    }
}

criterion_group!(benches, overhead, submit_quantiles);
criterion_main!(benches);
