//! Whom to wake when something ends: a parked thread, an async task, or a group that waits for many.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Thread};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// A waiter to be woken once.
#[derive(Debug)]
pub(super) enum Wake {
    Thread(Thread),
    Task(Waker),
    Group(Arc<Group>),
}

impl Wake {
    /// Wakes it. A waker may be anybody's code, and may panic.
    pub(super) fn wake(self) {
        match self {
            Wake::Thread(thread) => thread.unpark(),
            Wake::Task(waker) => _ = catch_unwind(AssertUnwindSafe(|| waker.wake())),
            Wake::Group(group) => group.one_ended(),
        }
    }
}

/// Those to be woken once the slot is free; on drop, so that a worker that dies has not forgotten them.
#[derive(Debug, Default)]
pub(super) struct Wakes(Vec<Wake>);

impl Wakes {
    pub(super) fn push(&mut self, wake: Option<Wake>) {
        self.0.extend(wake);
    }

    pub(super) fn wake_all(&mut self) {
        self.0.drain(..).for_each(Wake::wake);
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wake_all();
    }
}

/// Wakes its waiter when the last of its members has ended.
///
/// `left` counts down with `AcqRel`, so that whoever takes it to zero, and through it the waiter, sees every outcome.
#[derive(Debug)]
pub(super) struct Group {
    left: AtomicUsize,
    waiter: parking_lot::Mutex<Option<Wake>>,
}

impl Group {
    /// A group of `members` that wakes `waiter`.
    pub(super) fn new(members: usize, waiter: Wake) -> Self {
        Group { left: AtomicUsize::new(members), waiter: parking_lot::Mutex::new(Some(waiter)) }
    }

    /// One member has ended.
    pub(super) fn one_ended(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(waiter) = self.waiter.lock().take()
        {
            waiter.wake();
        }
    }

    /// Whether every member has ended.
    pub(super) fn all_ended(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Another waiter in place of the one before; false if all have ended.
    pub(super) fn rewait(&self, waiter: Wake) -> bool {
        let mut cell = self.waiter.lock();
        if self.all_ended() {
            return false;
        }
        *cell = Some(waiter);
        true
    }
}
