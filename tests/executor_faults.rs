//! The fault matrix of the executor: each way in which something goes wrong, and what must hold then.
//!
//! Outcomes are exact and do not depend on timing; nothing here measures time.

#[path = "support/gate.rs"]
mod gate;

use gate::Gate;
use onrush::exec::{Batch, BatchRunner, Builder, Executor, Load, Reason, Shutdown, SubmitOptions, Ticket};
use onrush::sched::{Decision, FairShare, FirstCome, Level, Levels, Policy, TimeoutAction, View};
use onrush::{Error, ErrorKind, Result};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Wake};
use std::thread::ThreadId;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Panics when it is dropped, once it is armed.
#[derive(Clone)]
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0.swap(false, Ordering::SeqCst) {
            panic!("a destructor that panics");
        }
    }
}

enum Ask {
    Value(u64),
    Stop(Arc<Gate>),
    Panic,
    Fail,
    Bomb(Bomb),
    Huge,
    /// Writes its name down.
    Note(u64, Arc<Mutex<Vec<u64>>>),
    DropExecutor(Arc<Mutex<Option<Executor<Faulty>>>>),
}

#[derive(Default)]
struct Faulty {
    scratches: AtomicUsize,
    /// Whatever it runs on is gone.
    lost: Arc<AtomicBool>,
}

impl BatchRunner for Faulty {
    type Request = Ask;
    type Response = u64;
    type Scratch = usize;

    fn scratch(&self) -> usize {
        self.scratches.fetch_add(1, Ordering::SeqCst)
    }

    fn admit(&self, request: &Ask) -> Result<Load> {
        Ok(match request {
            Ask::Huge => Load { bytes: usize::MAX, ..Load::default() },
            _ => Load { bytes: 8, ..Load::default() },
        })
    }

    fn run(&self, _: &mut usize, batch: &mut Batch<'_, Ask, u64>) -> Result<()> {
        if self.lost.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "the device is lost"));
        }
        for at in 0..batch.len() {
            let answer = match batch.request(at) {
                Ask::Value(value) => *value,
                Ask::Stop(gate) => {
                    gate.pass();
                    0
                }
                Ask::Panic => panic!("poisonous row"),
                Ask::Fail => return Err(Error::new(ErrorKind::InvalidInput, "index out of range")),
                Ask::Bomb(bomb) => {
                    bomb.0.store(true, Ordering::SeqCst);
                    0
                }
                Ask::DropExecutor(executor) => {
                    drop(executor.lock().unwrap().take());
                    0
                }
                Ask::Note(name, notes) => {
                    notes.lock().unwrap().push(*name);
                    *name
                }
                Ask::Huge => 0,
            };
            batch.answer(at, Ok(answer));
        }
        Ok(())
    }
}

fn build(change: impl FnOnce(Builder<Faulty>) -> Builder<Faulty>) -> Executor<Faulty> {
    change(Executor::builder(Faulty::default()).workers(1).max_batch_size(16)).build().unwrap()
}

fn submit(executor: &Executor<Faulty>, ask: Ask) -> Ticket<Faulty> {
    executor.submit(ask, SubmitOptions::new()).unwrap()
}

/// An executor whose one worker stands at a gate.
fn stopped(change: impl FnOnce(Builder<Faulty>) -> Builder<Faulty>) -> (Executor<Faulty>, Arc<Gate>, Ticket<Faulty>) {
    let executor = build(change);
    let gate = Arc::new(Gate::default());
    let ticket = submit(&executor, Ask::Stop(gate.clone()));
    gate.wait_for(1);
    (executor, gate, ticket)
}

fn assert_conserved(executor: &Executor<Faulty>) {
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    let requests = executor.snapshot().requests;
    let ended = requests.answered + requests.failed + requests.expired + requests.cancelled;
    assert_eq!((requests.accepted, requests.waiting), (ended, 0), "{requests:?}");
    assert_eq!(executor.snapshot().queued_bytes, 0);
}

#[test]
fn poisonous_rows_fail_alone_however_they_lie() {
    for poisons in [vec![0], vec![15], vec![3, 4], vec![0, 7, 8, 15], (0..16).collect::<Vec<_>>()] {
        let (executor, gate, first) = stopped(|b| b);
        let tickets: Vec<_> = (0..16)
            .map(|at| {
                let poison = if at % 2 == 0 { Ask::Panic } else { Ask::Fail };
                submit(&executor, if poisons.contains(&at) { poison } else { Ask::Value(at) })
            })
            .collect();
        gate.open();
        for (at, ticket) in tickets.into_iter().enumerate() {
            let at = at as u64;
            match ticket.wait() {
                Ok(value) => assert!(value == at && !poisons.contains(&at)),
                Err(error) => {
                    assert!(poisons.contains(&at), "{at}: {error}");
                    let expected = if at.is_multiple_of(2) { ErrorKind::Panicked } else { ErrorKind::InvalidInput };
                    assert_eq!(error.kind(), expected);
                }
            }
        }
        first.wait().unwrap();
        assert_conserved(&executor);
    }
}

#[test]
fn a_scratch_is_thrown_away_after_a_panic_only() {
    let executor = build(|b| b);
    submit(&executor, Ask::Value(1)).wait().unwrap();
    submit(&executor, Ask::Fail).wait().unwrap_err();
    assert_eq!(executor.runner().scratches.load(Ordering::SeqCst), 1);
    submit(&executor, Ask::Panic).wait().unwrap_err();
    submit(&executor, Ask::Value(1)).wait().unwrap();
    assert_eq!(executor.runner().scratches.load(Ordering::SeqCst), 2);
}

#[test]
fn a_request_that_panics_when_dropped_is_answered() {
    let executor = build(|b| b.run_inline(false));
    for _ in 0..3 {
        let ticket = submit(&executor, Ask::Bomb(Bomb(Arc::new(AtomicBool::new(false)))));
        // A wait with a timeout does not lend its thread: the worker itself runs the request.
        assert_eq!(ticket.wait_timeout(LONG).unwrap().unwrap(), 0);
    }
    assert_conserved(&executor);
}

/// Stops at a gate where there is one, and answers with something that may panic when the worker drops it, since its ticket
/// was given up.
struct Explosive;

impl BatchRunner for Explosive {
    type Request = (Option<Arc<Gate>>, bool);
    type Response = Bomb;
    type Scratch = ();

    fn scratch(&self) {}

    fn run(&self, _: &mut (), batch: &mut Batch<'_, Self::Request, Bomb>) -> Result<()> {
        for at in 0..batch.len() {
            let (gate, armed) = batch.request(at);
            gate.iter().for_each(|gate| gate.pass());
            let armed = *armed;
            batch.answer(at, Ok(Bomb(Arc::new(AtomicBool::new(armed)))));
        }
        Ok(())
    }
}

#[test]
fn a_dead_worker_is_replaced() {
    for round in 1..4 {
        let gate = Arc::new(Gate::default());
        let executor = Executor::builder(Explosive).workers(1).build().unwrap();
        let given_up = executor.submit((Some(gate.clone()), true), SubmitOptions::new()).unwrap();
        gate.wait_for(1);
        assert!(given_up.cancel());
        let next: Vec<_> = (0..round).map(|_| executor.submit((None, false), SubmitOptions::new()).unwrap()).collect();
        gate.open();
        next.into_iter().for_each(|ticket| assert!(ticket.wait_timeout(LONG).unwrap().is_ok()));
        assert_eq!(executor.snapshot().replaced_workers, 1);
        assert!(executor.shutdown(Shutdown::Drain, LONG));
    }
}

#[test]
fn what_ended_before_its_worker_died_is_counted() {
    let gates: [Arc<Gate>; 2] = Default::default();
    let executor = Executor::builder(Explosive).workers(1).build().unwrap();
    let submit = |ask| executor.submit(ask, SubmitOptions::new()).unwrap();
    let first = submit((Some(gates[0].clone()), false));
    gates[0].wait_for(1);
    // These ride together; the worker dies of the one in the middle.
    let [before, given_up, after] = [(None, false), (Some(gates[1].clone()), true), (None, false)].map(submit);
    gates[0].open();
    gates[1].wait_for(1);
    assert!(given_up.cancel());
    gates[1].open();
    assert!(first.wait_timeout(LONG).unwrap().is_ok() && before.wait_timeout(LONG).unwrap().is_ok());
    assert_eq!(after.wait_timeout(LONG).unwrap().map(drop).unwrap_err().kind(), ErrorKind::Internal);
    assert!(executor.shutdown(Shutdown::Drain, LONG));
    let requests = executor.snapshot().requests;
    let counted = (requests.accepted, requests.answered, requests.failed, requests.cancelled, requests.waiting);
    assert_eq!(counted, (4, 2, 1, 1, 0));
}

#[test]
fn several_answers_of_a_batch_may_panic_when_they_are_dropped() {
    let gates: [Arc<Gate>; 2] = Default::default();
    let executor = Executor::builder(Explosive).workers(1).build().unwrap();
    let submit = |ask| executor.submit(ask, SubmitOptions::new()).unwrap();
    let first = submit((Some(gates[0].clone()), false));
    gates[0].wait_for(1);
    // These ride together, and are given up while they run.
    let given_up = [(Some(gates[1].clone()), true), (None, true), (None, true)].map(submit);
    gates[0].open();
    gates[1].wait_for(1);
    given_up.into_iter().for_each(|ticket| assert!(ticket.cancel()));
    gates[1].open();
    assert!(first.wait_timeout(LONG).unwrap().is_ok());
    assert!(submit((None, false)).wait_timeout(LONG).unwrap().is_ok());
    assert!(executor.shutdown(Shutdown::Drain, LONG));
}

/// A waker that panics.
struct Alarm;

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_that_panics_when_there_is_room_takes_nobody_with_it() {
    let (executor, gate, first) = stopped(|b| b.queue_items(1));
    let kept = submit(&executor, Ask::Value(1));
    let mut waits = pin!(executor.submit_async(Ask::Value(2), SubmitOptions::new()));
    assert!(waits.as_mut().poll(&mut Context::from_waker(&Arc::new(Alarm).into())).is_pending());
    gate.open();
    assert_eq!(kept.wait_timeout(LONG).unwrap().unwrap(), 1);
    first.wait().unwrap();
    let std::task::Poll::Ready(ticket) = waits.as_mut().poll(&mut Context::from_waker(&Arc::new(Alarm).into())) else {
        panic!("there is room");
    };
    assert_eq!(ticket.unwrap().wait_timeout(LONG).unwrap().unwrap(), 2);
    assert_eq!(executor.snapshot().replaced_workers, 0);
    assert_conserved(&executor);
}

#[test]
fn a_request_that_panics_when_it_is_cancelled_frees_its_place() {
    let (executor, gate, first) = stopped(|b| b.queue_items(1));
    for _ in 0..3 {
        let armed = Bomb(Arc::new(AtomicBool::new(true)));
        assert!(submit(&executor, Ask::Bomb(armed)).cancel());
    }
    let last = executor.try_submit(Ask::Value(1), SubmitOptions::new()).unwrap();
    gate.open();
    first.wait().unwrap();
    assert_eq!(last.wait().unwrap(), 1);
    assert_conserved(&executor);
}

/// First come, by somebody who takes his time on one thread.
struct Slow(Arc<OnceLock<ThreadId>>);

impl Policy for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        if self.0.get() == Some(&std::thread::current().id()) {
            std::thread::sleep(Duration::from_millis(40));
        }
        view.form(0..view.waiting.len(), decision);
    }
}

#[test]
fn a_delay_ends_though_the_worker_that_was_to_look_found_no_slot() {
    let helper = Arc::new(OnceLock::new());
    let policy = Slow(helper.clone());
    let executor = Arc::new(build(|b| b.policy(policy).max_queue_delay(Duration::from_millis(20))));
    let first = submit(&executor, Ask::Value(1));
    // The worker looks, and will look again when the delay is over. Before that a caller lends its thread, and holds the slot
    // for longer.
    std::thread::sleep(Duration::from_millis(5));
    let caller = std::thread::spawn({
        let executor = executor.clone();
        move || {
            helper.set(std::thread::current().id()).unwrap();
            submit(&executor, Ask::Value(2)).wait().unwrap()
        }
    });
    assert_eq!(first.wait_timeout(LONG).expect("nobody looks").unwrap(), 1);
    assert_eq!(caller.join().unwrap(), 2);
    assert_conserved(&executor);
}

#[test]
fn the_timeout_of_a_priority_ends_a_wait_though_all_workers_are_busy() {
    let level = Level::new().timeout(Duration::from_millis(20), TimeoutAction::Reject);
    let (executor, gate, first) = stopped(|b| b.policy(Levels::new(FirstCome).level(2, level)));
    let of = |priority| executor.try_submit(Ask::Value(1), SubmitOptions::new().priority(priority)).unwrap();
    let (patient, impatient) = (of(1), of(2));
    let error = impatient.wait_timeout(LONG).unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Deadline && error.to_string().contains("priority"), "{error}");
    gate.open();
    assert!(first.wait().is_ok() && patient.wait().is_ok());
    assert_eq!(executor.snapshot().requests.expired, 1);
    assert_conserved(&executor);
}

#[test]
fn a_submit_that_waits_for_room_ends_at_its_deadline() {
    let (executor, gate, _first) = stopped(|b| b.queue_items(1));
    let _kept = submit(&executor, Ask::Value(1));
    let soon = SubmitOptions::new().deadline_in(Duration::from_millis(20));
    let refused = executor.submit(Ask::Value(2), soon).unwrap_err();
    assert!(matches!(refused.reason(), Reason::WouldMissDeadline));
    gate.open();
    assert_conserved(&executor);
}

#[test]
fn nothing_is_learned_from_runs_that_fail() {
    let executor = build(|b| b);
    for ask in [Ask::Fail, Ask::Panic] {
        executor.call(ask, SubmitOptions::new()).unwrap_err();
        submit(&executor, Ask::Fail).wait().unwrap_err();
    }
    assert!(executor.snapshot().costs.is_empty());
    assert_conserved(&executor);
}

#[test]
fn clients_that_go_away_free_their_places() {
    let (executor, gate, first) = stopped(|b| b.queue_items(4));
    for _ in 0..1000 {
        let four: Vec<_> = (0..4).map(|n| submit(&executor, Ask::Value(n))).collect();
        drop(four);
    }
    gate.open();
    first.wait().unwrap();
    assert_eq!(executor.snapshot().requests.cancelled, 4000);
    assert_conserved(&executor);
}

#[test]
fn a_full_queue_answers_at_once_and_too_large_is_told_apart() {
    let (executor, gate, _first) = stopped(|b| b.queue_items(1));
    let kept = submit(&executor, Ask::Value(1));
    for _ in 0..100 {
        let refused = executor.try_submit(Ask::Value(2), SubmitOptions::new()).unwrap_err();
        assert!(matches!(refused.reason(), Reason::Full { .. }));
    }
    let refused = executor.try_submit(Ask::Huge, SubmitOptions::new()).unwrap_err();
    assert_eq!(Error::from(refused).kind(), ErrorKind::Limit, "a budget in bytes, before anything is allocated");
    gate.open();
    kept.wait().unwrap();
    assert_conserved(&executor);
}

#[test]
fn a_deadline_in_the_past_costs_nothing() {
    let executor = build(|b| b);
    let past = SubmitOptions::new().deadline_at(std::time::Instant::now() - LONG);
    let refused = executor.try_submit(Ask::Value(1), past).unwrap_err();
    assert!(matches!(refused.reason(), Reason::WouldMissDeadline));
    assert_eq!(executor.call(Ask::Value(1), past).unwrap_err().kind(), ErrorKind::Deadline);
    assert_eq!(executor.snapshot().requests.accepted, 0);
}

#[test]
fn every_way_to_end_ends() {
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let (executor, gate, first) = stopped(|b| b);
        let waiting: Vec<_> = (0..40).map(|n| submit(&executor, Ask::Value(n))).collect();
        assert!(!executor.shutdown(how, Duration::from_millis(1)), "one is still running");
        gate.open();
        assert!(executor.shutdown(how, LONG), "again");
        assert!(first.wait().is_ok());
        waiting.into_iter().for_each(|ticket| assert!(ticket.wait().is_err(), "the time for the drain was over"));
        let refused = executor.submit(Ask::Value(1), SubmitOptions::new()).unwrap_err();
        assert!(matches!(refused.reason(), Reason::Closed));
        assert_conserved(&executor);
    }
}

#[test]
fn dropping_the_executor_inside_its_own_worker_ends() {
    let executor = build(|b| b.run_inline(false));
    let cell = Arc::new(Mutex::new(None));
    let (gate, done) = (Arc::new(Gate::default()), submit(&executor, Ask::Value(0)));
    done.wait().unwrap();
    let stop = submit(&executor, Ask::Stop(gate.clone()));
    gate.wait_for(1);
    let suicide = submit(&executor, Ask::DropExecutor(cell.clone()));
    let after = submit(&executor, Ask::Value(7));
    *cell.lock().unwrap() = Some(executor);
    gate.open();
    stop.wait().unwrap();
    suicide.wait().unwrap();
    assert_eq!(after.wait().unwrap(), 7, "what was accepted is still answered");
}

#[test]
fn callers_blocked_for_room_are_told_of_a_shutdown() {
    let (executor, gate, _first) = stopped(|b| b.queue_items(1));
    let _kept = submit(&executor, Ask::Value(1));
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| executor.submit(Ask::Value(2), SubmitOptions::new()).map(drop));
        std::thread::yield_now();
        executor.shutdown(Shutdown::Abort, Duration::ZERO);
        // It was refused, or it had its place before the end: then the end has cancelled it.
        if let Err(refused) = blocked.join().unwrap() {
            assert!(matches!(refused.reason(), Reason::Closed));
        }
        gate.open();
    });
    assert_conserved(&executor);
}

#[test]
fn a_flood_of_one_tenant_leaves_the_other_its_share() {
    let fair = FairShare::new(Duration::from_micros(1));
    let (executor, gate, first) = stopped(|b| b.policy(fair).max_batch_size(4).look_ahead(1000));
    let ran = Arc::new(Mutex::new(Vec::new()));
    let of =
        |tenant: u64| executor.submit(Ask::Note(tenant, ran.clone()), SubmitOptions::new().tenant(tenant)).unwrap();
    let flood: Vec<_> = (0..200).map(|_| of(1)).collect();
    let victims: Vec<_> = (0..8).map(|_| of(2)).collect();
    gate.open();
    flood.into_iter().chain(victims).for_each(|ticket| assert!(ticket.wait().is_ok()));
    let last = ran.lock().unwrap().iter().rposition(|tenant| *tenant == 2).unwrap();
    assert!(last < 40, "the eighth of the victim's requests came after {last} of 208, though its share is half");
    first.wait().unwrap();
    assert_conserved(&executor);
}

#[test]
fn a_flood_of_one_tenant_leaves_the_other_room() {
    let (executor, gate, first) = stopped(|b| b.queue_items(10).tenant_items(6));
    let of = |tenant| executor.try_submit(Ask::Value(1), SubmitOptions::new().tenant(tenant));
    let flood: Vec<_> = (0..100).filter_map(|_| of(1).ok()).collect();
    assert_eq!(flood.len(), 6);
    let victims: Vec<_> = (0..4).map(|_| of(2).unwrap()).collect();
    gate.open();
    flood.into_iter().chain(victims).for_each(|ticket| assert!(ticket.wait().is_ok()));
    first.wait().unwrap();
    assert_conserved(&executor);
}

#[test]
fn a_lost_device_fails_its_requests_and_a_swap_heals() {
    let lost = Arc::new(AtomicBool::new(false));
    let on = |lost: &Arc<AtomicBool>| Faulty { lost: lost.clone(), ..Faulty::default() };
    let builder = Executor::builder(on(&lost)).model("other", Faulty::default(), 1);
    let executor = builder.workers(2).max_batch_size(16).build().unwrap();
    submit(&executor, Ask::Value(1)).wait().unwrap();
    lost.store(true, Ordering::SeqCst);
    let failed: Vec<_> = (0..50).map(|n| submit(&executor, Ask::Value(n))).collect();
    let others: Vec<_> =
        (0..50).map(|n| executor.submit(Ask::Value(n), SubmitOptions::new().model(1)).unwrap()).collect();
    failed.into_iter().for_each(|ticket| assert_eq!(ticket.wait().unwrap_err().kind(), ErrorKind::Io));
    others.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok(), "what runs elsewhere goes on"));
    executor.swap(0, Faulty::default()).unwrap();
    assert_eq!(submit(&executor, Ask::Value(3)).wait().unwrap(), 3);
    assert_conserved(&executor);
}

/// Answers each look with nonsense.
struct Nonsense(u32);

impl Policy for Nonsense {
    fn name(&self) -> &str {
        "nonsense"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        self.0 += 1;
        match self.0 % 4 {
            0 => decision.run.extend([0, 0, 0]),
            1 => decision.run.extend([view.waiting.len() - 1, usize::MAX]),
            2 => {}
            _ => panic!("a policy that panics"),
        }
    }
}

#[test]
fn a_policy_that_talks_nonsense_loses_nothing() {
    let executor = build(|b| b.policy(Nonsense(0)));
    let tickets: Vec<_> = (0..50).map(|n| submit(&executor, Ask::Value(n))).collect();
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.wait().unwrap(), n as u64);
    }
    assert_conserved(&executor);
}

#[test]
fn a_storm_of_everything_conserves() {
    let executor = build(|b| b.workers(2).queue_items(32));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let executor = &executor;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                for n in 0..400 {
                    let options = match random.u8(0..4) {
                        0 => SubmitOptions::new().deadline_in(Duration::from_micros(random.u64(0..300))),
                        priority => SubmitOptions::new().priority(priority),
                    };
                    let ask = match random.u8(0..20) {
                        0 => Ask::Panic,
                        1 => Ask::Fail,
                        _ => Ask::Value(n),
                    };
                    match random.u8(0..5) {
                        0 => drop(executor.submit(ask, options)),
                        1 => drop(executor.try_submit(ask, options).map(Ticket::cancel)),
                        2 => drop(executor.call(ask, options)),
                        3 => drop(executor.submit_many(vec![ask, Ask::Value(1)], options).map(|group| group.wait())),
                        _ => drop(executor.submit(ask, options).map(Ticket::wait)),
                    }
                }
            });
        }
    });
    assert_conserved(&executor);
}
