//! Atomics, cells, locks and thread parking, behind one module that the model checker can swap (`--cfg loom`).
//!
//! Only the concurrent parts of `exec` use it. What it leaves to others: every protocol built from these.

#[cfg(not(loom))]
mod real {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread::{Thread, current, park, park_timeout, yield_now};

    /// Stands between a `SeqCst` store and a `SeqCst` load of another word, whose order is relied on: nothing is needed.
    #[inline(always)]
    pub(crate) fn in_one_order() {}

    /// A cell whose accesses the model checker can watch; here it is free.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        /// Hands the pointer for a read; the caller proves that nobody writes meanwhile.
        #[inline(always)]
        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        /// Hands the pointer for a write; the caller proves that nobody else touches the cell meanwhile.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(loom)]
mod model {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic;
    pub(crate) use loom::sync::{Arc, MutexGuard};
    pub(crate) use loom::thread::{Thread, current, park, yield_now};

    /// A lock that the model checker can watch, with the face of the real one.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    /// The model takes `SeqCst` accesses for acquire and release; a fence between them says what they mean.
    pub(crate) fn in_one_order() {
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    }

    /// Time does not pass in a model: a timed park returns at once, which any caller must bear.
    pub(crate) fn park_timeout(_: std::time::Duration) {
        loom::thread::yield_now();
    }
}

#[cfg(not(loom))]
pub(crate) use real::*;

#[cfg(loom)]
pub(crate) use model::*;

/// Keeps its content on cache lines of its own, so that neighbors written by other cores do not slow it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
