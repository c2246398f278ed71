//! What submitters, tickets and workers share, and how a batch is run and its requests end.

use super::admission::Admission;
use super::batcher::{Batcher, Look, Taken};
use super::credit::{Credit, Denied};
use super::entry::{Cancel, Claimed, Entry, Outcome, Timing};
use super::feedback::Steering;
use super::generations::{Generations, Hold};
use super::health::Quarantine;
use super::interrupt::Interruption;
use super::lane::Lane;
use super::models::no_model;
use super::options::{Reason, SubmitOptions, too_large};
use super::replicas::Roster;
use super::room::Room;
use super::runner::BatchRunner;
use super::scratches::Scratches;
use super::sleepers::Sleepers;
use super::slots::{Slot, Slots};
use super::timekeeper::Timekeeper;
use super::trace;
use super::wake::Wake;
use crate::clock::{Clock, Time, nanos};
use crate::error::{Error, err};
use crate::monitor::{Counters, Ended, Snapshot, Stats};
use crate::sched::Waiting;
use crate::sync::{Arc, Padded};
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

thread_local! {
    /// How many executors' runs this thread is inside of: it must not wait for a shutdown then.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, this thread belongs to an executor.
pub(super) struct Inside(());

impl Inside {
    pub(super) fn enter() -> Self {
        INSIDE.with(|inside| inside.set(inside.get() + 1));
        Inside(())
    }

    pub(super) fn is_inside() -> bool {
        INSIDE.with(Cell::get) > 0
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.set(inside.get() - 1));
    }
}

pub(super) type EntryOf<R> = Entry<<R as BatchRunner>::Request, <R as BatchRunner>::Response>;
pub(super) type BatcherOf<R> = Batcher<<R as BatchRunner>::Request, <R as BatchRunner>::Response>;
pub(super) type TakenOf<R> = Taken<<R as BatchRunner>::Request, <R as BatchRunner>::Response>;
pub(super) type ClaimedOf<R> = Claimed<<R as BatchRunner>::Request, <R as BatchRunner>::Response>;

pub(super) type SlotOf<'a, R> = Slot<'a, Scratches<<R as BatchRunner>::Scratch>>;

pub(super) struct Shared<R: BatchRunner> {
    pub(super) generations: Generations<R>,
    pub(super) quarantine: Quarantine,
    pub(super) clock: Box<dyn Clock>,
    /// Whether a caller may run its own request when nothing waits.
    pub(super) inline: bool,
    /// Whether requests wait for company, so that none runs inline. `Relaxed`: a change that is seen late is seen soon.
    pub(super) delays: AtomicBool,
    pub(super) credit: Padded<Credit>,
    pub(super) room: Room,
    pub(super) lanes: Box<[Padded<Lane<EntryOf<R>>>]>,
    pub(super) batcher: Mutex<BatcherOf<R>>,
    /// Requests in the batcher that somebody should look at. `SeqCst`: it is part of "work is visible" (see `sleepers`).
    pub(super) ready: Padded<AtomicUsize>,
    pub(super) slots: Slots<Scratches<R::Scratch>>,
    pub(super) sleepers: Padded<Sleepers>,
    pub(super) counters: Counters,
    pub(super) stats: Box<[OnceLock<Box<Padded<Stats>>>]>,
    /// Cancelled entries that may still stand in lanes or queue.
    pub(super) dead: AtomicUsize,
    /// What waits is to be failed, not run.
    pub(super) aborting: AtomicBool,
    /// Callers that block for an answer.
    pub(super) blocked: Padded<AtomicUsize>,
    pub(super) admission: Admission,
    pub(super) timekeeper: Timekeeper,
    pub(super) interruption: Interruption<R::Scratch>,
    /// Whether the batcher learns from each batch.
    pub(super) adapts: bool,
    pub(super) retries: AtomicU64,
    pub(super) replaced: AtomicU64,
    pub(super) roster: Roster,
    pub(super) steering: Steering,
    /// How many generations had gone when the slots were last purged.
    pub(super) purged: AtomicU64,
    /// Worker threads that live.
    pub(super) alive: Mutex<usize>,
    pub(super) exited: Condvar,
}

impl<R: BatchRunner> Shared<R> {
    /// Holds on to the generation that a request with these options is for.
    #[inline]
    pub(super) fn pin(&self, model: u32) -> Result<Hold<'_, R>, Reason> {
        self.generations.pin(model).ok_or_else(|| Reason::Invalid(no_model(model)))
    }

    /// Checks a request; everything that can be said about it before it takes room.
    #[inline]
    pub(super) fn admit(
        &self,
        pin: &Hold<'_, R>,
        request: &R::Request,
        options: &SubmitOptions,
    ) -> Result<Waiting, Reason> {
        let load = pin.runner.admit(request).map_err(Reason::Invalid)?;
        let now = self.clock.now();
        if let Some(retry_after) = pin.health.rest(now) {
            return Err(Reason::Quarantined { retry_after });
        }
        let deadline = options.deadline(now, &*self.clock);
        if deadline <= now {
            return Err(Reason::WouldMissDeadline);
        }
        let mut meta = Waiting::at(now);
        meta.deadline = deadline;
        (meta.group, meta.model) = (load.group.wrapping_add(pin.salt()), pin.model);
        (meta.rows, meta.bytes, meta.width) = (load.rows.max(1), load.bytes, load.width);
        (meta.tenant, meta.priority, meta.division) = (options.owner(), options.class(), options.whole());
        self.admission.complete(&mut meta);
        if deadline != Time::NEVER {
            let (waiting, busy) = (self.credit.held().items, !self.slots.any_free());
            if !self.admission.accepts(&mut meta, waiting, busy) {
                return Err(Reason::WouldMissDeadline);
            }
        }
        if let Some(retry_after) = self.admission.would_time_out(&meta, self.credit.held().items) {
            return Err(Reason::Full { retry_after });
        }
        Ok(meta)
    }

    /// Takes room in the queue.
    #[inline]
    pub(super) fn acquire(&self, metas: &[Waiting]) -> Result<(), Reason> {
        let full = |meta: Option<&Waiting>| {
            let pace = &self.admission.pace;
            let retry_after = meta.map_or_else(|| pace.retry_after(), |meta| self.admission.retry_after(meta));
            Reason::Full { retry_after }
        };
        let Ok(items) = u32::try_from(metas.len()) else { return Err(too_large()) };
        let bytes = metas.iter().fold(0_u64, |sum, meta| sum.saturating_add(meta.bytes as u64));
        self.credit.acquire(items, bytes).map_err(|denied| match denied {
            Denied::Full => full(None),
            Denied::TooLarge => too_large(),
            Denied::Closed => Reason::Closed,
        })?;
        if let Some(refused) = metas.iter().position(|meta| !self.admission.join(meta)) {
            metas[..refused].iter().for_each(|meta| self.admission.leave(meta));
            self.give_back(items, bytes);
            return Err(full(metas.get(refused)));
        }
        Ok(())
    }

    /// Puts a request for which there is room into a lane.
    #[inline]
    pub(super) fn enqueue(&self, request: R::Request, meta: Waiting, pin: Hold<'_, R>) -> Arc<EntryOf<R>> {
        let entry = Arc::new(Entry::new(request, meta, pin.keep()));
        let shard = self.counters.here();
        shard.accepted.fetch_add(1, Ordering::Relaxed);
        let lane = if self.lanes.len() == 1 { 0 } else { crate::monitor::thread_number() % self.lanes.len() };
        self.lanes[lane].push(entry.clone());
        entry
    }

    pub(super) fn count_refusal(&self, reason: &Reason) {
        trace::refused(reason);
        let shard = self.counters.here();
        let counter = match reason {
            Reason::Full { .. } => &shard.refused_full,
            Reason::WouldMissDeadline => &shard.refused_deadline,
            Reason::Quarantined { .. } => &shard.refused_quarantined,
            Reason::Closed => &shard.refused_closed,
            Reason::Invalid(_) => &shard.refused_invalid,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a look at the queue might find something.
    #[inline]
    pub(super) fn work_is_visible(&self) -> bool {
        self.ready.load(Ordering::SeqCst) > 0 || self.lanes.iter().any(|lane| !lane.is_empty())
    }

    /// There may be work, and perhaps nobody who looks: wakes a worker then.
    #[inline]
    pub(super) fn kick(&self) {
        if self.sleepers.needed() && self.slots.any_free() && self.work_is_visible() {
            self.sleepers.notify();
        }
    }

    /// Frees a slot that is not a worker's own, and sees to what nobody may have looked at meanwhile.
    pub(super) fn leave(&self, slot: SlotOf<'_, R>) {
        drop(slot);
        self.vacated();
    }

    /// Somebody may have found no slot, or may wait for the last one.
    fn vacated(&self) {
        self.kick();
        if self.credit.held().closed {
            self.sleepers.wake_all();
            let _alive = self.alive.lock();
            self.exited.notify_all();
        }
    }

    /// Gives back the room of requests that left the queue.
    pub(super) fn release<'a>(&self, left: impl Iterator<Item = &'a Waiting>) {
        let (items, bytes) = left.fold((0, 0), |(items, bytes), meta| {
            self.admission.leave(meta);
            (items + 1, bytes + meta.bytes as u64)
        });
        self.give_back(items, bytes);
    }

    fn give_back(&self, items: u32, bytes: u64) {
        if items > 0 {
            let held = self.credit.release(items, bytes);
            self.room.freed(items as usize);
            if held.closed && held.items == 0 {
                self.sleepers.wake_all();
            }
        }
    }

    /// One look at the queue by the holder of slot `slot`. What leaves the queue without a run is ended here.
    pub(super) fn look(&self, slot: &mut SlotOf<'_, R>, is_worker: bool, taken: &mut TakenOf<R>) -> Look {
        debug_assert!(taken.jobs.is_empty() && taken.ended.is_empty());
        let _span = trace::form(slot.index());
        let mut batcher = self.batcher.lock();
        if is_worker {
            batcher.timer = Time::NEVER;
        }
        if let Some(ran) = taken.ran.take() {
            self.admission.set_max_batch_size(batcher.observe(ran));
        }
        let now = self.clock.now();
        batcher.drain(&self.lanes);
        if self.aborting.load(Ordering::SeqCst) {
            batcher.abort(taken);
        } else {
            self.tidy(&mut batcher, now, taken);
        }
        if self.credit.held().closed {
            batcher.stop_delaying();
        }
        let look = batcher.look(now, &self.admission.costs, slot, taken);
        if let Some(gap) = batcher.gap(now, look, self.slots.any_free()) {
            self.admission.pace.observe_gap(nanos(gap), taken.jobs.iter().map(|job| job.claimed.meta()));
        }
        self.admission.lost(taken.expired());
        let mut needs_timer = false;
        if let Look::Again(time) = look {
            if is_worker {
                batcher.timer = time;
            } else {
                needs_timer = time < batcher.timer;
            }
        }
        let ready = if needs_timer || look == Look::Formed { batcher.len() } else { 0 };
        self.ready.store(ready, Ordering::SeqCst);
        drop(batcher);
        self.settle(slot.index(), taken);
        if look == Look::Formed {
            self.demand_left();
            trace::formed(slot.index(), taken.jobs.len());
        }
        look
    }

    /// Takes what has expired and removes what was cancelled; the whole queue is looked through only where it must be.
    pub(super) fn tidy(&self, batcher: &mut BatcherOf<R>, now: Time, taken: &mut TakenOf<R>) {
        if self.dead.load(Ordering::Relaxed) > 0 {
            self.dead.store(0, Ordering::Relaxed);
            batcher.sweep(now, taken);
        } else if batcher.has_expired(now) {
            batcher.expire(now, taken);
        }
    }

    /// Counts what left the queue for slot `slot`, gives its room back, and ends what is not to be run.
    pub(super) fn settle(&self, slot: usize, taken: &mut TakenOf<R>) {
        self.stats(slot).running.fetch_add(taken.jobs.len() as u64, Ordering::Relaxed);
        self.end_taken(taken);
    }

    /// Gives back the room of what left the queue, and ends what is not to be run.
    pub(super) fn end_taken(&self, taken: &mut TakenOf<R>) {
        self.release(taken.left());
        if !taken.ended.is_empty() {
            let now = self.clock.now();
            taken.ended.drain(..).for_each(|(claimed, how)| self.end_unrun(claimed, how, now));
        }
    }

    /// Ends a request that was never run.
    pub(super) fn end_unrun(&self, claimed: ClaimedOf<R>, how: Ended, now: Time) {
        let error = match how {
            Ended::Expired if claimed.meta().timeout <= now => {
                err!(Deadline, "the request waited for as long as its priority may")
            }
            Ended::Expired => err!(Deadline, "the deadline passed in the queue"),
            _ => err!(Cancelled, "the engine was shut down before the request ran"),
        };
        let queued = now.since(claimed.meta().arrived);
        let (seat, timing) = (claimed.seat(), Timing { queued, ..Timing::default() });
        self.end(claimed, how, Outcome { result: Err(error), timing });
        self.generations.unpin(seat, 1);
    }

    fn end(&self, claimed: ClaimedOf<R>, how: Ended, outcome: Outcome<R::Response>) {
        if let Ok(wake) = claimed.finish(outcome) {
            self.counters.ended(how, 1);
            wake.into_iter().for_each(Wake::wake);
        }
    }

    /// Gives a request up for its ticket.
    pub(super) fn cancel(&self, entry: &EntryOf<R>) -> Cancel {
        let found = entry.cancel();
        if found == Cancel::TooLate {
            return found;
        }
        self.counters.ended(Ended::Cancelled, 1);
        if found == Cancel::Ran {
            self.interruption.signal(entry.slot());
        } else {
            self.release(std::iter::once(&entry.meta));
            self.generations.unpin(entry.seat(), 1);
            self.bury();
        }
        found
    }

    /// Counts the husk that a request leaves in lane or queue when it ends before its turn, and sweeps if they pile up
    /// while all workers run.
    pub(super) fn bury(&self) {
        let dead = self.dead.fetch_add(1, Ordering::Relaxed) + 1;
        if dead < 64 || dead <= self.credit.held().items as usize {
            return;
        }
        let Some(mut batcher) = self.batcher.try_lock() else { return };
        let mut taken = Taken::default();
        batcher.drain(&self.lanes);
        self.tidy(&mut batcher, self.clock.now(), &mut taken);
        self.ready.store(batcher.len(), Ordering::SeqCst);
        drop(batcher);
        self.admission.lost(taken.expired());
        self.end_taken(&mut taken);
        self.kick();
    }

    /// Fails everything that waits, without a slot: for when the workers do not come to it in time.
    pub(super) fn abort_waiting(&self) {
        let mut taken = Taken::default();
        let mut batcher = self.batcher.lock();
        batcher.drain(&self.lanes);
        batcher.abort(&mut taken);
        drop(batcher);
        self.end_taken(&mut taken);
    }

    /// The histograms of a slot; only its holder writes them.
    #[inline]
    pub(super) fn stats(&self, slot: usize) -> &Stats {
        self.stats[slot].get_or_init(Box::default)
    }

    /// Throws away scratches of generations that are gone, as far as nobody holds their slots.
    #[inline]
    pub(super) fn purge(&self) {
        let reaped = self.generations.reaped();
        if self.purged.load(Ordering::Relaxed) != reaped {
            self.purged.store(reaped, Ordering::Relaxed);
            self.purge_slots(reaped);
        }
    }

    #[cold]
    fn purge_slots(&self, reaped: u64) {
        for slot in 0..self.stats.len() {
            if let Some(mut slot) = self.slots.take_exactly(slot) {
                slot.with(|scratches| scratches.purge(reaped, || self.generations.serials()));
            }
        }
        self.interruption.purge(reaped, || self.generations.serials());
        self.vacated();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let held = self.credit.held();
        let stats = self.stats.iter().filter_map(OnceLock::get);
        let mut snapshot = Snapshot::collect(&self.counters, stats.map(|stats| &stats.0));
        snapshot.requests.waiting += u64::from(held.items);
        snapshot.queued = u64::from(held.items);
        snapshot.queued_bytes = held.bytes;
        snapshot.models = self.model_snapshots();
        snapshot.replicas = self.replica_snapshots();
        snapshot.costs = self.admission.costs.learned();
        snapshot.retries = self.retries.load(Ordering::Relaxed);
        self.steering.show(&mut snapshot);
        snapshot.replaced_workers = self.replaced.load(Ordering::Relaxed);
        snapshot
    }
}

impl<R: BatchRunner> Drop for Shared<R> {
    fn drop(&mut self) {
        // Only husks of cancelled requests can be left: a waiting one keeps its ticket, and the ticket keeps this.
        self.lanes.iter().for_each(|lane| drop(lane.drain()));
    }
}

/// The error of a request that the runner forgot.
pub(super) fn unanswered() -> Error {
    err!(Internal, "the runner left the request without an answer")
}
