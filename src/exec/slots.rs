//! Scratch slots: whoever holds one may run a batch, be it a worker or a caller that lends its thread.
//!
//! There are as many slots as workers, so at most that many batches run at once.

use super::sleepers::MAX_WORKERS;
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The slots. A set bit in `free` is a slot that nobody holds; taking it acquires what the last holder released.
/// `SeqCst`, since a worker that found no slot sleeps, and the holder that frees one looks for work after that.
#[derive(Debug)]
pub(super) struct Slots<T> {
    free: AtomicU64,
    all: u64,
    scratches: Box<[UnsafeCell<Option<T>>]>,
}

// SAFETY: a cell is reached only through a `Slot`, which exists at most once for each bit; the bit passes it from thread
// to thread by release/acquire. Moving the content (`Send`) is all that this needs.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    pub(super) fn new(slots: usize) -> Self {
        debug_assert!((1..=MAX_WORKERS).contains(&slots));
        let all = (1 << slots) - 1;
        Slots { free: AtomicU64::new(all), all, scratches: (0..slots).map(|_| UnsafeCell::new(None)).collect() }
    }

    #[inline]
    pub(super) fn any_free(&self) -> bool {
        self.free.load(Ordering::SeqCst) != 0
    }

    pub(super) fn all_free(&self) -> bool {
        self.free.load(Ordering::SeqCst) == self.all
    }

    /// Takes a free slot, `preferred` if that one is free.
    #[inline]
    pub(super) fn take(&self, preferred: usize) -> Option<Slot<'_, T>> {
        let mut free = self.free.load(Ordering::SeqCst);
        while free != 0 {
            let wanted = 1_u64.checked_shl(preferred as u32).unwrap_or(0);
            let bit = if free & wanted != 0 { wanted } else { free & free.wrapping_neg() };
            match self.free.compare_exchange_weak(free, free & !bit, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(Slot { slots: self, index: bit.trailing_zeros() as usize }),
                Err(now) => free = now,
            }
        }
        None
    }
}

/// A held slot; freed on drop.
#[derive(Debug)]
pub(super) struct Slot<'a, T> {
    slots: &'a Slots<T>,
    index: usize,
}

impl<T> Slot<'_, T> {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Lends the scratch; `None` if it was not made yet, or was thrown away.
    #[inline]
    pub(super) fn with<R>(&mut self, lend: impl FnOnce(&mut Option<T>) -> R) -> R {
        // SAFETY: this slot's bit is taken, so this is the only `Slot` of its cell, and it is borrowed mutably.
        self.slots.scratches[self.index].with_mut(|scratch| lend(unsafe { &mut *scratch }))
    }
}

impl<T> Drop for Slot<'_, T> {
    fn drop(&mut self) {
        self.slots.free.fetch_or(1 << self.index, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_held_once_and_keeps_its_scratch() {
        let slots = Slots::new(2);
        let mut first = slots.take(1).unwrap();
        first.with(|scratch| *scratch = Some(5));
        assert_eq!(first.index(), 1);
        let second = slots.take(1).unwrap();
        assert_eq!(second.index(), 0);
        assert!(slots.take(0).is_none() && !slots.any_free());
        drop((first, second));
        assert!(slots.all_free());
        assert_eq!(slots.take(1).unwrap().with(|scratch| *scratch), Some(5));
    }
}
