//! Replicas that come and go, models that change and share, and models that keep panicking: while requests run.
//!
//! `ONRUSH_SOAK=600 cargo test --release --test executor_replicas -- --nocapture soak` runs the storm for so many seconds
//! and watches the memory.

#[path = "support/gate.rs"]
mod gate;

use gate::Gate;
use onrush::balance::{Balancer, LeastLoaded, Load as Standing, Locality, RoundRobin, TwoChoices};
use onrush::clock::{Clock, Mock, Time};
use onrush::exec::{Batch, BatchRunner, Builder, Executor, Flow, Load, Reason, Shutdown, SubmitOptions, Ticket};
use onrush::monitor::ReplicaState;
use onrush::sched::{EarliestDeadline, FairShare, FirstCome, Policy, Precedence, ShortestJob, StrictPriority};
use onrush::{ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

enum Ask {
    Tag(u64),
    Stop(Arc<Gate>),
    Panic,
    Fail,
    /// Takes some time.
    Work(u32),
    /// Writes down when it ran, and takes a millisecond of a clock that nothing else moves.
    Note(u32, Arc<Mutex<Vec<u32>>>, Hand),
}

/// A clock that stands still until it is moved on.
#[derive(Clone, Default)]
struct Hand(Arc<Mock>);

impl Hand {
    fn step(&self) {
        self.0.advance(Duration::from_millis(1));
    }
}

impl Clock for Hand {
    fn now(&self) -> Time {
        self.0.now()
    }
}

/// A model of a version; it refuses what only another kind takes, and says when it and its scratches are gone.
struct Version {
    tag: u64,
    takes_tags: bool,
    alive: Arc<AtomicUsize>,
}

struct Scratch(Arc<AtomicUsize>);

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Version {
    fn new(tag: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Version { tag, takes_tags: true, alive: alive.clone() }
    }
}

impl BatchRunner for Version {
    type Request = Ask;
    type Response = (u64, u64);
    type Scratch = Scratch;

    fn scratch(&self) -> Scratch {
        self.alive.fetch_add(1, Ordering::SeqCst);
        Scratch(self.alive.clone())
    }

    fn admit(&self, request: &Ask) -> Result<Load> {
        match request {
            Ask::Tag(_) if !self.takes_tags => {
                Err(onrush::Error::new(ErrorKind::InvalidInput, "this version takes no tags"))
            }
            Ask::Tag(value) => Ok(Load { bytes: 8, group: value % 3, ..Load::default() }),
            _ => Ok(Load { bytes: 8, ..Load::default() }),
        }
    }

    fn run(&self, _: &mut Scratch, batch: &mut Batch<'_, Ask, (u64, u64)>) -> Result<()> {
        for at in 0..batch.len() {
            let value = match batch.request(at) {
                Ask::Tag(value) => {
                    assert_eq!(batch.group(), value % 3, "groups are the runner's own");
                    *value
                }
                Ask::Stop(gate) => {
                    gate.pass();
                    0
                }
                Ask::Panic => panic!("poisonous"),
                Ask::Fail => return Err(onrush::Error::new(ErrorKind::Shape, "does not fit")),
                Ask::Note(name, order, hand) => {
                    order.lock().unwrap().push(*name);
                    hand.step();
                    0
                }
                Ask::Work(turns) => {
                    let mut sum = 0;
                    for turn in 0..*turns {
                        sum = std::hint::black_box(sum + u64::from(turn));
                        if turn % 64 == 0 && batch.checkpoint() == Flow::Stop {
                            return Err(onrush::Error::new(ErrorKind::Cancelled, "nobody waits"));
                        }
                    }
                    sum
                }
            };
            batch.answer(at, Ok((self.tag, value)));
        }
        Ok(())
    }
}

fn executor(change: impl FnOnce(Builder<Version>) -> Builder<Version>) -> (Executor<Version>, Arc<AtomicUsize>) {
    let alive = Arc::default();
    let builder = Executor::builder(Version::new(1, &alive)).workers(2).max_batch_size(8);
    (change(builder).build().unwrap(), alive)
}

fn submit(executor: &Executor<Version>, ask: Ask) -> Ticket<Version> {
    executor.submit(ask, SubmitOptions::new()).unwrap()
}

fn assert_conserved(executor: &Executor<Version>) {
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    let snapshot = executor.snapshot();
    let requests = snapshot.requests;
    let ended = requests.answered + requests.failed + requests.expired + requests.cancelled;
    assert_eq!((requests.accepted, requests.waiting), (ended, 0), "{requests:?}");
    assert_eq!(snapshot.queued_bytes, 0);
}

#[test]
fn replicas_come_and_go() {
    let (executor, _) = executor(|b| b.workers(1));
    let first = executor.replicas()[0];
    let refused = executor.drain_replica(first, LONG).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "the last one");
    let gate = Arc::new(Gate::default());
    let stopped = submit(&executor, Ask::Stop(gate.clone()));
    gate.wait_for(1);
    let second = executor.add_replica().unwrap();
    assert_eq!(submit(&executor, Ask::Tag(5)).wait_timeout(LONG).unwrap().unwrap(), (1, 5), "by the second");
    assert!(!executor.drain_replica(first, Duration::ZERO).unwrap(), "it still runs");
    let states = |executor: &Executor<Version>| -> Vec<_> {
        executor.snapshot().replicas.iter().map(|replica| (replica.id, replica.state)).collect()
    };
    let (one, two) = (first.number(), second.number());
    assert_eq!(states(&executor), [(one, ReplicaState::Draining), (two, ReplicaState::Active)]);
    assert!(executor.remove_replica(second, LONG).is_err(), "now that is the last one");
    gate.open();
    stopped.wait().unwrap();
    assert!(executor.drain_replica(first, LONG).unwrap());
    assert_eq!(states(&executor)[0], (one, ReplicaState::Drained));
    executor.resume_replica(first).unwrap();
    assert!(executor.remove_replica(second, LONG).unwrap());
    assert_eq!(executor.replicas(), [first]);
    assert_eq!(executor.drain_replica(second, LONG).unwrap_err().kind(), ErrorKind::InvalidInput, "it is gone");
    assert_eq!(submit(&executor, Ask::Tag(6)).wait().unwrap(), (1, 6));
    let third = executor.add_replica().unwrap();
    assert!(third > second, "numbers are not used again");
    assert_conserved(&executor);
    assert_eq!(executor.add_replica().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_removed_replica_drops_what_it_kept() {
    let (executor, alive) = executor(|b| b.run_inline(false).balancer(RoundRobin::new()));
    for _ in 0..20 {
        submit(&executor, Ask::Tag(1)).wait().unwrap();
    }
    assert_eq!(alive.load(Ordering::SeqCst), 3, "a model and two scratches");
    let replica = executor.replicas()[1];
    assert!(executor.remove_replica(replica, LONG).unwrap());
    assert_eq!((executor.replicas().len(), alive.load(Ordering::SeqCst)), (1, 2), "it is gone at once");
}

#[test]
fn the_number_of_replicas_is_bounded() {
    let (executor, _) = executor(|b| b.workers(48));
    assert_eq!(executor.add_replica().unwrap_err().kind(), ErrorKind::Limit);
    assert_conserved(&executor);
}

#[test]
fn old_requests_finish_on_the_old_model_and_new_ones_on_the_new() {
    let (executor, alive) = executor(|b| b.workers(1));
    let gate = Arc::new(Gate::default());
    let stopped = submit(&executor, Ask::Stop(gate.clone()));
    gate.wait_for(1);
    let old: Vec<_> = (0..5).map(|n| submit(&executor, Ask::Tag(n * 3))).collect();
    executor.swap(0, Version::new(2, &alive)).unwrap();
    assert_eq!(executor.runner().tag, 2);
    let new: Vec<_> = (0..5).map(|n| submit(&executor, Ask::Tag(n * 3))).collect();
    let model = &executor.snapshot().models[0];
    assert_eq!((model.generation, model.retiring), (1, 1));
    gate.open();
    assert_eq!(stopped.wait().unwrap().0, 1);
    for (n, (old, new)) in (0..).zip(old.into_iter().zip(new)) {
        let ((old, timing), new) = (old.wait_timed(), new.wait().unwrap());
        assert_eq!((old.unwrap(), new), ((1, n * 3), (2, n * 3)));
        assert_eq!(timing.batch_requests, 5, "batches do not mix models, and equal groups still ride together");
    }
    submit(&executor, Ask::Tag(1)).wait().unwrap();
    assert_eq!(executor.snapshot().models[0].retiring, 0);
    while alive.load(Ordering::SeqCst) > 2 {
        std::thread::yield_now();
    }
    assert_conserved(&executor);
}

#[test]
fn what_is_wrong_for_the_new_model_is_refused() {
    let (executor, alive) = executor(|b| b);
    let held = executor.pinned(0).unwrap();
    let mut picky = Version::new(2, &alive);
    picky.takes_tags = false;
    executor.swap(0, picky).unwrap();
    let refused = executor.try_submit(Ask::Tag(3), SubmitOptions::new()).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)) && matches!(refused.into_request(), Ask::Tag(3)));
    assert_eq!(executor.call_to(&held, Ask::Tag(3), SubmitOptions::new()).unwrap(), (1, 3), "the old one is held");
    assert_eq!(executor.submit_to(&held, Ask::Tag(4), SubmitOptions::new()).unwrap().wait().unwrap(), (1, 4));
    drop(held);
    assert_eq!(executor.swap(1, Version::new(3, &alive)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_conserved(&executor);
}

#[test]
fn a_model_that_keeps_panicking_rests_and_others_go_on() {
    let alive = Arc::default();
    let builder = Executor::builder(Version::new(1, &alive)).named("sick", 1).model("well", Version::new(2, &alive), 1);
    let executor = builder.workers(1).quarantine(3, LONG).build().unwrap();
    let well = SubmitOptions::new().model(1);
    for _ in 0..2 {
        executor.call(Ask::Panic, SubmitOptions::new()).unwrap_err();
    }
    executor.call(Ask::Fail, SubmitOptions::new()).unwrap_err();
    for _ in 0..2 {
        let error = submit(&executor, Ask::Panic).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked, "a run that returned came between");
    }
    // Waiting when the rest begins, or too late: neither costs a run.
    let gate = Arc::new(Gate::default());
    let stopped = executor.submit(Ask::Stop(gate.clone()), well).unwrap();
    gate.wait_for(1);
    let last = submit(&executor, Ask::Panic);
    let waiting: Vec<_> = (0..9).map(|n| submit(&executor, Ask::Tag(n))).collect();
    gate.open();
    stopped.wait().unwrap();
    assert_eq!(last.wait().unwrap_err().kind(), ErrorKind::Panicked);
    let failed = waiting.into_iter().map(|ticket| ticket.wait().unwrap_err().kind());
    assert!(failed.into_iter().all(|kind| kind == ErrorKind::Quarantined));
    let refused = executor.try_submit(Ask::Tag(1), SubmitOptions::new()).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Quarantined { retry_after } if *retry_after <= LONG));
    assert_eq!(executor.call(Ask::Tag(1), well).unwrap(), (2, 1));
    let snapshot = executor.snapshot();
    assert!(snapshot.models[0].resting_ns > 0 && snapshot.models[1].resting_ns == 0);
    assert_eq!(snapshot.refused.quarantined, 1);
    executor.reinstate(0).unwrap();
    assert_eq!(executor.call(Ask::Tag(1), SubmitOptions::new()).unwrap(), (1, 1));
    assert_conserved(&executor);
}

#[test]
fn a_rest_ends_by_itself_and_a_swap_ends_it() {
    let (executor, alive) = executor(|b| b.quarantine(1, Duration::from_millis(20)));
    let panic = |executor: &Executor<Version>| executor.call(Ask::Panic, SubmitOptions::new()).unwrap_err().kind();
    assert_eq!((panic(&executor), panic(&executor)), (ErrorKind::Panicked, ErrorKind::Quarantined));
    std::thread::sleep(Duration::from_millis(21));
    assert_eq!(executor.call(Ask::Tag(7), SubmitOptions::new()).unwrap(), (1, 7));
    assert_eq!(panic(&executor), ErrorKind::Panicked);
    executor.swap(0, Version::new(2, &alive)).unwrap();
    assert_eq!(executor.call(Ask::Tag(7), SubmitOptions::new()).unwrap(), (2, 7));
    assert_conserved(&executor);
}

/// The models in the order in which their requests run, each for a millisecond, when 80 of the light one and 60 of the heavy one
/// wait, in this order. What runs when is a matter of the clock alone, whatever else the processor does.
fn order_of_a_flood(executor: &Executor<Version>, hand: &Hand, [heavy, light]: [u32; 2]) -> Vec<u32> {
    for model in [heavy, light] {
        executor.seed_cost(&executor.pinned(model).unwrap(), 0, 1, Duration::from_millis(1));
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Gate::default());
    let stopped = submit(executor, Ask::Stop(gate.clone()));
    gate.wait_for(1);
    let note = |model: u32| {
        let ask = Ask::Note(model, order.clone(), hand.clone());
        executor.submit(ask, SubmitOptions::new().model(model)).unwrap()
    };
    let flood: Vec<_> = (0..80).map(|_| note(light)).chain((0..60).map(|_| note(heavy))).collect();
    hand.step();
    gate.open();
    stopped.wait().unwrap();
    flood.into_iter().for_each(|ticket| _ = ticket.wait().unwrap());
    let order = order.lock().unwrap();
    order.clone()
}

#[test]
fn models_share_the_replicas_by_their_weights() {
    let (alive, hand) = (Arc::default(), Hand::default());
    let builder =
        Executor::builder(Version::new(1, &alive)).named("heavy", 3).model("light", Version::new(2, &alive), 1);
    let builder = builder.workers(1).max_batch_size(1).run_inline(false).clock(hand.clone());
    let executor = builder.build().unwrap();
    let order = order_of_a_flood(&executor, &hand, [0, 1]);
    // The heavy one is through when the light one has had a third of its time; then the light one has all of it.
    let last_heavy = order.iter().rposition(|&model| model == 0).unwrap();
    let light = last_heavy + 1 - 60;
    assert!((18..=22).contains(&light), "{light} of the light ones ran beside 60 heavy ones: {order:?}");
    let models = executor.snapshot().models;
    assert_eq!((models[0].answered, models[1].answered), (61, 80));
    assert_conserved(&executor);
}

#[test]
fn models_that_cannot_be_served_are_refused() {
    let alive = Arc::default();
    let build = |share| {
        let builder = Executor::builder(Version::new(1, &alive)).model("other", Version::new(2, &alive), share);
        builder.build().map(drop)
    };
    assert_eq!(build(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    build(1).unwrap();
    let (executor, _) = executor(|b| b);
    let refused = executor.try_submit(Ask::Tag(1), SubmitOptions::new().model(1)).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)));
}

#[test]
fn models_come_and_go_while_requests_run() {
    let (executor, alive) = executor(|b| b.workers(1).max_batch_size(1).run_inline(false));
    let gate = Arc::new(Gate::default());
    let stopped = submit(&executor, Ask::Stop(gate.clone()));
    gate.wait_for(1);
    let second = executor.add_model("second", Version::new(2, &alive), 3).unwrap();
    assert_eq!((second, executor.model_named("second")), (1, Some(1)));
    for (name, share, kind) in [("second", 1, ErrorKind::InvalidInput), ("other", 0, ErrorKind::InvalidInput)] {
        assert_eq!(executor.add_model(name, Version::new(9, &alive), share).unwrap_err().kind(), kind);
    }
    let of_second = SubmitOptions::new().model(second);
    let waiting: Vec<_> = (0..5).map(|n| executor.submit(Ask::Tag(n), of_second).unwrap()).collect();
    assert!(!executor.remove_model(second, Duration::ZERO).unwrap(), "its requests wait");
    let refused = executor.try_submit(Ask::Tag(1), of_second).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Invalid(_)));
    let snapshot = executor.snapshot();
    assert!(snapshot.models[1].removed && snapshot.models[1].retiring == 1 && !snapshot.models[0].removed);
    let third = executor.add_model("third", Version::new(3, &alive), 1).unwrap();
    assert_eq!(executor.remove_model(second, LONG).unwrap_err().kind(), ErrorKind::InvalidInput, "it is removed");
    gate.open();
    stopped.wait().unwrap();
    for (n, ticket) in (0..).zip(waiting) {
        assert_eq!(ticket.wait().unwrap(), (2, n), "by the model that was removed meanwhile");
    }
    let of_third = SubmitOptions::new().model(third);
    assert_eq!(executor.submit(Ask::Tag(7), of_third).unwrap().wait().unwrap(), (3, 7));
    assert_eq!(executor.model_names(), ["model", "third"]);
    assert_eq!(executor.remove_model(0, LONG).unwrap_err().kind(), ErrorKind::InvalidInput, "the first one stays");
    executor.swap(third, Version::new(4, &alive)).unwrap();
    assert_eq!(executor.call(Ask::Tag(8), of_third).unwrap(), (4, 8));
    assert!(executor.remove_model(third, LONG).unwrap());
    assert_eq!(executor.model_names(), ["model"]);
    let patience = Instant::now() + LONG;
    while alive.load(Ordering::SeqCst) > 2 {
        assert!(Instant::now() < patience, "a removed model or its scratch is left");
        std::thread::yield_now();
    }
    assert_conserved(&executor);
    assert_eq!(executor.add_model("late", Version::new(5, &alive), 1).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn there_is_room_for_thirty_two_models_and_numbers_are_not_used_again() {
    let (executor, alive) = executor(|b| b);
    let numbers: Vec<u32> =
        (1..32).map(|n| executor.add_model(format!("{n}"), Version::new(n, &alive), 1).unwrap()).collect();
    assert_eq!(numbers, (1..32).collect::<Vec<_>>());
    assert_eq!(executor.add_model("more", Version::new(0, &alive), 1).unwrap_err().kind(), ErrorKind::Limit);
    assert!(executor.remove_model(5, LONG).unwrap());
    let number = executor.add_model("more", Version::new(77, &alive), 1).unwrap();
    assert!(number > 31, "{number}");
    assert_eq!(executor.call(Ask::Tag(1), SubmitOptions::new().model(number)).unwrap(), (77, 1));
    executor.call(Ask::Tag(1), SubmitOptions::new().model(5)).unwrap_err();
    assert_conserved(&executor);
}

#[test]
fn shares_hold_for_models_that_came_later_and_when_they_are_changed() {
    let hand = Hand::default();
    let (executor, alive) = executor(|b| b.workers(1).max_batch_size(1).run_inline(false).clock(hand.clone()));
    let light = executor.add_model("light", Version::new(2, &alive), 1).unwrap();
    executor.set_share(0, 3).unwrap();
    assert_eq!(executor.set_share(light, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    let order = order_of_a_flood(&executor, &hand, [0, light]);
    let heavy = order[..40].iter().filter(|&&model| model == 0).count();
    assert!((29..=31).contains(&heavy), "{heavy} of the first forty, three in four are its share: {order:?}");
    executor.set_share(0, 1).unwrap();
    let order = order_of_a_flood(&executor, &hand, [0, light]);
    let heavy = order[..40].iter().filter(|&&model| model == 0).count();
    assert!((19..=21).contains(&heavy), "{heavy} of the first forty, half is its share now: {order:?}");
    assert_conserved(&executor);
}

/// Names the last one, and counts how often each was named.
#[derive(Default)]
struct Last {
    named: Arc<[AtomicU64; 8]>,
}

impl Balancer for Last {
    fn name(&self) -> &str {
        "last"
    }

    fn choose(&mut self, _: u64, replicas: &[Standing]) -> usize {
        let last = replicas.len() - 1;
        self.named[replicas[last].id as usize].fetch_add(1, Ordering::Relaxed);
        last
    }
}

#[test]
fn the_balancer_says_which_replica_runs() {
    let balancer = Last::default();
    let named = balancer.named.clone();
    let (executor, _) = executor(|b| b.workers(4).run_inline(false).balancer(balancer));
    let batches = |executor: &Executor<Version>| -> Vec<u64> {
        executor.snapshot().replicas.iter().map(|replica| replica.batches).collect()
    };
    for n in 0..100 {
        submit(&executor, Ask::Tag(n)).wait().unwrap();
    }
    let ran = batches(&executor);
    assert_eq!(ran.iter().sum::<u64>(), 100, "{ran:?}");
    // A worker that looks for work holds its slot meanwhile: it may be not among those to choose from, or be taken when it is named.
    let elsewhere: u64 = (0..4).map(|at| ran[at].saturating_sub(named[at].load(Ordering::Relaxed))).sum();
    assert!(elsewhere <= 25, "{elsewhere} ran where they were not named to: {ran:?} of {named:?}");
    let added = executor.add_replica().unwrap();
    let patience = Instant::now() + LONG;
    while batches(&executor)[4] == 0 {
        assert!(Instant::now() < patience, "the new one is never named");
        submit(&executor, Ask::Tag(1)).wait().unwrap();
    }
    assert_eq!(added.number(), 4);
    assert_conserved(&executor);
}

#[test]
fn a_batch_waits_for_the_replica_that_is_worth_it() {
    /// Names the first one, busy or not.
    struct First;
    impl Balancer for First {
        fn name(&self) -> &str {
            "first"
        }
        fn choose(&mut self, _: u64, _: &[Standing]) -> usize {
            0
        }
    }
    let (executor, _) = executor(|b| b.run_inline(false).max_batch_size(1).balancer(First).patience(LONG));
    executor.seed_cost(&executor.runner(), 0, 1, Duration::from_millis(1));
    let tickets: Vec<_> = (0..20).map(|_| submit(&executor, Ask::Work(100_000))).collect();
    tickets.into_iter().for_each(|ticket| assert!(ticket.wait_timeout(LONG).unwrap().is_ok()));
    let replicas = executor.snapshot().replicas;
    assert_eq!(replicas[0].batches + replicas[1].batches, 20);
    assert!(replicas[0].batches >= 15, "{replicas:?}");
    assert_conserved(&executor);
}

#[test]
fn a_balancer_that_panics_is_done_without() {
    struct Broken;
    impl Balancer for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn choose(&mut self, _: u64, _: &[Standing]) -> usize {
            panic!("a balancer that panics");
        }
    }
    let (executor, _) = executor(|b| b.run_inline(false).balancer(Broken));
    assert_eq!(submit(&executor, Ask::Tag(2)).wait().unwrap(), (1, 2));
    assert_conserved(&executor);
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// Everything at once for `time`: submits in all forms, cancels, deadlines, panics, failures, and meanwhile replicas are
/// added, drained and removed, and models swapped.
fn storm(seed: u64, time: Duration, policy: Box<dyn Policy>, balancer: Box<dyn Balancer>) -> u64 {
    let alive: Arc<AtomicUsize> = Arc::default();
    let builder = Executor::builder(Version::new(0, &alive)).named("a", 2).model("b", Version::new(0, &alive), 1);
    let preempts = matches!(policy.precedence(), Precedence::Class | Precedence::Cost);
    let builder = builder.workers(2).queue_items(64).max_batch_size(8).policy(policy).balancer(balancer);
    let builder = if preempts { builder.preemption(0.5, 4) } else { builder };
    let executor = builder.quarantine(6, Duration::from_millis(1)).patience(Duration::from_micros(50)).build().unwrap();
    let over = AtomicBool::new(false);
    let (wrong, extra) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (executor, over, wrong, extra) = (&executor, &over, &wrong, &extra);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed * 31 + thread);
                while !over.load(Ordering::Relaxed) {
                    let model = if random.bool() { random.u32(0..2) } else { extra.load(Ordering::Relaxed) as u32 };
                    let mut options = SubmitOptions::new().model(model).priority(random.u8(0..3));
                    if random.u8(0..5) == 0 {
                        options = options.deadline_in(Duration::from_micros(random.u64(0..400)));
                    }
                    let value = random.u64(0..1_000_000);
                    let ask = match random.u8(0..40) {
                        0..2 => Ask::Panic,
                        2 => Ask::Fail,
                        3..10 => Ask::Work(random.u32(0..2000)),
                        _ => Ask::Tag(value),
                    };
                    let is_tag = matches!(ask, Ask::Tag(_));
                    match random.u8(0..6) {
                        0 => drop(executor.submit(ask, options)),
                        1 => drop(executor.try_submit(ask, options).map(Ticket::cancel)),
                        2 => drop(executor.submit_many(vec![ask, Ask::Tag(1)], options).map(|group| group.wait())),
                        form => {
                            let answer = match form {
                                3 => executor.call(ask, options),
                                4 => executor.submit(ask, options).map_err(onrush::Error::from).and_then(Ticket::wait),
                                _ => match executor.try_submit(ask, options).map(|t| t.wait_timeout(LONG)) {
                                    Ok(Ok(answer)) => answer,
                                    _ => continue,
                                },
                            };
                            if answer.is_ok_and(|(_, answered)| is_tag && answered != value) {
                                wrong.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let (start, mut tag, mut first_kib) = (Instant::now(), 0, None);
        while start.elapsed() < time {
            let replicas = executor.replicas();
            let one = replicas[random.usize(0..replicas.len())];
            match random.u8(0..8) {
                5 => {
                    tag += 1;
                    if let Ok(model) = executor.add_model(format!("{tag}"), Version::new(tag, &alive), random.u32(1..4))
                    {
                        let before = extra.swap(model as usize, Ordering::Relaxed) as u32;
                        let _ = executor.remove_model(before, Duration::from_micros(random.u64(0..300)));
                    }
                }
                6 => drop(executor.set_share(random.u32(0..2), random.u32(1..5))),
                0 if replicas.len() < 5 => drop(executor.add_replica()),
                1 => drop(executor.remove_replica(one, Duration::from_millis(1))),
                2 => drop(executor.drain_replica(one, Duration::from_micros(random.u64(0..200)))),
                3 => drop(executor.resume_replica(one)),
                4 => {
                    tag += 1;
                    drop(executor.swap(random.u32(0..2), Version::new(tag, &alive)));
                }
                _ => drop(executor.reinstate(random.u32(0..2))),
            }
            std::thread::sleep(Duration::from_micros(random.u64(0..1500)));
            if start.elapsed() > time / 10 && first_kib.is_none() {
                first_kib = resident_kib();
            }
        }
        over.store(true, Ordering::Relaxed);
        // Somebody must be left to serve those that still wait for room or an answer.
        executor.replicas().into_iter().for_each(|replica| drop(executor.resume_replica(replica)));
        if let (Some(first), Some(last)) = (first_kib, resident_kib()) {
            if time > Duration::from_secs(5) {
                println!("resident: {first} KiB after a tenth, {last} KiB at the end; {tag} swaps");
            }
            assert!(last < first + first / 4 + 16 * 1024, "memory grew from {first} to {last} KiB");
        }
    });
    assert_eq!(wrong.load(Ordering::SeqCst), 0, "answers that belong to other requests");
    assert_conserved(&executor);
    let requests = executor.snapshot().requests;
    drop(executor);
    // Its threads let go of it a moment after it is down.
    let patience = Instant::now() + LONG;
    while alive.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < patience, "models and scratches are left");
        std::thread::yield_now();
    }
    requests.accepted
}

fn storms() -> Vec<(Box<dyn Policy>, Box<dyn Balancer>)> {
    let ms = Duration::from_millis;
    vec![
        (Box::new(FirstCome), Box::new(LeastLoaded)),
        (Box::new(StrictPriority::new(ms(5))), Box::new(RoundRobin::new())),
        (Box::new(ShortestJob::new(ms(5))), Box::new(TwoChoices::new(1))),
        (Box::new(EarliestDeadline::new()), Box::new(Locality::new(Duration::from_micros(20)))),
        (Box::new(FairShare::new(Duration::from_micros(100))), Box::new(LeastLoaded)),
    ]
}

#[test]
fn a_storm_loses_nothing_and_answers_nothing_twice() {
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("poisonous") {
            eprintln!("{info}");
        }
    }));
    for (seed, (policy, balancer)) in (0..).zip(storms()) {
        assert!(storm(seed, Duration::from_millis(300), policy, balancer) > 0);
    }
}

#[test]
fn soak() {
    let Some(seconds) = std::env::var("ONRUSH_SOAK").ok().and_then(|seconds| seconds.parse::<u64>().ok()) else {
        return;
    };
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("poisonous") {
            eprintln!("{info}");
        }
    }));
    let each = Duration::from_secs(seconds) / 5;
    let accepted: u64 = (0..).zip(storms()).map(|(seed, (policy, balancer))| storm(seed, each, policy, balancer)).sum();
    println!("{accepted} requests accepted, each ended once");
}
