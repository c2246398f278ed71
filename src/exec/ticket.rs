//! What a caller holds for an accepted request: a future, or something to wait for; dropping it cancels.

use super::entry::{Cancel, Entry, Outcome, Timing};
use super::runner::BatchRunner;
use super::shared::{EntryOf, Shared};
use super::wake::{Group, Wake};
use super::worker::Blocked;
use crate::clock::Time;
use crate::error::{Result, err};
use crate::monitor::Ended;
use crate::sched::Waiting;
use crate::sync::{Arc, current, park, park_timeout};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The claim to the answer of one accepted request.
///
/// It is a future. A thread can [`wait`](Ticket::wait) for it instead, and then helps to run batches while it waits.
/// Dropping it cancels the request.
#[must_use = "dropping a ticket cancels its request"]
pub struct Ticket<R: BatchRunner> {
    shared: Arc<Shared<R>>,
    entry: Arc<EntryOf<R>>,
    taken: Option<Timing>,
}

impl<R: BatchRunner> Ticket<R> {
    pub(super) fn new(shared: Arc<Shared<R>>, entry: Arc<EntryOf<R>>) -> Self {
        Ticket { shared, entry, taken: None }
    }

    pub(super) fn meta(&self) -> &Waiting {
        &self.entry.meta
    }

    /// Whether the answer is there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.entry.is_done()
    }

    /// Where the time went; `None` until the answer is there.
    #[must_use]
    pub fn timing(&self) -> Option<Timing> {
        self.taken.or_else(|| self.entry.timing())
    }

    /// Gives the request up. False if the answer was there already.
    pub fn cancel(self) -> bool {
        self.shared.cancel(&self.entry) != Cancel::TooLate
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// What the runner said, that the run panicked, that the deadline passed, or that the executor was shut down.
    pub fn wait(mut self) -> Result<R::Response> {
        self.block(Time::NEVER);
        self.finish().result
    }

    /// Waits for the answer and says where the time went.
    ///
    /// # Errors
    /// As [`wait`](Ticket::wait).
    pub fn wait_timed(mut self) -> (Result<R::Response>, Timing) {
        self.block(Time::NEVER);
        let Outcome { result, timing } = self.finish();
        (result, timing)
    }

    /// Waits for the answer, at most `timeout`; gives the ticket back if it is not there then.
    ///
    /// # Errors
    /// The ticket itself, if the time is over.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<R::Response>, Self> {
        if self.block(self.shared.clock.now().after(timeout)) { Ok(self.finish().result) } else { Err(self) }
    }

    fn finish(&mut self) -> Outcome<R::Response> {
        let outcome = self.entry.take().unwrap_or_else(|| Outcome {
            result: Err(err!(Cancelled, "the answer was taken already")),
            timing: Timing::default(),
        });
        self.taken = Some(outcome.timing);
        outcome
    }

    /// Blocks until the request has ended, or until `until`; whether it has ended.
    fn block(&mut self, until: Time) -> bool {
        if self.entry.is_done() {
            return true;
        }
        let _blocked = Blocked::on(&self.shared);
        let deadline = self.entry.meta.gives_up();
        let wake_up = until.min(deadline);
        let mut listening = false;
        while !self.entry.is_done() {
            let may_help = wake_up == Time::NEVER && !self.shared.is_crowded();
            if may_help && self.entry.is_waiting() && self.shared.help() {
                continue;
            }
            if !listening {
                listening = true;
                if self.entry.listen(Wake::Thread(current())) {
                    return true;
                }
                continue;
            }
            if wake_up == Time::NEVER {
                park();
                continue;
            }
            let now = self.shared.clock.now();
            if now >= deadline {
                self.expire(now);
            }
            if now >= until {
                return self.entry.is_done();
            }
            // After the deadline only a batch that runs already can end it.
            let next = if now >= deadline { until } else { wake_up };
            if next == Time::NEVER {
                park();
            } else {
                park_timeout(next.since(now));
            }
        }
        true
    }

    /// Ends a request that still waits after its deadline, when all workers are busy.
    fn expire(&self, now: Time) {
        if let Some(claimed) = Entry::claim(self.entry.clone()) {
            self.shared.end_unrun(claimed, Ended::Expired, now);
            self.shared.release(std::iter::once(&self.entry.meta));
            self.shared.bury();
        }
    }
}

impl<R: BatchRunner> Future for Ticket<R> {
    type Output = Result<R::Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.entry.is_done() || self.entry.listen(Wake::Task(context.waker().clone())) {
            Poll::Ready(self.finish().result)
        } else {
            Poll::Pending
        }
    }
}

impl<R: BatchRunner> Unpin for Ticket<R> {}

impl<R: BatchRunner> Drop for Ticket<R> {
    fn drop(&mut self) {
        if self.taken.is_none() {
            self.shared.cancel(&self.entry);
        }
    }
}

impl<R: BatchRunner> fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("done", &self.is_done()).finish_non_exhaustive()
    }
}

/// The tickets of requests that were submitted together. It wakes its waiter once, when the last has ended.
#[must_use = "dropping the tickets cancels their requests"]
pub struct GroupTicket<R: BatchRunner> {
    tickets: Vec<Ticket<R>>,
    group: Option<Arc<Group>>,
}

impl<R: BatchRunner> GroupTicket<R> {
    pub(crate) fn new(tickets: Vec<Ticket<R>>) -> Self {
        GroupTicket { tickets, group: None }
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "what was submitted together is not empty")]
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether all answers are there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.tickets.iter().all(Ticket::is_done)
    }

    /// The single tickets, in order of submission.
    pub fn into_tickets(self) -> Vec<Ticket<R>> {
        self.tickets
    }

    /// Waits for all answers, in order of submission.
    ///
    /// # Errors
    /// Each answer has its own, as [`Ticket::wait`].
    #[must_use]
    pub fn wait(mut self) -> Vec<Result<R::Response>> {
        let Some(shared) = self.tickets.first().map(|ticket| ticket.shared.clone()) else { return Vec::new() };
        let _blocked = Blocked::on(&shared);
        // Where many wait, each would run its own group alone, and batches of several groups would never form.
        let may_help = || !shared.is_crowded();
        while may_help() && self.tickets.iter().any(|ticket| ticket.entry.is_waiting()) && shared.help() {}
        while !self.listen(|| Wake::Thread(current())) {
            park();
        }
        self.tickets.drain(..).map(Ticket::wait).collect()
    }

    /// Asks to be woken when all have ended; true if they have.
    fn listen(&mut self, waiter: impl Fn() -> Wake) -> bool {
        match &self.group {
            Some(group) => !group.rewait(waiter()),
            None => {
                // One more for ourselves, so that it cannot be over while members still join.
                let group = Arc::new(Group::new(self.tickets.len() + 1, waiter()));
                for ticket in &self.tickets {
                    if ticket.entry.listen(Wake::Group(group.clone())) {
                        group.one_ended();
                    }
                }
                group.one_ended();
                let over = group.all_ended();
                self.group = Some(group);
                over
            }
        }
    }
}

impl<R: BatchRunner> Future for GroupTicket<R> {
    type Output = Vec<Result<R::Response>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.listen(|| Wake::Task(context.waker().clone())) {
            Poll::Ready(self.tickets.iter_mut().map(|ticket| ticket.finish().result).collect())
        } else {
            Poll::Pending
        }
    }
}

impl<R: BatchRunner> Unpin for GroupTicket<R> {}

impl<R: BatchRunner> fmt::Debug for GroupTicket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupTicket").field("tickets", &self.tickets.len()).finish_non_exhaustive()
    }
}
