//! When and what to batch: pure policies that are told the time and the queue and return a decision.
//!
//! A policy reads no clock, takes no lock and owns no request: it sees [`Waiting`] records in order of arrival and names
//! those that make the next batch, those to give up, or the time to look again. So a test is deterministic, and a
//! simulator can drive the same policy through millions of requests. Moving the requests is left to `exec`.

mod cap;
mod deadline;
mod fair;
mod fcfs;
mod form;
mod levels;
mod priority;
mod shares;
mod shortest;
pub mod sim;
mod worth;

#[cfg(test)]
mod tests;

pub use cap::AdaptiveCap;
pub use deadline::EarliestDeadline;
pub use fair::FairShare;
pub use fcfs::FirstCome;
pub use levels::{Level, Levels, TimeoutAction};
pub use priority::StrictPriority;
pub use shares::Shares;
pub use shortest::ShortestJob;

use crate::clock::Time;
use std::time::Duration;

/// What a policy knows of a waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// When it was submitted. The queue is in this order.
    pub arrived: Time,
    /// When its answer stops being useful; [`Time::NEVER`] if it always is.
    pub deadline: Time,
    /// Only requests of equal groups may ride in one batch (same model, same shapes but for rows and width).
    pub group: u64,
    /// Whose request it is.
    pub tenant: u64,
    /// The position of the model that it is for.
    pub model: u32,
    /// Parts of one request that was divided have the same nonzero number: no two of them ride together.
    pub division: u64,
    /// Payload size in bytes.
    pub bytes: usize,
    /// Rows that it brings to a batch; at least one.
    pub rows: u32,
    /// Elements of a row along the axis that may be padded; 0 where none may. Unequal widths ride together only as far as
    /// [`Limits::max_padding`] allows.
    pub width: u32,
    /// Its class; 0 is the most urgent.
    pub priority: u8,
    /// The logarithm of the time that it was predicted to take when it came; kept where a policy prefers what takes less.
    pub(crate) magnitude: u8,
    /// When its priority's patience ends; kept where a policy bounds it.
    pub(crate) timeout: Time,
    /// Whether it was taken in to see if a cost that would make it late still holds: then it is not given up for that.
    pub(crate) trial: bool,
}

impl Waiting {
    /// One row of group 0, tenant 0, model 0, priority 1, without a deadline, arriving at `arrived`.
    #[must_use]
    pub fn at(arrived: Time) -> Self {
        Waiting {
            arrived,
            deadline: Time::NEVER,
            group: 0,
            tenant: 0,
            model: 0,
            division: 0,
            bytes: 0,
            rows: 1,
            width: 0,
            priority: 1,
            magnitude: u8::MAX,
            timeout: Time::NEVER,
            trial: false,
        }
    }

    /// When it is given up if it still waits.
    pub(crate) fn gives_up(&self) -> Time {
        self.deadline.min(self.timeout)
    }
}

/// What bounds a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most rows in a batch. A single request with more rows runs alone.
    pub max_batch_size: u32,
    /// How long a request may wait for company while its batch is not full. Zero: a free worker takes what is there.
    pub max_queue_delay: Duration,
    /// How many requests that do not fit the batch may be passed over while it is being filled.
    pub look_ahead: usize,
    /// Rows that batches should have where there are enough: a batch is cut to the largest of these that it reaches.
    pub preferred_batch_sizes: Vec<u32>,
    /// Most elements that padding unequal widths may add to a batch.
    pub max_padding: u64,
    /// Whether a batch leaves to each idle replica an equal part of what could ride in it.
    pub spread: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_batch_size: 32,
            max_queue_delay: Duration::ZERO,
            look_ahead: 64,
            preferred_batch_sizes: Vec::new(),
            max_padding: 0,
            spread: false,
        }
    }
}

/// Predicted running times.
pub trait Costs {
    /// How long a batch of `rows` rows of `group` will probably run; `None` while nothing is known.
    fn predict(&self, group: u64, rows: u32) -> Option<Duration>;

    /// A time that it will most probably exceed: what it takes when nothing else wants the processor; by default the same.
    fn floor(&self, group: u64, rows: u32) -> Option<Duration> {
        self.predict(group, rows)
    }

    /// A time that it will most probably not exceed; by default the same.
    fn bound(&self, group: u64, rows: u32) -> Option<Duration> {
        self.predict(group, rows)
    }

    /// How many batches of about so many rows were seen; by default always enough.
    fn times(&self, group: u64, rows: u32) -> u64 {
        let _ = (group, rows);
        u64::MAX
    }
}

/// Knows nothing.
impl Costs for () {
    fn predict(&self, _group: u64, _rows: u32) -> Option<Duration> {
        None
    }
}

/// Everything that a policy may look at.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct View<'a> {
    /// The time now.
    pub now: Time,
    /// The requests that wait, in order of arrival. Never empty.
    pub waiting: &'a [Waiting],
    /// What bounds the batch.
    pub limits: &'a Limits,
    /// Predicted running times.
    pub costs: &'a dyn Costs,
    /// Replicas that are free beside the one that asks.
    pub idle: u32,
    /// Whether the deadlines of those that wait are known to rise in order of arrival, as they do where all ask for an answer
    /// within the same time.
    pub deadlines_rise: bool,
}

impl<'a> View<'a> {
    /// A view of `waiting`, which must be in order of arrival, by a replica with no other one idle.
    #[must_use]
    pub fn new(now: Time, waiting: &'a [Waiting], limits: &'a Limits, costs: &'a dyn Costs) -> Self {
        View { now, waiting, limits, costs, idle: 0, deadlines_rise: false }
    }
}

/// What a policy decides. Reused from one decision to the next, so that a warm one allocates nothing.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Decision {
    /// Positions in [`View::waiting`] that make the next batch, in the order in which they ride.
    pub run: Vec<usize>,
    /// Positions to give up, because their deadline has passed or cannot be met.
    pub drop: Vec<usize>,
    /// When to look again, if nothing changes before; [`Time::NEVER`] waits for the next arrival.
    pub look_again: Time,
}

impl Decision {
    /// Forgets the previous decision.
    pub fn clear(&mut self) {
        self.run.clear();
        self.drop.clear();
        self.look_again = Time::NEVER;
    }
}

/// Decides what runs next.
///
/// `decide` is called when a worker is free and at least one request waits. It must be a function of the view and of the
/// policy's own state; ties break by arrival. If it names nothing to run it must say when to look again.
pub trait Policy: Send + 'static {
    /// The policy's name, for reports.
    fn name(&self) -> &str;

    /// Fills `decision`, which arrives cleared.
    fn decide(&mut self, view: &View<'_>, decision: &mut Decision);

    /// Which of the waiting requests a new one has to wait for; so that a deadline which cannot be met is refused at
    /// submit.
    fn precedence(&self) -> Precedence {
        Precedence::Arrival
    }

    /// How long a request of this priority may wait before the policy gives it up; so that one which would have to wait longer
    /// is refused at submit. By default for ever.
    fn timeout(&self, priority: u8) -> Option<Duration> {
        let _ = priority;
        None
    }
}

/// Which of the waiting requests run before a new one, as far as that can be said without asking the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precedence {
    /// All of them.
    Arrival,
    /// Those of its own class or a more urgent one.
    Class,
    /// Those whose deadline is not later, for as long as theirs has not passed.
    Deadline,
    /// Those that are predicted to take less time.
    Cost,
    /// It cannot be said.
    Unknown,
}

impl Policy for Box<dyn Policy> {
    fn name(&self) -> &str {
        self.as_ref().name()
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        self.as_mut().decide(view, decision);
    }

    fn precedence(&self) -> Precedence {
        self.as_ref().precedence()
    }

    fn timeout(&self, priority: u8) -> Option<Duration> {
        self.as_ref().timeout(priority)
    }
}
