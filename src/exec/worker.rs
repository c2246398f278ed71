//! A worker's life: search, run, sleep; and the same work done by a caller who waits anyway.

use super::batcher::{Look, Taken};
use super::replicas::LOOK;
use super::runner::BatchRunner;
use super::shared::{Inside, Shared};
use super::wake::Wakes;
use crate::clock::Time;
use crate::sync::{Arc, park, park_timeout};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a worker counts as, so that one that died can be replaced in the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Searching,
    Running,
    Asleep,
}

/// The thread of worker `index`, until the executor is closed and its queue is empty.
pub(super) fn work<R: BatchRunner>(shared: &Arc<Shared<R>>, index: usize) {
    let _inside = Inside::enter();
    shared.sleepers.register(index);
    let phase = Cell::new(Phase::Searching);
    // A run's own panic is caught where it happens. What arrives here is a panic of somebody's destructor: the worker is
    // replaced by a fresh one on the same thread.
    while catch_unwind(AssertUnwindSafe(|| life(shared, index, &phase))).is_err() {
        shared.replaced.fetch_add(1, Ordering::Relaxed);
        match phase.replace(Phase::Searching) {
            Phase::Searching => {}
            Phase::Running => shared.sleepers.start_searching(),
            Phase::Asleep => shared.sleepers.get_up(index),
        }
    }
    shared.sleepers.start_running();
    if shared.roster.is_leaving(index) {
        shared.depart(index);
        // The wake that it took may have been meant for work.
        shared.kick();
    } else {
        shared.sleepers.wake_all();
    }
    *shared.alive.lock() -= 1;
    shared.exited.notify_all();
}

fn life<R: BatchRunner>(shared: &Shared<R>, index: usize, phase: &Cell<Phase>) {
    let sleepers = &shared.sleepers;
    let (mut taken, mut wakes) = (Taken::default(), Wakes::default());
    // Whether this one is to look again at a time, so that nobody else need.
    let mut keeps_timer = false;
    while !shared.roster.is_leaving(index) || !shared.slots.is_out(index) {
        let mut until = Time::NEVER;
        if let Some(mut slot) = shared.slots.take(index) {
            keeps_timer = false;
            match shared.look(&mut slot, true, &mut taken) {
                Look::Formed => {
                    phase.set(Phase::Running);
                    sleepers.start_running();
                    shared.kick();
                    let index = slot.index();
                    slot.with(|scratches| shared.run_batch(index, false, scratches, &mut taken, &mut wakes));
                    drop(slot);
                    wakes.wake_all();
                    shared.purge();
                    sleepers.start_searching();
                    phase.set(Phase::Searching);
                    continue;
                }
                Look::Again(time) => (until, keeps_timer) = (time, true),
                Look::Empty => {
                    let held = shared.credit.held();
                    if held.closed && held.items == 0 {
                        return;
                    }
                }
            }
        } else if std::mem::take(&mut keeps_timer) {
            shared.pass_timer();
        }
        phase.set(Phase::Asleep);
        sleepers.lie_down(index);
        let can_work = shared.work_is_visible() && shared.slots.any_free();
        if !can_work && !is_over(shared) {
            if shared.roster.is_leaving(index) {
                // A caller still runs a batch in its slot.
                park_timeout(LOOK);
            } else {
                sleep(shared, index, until);
            }
        }
        sleepers.get_up(index);
        phase.set(Phase::Searching);
    }
    if keeps_timer {
        shared.pass_timer();
    }
}

/// Whether the last request has left the queue of a closed executor: then nobody will wake the sleepers again.
fn is_over<R: BatchRunner>(shared: &Shared<R>) -> bool {
    let held = shared.credit.held();
    held.closed && held.items == 0 && shared.slots.any_free()
}

/// Sleeps until woken, or until `until`.
fn sleep<R: BatchRunner>(shared: &Shared<R>, index: usize, until: Time) {
    while !shared.sleepers.is_woken(index) {
        if until == Time::NEVER {
            park();
        } else {
            let left = until.since(shared.clock.now());
            if left.is_zero() {
                return;
            }
            park_timeout(left);
        }
    }
}

/// While it lives, its thread is counted among those that block for an answer.
pub(super) struct Blocked<'a>(&'a AtomicUsize);

impl<'a> Blocked<'a> {
    pub(super) fn on<R: BatchRunner>(shared: &'a Shared<R>) -> Self {
        shared.blocked.fetch_add(1, Ordering::Relaxed);
        Blocked(&shared.blocked)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<R: BatchRunner> Shared<R> {
    /// A worker was to look again at a time and cannot: all slots are taken, or it leaves. Whoever frees a slot must see to it.
    fn pass_timer(&self) {
        let mut batcher = self.batcher.lock();
        batcher.timer = Time::NEVER;
        self.ready.store(batcher.len(), Ordering::SeqCst);
    }

    /// Whether far more callers block than can run. Each of them would run its own request at once and alone, on a core
    /// that the others' batch needs, so they leave it to the workers then.
    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) > 2 * self.slots.opened().count_ones() as usize
    }

    /// Lends the calling thread, which waits anyway: runs one batch if a slot is free and there is one to run.
    pub(super) fn help(&self) -> bool {
        if !self.work_is_visible() {
            return false;
        }
        let Some(mut slot) = self.slots.take(usize::MAX) else { return false };
        let _inside = Inside::enter();
        let (mut taken, mut wakes) = (Taken::default(), Wakes::default());
        let formed = self.look(&mut slot, false, &mut taken) == Look::Formed;
        if formed {
            self.kick();
            // What a worker would die of must not reach the caller, who only waits.
            let index = slot.index();
            let run = || slot.with(|scratches| self.run_batch(index, false, scratches, &mut taken, &mut wakes));
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                self.replaced.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(ran) = taken.ran {
                let most = self.batcher.lock().observe(ran);
                self.admission.set_max_batch_size(most);
            }
        }
        self.leave(slot);
        self.purge();
        formed
    }
}
