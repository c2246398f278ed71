//! Callers that wait for room in the queue, first come first served as far as room allows.
//!
//! Only the slow path takes the lock: whoever frees room looks at one counter first.

use super::wake::Wake;
use crate::clock::Time;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a request needs room of beside the queue's own: that of its class and of its tenant, where these have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kind {
    pub(super) class: usize,
    pub(super) tenant: u64,
}

/// The waiters, in order of their places. `count` is stored before the waiter looks for room once more, and loaded after room was
/// given back, both `SeqCst`: one of the two sees the other.
#[derive(Debug, Default)]
pub(super) struct Room {
    count: AtomicUsize,
    next_id: AtomicU64,
    waiters: Mutex<VecDeque<(Place, Wake)>>,
}

/// A place among the waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    id: u64,
    kind: Kind,
    /// When it is to be woken though there is no room.
    deadline: Time,
}

impl Room {
    /// A place behind all others, for one that is woken at `deadline` at the latest.
    pub(super) fn place(&self, kind: Kind, deadline: Time) -> Place {
        Place { id: self.next_id.fetch_add(1, Ordering::Relaxed), kind, deadline }
    }

    /// Joins the waiters, for the first time or again; the caller must then look for room once more before it sleeps.
    pub(super) fn join(&self, place: Place, wake: Wake) {
        let mut waiters = self.waiters.lock();
        let at = waiters.partition_point(|(other, _)| other.id < place.id);
        waiters.insert(at, (place, wake));
        self.count.store(waiters.len(), Ordering::SeqCst);
    }

    /// Leaves the waiters; false if it was woken already, and then owes the wake to the next one if it takes no room.
    pub(super) fn leave(&self, place: Place) -> bool {
        let mut waiters = self.waiters.lock();
        let found = waiters.iter().position(|(other, _)| *other == place);
        let waiter = found.and_then(|at| waiters.remove(at));
        self.count.store(waiters.len(), Ordering::SeqCst);
        waiter.is_some()
    }

    /// Whether it still waits and was not woken.
    pub(super) fn is_waiting(&self, place: Place) -> bool {
        self.waiters.lock().iter().any(|(other, _)| *other == place)
    }

    /// Room for up to `places` more was given back: wakes as many waiters.
    #[inline]
    pub(super) fn freed(&self, places: usize) {
        if self.count.load(Ordering::SeqCst) != 0 {
            self.wake(places, |_| true);
        }
    }

    /// Wakes those whose deadline has passed; the earliest of the others.
    pub(super) fn expire(&self, now: Time) -> Time {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Time::NEVER;
        }
        self.wake(usize::MAX, |place| place.deadline <= now);
        self.waiters.lock().iter().map(|(place, _)| place.deadline).min().unwrap_or(Time::NEVER)
    }

    /// The one at `place` was woken and found no room for its kind: there may be some for the next one of another kind.
    pub(super) fn pass_on(&self, place: Place) {
        self.wake(1, |other| other.id > place.id && other.kind != place.kind);
    }

    fn wake(&self, places: usize, which: impl Fn(&Place) -> bool) {
        let mut woken = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            while woken.len() < places
                && let Some(at) = waiters.iter().position(|(place, _)| which(place))
            {
                woken.extend(waiters.remove(at).map(|(_, wake)| wake));
            }
            self.count.store(waiters.len(), Ordering::SeqCst);
        }
        woken.into_iter().for_each(Wake::wake);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::current;

    #[test]
    fn a_wake_that_is_of_no_use_goes_to_the_next_of_another_kind() {
        let room = Room::default();
        let of = |class| room.place(Kind { class, tenant: 0 }, Time::NEVER);
        let places = [of(1), of(1), of(0), of(2)];
        let join = |at: usize| room.join(places[at], Wake::Thread(current()));
        let waiting = || places.map(|place| room.is_waiting(place));
        (0..4).for_each(join);
        room.freed(1);
        assert_eq!(waiting(), [false, true, true, true]);
        join(0);
        room.pass_on(places[0]);
        assert_eq!(waiting(), [true, true, false, true], "the second needs what the first has not found");
        join(2);
        room.pass_on(places[2]);
        assert_eq!(waiting(), [true, true, true, false]);
        room.freed(2);
        assert_eq!(waiting(), [false, false, true, false], "they have kept their places");
        assert!(room.leave(places[2]) && !room.leave(places[0]));
        room.pass_on(places[0]);
    }
}
