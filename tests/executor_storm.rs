//! Rounds of everything at once against executors of every kind: after each round, what the callers saw must be what the
//! executor counted, one by one: nothing lost, nothing twice.
//!
//! `ONRUSH_LONG=1` runs many more rounds. What holds for minutes is left to the soak in `executor_replicas`.

use onrush::balance::{Balancer, LeastLoaded, Locality, RoundRobin, TwoChoices};
use onrush::exec::{Batch, BatchRunner, Executor, Flow, Load, Shutdown, SubmitOptions, Ticket};
use onrush::sched::{
    EarliestDeadline, FairShare, FirstCome, Level, Levels, Policy, Precedence, ShortestJob, StrictPriority,
    TimeoutAction,
};
use onrush::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Ask {
    Echo(u64),
    Panic,
    Fail,
    Forget,
    /// Comes to so many checkpoints.
    Steps(u32),
}

struct Model;

impl BatchRunner for Model {
    type Request = Ask;
    type Response = u64;
    type Scratch = ();

    fn scratch(&self) {}

    fn admit(&self, request: &Ask) -> Result<Load> {
        Ok(match request {
            Ask::Echo(value) => Load { bytes: 8, group: value % 2, rows: 1 + (value % 3) as u32, ..Load::default() },
            _ => Load { bytes: 8, ..Load::default() },
        })
    }

    fn run(&self, _: &mut (), batch: &mut Batch<'_, Ask, u64>) -> Result<()> {
        for at in 0..batch.len() {
            let value = match *batch.request(at) {
                Ask::Echo(value) => value,
                Ask::Panic => panic!("poisonous"),
                Ask::Fail => return Err(Error::new(ErrorKind::Shape, "does not fit")),
                Ask::Forget => continue,
                Ask::Steps(steps) => {
                    for _ in 0..steps {
                        if batch.checkpoint() == Flow::Stop {
                            return Err(Error::new(ErrorKind::Cancelled, "nobody waits"));
                        }
                        std::thread::yield_now();
                    }
                    u64::from(steps)
                }
            };
            batch.answer(at, Ok(value));
        }
        Ok(())
    }
}

/// How requests ended, as their callers saw it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seen {
    accepted: u64,
    answered: u64,
    failed: u64,
    expired: u64,
    cancelled: u64,
    /// They had ended when they were to be cancelled; how, nobody looked.
    unseen: u64,
}

impl Seen {
    fn ended(&mut self, answer: Result<u64>, asked: Ask) {
        match answer {
            Ok(value) => {
                let right = match asked {
                    Ask::Echo(asked) => value == asked,
                    Ask::Steps(steps) => value == u64::from(steps),
                    _ => false,
                };
                assert!(right, "{asked:?} was answered {value}");
                self.answered += 1;
            }
            Err(error) if error.kind() == ErrorKind::Deadline => self.expired += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn cancel(&mut self, ticket: Ticket<Model>) {
        if ticket.cancel() { self.cancelled += 1 } else { self.unseen += 1 }
    }

    fn add(&mut self, other: Seen) {
        self.accepted += other.accepted;
        self.answered += other.answered;
        self.failed += other.failed;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
        self.unseen += other.unseen;
    }
}

fn ask(random: &mut fastrand::Rng) -> Ask {
    match random.u8(0..24) {
        0 => Ask::Panic,
        1 => Ask::Fail,
        2 => Ask::Forget,
        3..7 => Ask::Steps(random.u32(0..40)),
        _ => Ask::Echo(random.u64(..)),
    }
}

/// One caller: `count` requests in all forms. `call` is left out: it does not tell whether it was accepted.
fn caller(executor: &Executor<Model>, extra: &AtomicU32, seed: u64, count: usize) -> Seen {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut seen, mut held) = (Seen::default(), VecDeque::new());
    for _ in 0..count {
        let model = if random.bool() { 0 } else { extra.load(Ordering::Relaxed) };
        let mut options = SubmitOptions::new()
            .model(model)
            .priority(random.u8(0..3))
            .tenant(random.u64(0..3))
            .division(random.u64(0..3));
        if random.u8(0..4) == 0 {
            options = options.deadline_in(Duration::from_micros(random.u64(0..500)));
        }
        let asked = ask(&mut random);
        if random.u8(0..8) == 0 {
            let asks: Vec<Ask> = (0..random.usize(1..6)).map(|_| ask(&mut random)).collect();
            let Ok(group) = executor.submit_many(asks.clone(), options) else { continue };
            seen.accepted += asks.len() as u64;
            match random.u8(0..3) {
                0 => group.into_tickets().into_iter().for_each(|ticket| seen.cancel(ticket)),
                _ => group.wait().into_iter().zip(asks).for_each(|(answer, asked)| seen.ended(answer, asked)),
            }
            continue;
        }
        let ticket = if random.bool() { executor.submit(asked, options) } else { executor.try_submit(asked, options) };
        let Ok(ticket) = ticket else { continue };
        seen.accepted += 1;
        held.push_back((ticket, asked));
        if held.len() < random.usize(1..12) {
            continue;
        }
        let Some((ticket, asked)) = held.pop_front() else { continue };
        match random.u8(0..4) {
            0 => seen.cancel(ticket),
            1 => match ticket.wait_timeout(Duration::from_micros(random.u64(0..200))) {
                Ok(answer) => seen.ended(answer, asked),
                Err(ticket) => seen.cancel(ticket),
            },
            _ => seen.ended(ticket.wait(), asked),
        }
    }
    held.into_iter().for_each(|(ticket, asked)| seen.ended(ticket.wait(), asked));
    seen
}

/// Changes replicas and models until told that it is over.
fn change(executor: &Executor<Model>, extra: &AtomicU32, over: &AtomicBool, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tag = 0;
    while !over.load(Ordering::Relaxed) {
        let replicas = executor.replicas();
        let one = replicas[random.usize(0..replicas.len())];
        tag += 1;
        match random.u8(0..7) {
            0 if replicas.len() < 4 => drop(executor.add_replica()),
            1 => drop(executor.remove_replica(one, Duration::from_micros(200))),
            2 => drop(executor.drain_replica(one, Duration::from_micros(random.u64(0..200)))),
            3 => drop(executor.resume_replica(one)),
            4 => drop(executor.swap(0, Model)),
            5 => {
                if let Ok(model) = executor.add_model(format!("{seed} {tag}"), Model, 1) {
                    let before = extra.swap(model, Ordering::Relaxed);
                    let _ = executor.remove_model(before, Duration::from_micros(100));
                }
            }
            _ => drop(executor.reinstate(0)),
        }
        std::thread::sleep(Duration::from_micros(random.u64(0..300)));
    }
    executor.replicas().into_iter().for_each(|replica| drop(executor.resume_replica(replica)));
}

fn policies() -> [(Box<dyn Policy>, Box<dyn Balancer>); 5] {
    let us = Duration::from_micros;
    let impatient = Level::new().timeout(us(100), TimeoutAction::Reject);
    [
        (Box::new(Levels::new(FirstCome).level(2, impatient)), Box::new(LeastLoaded)),
        (Box::new(StrictPriority::new(us(500))), Box::new(RoundRobin::new())),
        (Box::new(ShortestJob::new(us(500))), Box::new(TwoChoices::new(1))),
        (Box::new(EarliestDeadline::new()), Box::new(Locality::new(us(20)))),
        (Box::new(FairShare::new(us(100))), Box::new(LeastLoaded)),
    ]
}

/// An executor of the kind that `seed` says, and rounds of callers against it.
fn storm(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (policy, balancer) = policies().into_iter().nth(seed as usize % 5).unwrap();
    let preempts = matches!(policy.precedence(), Precedence::Class | Precedence::Cost) && random.bool();
    let mut builder = Executor::builder(Model)
        .workers(random.usize(1..4))
        .queue_items(random.usize(1..48))
        .max_batch_size(random.u32(1..12))
        .max_queue_delay(Duration::from_micros([0, 0, 30][random.usize(0..3)]))
        .run_inline(random.bool())
        .spread(random.bool())
        .quarantine(random.u32(0..6), Duration::from_micros(300))
        .policy(policy);
    if random.bool() {
        builder = builder.balancer(balancer).patience(Duration::from_micros(random.u64(0..50)));
    }
    if random.bool() {
        builder = builder.tenant_items(random.u32(1..20)).class_items(1, random.u32(1..20));
    }
    if preempts {
        builder = builder.preemption(0.0, 2);
    }
    let executor = builder.build().unwrap();
    let (mut seen, extra) = (Seen::default(), AtomicU32::new(u32::MAX));
    for round in 0..3 {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (executor, extra, over) = (&executor, &extra, &over);
            let changes = scope.spawn(move || change(executor, extra, over, seed * 31 + round));
            let callers: Vec<_> = (0..3)
                .map(|at| scope.spawn(move || caller(executor, extra, seed * 1009 + round * 31 + at, 40)))
                .collect();
            callers.into_iter().for_each(|caller| seen.add(caller.join().unwrap()));
            over.store(true, Ordering::Relaxed);
            changes.join().unwrap();
        });
        agree(&executor, seen, &format!("seed {seed}, round {round}"));
    }
    let how = if random.bool() { Shutdown::Drain } else { Shutdown::Abort };
    assert!(executor.shutdown(how, LONG));
    agree(&executor, seen, &format!("seed {seed}, shut down"));
}

/// Holds what the callers saw against what was counted, once the last batch has been counted too.
fn agree(executor: &Executor<Model>, seen: Seen, when: &str) {
    let patience = Instant::now() + LONG;
    loop {
        let snapshot = executor.snapshot();
        let counted = snapshot.requests;
        let ends = [counted.answered, counted.failed, counted.expired, counted.cancelled];
        let same = counted.accepted == seen.accepted
            && ends.iter().sum::<u64>() == seen.accepted
            && counted.cancelled == seen.cancelled
            && counted.answered >= seen.answered
            && counted.failed >= seen.failed
            && counted.expired >= seen.expired
            && ends[..3].iter().sum::<u64>() == seen.answered + seen.failed + seen.expired + seen.unseen;
        if same && counted.waiting == 0 && snapshot.queued_bytes == 0 {
            return;
        }
        assert!(Instant::now() < patience, "{when}: {seen:?}, but {counted:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_the_callers_see_is_what_was_counted() {
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("poisonous") {
            eprintln!("{info}");
        }
    }));
    let long = std::env::var("ONRUSH_LONG").as_deref() == Ok("1");
    (0..if long { 3000 } else { 10 }).for_each(storm);
}
