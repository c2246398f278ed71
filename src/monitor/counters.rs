//! The counters of requests: one shard per group of threads, so that submitters do not share a cache line.
//!
//! `Relaxed` throughout: a counter orders nothing. At rest the sums obey
//! `accepted = answered + failed + expired + cancelled + waiting`.

use crate::sync::Padded;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SHARDS: usize = 8;

/// How an accepted request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Answered,
    Failed,
    Expired,
    Cancelled,
}

#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) accepted: AtomicU64,
    pub(crate) inline: AtomicU64,
    ended: [AtomicU64; 4],
    pub(crate) refused_full: AtomicU64,
    pub(crate) refused_deadline: AtomicU64,
    pub(crate) refused_closed: AtomicU64,
    pub(crate) refused_quarantined: AtomicU64,
    pub(crate) refused_invalid: AtomicU64,
}

/// All shards.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    shards: [Padded<Shard>; SHARDS],
}

/// A small number that differs between threads as far as possible.
#[inline]
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl Counters {
    /// The shard of the calling thread.
    #[inline]
    pub(crate) fn here(&self) -> &Shard {
        &self.shards[thread_number() % SHARDS]
    }

    /// Counts the ends of `requests` requests.
    #[inline]
    pub(crate) fn ended(&self, how: Ended, requests: u64) {
        if requests > 0 {
            self.here().ended[how as usize].fetch_add(requests, Ordering::Relaxed);
        }
    }

    /// How many ended so.
    pub(crate) fn total_ended(&self, how: Ended) -> u64 {
        self.sum(|shard| &shard.ended[how as usize])
    }

    /// One counter over all shards.
    pub(crate) fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }
}
