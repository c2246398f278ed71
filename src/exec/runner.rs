//! What the executor knows of the work: a runner that answers batches. It never sees a tensor or a model.

use super::entry::Claimed;
use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::sched::Waiting;

/// What one request brings to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Rows; at least one.
    pub rows: u32,
    /// Payload in bytes, for the queue's bound.
    pub bytes: usize,
    /// Only requests of equal groups may ride in one batch.
    pub group: u64,
    /// Elements of a row along an axis that the runner may pad; 0 where rows are not padded. Unequal widths ride together
    /// only as far as the executor's `max_padding` allows.
    pub width: u32,
}

impl Default for Load {
    fn default() -> Self {
        Load { rows: 1, bytes: 0, group: 0, width: 0 }
    }
}

/// Answers batches of requests.
pub trait BatchRunner: Send + Sync + 'static {
    /// What callers submit.
    type Request: Send + 'static;
    /// What they get.
    type Response: Send + 'static;
    /// What a run may change; one for each batch that can run at the same time. Made when first needed, and made anew
    /// after a panic.
    type Scratch: Send + 'static;

    /// A scratch for one run at a time.
    fn scratch(&self) -> Self::Scratch;

    /// Checks a request and says what it brings. An error refuses it: it never joins a batch.
    fn admit(&self, request: &Self::Request) -> Result<Load> {
        let _ = request;
        Ok(Load::default())
    }

    /// Answers every request of the batch, each by [`Batch::answer`].
    ///
    /// If it returns an error or panics, the requests not answered yet are tried again in two halves, so that only those
    /// that cause it fail. A batch of one fails with the error.
    fn run(&self, scratch: &mut Self::Scratch, batch: &mut Batch<'_, Self::Request, Self::Response>) -> Result<()>;
}

/// A claimed request and its answer.
pub(super) struct Job<Q, S> {
    pub(super) claimed: Claimed<Q, S>,
    pub(super) answer: Option<Result<S>>,
}

pub(super) enum Riders<'a, Q, S> {
    Lone { request: &'a Q, meta: &'a Waiting, answer: &'a mut Option<Result<S>> },
    Many(&'a mut [Job<Q, S>]),
}

/// What a run is told between its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Go on.
    Continue,
    /// Nobody waits for the answers any more: return any error.
    Stop,
}

/// What a batch asks the executor at a checkpoint.
pub(super) trait Interrupts: Sync {
    /// Whether there is something to look at: one relaxed load.
    fn pending(&self) -> bool;
    /// Sees to it: more urgent requests may run meanwhile, on this thread.
    fn attend(&self);
}

/// The requests that run together, and a place for the answer of each.
pub struct Batch<'a, Q, S> {
    riders: Riders<'a, Q, S>,
    clock: &'a dyn Clock,
    interrupts: &'a dyn Interrupts,
    /// What the groups of its generation were marked with.
    salt: u64,
    /// After this no answer is of use.
    last_deadline: Time,
    pub(super) stacked: Option<Time>,
    pub(super) computed: Option<Time>,
}

impl<'a, Q, S> Batch<'a, Q, S> {
    pub(super) fn new(
        riders: Riders<'a, Q, S>,
        clock: &'a dyn Clock,
        interrupts: &'a dyn Interrupts,
        salt: u64,
    ) -> Self {
        let last_deadline = match &riders {
            Riders::Lone { meta, .. } => meta.deadline,
            Riders::Many(jobs) => jobs.iter().map(|job| job.claimed.meta().deadline).max().unwrap_or(Time::NEVER),
        };
        Batch { riders, clock, interrupts, salt, last_deadline, stacked: None, computed: None }
    }

    /// To be called between the steps of a run, at no more than a few nanoseconds: lets more urgent requests run first,
    /// and says whether to go on.
    #[inline]
    pub fn checkpoint(&self) -> Flow {
        if !self.interrupts.pending() && self.last_deadline == Time::NEVER {
            return Flow::Continue;
        }
        self.look_up()
    }

    #[cold]
    fn look_up(&self) -> Flow {
        if self.interrupts.pending() {
            self.interrupts.attend();
            if let Riders::Many(jobs) = &self.riders
                && jobs.iter().all(|job| job.claimed.is_cancelled())
            {
                return Flow::Stop;
            }
        }
        let late = self.last_deadline != Time::NEVER && self.clock.now() >= self.last_deadline;
        if late { Flow::Stop } else { Flow::Continue }
    }

    /// How many requests ride; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        match &self.riders {
            Riders::Lone { .. } => 1,
            Riders::Many(jobs) => jobs.len(),
        }
    }

    /// The request at `at`, counted from zero in the order in which they ride.
    ///
    /// # Panics
    /// If `at` is not less than [`len`](Self::len).
    #[must_use]
    pub fn request(&self, at: usize) -> &Q {
        match &self.riders {
            Riders::Lone { request, .. } => {
                assert!(at == 0, "request {at} of a batch of one");
                request
            }
            Riders::Many(jobs) => jobs[at].claimed.request(),
        }
    }

    /// All requests, in the order in which they ride.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = &Q> {
        (0..self.len()).map(|at| self.request(at))
    }

    fn meta(&self, at: usize) -> &Waiting {
        match &self.riders {
            Riders::Lone { meta, .. } => meta,
            Riders::Many(jobs) => jobs[at].claimed.meta(),
        }
    }

    /// The group that all of them are of.
    #[must_use]
    pub fn group(&self) -> u64 {
        self.meta(0).group.wrapping_sub(self.salt)
    }

    /// Rows of all of them together.
    #[must_use]
    pub fn rows(&self) -> u32 {
        (0..self.len()).fold(0, |rows, at| rows.saturating_add(self.meta(at).rows))
    }

    /// Answers the request at `at`; a second answer replaces the first.
    ///
    /// # Panics
    /// If `at` is not less than [`len`](Self::len).
    pub fn answer(&mut self, at: usize, answer: Result<S, Error>) {
        match &mut self.riders {
            Riders::Lone { answer: place, .. } => {
                assert!(at == 0, "answer {at} of a batch of one");
                **place = Some(answer);
            }
            Riders::Many(jobs) => jobs[at].answer = Some(answer),
        }
    }

    /// Marks that the inputs are stacked and the computation starts, for the timing. Optional.
    pub fn mark_stacked(&mut self) {
        self.stacked = Some(self.clock.now());
    }

    /// Marks that the computation is over and the outputs are being split, for the timing. Optional.
    pub fn mark_computed(&mut self) {
        self.computed = Some(self.clock.now());
    }
}
