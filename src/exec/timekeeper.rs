//! The timekeeper: ends requests whose deadline passes in the queue while all workers are busy, and wakes futures that wait for room
//! when theirs does.
//!
//! Its thread is started by the first request with a deadline, sleeps until the earliest one, and is woken only by a
//! request whose deadline is earlier than all before.

use super::batcher::Taken;
use super::runner::BatchRunner;
use super::shared::{Inside, Shared, TakenOf};
use crate::clock::Time;
use crate::sync::{Arc, Thread, current, park_timeout};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How late an expiry may be noticed.
const TICK: Duration = Duration::from_millis(1);
/// How long the timekeeper sleeps when there is nothing to expire.
const IDLE: Duration = Duration::from_secs(3600);

/// `next` is when the timekeeper will look again. A submitter lowers it after its push; the timekeeper raises it before
/// it drains the lanes: `SeqCst`, so that a request is either drained or lowers it again.
#[derive(Debug)]
pub(super) struct Timekeeper {
    next: AtomicU64,
    thread: OnceLock<Option<Thread>>,
}

impl Timekeeper {
    pub(super) fn new() -> Self {
        Timekeeper { next: AtomicU64::new(u64::MAX), thread: OnceLock::new() }
    }

    /// Wakes the timekeeper, for shutdown.
    pub(super) fn wake(&self) {
        if let Some(Some(thread)) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// A request that is given up at this time stands in a lane now, or waits for room.
#[inline]
pub(super) fn expect<R: BatchRunner>(shared: &Arc<Shared<R>>, deadline: Time) {
    if deadline.as_nanos() < shared.timekeeper.next.load(Ordering::SeqCst) {
        expect_earlier(shared, deadline);
    }
}

#[cold]
fn expect_earlier<R: BatchRunner>(shared: &Arc<Shared<R>>, deadline: Time) {
    shared.timekeeper.next.fetch_min(deadline.as_nanos(), Ordering::SeqCst);
    let thread = shared.timekeeper.thread.get_or_init(|| {
        let shared = shared.clone();
        let (told, tell) = std::sync::mpsc::channel();
        let builder = std::thread::Builder::new().name("onrush-clock".to_owned());
        let spawned = builder.spawn(move || {
            let _ = told.send(current());
            keep_time(&shared);
        });
        // Without it deadlines are still kept, by workers when they look and by callers that wait.
        spawned.ok().and_then(|_| tell.recv().ok())
    });
    if let Some(thread) = thread {
        thread.unpark();
    }
}

impl<R: BatchRunner> Shared<R> {
    /// Ends what has expired.
    fn expire(&self, taken: &mut TakenOf<R>) {
        let now = self.clock.now();
        self.timekeeper.next.store(u64::MAX, Ordering::SeqCst);
        let mut batcher = self.batcher.lock();
        batcher.drain(&self.lanes);
        self.tidy(&mut batcher, now, taken);
        let in_queue = batcher.earliest_end();
        self.ready.store(batcher.len(), Ordering::SeqCst);
        drop(batcher);
        self.admission.lost(taken.expired());
        let earliest = in_queue.min(self.room.expire(now));
        self.timekeeper.next.fetch_min(earliest.as_nanos(), Ordering::SeqCst);
        self.end_taken(taken);
        self.kick();
    }
}

fn keep_time<R: BatchRunner>(shared: &Arc<Shared<R>>) {
    let _inside = Inside::enter();
    let mut taken = Taken::default();
    loop {
        let held = shared.credit.held();
        if held.closed && held.items == 0 {
            return;
        }
        let next = Time::from_nanos(shared.timekeeper.next.load(Ordering::SeqCst));
        let now = shared.clock.now();
        if next <= now {
            shared.expire(&mut taken);
            park_timeout(TICK);
        } else if held.closed {
            park_timeout(TICK);
        } else {
            park_timeout(next.since(now).min(IDLE));
        }
    }
}
