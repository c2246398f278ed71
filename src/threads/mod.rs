//! Threads for a run: how many it may use, where they come from, and teams that meet in regions.
//!
//! The threads are rayon's: of a pool that the host hands in, or of one that is made on its first use. A run claims
//! its helpers once ([`Threads::team`]) and leads them through its regions; whoever comes late finds its part done by
//! the others, so a run never waits for a thread that is busy elsewhere. What a part computes, and whether dividing
//! pays, is for others to say. Nothing spins but the helpers of a run, for microseconds between two regions.

#[cfg(all(test, loom))]
mod loom_team;
mod team;
#[cfg(test)]
mod tests;

pub(crate) use team::Team;

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The most parts of a region, and so the most members of a team.
pub(crate) const MOST_PARTS: usize = 32;

/// How many threads a run may use, and the pool that they come from; a clone is another handle to the same.
#[derive(Debug, Clone)]
pub(crate) struct Threads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: usize,
    source: Source,
    /// Helpers that no run has claimed.
    free: AtomicUsize,
    /// Whatever can be divided is, for tests.
    eager: bool,
}

#[derive(Debug)]
enum Source {
    /// Made on first use; `None` within where the system gave no threads.
    Own(OnceLock<Option<ThreadPool>>),
    Host(Arc<ThreadPool>),
}

impl Threads {
    /// At most `count` threads a run, the caller's included; a pool of the rest is made when it is first needed.
    pub(crate) fn new(count: usize) -> Self {
        Threads::from(count, Source::Own(OnceLock::new()))
    }

    /// The threads of a host's pool, at most `count` of them a run.
    pub(crate) fn of_pool(pool: Arc<ThreadPool>, count: Option<usize>) -> Self {
        let count = count.unwrap_or_else(|| pool.current_num_threads());
        Threads::from(count, Source::Host(pool))
    }

    /// The caller's thread alone.
    pub(crate) fn serial() -> Self {
        Threads::new(1)
    }

    /// One for each core that this process may use.
    pub(crate) fn all_cores() -> Self {
        Threads::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn from(count: usize, source: Source) -> Self {
        let count = count.clamp(1, MOST_PARTS);
        Threads(Arc::new(Inner { count, source, free: AtomicUsize::new(count - 1), eager: false }))
    }

    /// Threads that help wherever they can, however little it saves.
    #[cfg(test)]
    pub(crate) fn eager(count: usize) -> Self {
        let inner =
            Inner { count, source: Source::Own(OnceLock::new()), free: AtomicUsize::new(count - 1), eager: true };
        Threads(Arc::new(inner))
    }

    /// Whether work of so many nanoseconds is worth dividing, where more than `least` is.
    pub(crate) fn are_worth(&self, nanoseconds: f64, least: f64) -> bool {
        self.count() > 1 && (nanoseconds > least || self.0.eager)
    }

    /// How many threads a run may use, the caller's included.
    pub(crate) fn count(&self) -> usize {
        self.0.count
    }

    /// Whether there is a pool already.
    #[cfg(test)]
    pub(crate) fn started(&self) -> bool {
        match &self.0.source {
            Source::Own(pool) => pool.get().is_some(),
            Source::Host(_) => true,
        }
    }

    fn pool(&self) -> Option<&ThreadPool> {
        match &self.0.source {
            Source::Host(pool) => Some(pool),
            Source::Own(pool) => pool.get_or_init(|| self.start()).as_ref(),
        }
    }

    fn start(&self) -> Option<ThreadPool> {
        let builder = ThreadPoolBuilder::new().num_threads(self.0.count - 1);
        builder.thread_name(|index| format!("onrush-{}", index + 1)).build().ok()
    }

    /// Claims up to `most` helpers that are free.
    fn claim(&self, most: usize) -> usize {
        let mut claimed = 0;
        let take = |free: usize| {
            claimed = free.min(most);
            (claimed > 0).then(|| free - claimed)
        };
        match self.0.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take) {
            Ok(_) => claimed,
            Err(_) => 0,
        }
    }

    /// Gives back so many helpers.
    fn release(&self, count: usize) {
        self.0.free.fetch_add(count, Ordering::Release);
    }

    /// Calls `lead` on this thread as the leader of a team of at most `most` members, itself included. `work` is what
    /// the parts of the team's regions run: told the region's tag and the part.
    pub(crate) fn team<R>(
        &self,
        most: usize,
        work: &(dyn Fn(usize, usize) + Sync),
        lead: impl FnOnce(&mut Team) -> R,
    ) -> R {
        let most = most.min(self.count()).saturating_sub(1);
        let pool = if most > 0 { self.pool() } else { None };
        let helpers = if pool.is_some() { self.claim(most) } else { 0 };
        team::with_team(self, helpers, work, |team| {
            for (index, pool) in (0..helpers).zip(std::iter::repeat(pool).flatten()) {
                let helper = team.helper(index);
                pool.spawn(move || helper.help());
            }
            lead(team)
        })
    }
}
