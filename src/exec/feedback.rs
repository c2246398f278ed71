//! The hands of the feedback controller: measures at intervals, moves what the controller says, and remembers why.
//!
//! What is moved, and when, is decided in `monitor`. Only an executor with a controller has this thread; it wakes a few
//! times per second.

use super::replicas::add_replica;
use super::runner::BatchRunner;
use super::shared::{Inside, Shared};
use super::trace;
use crate::clock::Time;
use crate::error::{Error, Result, ensure};
use crate::monitor::{Controller, Feedback, Knob, Measured, Move, Settings, Snapshot};
use crate::sync::{Arc, Thread, current, park_timeout};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Moves that a snapshot shows.
const KEPT: usize = 64;

/// What was moved, and who moves.
#[derive(Debug, Default)]
pub(super) struct Steering {
    moves: Mutex<VecDeque<Move>>,
    made: AtomicU64,
    thread: OnceLock<Thread>,
}

impl Steering {
    /// Wakes the thread, for shutdown.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Adds the moves to a snapshot.
    pub(super) fn show(&self, snapshot: &mut Snapshot) {
        snapshot.moves = self.moves.lock().iter().cloned().collect();
        snapshot.moves_made = self.made.load(Ordering::Relaxed);
    }

    fn remember(&self, step: Move) {
        let mut moves = self.moves.lock();
        if moves.len() == KEPT {
            moves.pop_front();
        }
        moves.push_back(step);
        self.made.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bounds that hold where the knob stands now, and no value that is impossible.
fn check_bounds<T: Ord + Debug>(what: &str, bounds: &RangeInclusive<T>, least: &T, most: &T, now: &T) -> Result<()> {
    ensure!(
        bounds.start() >= least && bounds.end() <= most && bounds.start() <= bounds.end(),
        InvalidInput,
        "the feedback bounds of {what} are {bounds:?}; they must lie in {least:?} to {most:?}"
    );
    ensure!(bounds.contains(now), InvalidInput, "{what} starts at {now:?}, outside of its feedback bounds {bounds:?}");
    Ok(())
}

/// Refuses what cannot be steered; `at` is where the knobs stand at first.
pub(super) fn check(goal: &Feedback, at: Settings, most_workers: usize) -> Result<()> {
    ensure!(!goal.target.is_zero(), InvalidInput, "the target of the feedback is zero");
    ensure!(!goal.interval.is_zero(), InvalidInput, "the interval of the feedback is zero");
    if *goal.cap.end() > 0 {
        check_bounds("max_batch_size", &goal.cap, &1, &at.cap, &at.cap)?;
    }
    if !goal.delay.end().is_zero() {
        check_bounds("max_queue_delay", &goal.delay, &Duration::ZERO, &Duration::from_secs(3600), &at.delay)?;
    }
    if *goal.workers.end() > 0 {
        check_bounds("workers", &goal.workers, &1, &most_workers, &at.workers)?;
    }
    Ok(())
}

/// Starts the thread that steers.
pub(super) fn start<R: BatchRunner>(shared: &Arc<Shared<R>>, goal: Feedback) -> Result<()> {
    let driven = shared.clone();
    let (told, tell) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("onrush-feedback".to_owned()).spawn(move || {
        let _ = told.send(current());
        drive(&driven, goal);
    });
    thread.map_err(|error| Error::from(error).at("starting the feedback controller"))?;
    if let Ok(thread) = tell.recv() {
        let _ = shared.steering.thread.set(thread);
    }
    Ok(())
}

fn drive<R: BatchRunner>(shared: &Arc<Shared<R>>, goal: Feedback) {
    let _inside = Inside::enter();
    let interval = goal.interval;
    let mut controller = Controller::new(goal);
    let (mut earlier, mut taken) = (shared.snapshot(), shared.clock.now());
    while !shared.credit.held().closed {
        let due = taken.after(interval);
        let left = due.since(shared.clock.now());
        if !left.is_zero() {
            park_timeout(left);
            continue;
        }
        (earlier, taken) = Shared::steer(shared, &mut controller, &earlier, taken);
    }
}

impl<R: BatchRunner> Shared<R> {
    /// One look: measures since `taken`, and moves what the controller says. What the next look starts from.
    fn steer(shared: &Arc<Self>, controller: &mut Controller, earlier: &Snapshot, taken: Time) -> (Snapshot, Time) {
        let (snapshot, now) = (shared.snapshot(), shared.clock.now());
        let at = shared.settings();
        let measured = Measured::between(earlier, &snapshot, now.since(taken), at.workers);
        if let Some(step) = controller.decide(now.as_nanos(), &measured, at)
            && Self::apply(shared, step.knob, step.applied_to(at)).is_ok()
        {
            trace::moved(&step);
            shared.steering.remember(step);
        }
        (snapshot, now)
    }

    /// Where the knobs stand.
    fn settings(&self) -> Settings {
        let (cap, delay) = self.batcher.lock().bounds();
        Settings { cap, delay, workers: self.slots.opened().count_ones() as usize }
    }

    fn apply(shared: &Arc<Self>, knob: Knob, to: Settings) -> Result<()> {
        match knob {
            Knob::BatchCap => {
                shared.batcher.lock().set_cap(to.cap);
                shared.admission.set_max_batch_size(to.cap);
            }
            Knob::QueueDelay => {
                shared.batcher.lock().set_delay(to.delay);
                shared.delays.store(!to.delay.is_zero(), Ordering::Relaxed);
            }
            Knob::Workers if to.workers > shared.settings().workers => match shared.last_replica(false) {
                Some(drained) => shared.open_replica(drained)?,
                None => drop(add_replica(shared)?),
            },
            // Drained and not removed: it is back at once when it is wanted.
            Knob::Workers => {
                if let Some(replica) = shared.last_replica(true) {
                    shared.close_replica(replica)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Batch, BatchRunner, Builder, Executor, SubmitOptions};
    use super::*;
    use crate::error::ErrorKind;
    use std::time::Instant;

    /// Takes a millisecond for each batch.
    struct Slow;

    impl BatchRunner for Slow {
        type Request = ();
        type Response = ();
        type Scratch = ();

        fn scratch(&self) {}

        fn run(&self, _: &mut (), batch: &mut Batch<'_, (), ()>) -> Result<()> {
            std::thread::sleep(Duration::from_millis(1));
            (0..batch.len()).for_each(|at| batch.answer(at, Ok(())));
            Ok(())
        }
    }

    fn steered(goal: Feedback) -> Builder<Slow> {
        Executor::builder(Slow).workers(1).max_batch_size(4).queue_items(16).feedback(goal)
    }

    fn goal() -> Feedback {
        Feedback::new(Duration::from_millis(20)).interval(Duration::from_millis(20))
    }

    fn wait_for(what: &str, executor: &Executor<Slow>, done: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let start = Instant::now();
        loop {
            let snapshot = executor.snapshot();
            if done(&snapshot) {
                return snapshot;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{what}: {snapshot}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn overload_brings_workers_and_idleness_lets_them_go() {
        let executor = steered(goal().workers(1..=3)).build().unwrap();
        let active = |snapshot: &Snapshot| {
            let active = |r: &&crate::monitor::ReplicaSnapshot| r.state == crate::monitor::ReplicaState::Active;
            snapshot.replicas.iter().filter(active).count()
        };
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                while active(&executor.snapshot()) < 3 {
                    let tickets: Vec<_> = (0..64).map(|_| executor.try_submit((), SubmitOptions::new())).collect();
                    tickets.into_iter().flatten().for_each(|ticket| ticket.wait().unwrap());
                }
            });
            wait_for("three workers", &executor, |snapshot| active(snapshot) == 3);
            flood.join().unwrap();
        });
        let idle = wait_for("one worker", &executor, |snapshot| active(snapshot) == 1);
        assert!(idle.moves.len() >= 4 && idle.moves_made >= 4, "{idle}");
        let (first, last) = (&idle.moves[0], &idle.moves[idle.moves.len() - 1]);
        assert_eq!((first.knob, first.from, first.to), (Knob::Workers, 1, 2));
        assert!(first.reason.starts_with("overloaded") && last.reason.starts_with("idle"), "{idle}");
        assert!(idle.to_string().contains("workers 1 -> 2: overloaded"), "{idle}");
        executor.call((), SubmitOptions::new()).unwrap();
    }

    #[test]
    fn late_answers_cut_the_delay() {
        let bounds = Duration::ZERO..=Duration::from_millis(50);
        let executor = steered(goal().queue_delay(bounds)).max_queue_delay(Duration::from_millis(50)).build().unwrap();
        let start = Instant::now();
        while executor.snapshot().moves_made == 0 {
            executor.call((), SubmitOptions::new()).unwrap();
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        let step = executor.snapshot().moves.remove(0);
        assert_eq!((step.knob, step.from, step.to), (Knob::QueueDelay, 50_000_000, 25_000_000));
    }

    #[test]
    fn impossible_bounds_are_refused() {
        let ms = Duration::from_millis;
        let wrong = [
            steered(Feedback::new(Duration::ZERO)),
            steered(goal().interval(Duration::ZERO)),
            steered(goal().batch_cap(1..=5)),
            steered(goal().batch_cap(0..=4)),
            steered(goal().batch_cap(1..=3)),
            steered(goal().workers(2..=4)),
            steered(goal().workers(1..=49)),
            steered(goal().queue_delay(ms(1)..=ms(2))),
            steered(goal()).latency_target(ms(5)),
        ];
        for (at, builder) in wrong.into_iter().enumerate() {
            assert_eq!(builder.build().map(drop).unwrap_err().kind(), ErrorKind::InvalidInput, "case {at}");
        }
    }
}
