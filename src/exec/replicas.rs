//! Replicas come and go while requests run.
//!
//! A replica is a worker thread and a slot with its scratches. One that is drained gives its slot out no more; its thread
//! goes on to serve the slots of others, as any thread may. One that is removed ends its thread as well.

use super::executor::{Executor, Submitting};
use super::generations::Hold;
use super::options::{Refused, SubmitOptions};
use super::runner::BatchRunner;
use super::shared::{Inside, Shared};
use super::sleepers::MAX_WORKERS;
use super::ticket::{GroupTicket, Ticket};
use super::worker::work;
use crate::error::{Error, Result, bail, ensure, err};
use crate::monitor::{ReplicaSnapshot, ReplicaState};
use crate::sync::Arc;
use parking_lot::Mutex;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often somebody who waits for a replica looks at it.
pub(super) const LOOK: Duration = Duration::from_micros(200);

/// Names a replica; never used twice in one executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(u64);

impl ReplicaId {
    /// Its number, as a snapshot has it.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who stands in which slot.
#[derive(Debug)]
struct Places {
    next: u64,
    ids: [Option<u64>; MAX_WORKERS],
}

/// The replicas that there are.
#[derive(Debug)]
pub(super) struct Roster {
    places: Mutex<Places>,
    /// One bit for each slot whose worker is to end. `SeqCst`: set before the sleepers are woken, read after lying down.
    leaving: AtomicU64,
}

impl Roster {
    pub(super) fn new() -> Self {
        let places = Places { next: 0, ids: [None; MAX_WORKERS] };
        Roster { places: Mutex::new(places), leaving: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn is_leaving(&self, slot: usize) -> bool {
        self.leaving.load(Ordering::SeqCst) & (1 << slot) != 0
    }
}

impl Places {
    fn slot_of(&self, replica: ReplicaId) -> Result<usize> {
        let slot = self.ids.iter().position(|id| *id == Some(replica.0));
        slot.ok_or_else(|| err!(InvalidInput, "there is no replica {replica}"))
    }
}

/// Starts the thread of a new replica.
pub(super) fn add_replica<R: BatchRunner>(shared: &Arc<Shared<R>>) -> Result<ReplicaId> {
    let mut places = shared.roster.places.lock();
    ensure!(!shared.credit.held().closed, Cancelled, "the engine is shut down; no replica can be added");
    let Some(slot) = places.ids.iter().position(Option::is_none) else {
        bail!(Limit, "there are {MAX_WORKERS} replicas; remove one before another is added");
    };
    let id = places.next;
    shared.batcher.lock().forecasts.begin(slot, id);
    let stats = shared.stats(slot);
    stats.busy.store(0, Ordering::Relaxed);
    stats.batches.store(0, Ordering::Relaxed);
    *shared.alive.lock() += 1;
    shared.sleepers.start_searching();
    let worker = shared.clone();
    let thread = std::thread::Builder::new().name(format!("onrush-{id}"));
    if let Err(error) = thread.spawn(move || work(&worker, slot)) {
        shared.sleepers.start_running();
        *shared.alive.lock() -= 1;
        return Err(Error::from(error).at(format!("starting replica {id}")));
    }
    places.next += 1;
    places.ids[slot] = Some(id);
    shared.slots.open(slot);
    shared.replicas_changed();
    shared.kick();
    Ok(ReplicaId(id))
}

impl<R: BatchRunner> Shared<R> {
    fn replicas_changed(&self) {
        self.admission.set_workers(self.slots.opened().count_ones());
    }

    /// Gives the replica's slot out no more.
    pub(super) fn close_replica(&self, replica: ReplicaId) -> Result<usize> {
        // Held to the end: the replica may leave meanwhile, and another one take its place.
        let places = self.roster.places.lock();
        let slot = places.slot_of(replica)?;
        let others = self.slots.opened() & !(1 << slot);
        ensure!(
            others != 0,
            InvalidInput,
            "replica {replica} is the last one that takes batches; add another, or shut the engine down"
        );
        self.slots.close(slot);
        self.replicas_changed();
        Ok(slot)
    }

    /// Gives the slot of a drained replica out again.
    pub(super) fn open_replica(&self, replica: ReplicaId) -> Result<()> {
        // Held to the end: the replica may leave meanwhile, and another one take its place.
        let places = self.roster.places.lock();
        let slot = places.slot_of(replica)?;
        ensure!(!self.roster.is_leaving(slot), InvalidInput, "replica {replica} is being removed");
        self.slots.open(slot);
        self.replicas_changed();
        self.kick();
        Ok(())
    }

    /// The replica with the highest number among those that take batches, or among those that are drained and stay.
    pub(super) fn last_replica(&self, active: bool) -> Option<ReplicaId> {
        let ids = self.roster.places.lock().ids;
        let fits = |slot: usize| self.slots.is_open(slot) == active && !self.roster.is_leaving(slot);
        let ids = ids.iter().enumerate().filter(|(slot, _)| fits(*slot));
        ids.filter_map(|(_, id)| *id).max().map(ReplicaId)
    }

    /// Waits until nothing runs in the slot; false if that takes too long, or is waited for from inside a run.
    fn wait_until_out(&self, slot: usize, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        while !self.slots.is_out(slot) {
            if Inside::is_inside() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// Waits until the replica's thread has left its place; one of an executor that is shut down leaves none.
    fn wait_until_gone(&self, replica: ReplicaId, deadline: Option<Instant>) -> bool {
        while self.roster.places.lock().slot_of(replica).is_ok() && !self.credit.held().closed {
            if Inside::is_inside() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// The worker of `slot` ends: its place is free for another.
    pub(super) fn depart(&self, slot: usize) {
        if let Some(mut emptied) = self.slots.take_closed(slot) {
            emptied.with(|scratches| scratches.clear());
        }
        let mut places = self.roster.places.lock();
        self.roster.leaving.fetch_and(!(1 << slot), Ordering::SeqCst);
        places.ids[slot] = None;
    }

    pub(super) fn replica_snapshots(&self) -> Vec<ReplicaSnapshot> {
        let ids = self.roster.places.lock().ids;
        let mut replicas: Vec<_> = ids.iter().enumerate().filter_map(|(slot, id)| Some((slot, (*id)?))).collect();
        crate::order::sort_by(&mut replicas, |a, b| a.1.cmp(&b.1));
        let snapshot = |(slot, id): (usize, u64)| {
            let stats = self.stats(slot);
            let state = match (self.slots.is_open(slot), self.slots.is_out(slot)) {
                (true, _) => ReplicaState::Active,
                (false, false) => ReplicaState::Draining,
                (false, true) => ReplicaState::Drained,
            };
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let (running, batches, busy_ns) = (read(&stats.running), read(&stats.batches), read(&stats.busy));
            ReplicaSnapshot { id, state, running, batches, busy_ns }
        };
        replicas.into_iter().map(snapshot).collect()
    }
}

impl<R: BatchRunner> Executor<R> {
    /// The replicas, in order of their numbers.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.shared().replica_snapshots().into_iter().map(|replica| ReplicaId(replica.id)).collect()
    }

    /// The replicas, in order of their numbers, as a snapshot has them.
    #[must_use]
    pub fn snapshot_replicas(&self) -> Vec<ReplicaSnapshot> {
        self.shared().replica_snapshots()
    }

    /// Adds a replica; it takes batches at once.
    ///
    /// # Errors
    /// `Limit` if there are 48, `Cancelled` after a shutdown, `Io` if its thread cannot be started.
    pub fn add_replica(&self) -> Result<ReplicaId> {
        add_replica(self.shared())
    }

    /// Lets a replica take no batch any more, and waits until the one that it runs has ended; true when that was within
    /// `timeout`. What waits is left to the other replicas.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such replica, or if no other one takes batches.
    pub fn drain_replica(&self, replica: ReplicaId, timeout: Duration) -> Result<bool> {
        let slot = self.shared().close_replica(replica)?;
        Ok(self.shared().wait_until_out(slot, timeout))
    }

    /// Lets a drained replica take batches again.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such replica, or if it is being removed.
    pub fn resume_replica(&self, replica: ReplicaId) -> Result<()> {
        self.shared().open_replica(replica)
    }

    /// Drains a replica and ends its thread; true when it was gone within `timeout`. If not, it goes when its last batch
    /// ends.
    ///
    /// # Errors
    /// As [`drain_replica`](Self::drain_replica).
    pub fn remove_replica(&self, replica: ReplicaId, timeout: Duration) -> Result<bool> {
        let shared = self.shared();
        let slot = shared.close_replica(replica)?;
        let deadline = Instant::now().checked_add(timeout);
        let drained = shared.wait_until_out(slot, timeout);
        {
            // Not if it left meanwhile and another one stands there now.
            let places = shared.roster.places.lock();
            if places.ids[slot] == Some(replica.0) {
                shared.roster.leaving.fetch_or(1 << slot, Ordering::SeqCst);
            }
        }
        shared.sleepers.wake_all();
        Ok(drained && shared.wait_until_gone(replica, deadline))
    }

    /// What runs the batches of the first model.
    #[must_use]
    pub fn runner(&self) -> Pinned<'_, R> {
        // The first model is never removed.
        match self.pinned(0) {
            Some(pinned) => pinned,
            None => unreachable!("an executor without a model"),
        }
    }

    /// Holds on to what runs the batches of a model, by its number; `None` if there is no such model.
    #[must_use]
    pub fn pinned(&self, model: u32) -> Option<Pinned<'_, R>> {
        self.shared().generations.pin(model).map(Pinned)
    }

    /// As [`try_submit`](Self::try_submit), for the very generation that `pinned` holds.
    ///
    /// # Errors
    /// As [`try_submit`](Self::try_submit).
    pub fn try_submit_to(
        &self,
        pinned: &Pinned<'_, R>,
        request: R::Request,
        options: SubmitOptions,
    ) -> Result<Ticket<R>, Refused<R::Request>> {
        self.attempt(Some(&pinned.0), request, &options)
            .inspect_err(|refused| self.shared().count_refusal(refused.reason()))
    }

    /// As [`submit`](Self::submit), for the very generation that `pinned` holds.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_to(
        &self,
        pinned: &Pinned<'_, R>,
        request: R::Request,
        options: SubmitOptions,
    ) -> Result<Ticket<R>, Refused<R::Request>> {
        self.submit_pinned(Some(&pinned.0), request, options)
    }

    /// As [`call`](Self::call), by the very generation that `pinned` holds.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_to(&self, pinned: &Pinned<'_, R>, request: R::Request, options: SubmitOptions) -> Result<R::Response> {
        self.call_pinned(Some(&pinned.0), request, options)
    }

    /// As [`submit_many`](Self::submit_many), for the very generation that `pinned` holds.
    ///
    /// # Errors
    /// As [`submit_many`](Self::submit_many).
    pub fn submit_many_to(
        &self,
        pinned: &Pinned<'_, R>,
        requests: Vec<R::Request>,
        options: SubmitOptions,
    ) -> Result<GroupTicket<R>, Refused<Vec<R::Request>>> {
        self.submit_many_pinned(Some(&pinned.0), requests, options)
    }

    /// As [`submit_async`](Self::submit_async), for the very generation that `pinned` holds.
    pub fn submit_async_to<'a>(
        &'a self,
        pinned: Pinned<'a, R>,
        request: R::Request,
        options: SubmitOptions,
    ) -> Submitting<'a, R> {
        self.submit_async_pinned(pinned.0, request, options)
    }
}

/// A hold on what runs the batches of a model: a swap does not take it away while this lives.
pub struct Pinned<'a, R>(pub(super) Hold<'a, R>);

impl<R> Clone for Pinned<'_, R> {
    fn clone(&self) -> Self {
        Pinned(self.0.clone())
    }
}

impl<R> Deref for Pinned<'_, R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.0.runner
    }
}

impl<R: fmt::Debug> fmt::Debug for Pinned<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&self.0.runner).finish()
    }
}
