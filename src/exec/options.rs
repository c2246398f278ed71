//! What a caller may say about a request, and how a request comes back when it is not taken in.

use crate::clock::{Clock, Time};
use crate::error::{Error, ErrorKind, err};
use std::fmt;
use std::time::{Duration, Instant};

/// When an answer stops being useful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    Within(Duration),
    At(Instant),
}

/// What a caller may say about a request. The default: priority 1, no deadline, tenant 0, the first model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmitOptions {
    priority: u8,
    deadline: Option<Deadline>,
    tenant: u64,
    model: u32,
    division: u64,
}

impl Default for SubmitOptions {
    fn default() -> Self {
        SubmitOptions { priority: 1, deadline: None, tenant: 0, model: 0, division: 0 }
    }
}

impl SubmitOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The request's class; 0 is the most urgent. It matters to policies that look at it.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// The answer is useless later than `duration` after the submit.
    #[must_use]
    pub fn deadline_in(mut self, duration: Duration) -> Self {
        self.deadline = Some(Deadline::Within(duration));
        self
    }

    /// The answer is useless after `instant`.
    #[must_use]
    pub fn deadline_at(mut self, instant: Instant) -> Self {
        self.deadline = Some(Deadline::At(instant));
        self
    }

    /// Whose request it is, for policies that share between tenants.
    #[must_use]
    pub fn tenant(mut self, tenant: u64) -> Self {
        self.tenant = tenant;
        self
    }

    /// Which model it is for, by its number: its position among those that the executor was built with, or what
    /// [`Executor::add_model`](super::Executor::add_model) answered.
    #[must_use]
    pub fn model(mut self, model: u32) -> Self {
        self.model = model;
        self
    }

    /// Requests of equal nonzero numbers are parts of one request that was divided: no two of them ride in one batch, so
    /// that they are run by different replicas.
    #[must_use]
    pub fn division(mut self, division: u64) -> Self {
        self.division = division;
        self
    }

    /// A deadline that counts from the submit counts from now.
    pub(crate) fn from_now(mut self) -> Self {
        if let Some(Deadline::Within(duration)) = self.deadline {
            self.deadline = Instant::now().checked_add(duration).map(Deadline::At);
        }
        self
    }

    pub(super) fn whole(&self) -> u64 {
        self.division
    }

    pub(super) fn target(&self) -> u32 {
        self.model
    }

    pub(super) fn class(&self) -> u8 {
        self.priority
    }

    pub(super) fn owner(&self) -> u64 {
        self.tenant
    }

    pub(super) fn deadline(&self, now: Time, clock: &dyn Clock) -> Time {
        match self.deadline {
            None => Time::NEVER,
            Some(Deadline::Within(duration)) => now.after(duration),
            Some(Deadline::At(instant)) => clock.time_of(instant),
        }
    }
}

/// Why a request was not taken in.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The queue has no room, in items or bytes; or the request would have to wait longer than the queue policy of its priority
    /// lets it.
    Full {
        /// After about this long there should be room.
        retry_after: Duration,
    },
    /// The deadline has passed, or cannot be met by what is known of the running times.
    WouldMissDeadline,
    /// The model has panicked too often in a row, and rests.
    Quarantined {
        /// After about this long it is tried again.
        retry_after: Duration,
    },
    /// The executor is shut down.
    Closed,
    /// The request is wrong, or larger than the whole queue; it would be refused again.
    Invalid(Error),
}

/// A request that was not taken in, with the reason; the request can be had back.
pub struct Refused<Q> {
    request: Q,
    reason: Reason,
}

impl<Q> Refused<Q> {
    pub(crate) fn new(request: Q, reason: Reason) -> Self {
        Refused { request, reason }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The request, to be used again.
    #[must_use]
    pub fn into_request(self) -> Q {
        self.request
    }

    /// Both.
    #[must_use]
    pub fn into_parts(self) -> (Q, Reason) {
        (self.request, self.reason)
    }

    /// The same refusal of something made from the request.
    #[must_use]
    pub fn map<P>(self, change: impl FnOnce(Q) -> P) -> Refused<P> {
        Refused { request: change(self.request), reason: self.reason }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Full { retry_after } => write!(f, "the queue is full; try again in {retry_after:?}"),
            Reason::WouldMissDeadline => f.write_str("the deadline has passed or cannot be met"),
            Reason::Quarantined { retry_after } => {
                write!(f, "the model keeps panicking and rests for {retry_after:?}; reinstate it or swap it")
            }
            Reason::Closed => f.write_str("the engine is shut down"),
            Reason::Invalid(error) => error.fmt(f),
        }
    }
}

impl<Q> fmt::Debug for Refused<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<Q> fmt::Display for Refused<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<Q> std::error::Error for Refused<Q> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Invalid(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        let kind = match reason {
            Reason::Invalid(error) => return error,
            Reason::Full { .. } => ErrorKind::Overloaded,
            Reason::WouldMissDeadline => ErrorKind::Deadline,
            Reason::Quarantined { .. } => ErrorKind::Quarantined,
            Reason::Closed => ErrorKind::Cancelled,
        };
        Error::new(kind, reason.to_string())
    }
}

impl<Q> From<Refused<Q>> for Error {
    fn from(refused: Refused<Q>) -> Self {
        refused.reason.into()
    }
}

pub(super) fn too_large() -> Reason {
    Reason::Invalid(err!(Limit, "the request is larger than the whole queue; raise queue_items or queue_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_gives_the_request_back_and_reads_as_an_error() {
        let refused = Refused::new(5, Reason::Full { retry_after: Duration::from_millis(2) }).map(|n| n + 1);
        assert_eq!(refused.to_string(), "the queue is full; try again in 2ms");
        assert_eq!(refused.into_request(), 6);
        assert_eq!(Error::from(Refused::new((), Reason::Closed)).kind(), ErrorKind::Cancelled);
        assert_eq!(Error::from(too_large()).kind(), ErrorKind::Limit);
    }
}
