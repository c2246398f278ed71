//! An entry: one accepted request, shared by its ticket and the executor, and the state machine that ends it once.
//!
//! ```text
//!              claim                finish
//!   WAITING ───────────► RUNNING ───────────► DONE        (answered, failed or expired)
//!      │ cancel             │ cancel
//!      └────────► CANCELLED ◄┘
//! ```
//!
//! Who owns what follows from the state alone, which changes only by compare-and-swap:
//! - `request` belongs to whoever moved the entry out of WAITING, the claimer or the canceller; after DONE to the ticket.
//! - `outcome` belongs to the claimer until DONE, then to the ticket.
//! - `wake` belongs to the ticket while the LISTENING bit is clear; while it is set and the state is not DONE it is
//!   frozen; the finisher that moves to DONE and sees the bit takes it.
//!
//! Counting, credits and waking are left to the callers.

use super::lane::Linked;
use super::wake::Wake;
use crate::error::Error;
use crate::sched::Waiting;
use crate::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use crate::sync::{Arc, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const CANCELLED: u8 = 3;
const PHASE: u8 = 3;
const LISTENING: u8 = 4;

/// Where a request's time went, and how large the batch was that it rode in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Timing {
    /// From submit until it was taken into a batch.
    pub queued: Duration,
    /// Stacking the batch's inputs.
    pub formed: Duration,
    /// Running the model.
    pub ran: Duration,
    /// Splitting the outputs and handing out the answers.
    pub scattered: Duration,
    /// For how long its batch stood still while others interrupted it: part of the times above.
    pub parked: Duration,
    /// Requests in the batch.
    pub batch_requests: u32,
    /// Rows in the batch.
    pub batch_rows: u32,
}

impl Timing {
    /// From submit until the answer was there.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.queued + self.formed + self.ran + self.scattered
    }
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct Outcome<S> {
    pub(super) result: Result<S, Error>,
    pub(super) timing: Timing,
}

/// What a cancel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    /// It waited; its place is free now.
    Waited,
    /// It was running; its answer will be thrown away.
    Ran,
    /// It had ended already.
    TooLate,
}

/// One accepted request.
///
/// `state` moves by `AcqRel` compare-and-swap: a release hands the cells that the mover wrote to whoever the new state
/// makes their owner, who acquires. No ordering with other variables is needed.
pub(super) struct Entry<Q, S> {
    link: AtomicPtr<Entry<Q, S>>,
    state: AtomicU8,
    pub(super) meta: Waiting,
    /// The seat of the generation that it pins (see `generations`).
    seat: u8,
    /// The slot that it runs in. Written before the claim, read after a cancel found it running: ordered by `state`.
    slot: AtomicU8,
    request: UnsafeCell<Option<Q>>,
    outcome: UnsafeCell<Option<Outcome<S>>>,
    wake: UnsafeCell<Option<Wake>>,
}

// SAFETY: by the ownership rules above each cell is touched by one thread at a time, and ownership passes by
// release/acquire, so moving the contents between threads (`Send`) is all that sharing an entry needs.
unsafe impl<Q: Send, S: Send> Sync for Entry<Q, S> {}
// SAFETY: an entry owns its contents, which are `Send`; the link is only followed by the lane that owns the counts.
unsafe impl<Q: Send, S: Send> Send for Entry<Q, S> {}

impl<Q, S> Linked for Entry<Q, S> {
    fn link(&self) -> &AtomicPtr<Self> {
        &self.link
    }
}

impl<Q, S> Entry<Q, S> {
    /// A request for the generation in `seat`, which it pins until it ends.
    pub(super) fn new(request: Q, meta: Waiting, seat: usize) -> Self {
        Entry {
            link: AtomicPtr::new(ptr::null_mut()),
            state: AtomicU8::new(WAITING),
            meta,
            seat: seat as u8,
            slot: AtomicU8::new(0),
            request: UnsafeCell::new(Some(request)),
            outcome: UnsafeCell::new(None),
            wake: UnsafeCell::new(None),
        }
    }

    /// Whether it still waits to be taken into a batch.
    pub(super) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) & PHASE == WAITING
    }

    /// Whether its outcome is there for the ticket.
    pub(super) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) & PHASE == DONE
    }

    /// Says in which slot it will run, before it is claimed.
    pub(super) fn assign(&self, slot: usize) {
        self.slot.store(slot as u8, Ordering::Relaxed);
    }

    pub(super) fn slot(&self) -> usize {
        usize::from(self.slot.load(Ordering::Relaxed))
    }

    pub(super) fn seat(&self) -> usize {
        usize::from(self.seat)
    }

    /// Whether its ticket gave it up.
    pub(super) fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Relaxed) & PHASE == CANCELLED
    }

    /// Moves out of `from` into `to`; answers the state before, or `None` if it was in no phase of `from`.
    fn advance(&self, from: &[u8], to: u8, keep_listening: bool) -> Option<u8> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if !from.contains(&(state & PHASE)) {
                return None;
            }
            let next = to | if keep_listening { state & LISTENING } else { 0 };
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(before) => return Some(before),
                Err(now) => state = now,
            }
        }
    }

    /// Takes a waiting entry for a batch, or to end it; `None` if its ticket was faster.
    pub(super) fn claim(entry: Arc<Self>) -> Option<Claimed<Q, S>> {
        entry.advance(&[WAITING], RUNNING, true).map(|_| Claimed { entry })
    }

    /// Gives it up, for its ticket: the request or the answer to come is thrown away.
    pub(super) fn cancel(&self) -> Cancel {
        let Some(before) = self.advance(&[WAITING, RUNNING], CANCELLED, false) else { return Cancel::TooLate };
        // SAFETY: the state left WAITING or RUNNING through us and the bit is cleared, so no finisher will look at it.
        discard(self.wake.with_mut(|wake| unsafe { (*wake).take() }));
        if before & PHASE == RUNNING {
            return Cancel::Ran;
        }
        // SAFETY: we moved it out of WAITING, so the request is ours.
        discard(self.request.with_mut(|request| unsafe { (*request).take() }));
        Cancel::Waited
    }

    /// Asks to be woken at the end; true if it has ended already. Only the ticket calls this, from one thread at a time.
    pub(super) fn listen(&self, wake: Wake) -> bool {
        let before = self.state.fetch_and(!LISTENING, Ordering::AcqRel);
        if before & PHASE == DONE {
            return true;
        }
        // SAFETY: the bit is clear and the state was not DONE when we cleared it, so no finisher has taken or will take
        // the waker until we set the bit again.
        drop(self.wake.with_mut(|cell| unsafe { (*cell).replace(wake) }));
        self.state.fetch_or(LISTENING, Ordering::AcqRel) & PHASE == DONE
    }

    /// Takes the outcome; `None` until it is done, and after it was taken. Only the ticket calls this.
    pub(super) fn take(&self) -> Option<Outcome<S>> {
        if !self.is_done() {
            return None;
        }
        // SAFETY: the state is DONE for good, so request and outcome belong to the ticket, which is the one caller.
        discard(self.request.with_mut(|request| unsafe { (*request).take() }));
        // SAFETY: as above.
        self.outcome.with_mut(|outcome| unsafe { (*outcome).take() })
    }

    /// Looks at the timing; `None` until it is done, and after the outcome was taken. Only the ticket calls this.
    pub(super) fn timing(&self) -> Option<Timing> {
        if !self.is_done() {
            return None;
        }
        // SAFETY: as in `take`.
        self.outcome.with(|outcome| unsafe { (*outcome).as_ref().map(|outcome| outcome.timing) })
    }
}

/// Drops what a caller gave. A destructor that panics must keep neither a ticket waiting nor an answer from it, nor a place
/// taken.
pub(super) fn discard<T>(given: Option<T>) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(given)));
}

/// The exclusive right to run a request and to end it. It is not `Clone`, and only [`Entry::claim`] makes one.
pub(super) struct Claimed<Q, S> {
    entry: Arc<Entry<Q, S>>,
}

impl<Q, S> Claimed<Q, S> {
    pub(super) fn meta(&self) -> &Waiting {
        &self.entry.meta
    }

    /// The seat of its generation.
    pub(super) fn seat(&self) -> usize {
        self.entry.seat()
    }

    /// Whether its ticket gave it up meanwhile.
    pub(super) fn is_cancelled(&self) -> bool {
        self.entry.is_cancelled()
    }

    /// The request.
    pub(super) fn request(&self) -> &Q {
        // SAFETY: the claimer owns the request cell, nobody writes it while this claim lives, and it is filled until
        // `finish`, which consumes the claim.
        self.entry.request.with(|request| unsafe { (*request).as_ref().unwrap_unchecked() })
    }

    /// Ends it: whom to wake, or `Err` if the ticket had given it up (then nobody will see `outcome`).
    pub(super) fn finish(self, outcome: Outcome<S>) -> Result<Option<Wake>, Abandoned> {
        // SAFETY: the outcome is the claimer's until DONE, which is set below.
        self.entry.outcome.with_mut(|cell| unsafe { *cell = Some(outcome) });
        // The request is left to the ticket: memory is best given back by the thread that took it.
        let Some(before) = self.entry.advance(&[RUNNING], DONE, true) else {
            // SAFETY: the ticket gave it up, so the request is still ours as the claimer, and this consumes the claim.
            discard(self.entry.request.with_mut(|request| unsafe { (*request).take() }));
            return Err(Abandoned);
        };
        if before & LISTENING == 0 {
            return Ok(None);
        }
        // SAFETY: the bit was set when we moved to DONE, so the ticket leaves the waker to us.
        Ok(self.entry.wake.with_mut(|wake| unsafe { (*wake).take() }))
    }
}

/// The ticket had given the request up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abandoned;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::sync::current;

    fn entry() -> Arc<Entry<u32, u32>> {
        Arc::new(Entry::new(7, Waiting::at(Time::ZERO), 0))
    }

    fn answer(value: u32) -> Outcome<u32> {
        Outcome { result: Ok(value), timing: Timing::default() }
    }

    #[cfg(not(loom))]
    #[test]
    fn it_ends_once() {
        let entry = entry();
        let claimed = Entry::claim(entry.clone()).unwrap();
        assert!(Entry::claim(entry.clone()).is_none() && *claimed.request() == 7);
        assert!(matches!(claimed.finish(answer(8)), Ok(None)));
        assert_eq!(entry.cancel(), Cancel::TooLate);
        assert_eq!(entry.take().unwrap().result.unwrap(), 8);
        assert!(entry.take().is_none());
    }

    #[cfg(not(loom))]
    #[test]
    fn cancel_frees_the_request_at_once() {
        let payload = std::sync::Arc::new(());
        let entry: Arc<Entry<_, u32>> = Arc::new(Entry::new(payload.clone(), Waiting::at(Time::ZERO), 0));
        assert_eq!(entry.cancel(), Cancel::Waited);
        assert_eq!(std::sync::Arc::strong_count(&payload), 1);
        assert!(Entry::claim(entry.clone()).is_none());
    }

    #[cfg(not(loom))]
    #[test]
    fn a_cancelled_run_is_told_so() {
        let entry = entry();
        let claimed = Entry::claim(entry.clone()).unwrap();
        assert_eq!(entry.cancel(), Cancel::Ran);
        assert!(matches!(claimed.finish(answer(1)), Err(Abandoned)));
        assert!(entry.take().is_none());
    }

    #[cfg(not(loom))]
    #[test]
    fn the_latest_listener_is_woken() {
        let entry = entry();
        assert!(!entry.listen(Wake::Thread(current())));
        assert!(!entry.listen(Wake::Thread(current())));
        assert!(matches!(Entry::claim(entry.clone()).unwrap().finish(answer(1)), Ok(Some(_))));
        assert!(entry.listen(Wake::Thread(current())));
    }

    #[cfg(loom)]
    #[test]
    fn loom_ticket_is_woken_or_sees_the_end() {
        loom::model(|| {
            let entry = entry();
            let finisher = {
                let entry = entry.clone();
                loom::thread::spawn(move || {
                    if let Ok(Some(wake)) = Entry::claim(entry.clone()).unwrap().finish(answer(1)) {
                        wake.wake();
                    }
                })
            };
            // Listening twice, as a future polled twice does.
            if !entry.listen(Wake::Thread(current())) {
                while !entry.listen(Wake::Thread(current())) {
                    crate::sync::park();
                }
            }
            assert_eq!(entry.take().unwrap().result.unwrap(), 1);
            finisher.join().unwrap();
        });
    }

    #[cfg(loom)]
    #[test]
    fn loom_cancel_and_finish_agree_on_one_winner() {
        loom::model(|| {
            let entry = entry();
            let finisher = {
                let entry = entry.clone();
                loom::thread::spawn(move || {
                    Entry::claim(entry.clone()).is_some_and(|claimed| claimed.finish(answer(1)).is_ok())
                })
            };
            entry.listen(Wake::Thread(current()));
            let cancelled = entry.cancel() != Cancel::TooLate;
            assert_eq!(finisher.join().unwrap(), !cancelled);
            assert_eq!(entry.take().is_some(), !cancelled);
        });
    }
}
