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

use crate::sync::Thread;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::OnceLock;

/// The most workers that one executor can have: one bit each.
pub(super) const MAX_WORKERS: usize = 64;

#[derive(Debug)]
pub(super) struct Sleepers {
    /// One bit per worker that sleeps or is about to.
    asleep: AtomicU64,
    /// Workers that search. A waker counts the one it wakes, on its behalf.
    searching: AtomicU32,
    threads: Box<[OnceLock<Thread>]>,
}

impl Sleepers {
    /// For `workers` workers, all of which start out searching.
    pub(super) fn new(workers: usize) -> Self {
        debug_assert!(workers <= MAX_WORKERS);
        Sleepers {
            asleep: AtomicU64::new(0),
            searching: AtomicU32::new(workers as u32),
            threads: (0..workers).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Registers the current thread as worker `worker`, before it first sleeps.
    pub(super) fn register(&self, worker: usize) {
        // A replacement of a dead worker runs on the same thread, so that the first registration stays right.
        let _ = self.threads[worker].set(crate::sync::current());
    }

    /// Whether a call of `notify` would wake someone.
    #[inline]
    pub(super) fn needed(&self) -> bool {
        self.searching.load(Ordering::SeqCst) == 0 && self.asleep.load(Ordering::SeqCst) != 0
    }

    /// There is work: wakes one sleeper, unless somebody searches already.
    #[inline]
    pub(super) fn notify(&self) {
        if self.needed() {
            self.wake_one();
        }
    }

    fn wake_one(&self) -> bool {
        let mut asleep = self.asleep.load(Ordering::SeqCst);
        while asleep != 0 {
            let bit = asleep & asleep.wrapping_neg();
            match self.asleep.compare_exchange_weak(asleep, asleep & !bit, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    self.searching.fetch_add(1, Ordering::SeqCst);
                    if let Some(thread) = self.threads[bit.trailing_zeros() as usize].get() {
                        thread.unpark();
                    }
                    return true;
                }
                Err(now) => asleep = now,
            }
        }
        false
    }

    /// Wakes everybody, for shutdown.
    pub(super) fn wake_all(&self) {
        while self.wake_one() {}
    }

    /// The caller, a worker, stops searching to run; it must then check for work and `notify`.
    pub(super) fn start_running(&self) {
        self.searching.fetch_sub(1, Ordering::SeqCst);
    }

    /// The caller, a worker that ran, searches again.
    pub(super) fn start_searching(&self) {
        self.searching.fetch_add(1, Ordering::SeqCst);
    }

    /// The caller stops searching to sleep; it must then check for work, and either [`get_up`](Self::get_up) or park.
    pub(super) fn lie_down(&self, worker: usize) {
        self.asleep.fetch_or(1 << worker, Ordering::SeqCst);
        self.searching.fetch_sub(1, Ordering::SeqCst);
    }

    /// The caller searches again, whether it was woken or gets up by itself.
    pub(super) fn get_up(&self, worker: usize) {
        let bit = 1 << worker;
        // Whoever clears the bit counts the searcher: a waker did so if the bit is gone already.
        if self.asleep.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
            self.searching.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether the worker has been woken since it lay down.
    pub(super) fn is_woken(&self, worker: usize) -> bool {
        self.asleep.load(Ordering::SeqCst) & (1 << worker) == 0
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
                        if !work.load(Ordering::SeqCst) {
                            crate::sync::park();
                        }
                        sleepers.get_up(0);
                    }
                })
            };
            work.store(true, Ordering::SeqCst);
            sleepers.notify();
            worker.join().unwrap();
        });
    }
}
