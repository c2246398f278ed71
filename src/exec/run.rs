//! Runs a batch in a slot: panics are caught, a batch that fails is split until only the culprits are left, and every
//! request is ended.

use super::batcher::Ran;
use super::entry::{Outcome, Timing, discard};
use super::generations::Generation;
use super::interrupt::Running;
use super::runner::{Batch, BatchRunner, Interrupts, Job, Riders};
use super::scratches::Scratches;
use super::shared::{Shared, SlotOf, TakenOf, unanswered};
use super::trace;
use super::wake::{Wake, Wakes};
use crate::clock::{Time, nanos};
use crate::error::{Error, ErrorKind, Result, err};
use crate::monitor::{Ended, Stats};
use crate::sched::Waiting;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

type JobOf<R> = Job<<R as BatchRunner>::Request, <R as BatchRunner>::Response>;

/// When each stage of a batch ended.
#[derive(Debug, Clone, Copy)]
struct Stages {
    started: Time,
    stacked: Time,
    computed: Time,
    ended: Time,
}

impl Stages {
    fn of<Q, S>(batch: &Batch<'_, Q, S>, started: Time, ended: Time) -> Self {
        Stages { started, stacked: batch.stacked.unwrap_or(started), computed: batch.computed.unwrap_or(ended), ended }
    }

    fn timing(&self, arrived: Time, requests: u32, rows: u32, parked: Duration) -> Timing {
        Timing {
            queued: self.started.since(arrived),
            formed: self.stacked.since(self.started),
            ran: self.computed.since(self.stacked),
            scattered: self.ended.since(self.computed),
            parked,
            batch_requests: requests,
            batch_rows: rows,
        }
    }

    fn record(&self, stats: &Stats, requests: u64, rows: u64) {
        stats.form.record_owned(nanos(self.stacked.since(self.started)), 1);
        stats.run.record_owned(nanos(self.computed.since(self.stacked)), 1);
        stats.scatter.record_owned(nanos(self.ended.since(self.computed)), 1);
        stats.batch_requests.record_owned(requests, 1);
        stats.batch_rows.record_owned(rows, 1);
    }
}

/// Ends what is left when a run unwinds in spite of everything, so that no ticket waits for ever.
struct EndOnUnwind<'a, R: BatchRunner> {
    shared: &'a Shared<R>,
    taken: &'a mut TakenOf<R>,
    slot: usize,
    seat: usize,
    requests: u64,
    /// Requests that have ended and are not counted yet, by how they ended.
    ended: [u64; 4],
}

impl<R: BatchRunner> EndOnUnwind<'_, R> {
    /// Counts those that have ended.
    fn count(&mut self) {
        for how in [Ended::Answered, Ended::Failed, Ended::Expired] {
            self.shared.counters.ended(how, std::mem::take(&mut self.ended[how as usize]));
        }
    }
}

impl<R: BatchRunner> Drop for EndOnUnwind<'_, R> {
    fn drop(&mut self) {
        self.count();
        for Job { claimed, answer } in self.taken.jobs.drain(..) {
            // A second panic would end the process.
            discard(answer);
            let error = err!(Internal, "the worker that ran the request died");
            let outcome = Outcome { result: Err(error), timing: Timing::default() };
            if let Ok(wake) = claimed.finish(outcome) {
                self.shared.counters.ended(Ended::Failed, 1);
                wake.into_iter().for_each(Wake::wake);
            }
        }
        self.shared.stats(self.slot).running.fetch_sub(self.requests, Ordering::Relaxed);
        self.shared.generations.unpin(self.seat, self.requests);
    }
}

impl<R: BatchRunner> Shared<R> {
    /// Runs the batch in `taken` with a scratch of slot `slot` and ends its requests. Those to be woken are added to
    /// `wakes`; they are to be woken when the slot is free again, so that the next batch need not wait for it.
    pub(super) fn run_batch(
        &self,
        slot: usize,
        nested: bool,
        scratches: &mut Scratches<R::Scratch>,
        taken: &mut TakenOf<R>,
        wakes: &mut Wakes,
    ) {
        let requests = taken.jobs.len() as u64;
        let Some(seat) = taken.jobs.first().map(|job| job.claimed.seat()) else { return };
        let mut guard = EndOnUnwind { shared: self, taken, slot, seat, requests, ended: [0; 4] };
        // The requests hold it, so it is there.
        let Some(generation) = self.generations.pin_seat(seat) else { return };
        let jobs = &mut guard.taken.jobs;
        let started = self.clock.now();
        let group = jobs.first().map_or(0, |job| job.claimed.meta().group);
        let rows = jobs.iter().fold(0_u32, |rows, job| rows.saturating_add(job.claimed.meta().rows));
        let leader = jobs.first().map(|job| *job.claimed.meta());
        let urgency = self.admission.urgency_of_run(jobs.iter().map(|job| job.claimed.meta()), group, rows);
        let running = Running { urgency, group, rows, started };
        let mut stages = Stages { started, stacked: started, computed: started, ended: started };
        let mut scratch = scratches.take(generation.serial);
        let span = trace::run(slot, group, rows);
        let ((), parked) = self.interruptible(slot, nested, running, |interrupts| {
            self.run_splitting(&generation, &mut scratch, jobs, &mut stages, interrupts);
        });
        scratches.put(generation.serial, scratch);
        stages.ended = stages.ended.max(self.clock.now());
        drop(span);

        let _span = trace::scatter(slot);
        let stats = self.stats(slot);
        let (mut slowest, mut is_late) = (Duration::ZERO, false);
        // Taken one by one from the end: what a panicking destructor leaves is ended by the guard.
        jobs.reverse();
        while let Some(job) = guard.taken.jobs.pop() {
            let result = job.answer.unwrap_or_else(|| Err(unanswered()));
            let how = how_ended(&result);
            let meta = job.claimed.meta();
            let timing = stages.timing(meta.arrived, requests as u32, rows, parked);
            stats.queue.record_owned(nanos(timing.queued), 1);
            slowest = slowest.max(stages.ended.since(meta.arrived));
            is_late |= meta.deadline < stages.ended;
            if how == Ended::Answered {
                self.admission.answered(meta, stages.ended);
            }
            if let Ok(wake) = job.claimed.finish(Outcome { result, timing }) {
                guard.ended[how as usize] += 1;
                wakes.push(wake);
            }
        }
        let answered = guard.ended[Ended::Answered as usize];
        guard.count();
        stages.record(stats, requests, u64::from(rows));
        let time = stages.ended.since(started).saturating_sub(parked);
        self.count_batch(slot, &generation, rows, time, answered, requests - answered);
        self.admission.pace.observe(nanos(time), requests, u64::from(rows));
        if let Some(leader) = leader {
            self.admission.margin(&leader).observe(is_late);
        }
        if answered == requests {
            self.admission.costs.observe(group, rows, time);
        }
        guard.taken.ran = self.adapts.then_some(Ran { rows, slowest });
        drop(guard);
        drop(generation);
        scratches.purge(self.generations.reaped(), || self.generations.serials());
    }

    fn count_batch(
        &self,
        slot: usize,
        generation: &Generation<R>,
        rows: u32,
        time: Duration,
        answered: u64,
        failed: u64,
    ) {
        let stats = self.stats(slot);
        stats.batches.fetch_add(1, Ordering::Relaxed);
        stats.busy.fetch_add(nanos(time), Ordering::Relaxed);
        generation.served.stats.ran(u64::from(rows), nanos(time), answered, failed);
    }

    /// Runs one request for which no ticket was made.
    pub(super) fn run_lone(
        &self,
        slot: &mut SlotOf<'_, R>,
        generation: &Generation<R>,
        request: &R::Request,
        meta: &Waiting,
    ) -> (Result<R::Response>, Timing) {
        let _span = trace::run(slot.index(), meta.group, meta.rows);
        let stats = self.stats(slot.index());
        stats.running.store(1, Ordering::Relaxed);
        let mut answer = None;
        let urgency = self.admission.urgency_of_run(std::iter::once(meta), meta.group, meta.rows);
        let running = Running { urgency, group: meta.group, rows: meta.rows, started: meta.arrived };
        let ((ran, stages), parked) = self.interruptible(slot.index(), false, running, |interrupts| {
            let riders = Riders::Lone { request, meta, answer: &mut answer };
            let mut batch = Batch::new(riders, &*self.clock, interrupts, generation.salt());
            let ran = slot.with(|scratches| {
                let mut scratch = scratches.take(generation.serial);
                let ran = self.attempt(generation, &mut scratch, &mut batch);
                scratches.put(generation.serial, scratch);
                ran
            });
            (ran, Stages::of(&batch, meta.arrived, self.clock.now()))
        });
        stages.record(stats, 1, u64::from(meta.rows));
        stats.queue.record_owned(0, 1);
        let time = stages.ended.since(stages.started).saturating_sub(parked);
        stats.running.store(0, Ordering::Relaxed);
        let mut result = answer.unwrap_or_else(|| Err(ran.err().unwrap_or_else(unanswered)));
        if result.is_ok() {
            self.admission.costs.observe(meta.group, meta.rows, time);
            self.admission.answered(meta, stages.ended);
        } else if meta.deadline <= stages.ended {
            result = Err(late());
        }
        self.count_panic(generation, result.as_ref().err());
        let answered = u64::from(result.is_ok());
        self.count_batch(slot.index(), generation, meta.rows, time, answered, 1 - answered);
        self.counters.ended(how_ended(&result), 1);
        (result, stages.timing(meta.arrived, 1, meta.rows, parked))
    }

    /// Runs `jobs`; those that are not answered because the run failed are run again in halves.
    fn run_splitting(
        &self,
        generation: &Generation<R>,
        scratch: &mut Option<R::Scratch>,
        jobs: &mut [JobOf<R>],
        stages: &mut Stages,
        interrupts: &dyn Interrupts,
    ) {
        let started = self.clock.now();
        if let Some(rest) = generation.health.rest(started) {
            jobs.iter_mut().for_each(|job| job.answer = Some(Err(quarantined(generation, rest))));
            return;
        }
        let mut batch = Batch::new(Riders::Many(jobs), &*self.clock, interrupts, generation.salt());
        let ran = self.attempt(generation, scratch, &mut batch);
        *stages = Stages { started: stages.started, ..Stages::of(&batch, started, self.clock.now()) };
        let Err(error) = ran else { return };
        // What nobody waits for any more is not tried again.
        let now = self.clock.now();
        for job in jobs.iter_mut().filter(|job| job.answer.is_none()) {
            if job.claimed.is_cancelled() || job.claimed.meta().deadline <= now {
                job.answer = Some(Err(late()));
            }
        }
        // Those that are answered already keep their answer; a stable order keeps the halves fair.
        jobs.sort_by_key(|job| job.answer.is_some());
        let pending = jobs.partition_point(|job| job.answer.is_none());
        match &mut jobs[..pending] {
            [] => {}
            [culprit] => {
                self.count_panic(generation, Some(&error));
                culprit.answer = Some(Err(error));
            }
            several => {
                self.retries.fetch_add(1, Ordering::Relaxed);
                let (left, right) = several.split_at_mut(several.len() / 2);
                self.run_splitting(generation, scratch, left, stages, interrupts);
                self.run_splitting(generation, scratch, right, stages, interrupts);
            }
        }
    }

    /// Counts the panic of a request that ran alone, if it was one.
    fn count_panic(&self, generation: &Generation<R>, error: Option<&Error>) {
        let panicked = error.is_some_and(|error| error.kind() == ErrorKind::Panicked);
        if panicked && generation.health.panicked(self.quarantine, self.clock.now()) {
            trace::quarantined(&generation.served.name);
        }
    }

    /// One run. After a panic the scratch is thrown away: nobody knows what state it is in.
    fn attempt(
        &self,
        generation: &Generation<R>,
        scratch: &mut Option<R::Scratch>,
        batch: &mut Batch<'_, R::Request, R::Response>,
    ) -> Result<()> {
        let runner = &generation.runner;
        let run = || runner.run(scratch.get_or_insert_with(|| runner.scratch()), batch);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => {
                // A runner may have caught the panic of a thread of its own.
                if !matches!(&result, Err(error) if error.kind() == ErrorKind::Panicked) {
                    generation.health.returned();
                }
                result
            }
            Err(panic) => {
                let broken = scratch.take();
                let _ = catch_unwind(AssertUnwindSafe(move || drop(broken)));
                Err(panicked(panic))
            }
        }
    }
}

/// How a request ended that ran.
fn how_ended<T>(result: &Result<T>) -> Ended {
    match result {
        Ok(_) => Ended::Answered,
        Err(error) if error.kind() == ErrorKind::Deadline => Ended::Expired,
        Err(_) => Ended::Failed,
    }
}

fn late() -> Error {
    err!(Deadline, "the deadline passed while the request ran")
}

fn quarantined<R>(generation: &Generation<R>, rest: Duration) -> Error {
    let name = &generation.served.name;
    err!(Quarantined, "model {name:?} keeps panicking and rests for {rest:?}; reinstate it or swap it")
}

fn panicked(panic: Box<dyn Any + Send>) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    // A payload of another type may panic when it is dropped.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(panic)));
    err!(Panicked, "the run panicked: {message}")
}
