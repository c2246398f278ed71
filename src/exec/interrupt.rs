//! Interruption of a running batch: it ends early when nobody waits for it, and yields to what is more urgent: of a lower class,
//! or where the shortest job goes first, of a lower order of length.
//!
//! A run asks at its checkpoints, by one relaxed load of its slot's signal. To yield is to run the urgent batch in the
//! middle of the other one, on the same thread and with a spare scratch: what was running is parked on the stack, with
//! its own scratch untouched, and goes on when the call returns. No run is interrupted inside an interruption.

use super::batcher::Taken;
use super::runner::{BatchRunner, Interrupts};
use super::scratches::Scratches;
use super::shared::Shared;
use super::wake::Wakes;
use crate::clock::{Time, nanos};
use crate::sched::{Costs, Waiting};
use crate::sync::Padded;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

/// No batch runs in the slot, or one that nothing may interrupt.
const NOTHING: u8 = 0;

/// When a batch yields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Preemption {
    /// The rest of the running batch must take this many times as long as the urgent one.
    pub(super) gain: f64,
    /// How often one batch may be interrupted.
    pub(super) most: u32,
}

/// One slot's part. `signal` says that there is something to look at; `urgency` is that of what runs in it, less where the
/// number is higher. `Relaxed`: a signal that is seen late is seen at the next checkpoint, and what it points to is read under locks.
#[derive(Debug, Default)]
struct Station {
    signal: AtomicU8,
    urgency: AtomicU8,
}

/// What all slots share.
#[derive(Debug)]
pub(super) struct Interruption<T> {
    preemption: Option<Preemption>,
    stations: Box<[Padded<Station>]>,
    spares: Mutex<Vec<Scratches<T>>>,
}

/// What runs in a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) urgency: u8,
    pub(super) group: u64,
    pub(super) rows: u32,
    pub(super) started: Time,
}

impl<T> Interruption<T> {
    pub(super) fn new(preemption: Option<Preemption>, slots: usize) -> Self {
        let stations = (0..slots).map(|_| Padded::default()).collect();
        Interruption { preemption, stations, spares: Mutex::new(Vec::new()) }
    }

    /// Throws away the spare scratches of generations that are gone.
    pub(super) fn purge(&self, reaped: u64, alive: impl Fn() -> Vec<u64>) {
        self.spares.lock().iter_mut().for_each(|spare| spare.purge(reaped, &alive));
    }

    /// Makes the run in `slot` look up.
    pub(super) fn signal(&self, slot: usize) {
        if let Some(station) = self.stations.get(slot) {
            station.signal.store(1, Ordering::Relaxed);
        }
    }

    /// A request of this urgency waits and no slot is free: makes those runs look up that are the least urgent, and less urgent
    /// than this, of those that were not told so already. The first that comes to a checkpoint takes it, so that a long step, or
    /// a thread that the system holds up, delays it in no more than one of them.
    fn demand(&self, urgency: u8) {
        // Against the one in `interruptible`: either this sees what runs, or what begins to run sees the request that waits.
        fence(Ordering::SeqCst);
        let told = |station: &Station| station.signal.load(Ordering::Relaxed) != 0;
        let of = |station: &Station| station.urgency.load(Ordering::Relaxed);
        let untold = || self.stations.iter().filter(|station| of(station) > urgency && !told(station));
        let Some(least_urgent) = untold().map(|station| of(station)).max() else { return };
        let stations = untold().filter(|station| of(station) == least_urgent);
        stations.for_each(|station| station.signal.store(1, Ordering::Relaxed));
    }
}

/// The checkpoints of one run.
struct Attendant<'a, R: BatchRunner> {
    shared: &'a Shared<R>,
    slot: usize,
    running: Running,
    nested: bool,
    yields: AtomicU32,
    /// Nanoseconds in which the run was parked.
    parked: AtomicU64,
    /// Before this time, in nanoseconds, what waits gains too little; zero if nothing waits for that.
    not_before: AtomicU64,
}

impl<R: BatchRunner> Interrupts for Attendant<'_, R> {
    #[inline]
    fn pending(&self) -> bool {
        self.shared.interruption.stations[self.slot].signal.load(Ordering::Relaxed) != 0
    }

    fn attend(&self) {
        let not_before = self.not_before.load(Ordering::Relaxed);
        if not_before > 0 && self.shared.clock.now().as_nanos() < not_before {
            return;
        }
        self.shared.interruption.stations[self.slot].signal.store(0, Ordering::Relaxed);
        let Some(preemption) = self.shared.interruption.preemption else { return };
        self.not_before.store(0, Ordering::Relaxed);
        while !self.nested && self.yields.load(Ordering::Relaxed) < preemption.most && self.yield_once(preemption) {
            self.yields.fetch_add(1, Ordering::Relaxed);
        }
        if self.not_before.load(Ordering::Relaxed) > 0 {
            self.shared.interruption.signal(self.slot);
        } else if !self.nested && self.yields.load(Ordering::Relaxed) >= preemption.most {
            // It must not be named any more in place of others that may still be interrupted.
            self.shared.interruption.stations[self.slot].urgency.store(NOTHING, Ordering::Relaxed);
            self.shared.demand_left();
        }
    }
}

impl<R: BatchRunner> Attendant<'_, R> {
    /// Whether the urgent request gains enough by not waiting for the rest of this batch. If it does not, it will as soon as
    /// the batch takes so much longer than foretold: one that has overrun by some time is taken to need as much again.
    fn is_worth_it(&self, preemption: Preemption, now: Time, urgent: &Waiting) -> bool {
        let costs = &self.shared.admission.costs;
        let Some(all) = costs.predict(self.running.group, self.running.rows).map(nanos) else { return true };
        let ran = nanos(now.since(self.running.started)).saturating_sub(self.parked.load(Ordering::Relaxed));
        let own = costs.predict(urgent.group, urgent.rows).map_or(0, nanos);
        let least = (preemption.gain * own as f64) as u64;
        let gains = all.abs_diff(ran) >= least;
        if !gains {
            let until = all.saturating_add(least).saturating_sub(ran);
            self.not_before.store(now.after(Duration::from_nanos(until)).as_nanos(), Ordering::Relaxed);
        }
        gains
    }

    fn yield_once(&self, preemption: Preemption) -> bool {
        let shared = self.shared;
        if !shared.admission.waits_before(self.running.urgency) {
            return false;
        }
        let (mut taken, mut wakes) = (Taken::default(), Wakes::default());
        let began = shared.clock.now();
        let formed = {
            let mut batcher = shared.batcher.lock();
            let now = shared.clock.now();
            batcher.drain(&shared.lanes);
            // What was given up must not be taken for what is urgent.
            shared.tidy(&mut batcher, now, &mut taken);
            let worth = |urgent: &Waiting| self.is_worth_it(preemption, now, urgent);
            let urgent = |request: &Waiting| shared.admission.urgency(request) < self.running.urgency;
            let formed = batcher.look_urgent(now, &shared.admission.costs, self.slot, urgent, worth, &mut taken);
            shared.admission.pace.observe_overtaking(taken.jobs.iter().map(|job| job.claimed.meta()));
            shared.ready.store(batcher.len(), Ordering::SeqCst);
            formed
        };
        shared.admission.lost(taken.expired());
        shared.settle(self.slot, &mut taken);
        shared.kick();
        if formed {
            let mut spare = shared.interruption.spares.lock().pop().unwrap_or_default();
            shared.run_batch(self.slot, true, &mut spare, &mut taken, &mut wakes);
            shared.interruption.spares.lock().push(spare);
        }
        self.parked.fetch_add(nanos(shared.clock.now().since(began)), Ordering::Relaxed);
        formed
    }
}

impl<R: BatchRunner> Shared<R> {
    /// A request stands in a lane: interrupts a less urgent batch, if it must and may.
    #[inline]
    pub(super) fn demand(&self, meta: &Waiting) {
        if self.interruption.preemption.is_some() && !self.slots.any_free() {
            self.interruption.demand(self.admission.urgency(meta));
        }
    }

    /// A batch was formed: what it left waiting may be more urgent than what runs elsewhere.
    pub(super) fn demand_left(&self) {
        if self.interruption.preemption.is_some()
            && let Some(urgency) = self.admission.most_urgent()
            && !self.slots.any_free()
        {
            self.interruption.demand(urgency);
        }
    }

    /// Runs something whose checkpoints may be attended to; and for how long it was parked meanwhile.
    pub(super) fn interruptible<T>(
        &self,
        slot: usize,
        nested: bool,
        running: Running,
        run: impl FnOnce(&dyn Interrupts) -> T,
    ) -> (T, Duration) {
        let station = &self.interruption.stations[slot];
        let before = station.urgency.swap(if nested { NOTHING } else { running.urgency }, Ordering::SeqCst);
        if self.interruption.preemption.is_some() {
            fence(Ordering::SeqCst);
        }
        // What came after the batch was formed, and before it could be seen here, told nobody, or this slot in vain.
        if nested {
            self.demand_left();
        } else if self.interruption.preemption.is_some() && self.admission.waits_before(running.urgency) {
            self.interruption.signal(slot);
        }
        let (yields, parked, not_before) = Default::default();
        let attendant = Attendant { shared: self, slot, running, nested, yields, parked, not_before };
        let result = run(&attendant);
        station.urgency.store(before, Ordering::Relaxed);
        (result, Duration::from_nanos(attendant.parked.into_inner()))
    }
}
