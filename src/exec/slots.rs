//! Slots: whoever holds one may run a batch, be it a worker or a caller that lends its thread.
//!
//! A slot is a replica's place: its scratches stay in it. There are as many open slots as active replicas, so at most that
//! many batches run at once; a slot that is closed is *out* as soon as nobody holds it.

use super::sleepers::MAX_WORKERS;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, UnsafeCell};

const ALL: u64 = (1 << MAX_WORKERS) - 1;

/// The slots. A set bit in `free` is an open slot that nobody holds; taking it acquires what the last holder released.
/// `SeqCst`, since a worker that found no slot sleeps, and the holder that frees one looks for work after that.
pub(super) struct Slots<T> {
    free: AtomicU64,
    /// Slots that are given out.
    open: AtomicU64,
    /// Closed slots that nobody holds.
    out: AtomicU64,
    /// Held by whoever moves a bit into or out of `out`, or changes `open`.
    roster: Mutex<()>,
    scratches: Box<[UnsafeCell<T>]>,
}

// SAFETY: a cell is reached only through a `Slot`, which exists at most once for each bit; the bit passes it from thread
// to thread by release/acquire. Moving the content (`Send`) is all that this needs.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T: Default> Slots<T> {
    /// With the first `slots` of them open.
    pub(super) fn new(slots: usize) -> Self {
        let open = if slots >= MAX_WORKERS { ALL } else { (1 << slots) - 1 };
        Slots {
            free: AtomicU64::new(open),
            open: AtomicU64::new(open),
            out: AtomicU64::new(ALL & !open),
            roster: Mutex::new(()),
            scratches: (0..MAX_WORKERS).map(|_| UnsafeCell::new(T::default())).collect(),
        }
    }
}

impl<T> Slots<T> {
    #[inline]
    pub(super) fn any_free(&self) -> bool {
        self.free.load(Ordering::SeqCst) != 0
    }

    /// The slots that are free, one bit each.
    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::SeqCst)
    }

    /// Whether nobody holds any.
    pub(super) fn none_held(&self) -> bool {
        // In this order: a slot moves from free to out, under the lock, and back.
        let _roster = self.roster.lock();
        self.free.load(Ordering::SeqCst) | self.out.load(Ordering::SeqCst) == ALL
    }

    pub(super) fn is_open(&self, slot: usize) -> bool {
        self.open.load(Ordering::SeqCst) & bit(slot) != 0
    }

    pub(super) fn is_free(&self, slot: usize) -> bool {
        self.free.load(Ordering::SeqCst) & bit(slot) != 0
    }

    /// Whether it is closed and nobody holds it.
    pub(super) fn is_out(&self, slot: usize) -> bool {
        self.out.load(Ordering::SeqCst) & bit(slot) != 0
    }

    /// The slots that are open, one bit each.
    pub(super) fn opened(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }

    /// Gives the slot out from now on.
    pub(super) fn open(&self, slot: usize) {
        let _roster = self.roster.lock();
        self.open.fetch_or(bit(slot), Ordering::SeqCst);
        if self.out.fetch_and(!bit(slot), Ordering::SeqCst) & bit(slot) != 0 {
            self.free.fetch_or(bit(slot), Ordering::SeqCst);
        }
    }

    /// Gives the slot out no more; who holds it keeps it.
    pub(super) fn close(&self, slot: usize) {
        let _roster = self.roster.lock();
        self.open.fetch_and(!bit(slot), Ordering::SeqCst);
        self.take_out(slot);
    }

    /// Moves a closed slot out, if it is free.
    fn take_out(&self, slot: usize) {
        if self.free.fetch_and(!bit(slot), Ordering::SeqCst) & bit(slot) != 0 {
            self.out.fetch_or(bit(slot), Ordering::SeqCst);
        }
    }

    /// Takes a free slot, `preferred` if that one is free.
    #[inline]
    pub(super) fn take(&self, preferred: usize) -> Option<Slot<'_, T>> {
        let mut free = self.free.load(Ordering::SeqCst);
        while free != 0 {
            let wanted = bit(preferred);
            let bit = if free & wanted != 0 { wanted } else { free & free.wrapping_neg() };
            match self.free.compare_exchange_weak(free, free & !bit, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(Slot { slots: self, index: bit.trailing_zeros() as usize }),
                Err(now) => free = now,
            }
        }
        None
    }

    /// Takes this slot, if it is free.
    pub(super) fn take_exactly(&self, slot: usize) -> Option<Slot<'_, T>> {
        let before = self.free.fetch_and(!bit(slot), Ordering::SeqCst);
        (before & bit(slot) != 0).then(|| Slot { slots: self, index: slot })
    }

    /// Takes this slot though it is closed, to empty it; `None` while somebody holds it.
    pub(super) fn take_closed(&self, slot: usize) -> Option<Slot<'_, T>> {
        let _roster = self.roster.lock();
        let before = self.out.fetch_and(!bit(slot), Ordering::SeqCst);
        (before & bit(slot) != 0).then(|| Slot { slots: self, index: slot })
    }
}

#[inline]
fn bit(slot: usize) -> u64 {
    1_u64.checked_shl(slot as u32).unwrap_or(0)
}

/// A held slot; freed on drop.
pub(super) struct Slot<'a, T> {
    slots: &'a Slots<T>,
    index: usize,
}

impl<T> Slot<'_, T> {
    #[inline]
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Lends what lies in it.
    #[inline]
    pub(super) fn with<R>(&mut self, lend: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: this slot's bit is in neither `free` nor `out`, so this is the only `Slot` of its cell, and it is
        // borrowed mutably.
        self.slots.scratches[self.index].with_mut(|scratch| lend(unsafe { &mut *scratch }))
    }

    /// The slots that it is of.
    pub(super) fn slots(&self) -> &Slots<T> {
        self.slots
    }

    /// Changes to another slot, if that one is free.
    pub(super) fn move_to(&mut self, slot: usize) -> bool {
        match self.slots.take_exactly(slot) {
            Some(other) => {
                *self = other;
                true
            }
            None => false,
        }
    }
}

impl<T> Drop for Slot<'_, T> {
    fn drop(&mut self) {
        let (slots, bit) = (self.slots, bit(self.index));
        let was_open = slots.is_open(self.index);
        if was_open {
            slots.free.fetch_or(bit, Ordering::SeqCst);
            if slots.is_open(self.index) {
                return;
            }
        }
        // It was closed while it was held, or just now.
        let _roster = slots.roster.lock();
        match (was_open, slots.is_open(self.index)) {
            (true, true) => {}
            (true, false) => slots.take_out(self.index),
            (false, true) => _ = slots.free.fetch_or(bit, Ordering::SeqCst),
            (false, false) => _ = slots.out.fetch_or(bit, Ordering::SeqCst),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_held_once_and_keeps_its_scratch() {
        let slots = Slots::<u32>::new(2);
        let mut first = slots.take(1).unwrap();
        first.with(|scratch| *scratch = 5);
        assert_eq!(first.index(), 1);
        let second = slots.take(1).unwrap();
        assert_eq!(second.index(), 0);
        assert!(slots.take(0).is_none() && slots.take_exactly(1).is_none() && !slots.any_free() && !slots.none_held());
        drop((first, second));
        assert!(slots.none_held());
        assert_eq!(slots.take(1).unwrap().with(|scratch| *scratch), 5);
    }

    #[test]
    fn a_closed_slot_goes_out_when_it_is_free() {
        let slots = Slots::<u32>::new(2);
        let held = slots.take(0).unwrap();
        slots.close(0);
        slots.close(1);
        assert!(!slots.is_out(0) && slots.is_out(1) && slots.take(0).is_none() && slots.take_closed(0).is_none());
        drop(held);
        assert!(slots.is_out(0) && slots.none_held() && !slots.any_free());
        drop(slots.take_closed(0).unwrap());
        slots.open(1);
        slots.open(5);
        assert_eq!((slots.take(0).unwrap().index(), slots.take(5).unwrap().index()), (1, 5));
    }

    #[test]
    fn one_that_is_opened_while_it_is_held_stays() {
        let slots = Slots::<u32>::new(1);
        let mut held = slots.take(0).unwrap();
        slots.close(0);
        slots.open(0);
        assert!(!held.move_to(7));
        drop(held);
        assert!(slots.is_free(0) && slots.none_held());
    }

    #[test]
    fn open_and_close_in_a_race_leave_every_slot_somewhere() {
        let slots = Slots::<u64>::new(3);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let slots = &slots;
                scope.spawn(move || {
                    for _ in 0..3000 {
                        if let Some(mut slot) = slots.take(thread) {
                            slot.with(|count| *count += 1);
                        }
                    }
                });
            }
            for turn in 0..3000 {
                slots.close(turn % 3);
                slots.open(turn % 3);
            }
        });
        assert!(slots.none_held() && (0..3).all(|slot| slots.is_free(slot)));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn loom_a_slot_that_is_closed_while_it_is_held_goes_out() {
        loom::model(|| {
            let slots = Arc::new(Slots::<u32>::new(1));
            let holder = {
                let slots = slots.clone();
                loom::thread::spawn(move || {
                    if let Some(mut slot) = slots.take(0) {
                        slot.with(|count| *count += 1);
                    }
                })
            };
            slots.close(0);
            if let Some(mut slot) = slots.take_closed(0) {
                slot.with(|count| *count += 1);
            }
            holder.join().unwrap();
            assert!(slots.is_out(0) && !slots.any_free() && slots.none_held());
        });
    }

    #[test]
    fn loom_a_slot_that_is_opened_again_is_free_in_the_end() {
        loom::model(|| {
            let slots = Arc::new(Slots::<u32>::new(1));
            let holder = {
                let slots = slots.clone();
                loom::thread::spawn(move || drop(slots.take(0)))
            };
            slots.close(0);
            slots.open(0);
            holder.join().unwrap();
            assert!(slots.is_free(0) && !slots.is_out(0) && slots.none_held());
        });
    }
}
