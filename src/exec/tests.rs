//! The executor as a whole, with a runner whose requests say what it should do.

use super::*;
use crate::error::{Error, ErrorKind, Result, err};
use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// A gate that runs stop at until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    arrived: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock();
        while !*open {
            self.changed.wait(&mut open);
        }
    }

    fn open(&self) {
        *self.open.lock() = true;
        self.changed.notify_all();
    }

    fn wait_for_arrival(&self) {
        while self.arrived.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }
}

#[derive(Clone)]
enum Ask {
    Double(u64),
    Stop(Arc<Gate>),
    Panic,
    Fail,
    Invalid,
    Forget,
    Bytes(usize),
    Rows(u32),
    Group(u64),
    /// Runs until the flag is up, or until it is told to stop.
    Until(Arc<AtomicBool>),
    /// The same, with eight rows.
    Long(Arc<AtomicBool>),
    Raise(Arc<AtomicBool>),
    /// Takes so long by the clock.
    Take(Hand, Duration),
    /// Runs until another one does too.
    Meet(Arc<std::sync::Barrier>),
}

#[derive(Default)]
struct Runner {
    batches: Arc<Mutex<Vec<usize>>>,
}

impl BatchRunner for Runner {
    type Request = Ask;
    type Response = u64;
    type Scratch = Vec<u64>;

    fn scratch(&self) -> Vec<u64> {
        Vec::new()
    }

    fn admit(&self, request: &Ask) -> Result<Load> {
        Ok(match request {
            Ask::Invalid => return Err(err!(InvalidInput, "wrong shape")),
            Ask::Bytes(bytes) => Load { bytes: *bytes, ..Load::default() },
            Ask::Rows(rows) => Load { rows: *rows, ..Load::default() },
            Ask::Group(group) => Load { group: *group, ..Load::default() },
            Ask::Long(_) => Load { rows: 8, ..Load::default() },
            _ => Load::default(),
        })
    }

    fn run(&self, _: &mut Vec<u64>, batch: &mut Batch<'_, Ask, u64>) -> Result<()> {
        self.batches.lock().push(batch.len());
        assert!(batch.requests().all(|request| matches!(request, Ask::Group(_)) == (batch.group() != 0)));
        for at in 0..batch.len() {
            match batch.request(at) {
                Ask::Stop(gate) => gate.pass(),
                Ask::Panic => panic!("poisonous"),
                Ask::Fail => return Err(err!(Shape, "out of range")),
                Ask::Until(flag) | Ask::Long(flag) => {
                    while !flag.load(Ordering::SeqCst) {
                        if batch.checkpoint() == Flow::Stop {
                            return Err(err!(Cancelled, "told to stop"));
                        }
                        std::thread::yield_now();
                    }
                }
                Ask::Raise(flag) => flag.store(true, Ordering::SeqCst),
                Ask::Take(hand, time) => hand.0.advance(*time),
                Ask::Meet(barrier) => _ = barrier.wait(),
                _ => {}
            }
        }
        batch.mark_stacked();
        for at in 0..batch.len() {
            let answer = match batch.request(at) {
                Ask::Double(value) => value * 2,
                Ask::Forget => continue,
                _ => batch.rows().into(),
            };
            batch.answer(at, Ok(answer));
        }
        batch.mark_computed();
        Ok(())
    }
}

fn executor(change: impl FnOnce(Builder<Runner>) -> Builder<Runner>) -> Executor<Runner> {
    change(Executor::builder(Runner::default()).workers(2).max_batch_size(8)).build().unwrap()
}

fn submit(executor: &Executor<Runner>, ask: Ask) -> Ticket<Runner> {
    executor.try_submit(ask, SubmitOptions::new()).unwrap()
}

/// An executor of one worker that stands at a gate.
fn busy(change: impl FnOnce(Builder<Runner>) -> Builder<Runner>) -> (Executor<Runner>, Arc<Gate>, Ticket<Runner>) {
    let executor = executor(|builder| change(builder.workers(1)));
    let gate = Arc::new(Gate::default());
    let ticket = submit(&executor, Ask::Stop(gate.clone()));
    gate.wait_for_arrival();
    (executor, gate, ticket)
}

/// At rest every accepted request has ended in exactly one way.
fn assert_conserved(executor: &Executor<Runner>) {
    let requests = executor.snapshot().requests;
    let ended = requests.answered + requests.failed + requests.expired + requests.cancelled;
    assert_eq!((requests.accepted, requests.waiting), (ended, 0), "{requests:?}");
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn requests_are_answered_in_every_form() {
    let executor = executor(|builder| builder);
    assert_eq!(executor.call(Ask::Double(4), SubmitOptions::new()).unwrap(), 8);
    assert_eq!(submit(&executor, Ask::Double(5)).wait().unwrap(), 10);
    assert_eq!(executor.submit(Ask::Double(6), SubmitOptions::new()).unwrap().wait().unwrap(), 12);
    let group = executor.submit_many((0..20).map(Ask::Double).collect(), SubmitOptions::new()).unwrap();
    let answers: Vec<u64> = group.wait().into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..20).map(|n| n * 2).collect::<Vec<_>>());
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_conserved(&executor);
    assert_eq!(executor.snapshot().requests.inline, 1);
}

#[test]
fn concurrent_callers_ride_together() {
    let (executor, gate, first) = busy(|builder| builder);
    let tickets: Vec<_> = (0..20).map(|n| submit(&executor, Ask::Double(n))).collect();
    gate.open();
    for (n, ticket) in tickets.into_iter().enumerate() {
        let (answer, timing) = ticket.wait_timed();
        assert_eq!(answer.unwrap(), n as u64 * 2);
        assert_eq!(timing.batch_requests, if n < 16 { 8 } else { 4 });
    }
    first.wait().unwrap();
    assert_eq!(*executor.runner().batches.lock(), [1, 8, 8, 4]);
}

#[test]
fn rows_and_groups_bound_a_batch() {
    let (executor, gate, _first) = busy(|builder| builder);
    let rows: Vec<_> = [5, 4, 3, 20].map(|rows| submit(&executor, Ask::Rows(rows))).into();
    let groups: Vec<_> = [7, 8, 7].map(|group| submit(&executor, Ask::Group(group))).into();
    gate.open();
    assert_eq!(rows.into_iter().map(|ticket| ticket.wait().unwrap()).collect::<Vec<_>>(), [8, 4, 8, 20]);
    assert_eq!(groups.into_iter().map(|ticket| ticket.wait().unwrap()).collect::<Vec<_>>(), [2, 1, 2]);
}

#[test]
fn a_poisonous_request_fails_alone() {
    for (poison, expected) in [(Ask::Panic, ErrorKind::Panicked), (Ask::Fail, ErrorKind::Shape)] {
        let (executor, gate, _first) = busy(|builder| builder);
        let mut tickets: Vec<_> = (0..5).map(|n| submit(&executor, Ask::Double(n))).collect();
        tickets.insert(3, submit(&executor, poison));
        gate.open();
        let mut results: Vec<_> = tickets.into_iter().map(Ticket::wait).collect();
        assert_eq!(kind(results.remove(3)), Some(expected));
        assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        assert_eq!(submit(&executor, Ask::Double(1)).wait().unwrap(), 2, "the worker lives");
    }
}

#[test]
fn a_forgotten_request_fails() {
    let executor = executor(|builder| builder);
    assert_eq!(kind(executor.call(Ask::Forget, SubmitOptions::new())), Some(ErrorKind::Internal));
    assert_eq!(kind(submit(&executor, Ask::Forget).wait()), Some(ErrorKind::Internal));
}

#[test]
fn a_full_queue_refuses_one_and_many_alike_and_gives_them_back() {
    let (executor, gate, first) = busy(|builder| builder.queue_items(3).queue_bytes(100));
    let waiting = submit(&executor, Ask::Bytes(90));
    let refused = executor.try_submit(Ask::Bytes(11), SubmitOptions::new()).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Full { .. }) && matches!(refused.into_request(), Ask::Bytes(11)));
    let more = submit(&executor, Ask::Bytes(10));
    let refused = executor.submit_many(vec![Ask::Double(1); 2], SubmitOptions::new()).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Full { .. }) && refused.into_request().len() == 2);
    let never = executor.try_submit(Ask::Bytes(101), SubmitOptions::new()).unwrap_err();
    assert!(matches!(never.reason(), Reason::Invalid(_)));
    let wrong = executor.try_submit(Ask::Invalid, SubmitOptions::new()).unwrap_err();
    assert_eq!(Error::from(wrong).kind(), ErrorKind::InvalidInput);
    gate.open();
    assert!([first, waiting, more].into_iter().all(|ticket| ticket.wait().is_ok()));
    let refused = executor.snapshot().refused;
    assert_eq!((refused.full, refused.invalid), (2, 2));
}

#[test]
fn a_blocking_submit_waits_for_room() {
    let (executor, gate, first) = busy(|builder| builder.queue_items(1));
    let second = submit(&executor, Ask::Double(1));
    std::thread::scope(|scope| {
        let blocked: Vec<_> = (0..4)
            .map(|n| {
                let executor = &executor;
                scope.spawn(move || executor.submit(Ask::Double(n), SubmitOptions::new()).unwrap().wait().unwrap())
            })
            .collect();
        gate.open();
        let mut answers: Vec<_> = blocked.into_iter().map(|thread| thread.join().unwrap()).collect();
        answers.sort_unstable();
        assert_eq!(answers, [0, 2, 4, 6]);
    });
    first.wait().unwrap();
    second.wait().unwrap();
}

#[test]
fn cancelled_requests_free_their_place() {
    let (executor, gate, first) = busy(|builder| builder.queue_items(2));
    for _ in 0..500 {
        drop(submit(&executor, Ask::Double(1)));
        assert!(submit(&executor, Ask::Double(1)).cancel());
    }
    assert!(executor.snapshot().requests.waiting <= 1);
    assert!(first.cancel(), "running work can be given up");
    gate.open();
    assert_eq!(submit(&executor, Ask::Double(3)).wait().unwrap(), 6);
    executor.shutdown(Shutdown::Drain, LONG);
    assert_conserved(&executor);
    assert_eq!(executor.snapshot().requests.cancelled, 1001);
}

#[test]
fn deadlines_are_kept_at_submit_and_in_the_queue() {
    let (executor, gate, _first) = busy(|builder| builder);
    let past = executor.try_submit(Ask::Double(1), SubmitOptions::new().deadline_in(Duration::ZERO)).unwrap_err();
    assert!(matches!(past.reason(), Reason::WouldMissDeadline));
    let soon = SubmitOptions::new().deadline_in(Duration::from_millis(1));
    let waiting = executor.try_submit(Ask::Double(1), soon).unwrap();
    assert_eq!(kind(waiting.wait()), Some(ErrorKind::Deadline), "though the only worker is busy");
    let unseen = executor.try_submit(Ask::Double(1), soon).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    gate.open();
    assert_eq!(kind(unseen.wait()), Some(ErrorKind::Deadline));
    executor.shutdown(Shutdown::Drain, LONG);
    assert_eq!(executor.snapshot().requests.expired, 2);
}

#[test]
fn a_deadline_ends_a_future_though_no_worker_looks() {
    let (executor, gate, _first) = busy(|builder| builder);
    let soon = SubmitOptions::new().deadline_in(Duration::from_millis(1));
    let waiting = executor.try_submit(Ask::Double(1), soon).unwrap();
    let later = executor.try_submit(Ask::Double(1), SubmitOptions::new().deadline_in(LONG)).unwrap();
    assert_eq!(kind(block_on(waiting)), Some(ErrorKind::Deadline));
    gate.open();
    assert_eq!(block_on(later).unwrap(), 2);
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_submit() {
    let (executor, gate, _first) = busy(|builder| builder);
    executor.seed_cost(&executor.runner(), 0, 1, LONG);
    let options = SubmitOptions::new().deadline_in(LONG / 2);
    let refused = executor.try_submit(Ask::Double(1), options).unwrap_err();
    assert!(matches!(refused.reason(), Reason::WouldMissDeadline));
    assert_eq!(executor.snapshot().refused.deadline, 1);
    gate.open();
}

#[test]
fn a_class_has_room_of_its_own() {
    let (executor, gate, _first) = busy(|builder| builder.class_items(2, 1));
    let low = SubmitOptions::new().priority(2);
    let kept = executor.try_submit(Ask::Double(1), low).unwrap();
    let refused = executor.try_submit(Ask::Double(1), low).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Full { .. }));
    assert!(kept.cancel());
    let kept = executor.try_submit(Ask::Double(1), low).unwrap();
    gate.open();
    kept.wait().unwrap();
}

#[test]
fn the_urgent_overtake_under_a_policy_of_priorities() {
    let policy = crate::sched::StrictPriority::new(LONG);
    let (executor, gate, _first) = busy(|builder| builder.policy(policy).max_batch_size(1));
    let low = executor.try_submit(Ask::Double(1), SubmitOptions::new().priority(2)).unwrap();
    let high = executor.try_submit(Ask::Double(2), SubmitOptions::new().priority(0)).unwrap();
    gate.open();
    let (low, high) = (low.wait_timed().1, high.wait_timed().1);
    assert!(high.queued < low.queued, "{high:?} {low:?}");
}

/// An executor of one worker that runs a request of class 1 until the flag is up.
fn endless(
    change: impl FnOnce(Builder<Runner>) -> Builder<Runner>,
    options: SubmitOptions,
) -> (Executor<Runner>, Arc<AtomicBool>, Ticket<Runner>) {
    let executor = executor(|builder| change(builder.workers(1)));
    let flag = Arc::new(AtomicBool::new(false));
    let ticket = executor.try_submit(Ask::Until(flag.clone()), options).unwrap();
    while executor.snapshot().requests.waiting == 0 || executor.runner().batches.lock().is_empty() {
        std::thread::yield_now();
    }
    (executor, flag, ticket)
}

#[test]
fn the_urgent_interrupt_what_runs() {
    let policy = crate::sched::StrictPriority::new(LONG);
    let (executor, flag, low) = endless(|builder| builder.policy(policy).preemption(1.0, 1), SubmitOptions::new());
    // Equal classes wait; only the more urgent one can end the wait of the running one.
    let equal = submit(&executor, Ask::Double(4));
    let urgent = executor.try_submit(Ask::Raise(flag), SubmitOptions::new().priority(0)).unwrap();
    assert_eq!(urgent.wait_timeout(LONG).unwrap().unwrap(), 1);
    low.wait().unwrap();
    assert_eq!(equal.wait().unwrap(), 8);
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_conserved(&executor);
}

/// A clock that requests move on.
#[derive(Clone, Default)]
struct Hand(Arc<crate::clock::Mock>);

impl crate::clock::Clock for Hand {
    fn now(&self) -> crate::clock::Time {
        self.0.now()
    }
}

#[test]
fn an_interruption_is_no_progress_of_what_it_interrupts() {
    let (policy, hand) = (crate::sched::StrictPriority::new(Duration::MAX), Hand::default());
    let change = |builder: Builder<Runner>| builder.policy(policy).preemption(1.0, 9).clock(hand.clone());
    let (executor, flag, low) = endless(change, SubmitOptions::new());
    // The low one will take as long as an urgent one, and has not begun yet by the clock: the rest of it is worth an
    // interruption as long as only urgent ones take time.
    executor.seed_cost(&executor.runner(), 0, 1, LONG);
    for _ in 0..5 {
        let urgent = executor.try_submit(Ask::Take(hand.clone(), LONG), SubmitOptions::new().priority(0)).unwrap();
        urgent.wait().unwrap();
    }
    let last = executor.try_submit(Ask::Raise(flag), SubmitOptions::new().priority(0)).unwrap();
    last.wait().unwrap();
    low.wait().unwrap();
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_eq!(executor.snapshot().replicas[0].busy_ns, crate::clock::nanos(LONG * 5), "no time counts twice");
}

#[test]
fn a_batch_that_seems_to_end_and_does_not_is_interrupted_after_all() {
    let (policy, hand) = (crate::sched::StrictPriority::new(Duration::MAX), Hand::default());
    let change = |builder: Builder<Runner>| builder.policy(policy).preemption(1.0, 9).clock(hand.clone());
    let (executor, flag, low) = endless(change, SubmitOptions::new());
    executor.seed_cost(&executor.runner(), 0, 1, LONG);
    hand.0.advance(LONG * 3 / 2);
    let urgent = executor.try_submit(Ask::Raise(flag), SubmitOptions::new().priority(0)).unwrap();
    // Half of its own time is all that it would gain: it waits, and nobody submits anything that would say so again.
    std::thread::sleep(Duration::from_millis(20));
    assert!(!urgent.is_done());
    hand.0.advance(LONG / 2);
    urgent.wait().unwrap();
    low.wait().unwrap();
    assert!(executor.shutdown(Shutdown::Drain, LONG));
}

#[test]
fn a_near_deadline_is_held_against_what_runs_before_it() {
    let refuses = |policy: Box<dyn crate::sched::Policy>| {
        let hand = Hand::default();
        let change = |builder: Builder<Runner>| builder.policy(policy).clock(hand.clone()).max_batch_size(1).workers(1);
        let executor = executor(change);
        let ten = Duration::from_millis(10);
        (0..9).for_each(|_| _ = submit(&executor, Ask::Take(hand.clone(), ten)).wait().unwrap());
        let flag = Arc::new(AtomicBool::new(false));
        let first = submit(&executor, Ask::Until(flag.clone()));
        while executor.snapshot().queued > 0 {
            std::thread::yield_now();
        }
        let within = |ms| SubmitOptions::new().deadline_in(Duration::from_millis(ms));
        let far: Vec<_> = (0..50).map(|_| executor.try_submit(Ask::Double(1), within(10_000)).unwrap()).collect();
        let refused = executor.try_submit(Ask::Double(2), within(200)).is_err();
        flag.store(true, Ordering::SeqCst);
        first.wait().unwrap();
        far.into_iter().for_each(|ticket| assert_eq!(ticket.wait().unwrap(), 2));
        refused
    };
    assert!(refuses(Box::new(crate::sched::FirstCome)), "fifty stand before it, 10 ms each");
    assert!(!refuses(Box::new(crate::sched::EarliestDeadline::new())), "nobody does");
}

#[test]
fn several_urgent_requests_interrupt_several_runs() {
    let policy = crate::sched::StrictPriority::new(LONG);
    let executor = executor(|builder| builder.max_batch_size(1).policy(policy).preemption(0.0, 9));
    let flags: [Arc<AtomicBool>; 2] = Default::default();
    let low = flags.clone().map(|flag| submit(&executor, Ask::Until(flag)));
    while executor.runner().batches.lock().len() < 2 {
        std::thread::yield_now();
    }
    // Each urgent one goes on until both run: so each interrupted another run.
    let meet = Arc::new(std::sync::Barrier::new(2));
    let urgent =
        [(); 2].map(|()| executor.try_submit(Ask::Meet(meet.clone()), SubmitOptions::new().priority(0)).unwrap());
    urgent.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    flags.iter().for_each(|flag| flag.store(true, Ordering::SeqCst));
    low.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_conserved(&executor);
}

#[test]
fn the_short_interrupt_the_long_where_the_shortest_goes_first() {
    let policy = crate::sched::ShortestJob::new(Duration::MAX);
    let executor = executor(|builder| builder.workers(1).policy(policy).preemption(1.0, 1));
    executor.seed_cost(&executor.runner(), 0, 8, LONG);
    executor.seed_cost(&executor.runner(), 0, 1, Duration::from_millis(1));
    let flag = Arc::new(AtomicBool::new(false));
    let long = submit(&executor, Ask::Long(flag.clone()));
    while executor.runner().batches.lock().is_empty() {
        std::thread::yield_now();
    }
    let equal = submit(&executor, Ask::Long(flag.clone()));
    let short = submit(&executor, Ask::Raise(flag));
    assert_eq!(short.wait_timeout(LONG).unwrap().unwrap(), 1);
    let (answer, timing) = long.wait_timed();
    assert!(answer.is_ok() && timing.parked > Duration::ZERO && timing.parked <= timing.total(), "{timing:?}");
    assert_eq!(equal.wait_timed().1.parked, Duration::ZERO);
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_conserved(&executor);
}

#[test]
fn a_run_that_was_interrupted_often_enough_leaves_it_to_another() {
    let policy = crate::sched::StrictPriority::new(LONG);
    let executor = executor(|builder| builder.max_batch_size(1).policy(policy).preemption(0.0, 1));
    let flag = Arc::new(AtomicBool::new(false));
    let low = [3, 2].map(|class| {
        let ticket = executor.try_submit(Ask::Until(flag.clone()), SubmitOptions::new().priority(class)).unwrap();
        while executor.snapshot().queued > 0 {
            std::thread::yield_now();
        }
        ticket
    });
    // The first interrupts the least urgent run, which may not be interrupted again.
    for _ in 0..2 {
        let urgent = executor.try_submit(Ask::Double(1), SubmitOptions::new().priority(0)).unwrap();
        assert_eq!(urgent.wait_timeout(LONG).unwrap().unwrap(), 2);
    }
    flag.store(true, Ordering::SeqCst);
    low.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_conserved(&executor);
}

#[test]
fn running_work_stops_when_it_is_given_up() {
    let (executor, _flag, ticket) = endless(|builder| builder, SubmitOptions::new());
    assert!(ticket.cancel());
    assert_eq!(submit(&executor, Ask::Double(1)).wait().unwrap(), 2);
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_conserved(&executor);
}

#[test]
fn running_work_stops_at_its_deadline() {
    let soon = SubmitOptions::new().deadline_in(Duration::from_millis(20));
    let executor = executor(|builder| builder.workers(1));
    let ticket = executor.try_submit(Ask::Until(Arc::default()), soon).unwrap();
    assert_eq!(kind(ticket.wait()), Some(ErrorKind::Deadline));
    let inline = executor.call(Ask::Until(Arc::default()), soon);
    assert_eq!(kind(inline), Some(ErrorKind::Deadline), "on the caller's own thread too");
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_eq!(executor.snapshot().requests.expired, 2);
    assert_conserved(&executor);
}

#[test]
fn a_policy_that_panics_is_replaced() {
    struct Broken;
    impl crate::sched::Policy for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn decide(&mut self, _: &crate::sched::View<'_>, _: &mut crate::sched::Decision) {
            panic!("a policy that panics");
        }
    }
    let executor = executor(|builder| builder.policy(Broken));
    assert_eq!(submit(&executor, Ask::Double(1)).wait().unwrap(), 2);
}

#[test]
fn the_batch_size_follows_the_latency() {
    let (executor, gate, _first) = busy(|builder| builder.latency_target(LONG));
    let tickets: Vec<_> = (0..10).map(|n| submit(&executor, Ask::Double(n))).collect();
    gate.open();
    tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    let batches = executor.runner().batches.lock().clone();
    assert!(batches[1] <= 2 && batches.iter().max() > Some(&2), "{batches:?}");
}

#[test]
fn a_deadline_is_held_against_batches_as_large_as_they_may_be_now() {
    let hand = Hand::default();
    // One row at a time is too long already, so that no batch has more.
    let target = Duration::from_nanos(1);
    let executor = executor(|b| b.workers(1).max_batch_size(16).latency_target(target).clock(hand.clone()));
    let ms = Duration::from_millis;
    executor.seed_cost(&executor.runner(), 0, 16, ms(20));
    (0..9).for_each(|_| _ = submit(&executor, Ask::Take(hand.clone(), ms(10))).wait().unwrap());
    let flag = Arc::new(AtomicBool::new(false));
    let first = submit(&executor, Ask::Until(flag.clone()));
    while executor.snapshot().queued > 0 {
        std::thread::yield_now();
    }
    let before = [(); 3].map(|()| submit(&executor, Ask::Double(1)));
    let within = |time| executor.try_submit(Ask::Double(1), SubmitOptions::new().deadline_in(time)).map(drop);
    assert!(within(ms(35)).is_err(), "three batches of one go before it, and not one of four");
    assert!(within(ms(60)).is_ok());
    flag.store(true, Ordering::SeqCst);
    first.wait().unwrap();
    before.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
}

#[test]
fn a_wait_with_a_timeout_gives_the_ticket_back() {
    let (executor, gate, first) = busy(|builder| builder);
    let ticket = submit(&executor, Ask::Double(2)).wait_timeout(Duration::from_millis(1)).unwrap_err();
    gate.open();
    assert_eq!(ticket.wait_timeout(LONG).unwrap().unwrap(), 4);
    first.wait().unwrap();
}

#[test]
fn a_delay_lets_requests_gather() {
    let executor = executor(|builder| builder.workers(1).max_queue_delay(LONG));
    let tickets: Vec<_> = (0..8).map(|n| submit(&executor, Ask::Double(n))).collect();
    tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    assert_eq!(*executor.runner().batches.lock(), [8]);
    let partial = submit(&executor, Ask::Double(1));
    assert!(executor.shutdown(Shutdown::Drain, LONG), "a drain does not wait for company");
    partial.wait().unwrap();
}

#[test]
fn a_delay_ends_by_itself() {
    let executor = executor(|builder| builder.workers(1).max_queue_delay(Duration::from_millis(2)));
    assert_eq!(executor.call(Ask::Double(1), SubmitOptions::new()).unwrap(), 2);
    assert_eq!(submit(&executor, Ask::Double(1)).wait().unwrap(), 2);
}

#[test]
fn shutdown_drains() {
    let (executor, gate, first) = busy(|builder| builder);
    let tickets: Vec<_> = (0..30).map(|n| submit(&executor, Ask::Double(n))).collect();
    std::thread::scope(|scope| {
        let shutdown = scope.spawn(|| executor.shutdown(Shutdown::Drain, LONG));
        while !matches!(
            executor.try_submit(Ask::Double(0), SubmitOptions::new()).map_err(|r| r.into_parts().1),
            Err(Reason::Closed)
        ) {
            std::thread::yield_now();
        }
        gate.open();
        assert!(shutdown.join().unwrap());
    });
    assert!(executor.shutdown(Shutdown::Abort, LONG), "a second time");
    first.wait().unwrap();
    tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    assert_eq!(kind(executor.call(Ask::Double(1), SubmitOptions::new())), Some(ErrorKind::Cancelled));
}

#[test]
fn shutdown_aborts_and_is_bounded() {
    let (executor, gate, first) = busy(|builder| builder.shutdown_timeout(Duration::from_millis(1)));
    let waiting = submit(&executor, Ask::Double(1));
    assert!(!executor.shutdown(Shutdown::Abort, Duration::from_millis(1)), "a run is still going on");
    assert_eq!(kind(waiting.wait()), Some(ErrorKind::Cancelled));
    drop(executor);
    gate.open();
    first.wait().unwrap();
}

#[test]
fn tickets_outlive_their_executor() {
    let executor = executor(|builder| builder);
    let tickets: Vec<_> = (0..10).map(|n| submit(&executor, Ask::Double(n))).collect();
    drop(executor);
    tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
}

struct Flag(AtomicUsize, Box<dyn Fn() + Send + Sync>);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        (self.1)();
    }
}

fn flag(action: impl Fn() + Send + Sync + 'static) -> (Arc<Flag>, Waker) {
    let flag = Arc::new(Flag(AtomicUsize::new(0), Box::new(action)));
    (flag.clone(), flag.into())
}

fn block_on<F: Future>(future: F) -> F::Output {
    let thread = std::thread::current();
    let (_flag, waker) = flag(move || thread.unpark());
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn futures_need_no_runtime() {
    let (executor, gate, first) = busy(|builder| builder.queue_items(2));
    let waiting = [0, 1].map(|n| submit(&executor, Ask::Double(n)));
    let mut blocked = pin!(executor.submit_async(Ask::Double(4), SubmitOptions::new()));
    let (_, waker) = flag(|| {});
    assert!(blocked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(blocked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(executor.submit_async(Ask::Double(4), SubmitOptions::new()));
    gate.open();
    assert_eq!(block_on(async { blocked.await.unwrap().await }).unwrap(), 8);
    block_on(first).unwrap();
    assert!(waiting.into_iter().all(|ticket| block_on(ticket).is_ok()));
    let group = executor.submit_many(vec![Ask::Double(1); 2], SubmitOptions::new()).unwrap();
    assert!(block_on(group).iter().all(Result::is_ok));
}

#[test]
fn a_group_wakes_once() {
    let (executor, gate, _first) = busy(|builder| builder.max_batch_size(1).queue_items(8));
    let mut group = pin!(executor.submit_many(vec![Ask::Double(1); 5], SubmitOptions::new()).unwrap());
    let (woken, waker) = flag(|| {});
    assert!(group.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    gate.open();
    executor.shutdown(Shutdown::Drain, LONG);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(group.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn a_waker_may_panic_and_may_drop_the_executor() {
    let (executor, gate, first) = busy(|builder| builder);
    let mut first = pin!(first);
    let (_, bomb) = flag(|| panic!("a waker that panics"));
    assert!(first.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
    let mut second = pin!(submit(&executor, Ask::Double(2)));
    let owner = Mutex::new(Some(executor));
    let (_, waker) = flag(move || drop(owner.lock().take()));
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    gate.open();
    assert_eq!(block_on(second.as_mut()).unwrap(), 4);
    assert!(block_on(first).is_ok());
}

#[test]
fn impossible_settings_are_refused() {
    let bad: [fn(Builder<Runner>) -> Builder<Runner>; 5] =
        [|b| b.workers(0), |b| b.workers(65), |b| b.max_batch_size(0), |b| b.queue_items(0), |b| b.queue_bytes(0)];
    for change in bad {
        let error = change(Executor::builder(Runner::default())).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn many_callers_lose_nothing() {
    let executor = executor(|builder| builder.queue_items(16));
    std::thread::scope(|scope| {
        for caller in 0..6_u64 {
            let executor = &executor;
            scope.spawn(move || {
                for n in 0..300 {
                    let value = caller * 1000 + n;
                    match n % 5 {
                        0 => drop(executor.submit(Ask::Double(value), SubmitOptions::new()).unwrap()),
                        1 => drop(executor.try_submit(Ask::Double(value), SubmitOptions::new())),
                        2 => {
                            let ticket = executor.submit(Ask::Double(value), SubmitOptions::new()).unwrap();
                            assert_eq!(block_on(ticket).unwrap(), value * 2);
                        }
                        _ => assert_eq!(executor.call(Ask::Double(value), SubmitOptions::new()).unwrap(), value * 2),
                    }
                }
            });
        }
    });
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    assert_conserved(&executor);
}
