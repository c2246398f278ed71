//! The queue's room, in items and bytes, in one word: what is accepted is what there was room for.
//!
//! The word also holds whether the executor is closed, so that "closed" and "accepted" cannot cross: once the bit is set
//! nothing is accepted any more, and what was accepted before is counted until it leaves the queue.

use crate::sync::atomic::{AtomicU64, Ordering};

const BYTE_BITS: u32 = 40;
const BYTES: u64 = (1 << BYTE_BITS) - 1;
const ITEM: u64 = 1 << BYTE_BITS;
const CLOSED: u64 = 1 << 63;
const ITEMS: u64 = (CLOSED - 1) >> BYTE_BITS;

/// Most items that can be counted: 8,388,607.
pub(super) const MAX_ITEMS: u32 = ITEMS as u32;
/// Most bytes that can be counted: one short of a tebibyte.
pub(super) const MAX_BYTES: u64 = BYTES;

/// Why there is no credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// No room now.
    Full,
    /// More than the whole queue can hold: it would never fit.
    TooLarge,
    /// Nothing is accepted any more.
    Closed,
}

/// What is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) items: u32,
    pub(super) bytes: u64,
    pub(super) closed: bool,
}

impl Held {
    fn read(word: u64) -> Self {
        Held { items: (word >> BYTE_BITS & ITEMS) as u32, bytes: word & BYTES, closed: word & CLOSED != 0 }
    }
}

/// The counter. `SeqCst` throughout: shutdown, the waiters for room and the sleeping workers each look at it after they
/// wrote a word of their own, and rely on one order of all these.
#[derive(Debug)]
pub(super) struct Credit {
    word: AtomicU64,
    max_items: u64,
    max_bytes: u64,
}

impl Credit {
    pub(super) fn new(max_items: u32, max_bytes: u64) -> Self {
        let (max_items, max_bytes) = (u64::from(max_items.min(MAX_ITEMS)), max_bytes.min(MAX_BYTES));
        Credit { word: AtomicU64::new(0), max_items, max_bytes }
    }

    /// Takes room for `items` items of `bytes` bytes together: all of it or nothing.
    #[inline]
    pub(super) fn acquire(&self, items: u32, bytes: u64) -> Result<(), Denied> {
        let items = u64::from(items);
        if items > self.max_items || bytes > self.max_bytes {
            return Err(Denied::TooLarge);
        }
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            let held = Held::read(word);
            if held.closed {
                return Err(Denied::Closed);
            }
            if u64::from(held.items) + items > self.max_items || held.bytes + bytes > self.max_bytes {
                return Err(Denied::Full);
            }
            let next = word + items * ITEM + bytes;
            match self.word.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Gives room back; what is held after that.
    pub(super) fn release(&self, items: u32, bytes: u64) -> Held {
        let back = u64::from(items) * ITEM + bytes;
        let before = self.word.fetch_sub(back, Ordering::SeqCst);
        Held::read(before - back)
    }

    /// Accepts nothing any more; whether it was open before.
    pub(super) fn close(&self) -> bool {
        self.word.fetch_or(CLOSED, Ordering::SeqCst) & CLOSED == 0
    }

    #[inline]
    pub(super) fn held(&self) -> Held {
        Held::read(self.word.load(Ordering::SeqCst))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted_in_items_and_bytes() {
        let credit = Credit::new(2, 100);
        assert_eq!(credit.acquire(1, 60), Ok(()));
        assert_eq!(credit.acquire(1, 60), Err(Denied::Full), "bytes");
        assert_eq!(credit.acquire(1, 40), Ok(()));
        assert_eq!(credit.acquire(1, 0), Err(Denied::Full), "items");
        assert_eq!(credit.acquire(3, 0), Err(Denied::TooLarge));
        assert_eq!(credit.acquire(1, 101), Err(Denied::TooLarge));
        assert_eq!(credit.release(1, 60), Held { items: 1, bytes: 40, closed: false });
        assert_eq!(credit.acquire(1, 60), Ok(()));
    }

    #[test]
    fn nothing_is_accepted_after_close_but_what_was_is_still_counted() {
        let credit = Credit::new(u32::MAX, u64::MAX);
        assert_eq!(credit.acquire(MAX_ITEMS, MAX_BYTES), Ok(()));
        assert!(credit.close() && !credit.close());
        assert_eq!(credit.acquire(0, 0), Err(Denied::Closed));
        assert_eq!(credit.release(MAX_ITEMS, MAX_BYTES), Held { items: 0, bytes: 0, closed: true });
    }
}
