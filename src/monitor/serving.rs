//! What is served and by whom: the part of a snapshot about models and replicas.

use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of one model over all its generations. `Relaxed`: each stands alone.
#[derive(Debug, Default)]
pub(crate) struct ModelStats {
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) busy: AtomicU64,
}

impl ModelStats {
    /// A batch of `rows` rows took `nanos`.
    pub(crate) fn ran(&self, rows: u64, nanos: u64, answered: u64, failed: u64) {
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&self.batches, 1);
        add(&self.rows, rows);
        add(&self.busy, nanos);
        add(&self.answered, answered);
        add(&self.failed, failed);
    }
}

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelSnapshot {
    /// The name that it was given.
    pub name: String,
    /// Its weight against the other models.
    pub share: u32,
    /// Counts its swaps: the generation that new requests go to.
    pub generation: u64,
    /// Older generations whose requests have not all ended.
    pub retiring: usize,
    /// Whether it takes no requests any more, and is here for those that have not ended.
    pub removed: bool,
    /// Requests answered with a result.
    pub answered: u64,
    /// Requests answered with an error.
    pub failed: u64,
    /// Batches that ran.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Nanoseconds that they took.
    pub busy_ns: u64,
    /// Nanoseconds that it still rests because it kept panicking; zero while it does not.
    pub resting_ns: u64,
}

impl ModelSnapshot {
    pub(crate) fn new(name: &str, share: u32, stats: &ModelStats) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ModelSnapshot {
            name: name.to_owned(),
            share,
            generation: 0,
            retiring: 0,
            removed: false,
            answered: read(&stats.answered),
            failed: read(&stats.failed),
            batches: read(&stats.batches),
            rows: read(&stats.rows),
            busy_ns: read(&stats.busy),
            resting_ns: 0,
        }
    }
}

impl fmt::Display for ModelSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ModelSnapshot { name, share, generation, answered, failed, batches, .. } = self;
        let busy = Duration::from_nanos(self.busy_ns);
        write!(
            f,
            "model      {name} (share {share}, generation {generation}): {answered} answered, {failed} failed, "
        )?;
        write!(f, "{batches} batches, busy {busy:.3?}")?;
        if self.removed {
            f.write_str(", removed")?;
        }
        if self.resting_ns > 0 { f.write_str(", quarantined") } else { Ok(()) }
    }
}

/// Whether a replica takes batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum ReplicaState {
    /// It takes batches.
    Active,
    /// It takes none any more, and still runs one.
    Draining,
    /// It takes none, and runs none.
    Drained,
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReplicaSnapshot {
    /// Its number, which it keeps while others come and go.
    pub id: u64,
    /// Whether it takes batches.
    pub state: ReplicaState,
    /// Requests in the batch that it runs now.
    pub running: u64,
    /// Batches that it ran.
    pub batches: u64,
    /// Nanoseconds that they took.
    pub busy_ns: u64,
}

impl fmt::Display for ReplicaSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReplicaSnapshot { id, state, running, batches, .. } = self;
        let busy = Duration::from_nanos(self.busy_ns);
        write!(f, "replica    {id} ({state:?}): {batches} batches, busy {busy:.3?}, {running} requests running")
    }
}
