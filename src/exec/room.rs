//! Callers that wait for room in the queue, first come first served as far as room allows.
//!
//! Only the slow path takes the lock: whoever frees room looks at one counter first.

use super::wake::Wake;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The waiters. `count` is stored before the waiter looks for room once more, and loaded after room was given back, both
/// `SeqCst`: one of the two sees the other.
#[derive(Debug, Default)]
pub(super) struct Room {
    count: AtomicUsize,
    next_id: AtomicU64,
    waiters: Mutex<VecDeque<(u64, Wake)>>,
}

/// A place among the waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Room {
    /// Joins the waiters; the caller must then look for room once more before it sleeps.
    pub(super) fn join(&self, wake: Wake) -> Place {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut waiters = self.waiters.lock();
        waiters.push_back((id, wake));
        self.count.store(waiters.len(), Ordering::SeqCst);
        Place(id)
    }

    /// Leaves the waiters; false if it was woken already, and then owes the wake to the next one if it takes no room.
    pub(super) fn leave(&self, place: Place) -> bool {
        let mut waiters = self.waiters.lock();
        let found = waiters.iter().position(|(id, _)| *id == place.0);
        let waiter = found.and_then(|at| waiters.remove(at));
        self.count.store(waiters.len(), Ordering::SeqCst);
        waiter.is_some()
    }

    /// Whether it still waits and was not woken.
    pub(super) fn is_waiting(&self, place: Place) -> bool {
        self.waiters.lock().iter().any(|(id, _)| *id == place.0)
    }

    /// Room for up to `places` more was given back: wakes as many waiters.
    #[inline]
    pub(super) fn freed(&self, places: usize) {
        if self.count.load(Ordering::SeqCst) != 0 {
            self.wake(places);
        }
    }

    fn wake(&self, places: usize) {
        let woken: Vec<Wake> = {
            let mut waiters = self.waiters.lock();
            let places = places.min(waiters.len());
            let woken = waiters.drain(..places).map(|(_, wake)| wake).collect();
            self.count.store(waiters.len(), Ordering::SeqCst);
            woken
        };
        woken.into_iter().for_each(Wake::wake);
    }
}
