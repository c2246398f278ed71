//! Which replica takes the next batch: pure balancers that are told what each replica has to do and name one.
//!
//! A balancer reads no clock, takes no lock and owns no replica. What a replica is, and how a batch reaches it, is left
//! to `exec`; which requests make the batch was decided before, by a policy of `sched`.

mod least_loaded;
mod locality;
mod round_robin;
pub mod sim;
mod two_choices;

#[cfg(test)]
mod tests;

pub use least_loaded::LeastLoaded;
pub use locality::Locality;
pub use round_robin::RoundRobin;
pub use two_choices::TwoChoices;

use std::time::Duration;

/// What a balancer knows of a replica that may take the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// The replica's number, which it keeps while others come and go.
    pub id: u64,
    /// Predicted time until it has done what it has; zero for one that is free.
    pub work: Duration,
    /// Requests that it has: those that run and, where replicas have queues, those that wait there.
    pub requests: u32,
    /// Whether it holds the plan of the batch's group warm.
    pub warm: bool,
}

impl Load {
    /// A replica with nothing to do, which knows nothing of the group.
    #[must_use]
    pub fn idle(id: u64) -> Self {
        Load { id, work: Duration::ZERO, requests: 0, warm: false }
    }

    /// What decides between replicas: predicted work, then requests.
    fn weight(&self) -> (Duration, u32) {
        (self.work, self.requests)
    }
}

/// Names the replica for each batch.
///
/// `choose` must be a function of what it is told and of the balancer's own state.
pub trait Balancer: Send + 'static {
    /// The balancer's name, for reports.
    fn name(&self) -> &str;

    /// The position in `replicas` (never empty, in order of their numbers) that takes a batch of `group`.
    ///
    /// A position past the end is taken round. Naming one that still has work asks the batch to wait for it.
    fn choose(&mut self, group: u64, replicas: &[Load]) -> usize;
}

impl Balancer for Box<dyn Balancer> {
    fn name(&self) -> &str {
        self.as_ref().name()
    }

    fn choose(&mut self, group: u64, replicas: &[Load]) -> usize {
        self.as_mut().choose(group, replicas)
    }
}

/// The position with the least work, the first among equals.
fn lightest(replicas: &[Load]) -> usize {
    let least = replicas.iter().enumerate().min_by_key(|(_, load)| load.weight());
    least.map_or(0, |(at, _)| at)
}
