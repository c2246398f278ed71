//! The executor's front: submit in its four forms, call, look, shut down.

use super::builder::Builder;
use super::entry::Timing;
use super::generations::Hold;
use super::options::{Reason, Refused, SubmitOptions};
use super::room::Place;
use super::runner::BatchRunner;
use super::shared::{Inside, Shared};
use super::ticket::{GroupTicket, Ticket};
use super::timekeeper::expect;
use super::trace;
use super::wake::Wake;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::monitor::Snapshot;
use crate::sched::Waiting;
use crate::sync::{Arc, current, park, park_timeout};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What becomes of the requests that wait when an executor is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// They are run.
    Drain,
    /// They fail.
    Abort,
}

/// Takes requests from many callers, stacks them into batches, and runs these on its workers.
///
/// Share it by reference or in an `Arc`. Dropping it drains it, within the builder's `shutdown_timeout`.
pub struct Executor<R: BatchRunner> {
    shared: Arc<Shared<R>>,
    shutdown_timeout: Duration,
}

impl<R: BatchRunner> Executor<R> {
    /// Settings for an executor of `runner`.
    pub fn builder(runner: R) -> Builder<R> {
        Builder::new(runner)
    }

    pub(super) fn new(shared: Arc<Shared<R>>, shutdown_timeout: Duration) -> Self {
        Executor { shared, shutdown_timeout }
    }

    pub(super) fn shared(&self) -> &Arc<Shared<R>> {
        &self.shared
    }

    /// Takes the request in if there is room for it now. Never blocks and takes no lock.
    ///
    /// # Errors
    /// The request itself, with the reason.
    pub fn try_submit(&self, request: R::Request, options: SubmitOptions) -> Result<Ticket<R>, Refused<R::Request>> {
        self.attempt(None, request, &options).inspect_err(|refused| self.shared.count_refusal(refused.reason()))
    }

    /// Takes the request in for the generation that `pin` holds, or else for the model that the options name.
    pub(super) fn attempt(
        &self,
        pin: Option<&Hold<'_, R>>,
        request: R::Request,
        options: &SubmitOptions,
    ) -> Result<Ticket<R>, Refused<R::Request>> {
        let _span = trace::submit();
        let shared = &self.shared;
        let pin = match pin.cloned().map_or_else(|| shared.pin(options.target()), Ok) {
            Ok(pin) => pin,
            Err(reason) => return Err(Refused::new(request, reason)),
        };
        let admitted = shared.admit(&pin, &request, options);
        let room = admitted.and_then(|meta| shared.acquire(std::slice::from_ref(&meta)).map(|()| meta));
        match room {
            Ok(meta) => Ok(self.enqueue(request, meta, pin)),
            Err(reason) => Err(Refused::new(request, reason)),
        }
    }

    fn enqueue(&self, request: R::Request, meta: Waiting, pin: Hold<'_, R>) -> Ticket<R> {
        let entry = self.shared.enqueue(request, meta, pin);
        expect(&self.shared, meta.gives_up());
        self.shared.kick();
        self.shared.demand(&meta);
        Ticket::new(self.shared.clone(), entry)
    }

    /// Takes the request in; blocks while there is no room, and no longer than to the deadline, if it has one.
    ///
    /// # Errors
    /// The request itself, with a reason that is never `Full`.
    pub fn submit(&self, request: R::Request, options: SubmitOptions) -> Result<Ticket<R>, Refused<R::Request>> {
        self.submit_pinned(None, request, options)
    }

    pub(super) fn submit_pinned(
        &self,
        pin: Option<&Hold<'_, R>>,
        request: R::Request,
        options: SubmitOptions,
    ) -> Result<Ticket<R>, Refused<R::Request>> {
        let mut refused = match self.attempt(pin, request, &options) {
            Err(refused) if matches!(refused.reason(), Reason::Full { .. }) => refused,
            other => return other.inspect_err(|refused| self.shared.count_refusal(refused.reason())),
        };
        let options = options.from_now();
        let (room, clock) = (&self.shared.room, &*self.shared.clock);
        let deadline = options.deadline(clock.now(), clock);
        let (place, mut was_woken) = (room.place(self.shared.admission.kind(&options), Time::NEVER), false);
        loop {
            room.join(place, Wake::Thread(current()));
            match self.attempt(pin, refused.into_request(), &options) {
                Err(still) if matches!(still.reason(), Reason::Full { .. }) => {
                    refused = still;
                    if was_woken {
                        room.pass_on(place);
                    }
                }
                other => {
                    room.leave(place);
                    // There may be room for the next one that waits.
                    room.freed(1);
                    return other.inspect_err(|refused| self.shared.count_refusal(refused.reason()));
                }
            }
            while room.is_waiting(place) {
                let left = deadline.since(clock.now());
                if deadline == Time::NEVER {
                    park();
                } else if left.is_zero() {
                    // The next attempt says so.
                    room.leave(place);
                } else {
                    park_timeout(left);
                }
            }
            was_woken = true;
        }
    }

    /// As [`submit`](Self::submit), as a future. Dropping the future takes the request back.
    pub fn submit_async(&self, request: R::Request, options: SubmitOptions) -> Submitting<'_, R> {
        Submitting { executor: self, pin: None, request: Some(request), options, place: None }
    }

    pub(super) fn submit_async_pinned<'a>(
        &'a self,
        pin: Hold<'a, R>,
        request: R::Request,
        options: SubmitOptions,
    ) -> Submitting<'a, R> {
        Submitting { executor: self, pin: Some(pin), request: Some(request), options, place: None }
    }

    /// Takes all requests in, or none, if there is room for all of them now.
    ///
    /// # Errors
    /// All requests, with the reason, by the same rule as for a single one.
    pub fn submit_many(
        &self,
        requests: Vec<R::Request>,
        options: SubmitOptions,
    ) -> Result<GroupTicket<R>, Refused<Vec<R::Request>>> {
        self.submit_many_pinned(None, requests, options)
    }

    pub(super) fn submit_many_pinned(
        &self,
        pin: Option<&Hold<'_, R>>,
        requests: Vec<R::Request>,
        options: SubmitOptions,
    ) -> Result<GroupTicket<R>, Refused<Vec<R::Request>>> {
        let shared = &self.shared;
        let pin = pin.cloned().map_or_else(|| shared.pin(options.target()), Ok);
        let admitted = pin.and_then(|pin| {
            let metas = requests.iter().map(|request| shared.admit(&pin, request, &options));
            Ok((metas.collect::<Result<Vec<Waiting>, Reason>>()?, pin))
        });
        let room = admitted.and_then(|(metas, pin)| shared.acquire(&metas).map(|()| (metas, pin)));
        match room {
            Ok((metas, pin)) => {
                let entries =
                    requests.into_iter().zip(metas).map(|(request, meta)| shared.enqueue(request, meta, pin.clone()));
                let tickets: Vec<_> = entries.map(|entry| Ticket::new(shared.clone(), entry)).collect();
                expect(
                    shared,
                    tickets.iter().map(|ticket: &Ticket<R>| ticket.meta().gives_up()).min().unwrap_or(Time::NEVER),
                );
                shared.kick();
                tickets.iter().for_each(|ticket| shared.demand(ticket.meta()));
                Ok(GroupTicket::new(tickets))
            }
            Err(reason) => {
                shared.count_refusal(&reason);
                Err(Refused::new(requests, reason))
            }
        }
    }

    /// Submits and waits. If nothing waits and a worker's place is free, the request runs on this thread.
    ///
    /// # Errors
    /// Why it was refused (it waits for room), or as [`Ticket::wait`].
    pub fn call(&self, request: R::Request, options: SubmitOptions) -> Result<R::Response> {
        self.call_pinned(None, request, options)
    }

    pub(super) fn call_pinned(
        &self,
        pin: Option<&Hold<'_, R>>,
        request: R::Request,
        options: SubmitOptions,
    ) -> Result<R::Response> {
        match self.call_inline(pin, request, &options) {
            Ok((result, _)) => result,
            Err(request) => self.submit_pinned(pin, request, options).map_err(Error::from)?.wait(),
        }
    }

    /// As [`call`](Self::call), and says where the time went.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_timed(&self, request: R::Request, options: SubmitOptions) -> (Result<R::Response>, Timing) {
        match self.call_inline(None, request, &options) {
            Ok(answer) => answer,
            Err(request) => match self.submit(request, options) {
                Ok(ticket) => ticket.wait_timed(),
                Err(refused) => (Err(refused.into()), Timing::default()),
            },
        }
    }

    fn call_inline(
        &self,
        pin: Option<&Hold<'_, R>>,
        request: R::Request,
        options: &SubmitOptions,
    ) -> std::result::Result<(Result<R::Response>, Timing), R::Request> {
        let shared = &self.shared;
        if !shared.inline
            || shared.delays.load(Ordering::Relaxed)
            || shared.credit.held().items > 0
            || shared.is_crowded()
            || !shared.slots.any_free()
        {
            return Err(request);
        }
        // Before it takes a slot: it does not wait for itself, and whoever admits may panic.
        let pin = pin.cloned().map_or_else(|| shared.pin(options.target()), Ok);
        let admitted = pin.and_then(|pin| Ok((shared.admit(&pin, &request, options)?, pin)));
        let (meta, pin) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                shared.count_refusal(&reason);
                return Ok((Err(reason.into()), Timing::default()));
            }
        };
        let Some(mut slot) = shared.slots.take(usize::MAX) else { return Err(request) };
        // Looked at with the slot in hand, since a shutdown that saw all slots free must not be followed by a run.
        if shared.credit.held().closed {
            shared.leave(slot);
            return Err(request);
        }
        let shard = shared.counters.here();
        shard.accepted.fetch_add(1, Ordering::Relaxed);
        shard.inline.fetch_add(1, Ordering::Relaxed);
        let inside = Inside::enter();
        let answer = shared.run_lone(&mut slot, &pin, &request, &meta);
        shared.leave(slot);
        drop(inside);
        Ok(answer)
    }

    /// What has been counted and measured since the start.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Accepts nothing any more, runs or fails what waits, and waits until all has ended, at most `timeout`.
    ///
    /// After a drain that took too long what still waits is failed. Returns whether everything has ended: false also if
    /// it is called by a worker, which cannot wait for itself. Shutting down twice is allowed.
    pub fn shutdown(&self, how: Shutdown, timeout: Duration) -> bool {
        let shared = &self.shared;
        if how == Shutdown::Abort {
            shared.aborting.store(true, Ordering::SeqCst);
        }
        shared.credit.close();
        shared.sleepers.wake_all();
        shared.room.freed(usize::MAX);
        shared.timekeeper.wake();
        shared.steering.wake();
        if Inside::is_inside() {
            return false;
        }
        let over = self.wait_until_over(timeout);
        if !over {
            shared.aborting.store(true, Ordering::SeqCst);
            shared.sleepers.wake_all();
            shared.abort_waiting();
        }
        over
    }

    fn wait_until_over(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut alive = self.shared.alive.lock();
        while *alive > 0 || !self.shared.slots.none_held() {
            let wait = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if wait.is_zero() {
                return false;
            }
            self.shared.exited.wait_for(&mut alive, wait);
        }
        true
    }
}

impl<R: BatchRunner> Drop for Executor<R> {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Drain, self.shutdown_timeout);
    }
}

impl<R: BatchRunner> fmt::Debug for Executor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("requests", &self.snapshot().requests).finish_non_exhaustive()
    }
}

/// A request on its way in; made by [`Executor::submit_async`].
#[must_use = "a future does nothing until it is polled"]
pub struct Submitting<'a, R: BatchRunner> {
    executor: &'a Executor<R>,
    pin: Option<Hold<'a, R>>,
    request: Option<R::Request>,
    options: SubmitOptions,
    place: Option<Place>,
}

impl<R: BatchRunner> Unpin for Submitting<'_, R> {}

impl<R: BatchRunner> Future for Submitting<'_, R> {
    type Output = Result<Ticket<R>, Refused<R::Request>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let executor = self.executor;
        let full = |end: &Self::Output| matches!(end, Err(refused) if matches!(refused.reason(), Reason::Full { .. }));
        let Some(request) = self.request.take() else { return Poll::Pending };
        let mut end = executor.attempt(self.pin.as_ref(), request, &self.options);
        if full(&end) {
            // A deadline counts from the first attempt.
            self.options = self.options.from_now();
            // Joined anew, with the waker of this poll; then one more look, as room may have come meanwhile.
            let room = &executor.shared.room;
            let was_woken = self.place.is_some_and(|place| !room.leave(place));
            let clock = &*executor.shared.clock;
            let deadline = self.options.deadline(clock.now(), clock);
            let new = || room.place(executor.shared.admission.kind(&self.options), deadline);
            let place = self.place.unwrap_or_else(new);
            self.place = Some(place);
            room.join(place, Wake::Task(context.waker().clone()));
            expect(&executor.shared, deadline);
            end = end.or_else(|refused| executor.attempt(self.pin.as_ref(), refused.into_request(), &self.options));
            if was_woken && full(&end) {
                room.pass_on(place);
            }
        }
        if !full(&end) {
            return Poll::Ready(self.arrived(end));
        }
        self.request = end.err().map(Refused::into_request);
        Poll::Pending
    }
}

impl<R: BatchRunner> Submitting<'_, R> {
    fn arrived(&mut self, end: Result<Ticket<R>, Refused<R::Request>>) -> Result<Ticket<R>, Refused<R::Request>> {
        if let Some(place) = self.place.take() {
            self.executor.shared.room.leave(place);
            self.executor.shared.room.freed(1);
        }
        end.inspect_err(|refused| self.executor.shared.count_refusal(refused.reason()))
    }
}

impl<R: BatchRunner> Drop for Submitting<'_, R> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && !self.executor.shared.room.leave(place)
        {
            // The wake that it will not use belongs to the next one.
            self.executor.shared.room.freed(1);
        }
    }
}

impl<R: BatchRunner> fmt::Debug for Submitting<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitting").field("waits", &self.place.is_some()).finish_non_exhaustive()
    }
}
