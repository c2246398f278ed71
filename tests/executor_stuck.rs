//! Nothing stays stuck: neither by what the host's own code does at a bad moment, nor by what was learned in one.
//!
//! What fails and how it is told is left to `executor_faults`.

#[path = "support/gate.rs"]
mod gate;

use gate::Gate;
use onrush::Result;
use onrush::clock::{Clock, Mock, Time};
use onrush::exec::{Batch, BatchRunner, Builder, Executor, Flow, Load, Reason, Shutdown, SubmitOptions, Ticket};
use onrush::sched::{Decision, EarliestDeadline, FirstCome, Policy, StrictPriority, View};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// What is stuck would be so for ever; this is long beside what it takes otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// A clock that runs move forward.
#[derive(Clone, Default)]
struct Hand(Arc<Mock>);

impl Clock for Hand {
    fn now(&self) -> Time {
        self.0.now()
    }
}

enum Ask {
    Value(u64),
    Stop(Arc<Gate>),
    /// Takes so many milliseconds by the clock.
    Take(Hand, u64),
    /// Stops at the gate when it is admitted, and panics then.
    Spoil(Arc<Gate>),
    Until(Arc<AtomicBool>),
    Raise(Arc<AtomicBool>),
}

struct Host;

impl BatchRunner for Host {
    type Request = Ask;
    type Response = u64;
    type Scratch = ();

    fn scratch(&self) {}

    fn admit(&self, request: &Ask) -> Result<Load> {
        if let Ask::Spoil(gate) = request {
            gate.pass();
            panic!("an admission that panics");
        }
        Ok(Load::default())
    }

    fn run(&self, _: &mut (), batch: &mut Batch<'_, Ask, u64>) -> Result<()> {
        for at in 0..batch.len() {
            let answer = match batch.request(at) {
                Ask::Value(value) => *value,
                Ask::Stop(gate) | Ask::Spoil(gate) => {
                    gate.pass();
                    0
                }
                Ask::Take(hand, ms) => {
                    hand.0.advance(Duration::from_millis(*ms));
                    *ms
                }
                Ask::Until(flag) => {
                    let begun = Instant::now();
                    while !flag.load(Ordering::SeqCst) && begun.elapsed() < 2 * PATIENCE {
                        if batch.checkpoint() == Flow::Stop {
                            break;
                        }
                        std::thread::yield_now();
                    }
                    0
                }
                Ask::Raise(flag) => {
                    flag.store(true, Ordering::SeqCst);
                    1
                }
            };
            batch.answer(at, Ok(answer));
        }
        Ok(())
    }
}

fn build(change: impl FnOnce(Builder<Host>) -> Builder<Host>) -> Executor<Host> {
    change(Executor::builder(Host).workers(1).max_batch_size(16)).build().unwrap()
}

fn submit(executor: &Executor<Host>, ask: Ask, options: SubmitOptions) -> Ticket<Host> {
    executor.try_submit(ask, options).unwrap()
}

/// Names what is not there, until it has been asked very often.
struct Beyond(Arc<AtomicUsize>);

impl Policy for Beyond {
    fn name(&self) -> &str {
        "beyond"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        if self.0.fetch_add(1, Ordering::SeqCst) < 100_000 {
            decision.run.extend([view.waiting.len(), usize::MAX]);
            decision.drop.push(view.waiting.len());
        } else {
            view.form(0..view.waiting.len(), decision);
        }
    }
}

#[test]
fn a_policy_that_names_only_what_is_not_there_is_asked_again_later() {
    let asked = Arc::new(AtomicUsize::new(0));
    let executor = build(|b| b.policy(Beyond(asked.clone())));
    let ticket = submit(&executor, Ask::Value(1), SubmitOptions::new());
    let ticket = ticket.wait_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(asked.load(Ordering::SeqCst) < 1000, "asked {asked:?} times");
    assert!(executor.shutdown(Shutdown::Abort, PATIENCE) && ticket.wait().is_err());
}

#[test]
fn an_admission_that_panics_leaves_nobody_waiting() {
    let (executor, gate) = (build(|b| b), Arc::new(Gate::default()));
    std::thread::scope(|scope| {
        let spoiler =
            || catch_unwind(AssertUnwindSafe(|| executor.call(Ask::Spoil(gate.clone()), SubmitOptions::new())));
        let spoiler = scope.spawn(spoiler);
        gate.wait_for(1);
        let ticket = submit(&executor, Ask::Value(1), SubmitOptions::new());
        gate.open();
        assert!(spoiler.join().unwrap().is_err());
        assert_eq!(ticket.wait_timeout(PATIENCE).expect("nobody looks").unwrap(), 1);
    });
}

#[test]
fn a_wait_for_the_room_of_one_class_holds_up_no_other() {
    let executor = build(|b| b.class_items(0, 1).class_items(1, 1));
    let (gate, of) = (Arc::new(Gate::default()), |priority| SubmitOptions::new().priority(priority));
    let first = submit(&executor, Ask::Stop(gate.clone()), of(2));
    gate.wait_for(1);
    let [kept, leaves] = [1, 0].map(|class| submit(&executor, Ask::Value(1), of(class)));
    let entered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let wait = |class| executor.submit(Ask::Value(2), of(class)).unwrap();
        let full = scope.spawn(move || wait(1).wait());
        std::thread::sleep(Duration::from_millis(50));
        let entered = &entered;
        let free = scope.spawn(move || {
            let ticket = wait(0);
            entered.store(true, Ordering::SeqCst);
            ticket.wait()
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(leaves.cancel());
        let begun = Instant::now();
        while !entered.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        gate.open();
        assert!(full.join().unwrap().is_ok() && free.join().unwrap().is_ok());
        assert!(begun.elapsed() < PATIENCE, "there was room for its class");
    });
    assert!(first.wait().is_ok() && kept.wait().is_ok());
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_future_that_waits_for_room_ends_at_its_deadline() {
    let executor = build(|b| b.queue_items(1));
    let gate = Arc::new(Gate::default());
    let first = submit(&executor, Ask::Stop(gate.clone()), SubmitOptions::new());
    gate.wait_for(1);
    let kept = submit(&executor, Ask::Value(1), SubmitOptions::new());
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let soon = SubmitOptions::new().deadline_in(Duration::from_millis(20));
    let (mut submitting, begun) = (pin!(executor.submit_async(Ask::Value(2), soon)), Instant::now());
    let end = loop {
        if let Poll::Ready(end) = submitting.as_mut().poll(&mut Context::from_waker(&waker)) {
            break end;
        }
        std::thread::park_timeout(PATIENCE);
    };
    assert!(begun.elapsed() < PATIENCE, "nobody woke it");
    assert!(matches!(end.unwrap_err().reason(), Reason::WouldMissDeadline));
    gate.open();
    assert!(first.wait().is_ok() && kept.wait().is_ok());
}

/// Its scratches stop at the gate when they are dropped.
struct Keeper(Arc<Gate>);

struct Kept(Arc<Gate>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.pass();
    }
}

impl BatchRunner for Keeper {
    type Request = ();
    type Response = ();
    type Scratch = Kept;

    fn scratch(&self) -> Kept {
        Kept(self.0.clone())
    }

    fn run(&self, _: &mut Kept, batch: &mut Batch<'_, (), ()>) -> Result<()> {
        (0..batch.len()).for_each(|at| batch.answer(at, Ok(())));
        Ok(())
    }
}

#[test]
fn a_shutdown_ends_though_a_swap_still_throws_scratches_away() {
    let gate = Arc::new(Gate::default());
    let executor = Executor::builder(Keeper(gate.clone())).workers(1).build().unwrap();
    executor.call((), SubmitOptions::new()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| executor.swap(0, Keeper(gate.clone())).unwrap());
        gate.wait_for(1);
        scope.spawn(|| {
            // By then the worker has found that there is nothing more to do.
            std::thread::sleep(Duration::from_millis(50));
            gate.open();
        });
        assert!(executor.shutdown(Shutdown::Drain, PATIENCE), "nobody told it of the last slot");
    });
}

#[test]
fn what_was_learned_in_a_stall_is_unlearned_after_it() {
    let policies: [(Box<dyn Policy>, bool); 3] = [
        (Box::new(FirstCome), true),
        (Box::new(EarliestDeadline::new()), true),
        // Here it is the policy that gives up what would be late.
        (Box::new(EarliestDeadline::new()), false),
    ];
    for (policy, predicts) in policies {
        let (hand, name) = (Hand::default(), policy.name().to_owned());
        let executor = build(|b| b.policy(policy).clock(hand.clone()).predict_deadlines(predicts));
        let run = |ms, options| {
            let ticket = executor.try_submit(Ask::Take(hand.clone(), ms), options).ok()?;
            ticket.wait_timeout(LONG).unwrap().ok()
        };
        // The usual time, and a stall in which everything takes longer than anybody waits.
        [10, 10, 10, 10, 10].into_iter().chain([40; 50]).for_each(|ms| _ = run(ms, SubmitOptions::new()).unwrap());
        let (start, soon) = (Instant::now(), SubmitOptions::new().deadline_in(Duration::from_millis(15)));
        let mut in_time = 0;
        while in_time < 300 {
            assert!(start.elapsed() < PATIENCE, "{name}: only {in_time} were answered after the stall");
            in_time += u32::from(run(10, soon).is_some());
            std::thread::yield_now();
        }
        // And now it is known again, so that hardly any is tried that cannot be met.
        let hasty = SubmitOptions::new().deadline_in(Duration::from_millis(5));
        let refused = (0..100).filter(|_| run(10, hasty).is_none()).count();
        assert!(refused >= 90, "{name}: {refused} of 100");
    }
}

#[test]
fn a_call_that_nothing_stands_before_is_not_held_to_wait() {
    let hand = Hand::default();
    let executor = build(|b| b.clock(hand.clone()));
    let call = |ms| {
        let options = SubmitOptions::new().deadline_in(Duration::from_millis(ms));
        executor.call(Ask::Take(hand.clone(), 10), options)
    };
    (0..9).for_each(|_| {
        let ticket = submit(&executor, Ask::Take(hand.clone(), 10), SubmitOptions::new());
        assert!(ticket.wait_timeout(LONG).unwrap().is_ok());
    });
    // The worker has answered, and is about to free its slot.
    std::thread::sleep(Duration::from_millis(20));
    assert!(call(11).is_ok(), "its own slot is no batch that runs before it");
    assert!(call(9).is_err());
}

#[test]
fn an_urgent_request_interrupts_though_others_like_it_were_given_up() {
    let policy = StrictPriority::new(LONG);
    let executor = build(|b| b.max_batch_size(2).policy(policy).preemption(0.0, 9).predict_deadlines(false));
    let (gates, flag): ([Arc<Gate>; 2], Arc<AtomicBool>) = Default::default();
    let of = |priority| SubmitOptions::new().priority(priority);
    let first = submit(&executor, Ask::Stop(gates[0].clone()), of(2));
    gates[0].wait_for(1);
    let low = [Ask::Stop(gates[1].clone()), Ask::Until(flag.clone())].map(|ask| submit(&executor, ask, of(2)));
    gates[0].open();
    gates[1].wait_for(1);
    let given_up = [(); 2].map(|()| submit(&executor, Ask::Value(1), of(0)));
    // When this one's deadline passes the lanes are emptied into the queue, and there the others leave their husks.
    let late = submit(&executor, Ask::Value(1), of(2).deadline_in(Duration::from_millis(5)));
    assert!(late.wait_timeout(LONG).unwrap().is_err());
    std::thread::sleep(Duration::from_millis(20));
    given_up.into_iter().for_each(|ticket| assert!(ticket.cancel()));
    let urgent = submit(&executor, Ask::Raise(flag), of(0));
    gates[1].open();
    assert_eq!(urgent.wait_timeout(PATIENCE).expect("it waits for the whole batch").unwrap(), 1);
    first.wait().unwrap();
    low.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
}
