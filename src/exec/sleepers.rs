//! Which workers sleep, and who must be woken: no worker polls, none is woken while another one is already looking.
//!
//! A worker *searches* (awake, about to look at the queue), *runs*, or *sleeps*. The rules:
//! - whoever makes work visible calls [`Sleepers::notify`]: it does nothing while somebody searches, since a searcher
//!   looks again after it stops searching;
//! - a worker that stops searching, to run or to sleep, then looks whether there is work: the runner calls `notify`,
//!   the sleeper gets up again.
//!
//! The store "work is visible" before the load "does anyone search", against the store "I do not search" before the load
//! "is there work": with one order of all four (`SeqCst`) at least one of the two sees the other.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Thread, in_one_order};
use parking_lot::Mutex;

/// The most workers that one executor can have: one bit each, beside the count of those that search.
pub(super) const MAX_WORKERS: usize = 48;

const SEARCHING: u64 = 1 << 56;
const ASLEEP: u64 = (1 << MAX_WORKERS) - 1;

/// Both facts stand in one word, so that a waker moves a worker from "asleep" to "searching" in one step. In two words
/// there would be a moment in which it is neither, or both, and a wake could be lost.
#[derive(Debug)]
pub(super) struct Sleepers {
    /// Low bits: one for each worker that sleeps or is about to. From [`SEARCHING`] up: how many search. A waker counts
    /// the one it wakes, on its behalf.
    word: AtomicU64,
    /// Locked by whoever wakes, and when a worker begins.
    threads: Box<[Mutex<Option<Thread>>]>,
}

impl Sleepers {
    /// For `workers` workers, all of which start out searching; more may [join](Self::start_searching).
    pub(super) fn new(workers: usize) -> Self {
        debug_assert!(workers <= MAX_WORKERS);
        Sleepers {
            word: AtomicU64::new(workers as u64 * SEARCHING),
            threads: (0..MAX_WORKERS).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Registers the current thread as worker `worker`, before it first sleeps.
    pub(super) fn register(&self, worker: usize) {
        *self.threads[worker].lock() = Some(crate::sync::current());
    }

    /// Whether a call of `notify` would wake someone.
    #[inline]
    pub(super) fn needed(&self) -> bool {
        in_one_order();
        (1..SEARCHING).contains(&self.word.load(Ordering::SeqCst))
    }

    /// There is work: wakes one sleeper, unless somebody searches already.
    #[inline]
    pub(super) fn notify(&self) {
        if self.needed() {
            self.wake_one();
        }
    }

    fn wake_one(&self) {
        let mut word = self.word.load(Ordering::SeqCst);
        while (1..SEARCHING).contains(&word) {
            let bit = word & word.wrapping_neg();
            match self.word.compare_exchange_weak(word, word - bit + SEARCHING, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return self.unpark(bit),
                Err(now) => word = now,
            }
        }
    }

    /// Wakes everybody, for shutdown.
    pub(super) fn wake_all(&self) {
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            let asleep = word & ASLEEP;
            let awake = word - asleep + u64::from(asleep.count_ones()) * SEARCHING;
            match self.word.compare_exchange_weak(word, awake, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return self.unpark(asleep),
                Err(now) => word = now,
            }
        }
    }

    fn unpark(&self, mut workers: u64) {
        while workers != 0 {
            let thread = self.threads[workers.trailing_zeros() as usize].lock().clone();
            if let Some(thread) = thread {
                thread.unpark();
            }
            workers &= workers - 1;
        }
    }

    /// The caller, a worker, stops searching to run; it must then check for work and `notify`.
    pub(super) fn start_running(&self) {
        self.word.fetch_sub(SEARCHING, Ordering::SeqCst);
        in_one_order();
    }

    /// The caller, a worker that ran, searches again.
    pub(super) fn start_searching(&self) {
        self.word.fetch_add(SEARCHING, Ordering::SeqCst);
    }

    /// The caller stops searching to sleep; it must then check for work, and either [`get_up`](Self::get_up) or park.
    pub(super) fn lie_down(&self, worker: usize) {
        self.word.fetch_sub(SEARCHING - (1 << worker), Ordering::SeqCst);
        in_one_order();
    }

    /// The caller searches again, whether it was woken or gets up by itself.
    pub(super) fn get_up(&self, worker: usize) {
        let bit = 1 << worker;
        let mut word = self.word.load(Ordering::SeqCst);
        // A waker clears the bit and counts the searcher; what it has done must not be done again.
        while word & bit != 0 {
            match self.word.compare_exchange_weak(word, word - bit + SEARCHING, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Whether the worker has been woken since it lay down.
    pub(super) fn is_woken(&self, worker: usize) -> bool {
        self.word.load(Ordering::SeqCst) & (1 << worker) == 0
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::atomic::AtomicBool;

    #[test]
    fn loom_sleepers_lose_no_wake() {
        loom::model(|| {
            let sleepers = Arc::new(Sleepers::new(1));
            let work = Arc::new(AtomicBool::new(false));
            let worker = {
                let (sleepers, work) = (sleepers.clone(), work.clone());
                loom::thread::spawn(move || {
                    sleepers.register(0);
                    while !work.swap(false, Ordering::SeqCst) {
                        sleepers.lie_down(0);
                        while !work.load(Ordering::SeqCst) && !sleepers.is_woken(0) {
                            crate::sync::park();
                        }
                        sleepers.get_up(0);
                    }
                })
            };
            // As a push onto a lane: a read-modify-write.
            work.swap(true, Ordering::SeqCst);
            sleepers.notify();
            worker.join().unwrap();
        });
    }
}
