//! Admission: what is known of a request before it takes room, and whether its deadline can still be met.
//!
//! A refusal must be quick and cheap, so it looks only at counters: how much waits before the request, and what such
//! batches are known to cost.

use super::due::{Before, Due};
use super::options::SubmitOptions;
use super::pace::{LATEST_RETRY, Margin, Pace};
use super::room::Kind;
use crate::clock::{Time, nanos};
use crate::monitor::CostModel;
use crate::sched::{Costs, Precedence, Waiting};
use crate::sync::Padded;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Classes that are told apart; all less urgent ones count as the last.
pub(super) const CLASSES: usize = 8;

impl Costs for CostModel {
    fn predict(&self, group: u64, rows: u32) -> Option<Duration> {
        self.mean(group, rows).map(Duration::from_nanos)
    }

    fn floor(&self, group: u64, rows: u32) -> Option<Duration> {
        self.low(group, rows).map(Duration::from_nanos)
    }

    fn bound(&self, group: u64, rows: u32) -> Option<Duration> {
        self.high(group, rows).map(Duration::from_nanos)
    }

    fn times(&self, group: u64, rows: u32) -> u64 {
        self.seen(group, rows)
    }
}

/// What admission knows.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) pace: Pace,
    /// Where deadlines decide who runs first, those that gave more time have a margin of their own; else all share the first.
    margins: [Margin; CLASSES],
    pub(super) costs: CostModel,
    precedence: Precedence,
    /// Whether several models take turns, so that nothing is known of who stands before whom. `Relaxed`, as `workers`.
    shared: AtomicBool,
    /// Batches that can run at the same time.
    workers: AtomicU64,
    max_batch_size: AtomicU32,
    /// Whether deadlines are predicted at all.
    predicts: bool,
    /// Requests that would have been late by their own run alone since one was tried; [`TRIAL`] where the last one that was tried was
    /// in time. `Relaxed`: it bounds nothing but itself.
    doubts: AtomicU32,
    /// Most waiting requests of a class.
    limits: [u32; CLASSES],
    /// Waiting requests of each class; kept only if somebody asks for them.
    waiting: [Padded<AtomicU32>; CLASSES],
    counts: bool,
    /// Waiting requests by their deadlines, where those decide who runs first.
    due: Option<Due>,
    tenants: Option<Tenants>,
    /// How long each priority may wait, in nanoseconds, where the policy bounds any.
    timeouts: Option<Box<[u64]>>,
    /// Waiting requests by the logarithms of their times, where those that take less run first.
    magnitudes: Option<Box<[AtomicU32]>>,
}

/// Of so many requests that by what was learned would be late even if nothing stood before them, one is tried.
const TRIAL: u32 = 16;

/// The last one is for times that nothing is known of.
const MAGNITUDES: usize = 65;

/// What each tenant has in the queue. Tenants are told apart by a hash of [`PLACES`] values: two of them may count together,
/// which makes their room smaller and never larger.
#[derive(Debug)]
struct Tenants {
    items: u64,
    bytes: u64,
    waiting: Box<[Held]>,
}

/// `Relaxed`: they bound nothing but themselves.
#[derive(Debug, Default)]
struct Held {
    items: AtomicU64,
    bytes: AtomicU64,
}

const PLACES: usize = 1024;

impl Tenants {
    fn place(&self, tenant: u64) -> &Held {
        let mixed = tenant.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.waiting[mixed as usize % PLACES]
    }

    fn join(&self, meta: &Waiting) -> bool {
        let held = self.place(meta.tenant);
        if !take_room(&held.items, 1, self.items) {
            return false;
        }
        let joined = take_room(&held.bytes, meta.bytes as u64, self.bytes);
        if !joined {
            held.items.fetch_sub(1, Ordering::Relaxed);
        }
        joined
    }

    fn leave(&self, meta: &Waiting) {
        let held = self.place(meta.tenant);
        held.items.fetch_sub(1, Ordering::Relaxed);
        held.bytes.fetch_sub(meta.bytes as u64, Ordering::Relaxed);
    }
}

/// Takes so much more, unless that would be more than `most`.
fn take_room(held: &AtomicU64, more: u64, most: u64) -> bool {
    let sum = |now: u64| now.checked_add(more).filter(|&sum| sum <= most);
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

/// Takes one place more, unless there are `most`.
fn take_place(waiting: &AtomicU32, most: u32) -> bool {
    let more = |now: u32| (now < most).then_some(now + 1);
    waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

pub(super) fn class(meta: &Waiting) -> usize {
    usize::from(meta.priority).min(CLASSES - 1)
}

impl Admission {
    pub(super) fn new(
        precedence: Precedence,
        workers: usize,
        max_batch_size: u32,
        predicts: bool,
        limits: [u32; CLASSES],
    ) -> Self {
        let counts = precedence == Precedence::Class || limits.iter().any(|&limit| limit < u32::MAX);
        Admission {
            pace: Pace::default(),
            margins: Default::default(),
            costs: CostModel::new(),
            precedence,
            shared: AtomicBool::new(false),
            workers: AtomicU64::new(workers as u64),
            max_batch_size: AtomicU32::new(max_batch_size),
            predicts,
            doubts: AtomicU32::new(0),
            limits,
            waiting: Default::default(),
            counts,
            due: (predicts && precedence == Precedence::Deadline).then(Due::new),
            tenants: None,
            timeouts: None,
            magnitudes: (precedence == Precedence::Cost).then(|| (0..MAGNITUDES).map(|_| AtomicU32::new(0)).collect()),
        }
    }

    /// Bounds the wait of each priority.
    pub(super) fn timeouts(mut self, timeout: impl Fn(u8) -> Option<Duration>) -> Self {
        let bounds: Vec<u64> = (0..=u8::MAX).map(|priority| timeout(priority).map_or(u64::MAX, nanos)).collect();
        self.timeouts = bounds.iter().any(|&bound| bound < u64::MAX).then(|| bounds.into());
        self
    }

    /// What is known of a request only here, from its other properties.
    pub(super) fn complete(&self, meta: &mut Waiting) {
        if self.magnitudes.is_some() {
            meta.magnitude = self.magnitude(meta.group, meta.rows);
        }
        if let Some(&bound) = self.timeouts.as_ref().and_then(|bounds| bounds.get(usize::from(meta.priority))) {
            meta.timeout = meta.arrived.after(Duration::from_nanos(bound));
        }
    }

    fn magnitude(&self, group: u64, rows: u32) -> u8 {
        self.costs.mean(group, rows).map_or(MAGNITUDES as u8 - 1, |nanos| nanos.max(1).ilog2() as u8)
    }

    /// What says whether a request may interrupt a run: its priority, or how long it takes.
    pub(super) fn urgency(&self, meta: &Waiting) -> u8 {
        if self.magnitudes.is_some() { meta.magnitude } else { meta.priority }
    }

    /// The same of a batch.
    pub(super) fn urgency_of_run<'a>(&self, riders: impl Iterator<Item = &'a Waiting>, group: u64, rows: u32) -> u8 {
        match self.magnitudes {
            Some(_) => self.magnitude(group, rows),
            None => riders.map(|meta| meta.priority).min().unwrap_or(0),
        }
    }

    /// Whether more urgent requests than this wait; known only where the policy goes by classes or by costs.
    pub(super) fn waits_before(&self, urgency: u8) -> bool {
        let waits = |waiting: &AtomicU32| waiting.load(Ordering::Relaxed) > 0;
        match &self.magnitudes {
            Some(all) => all.iter().take(urgency.into()).any(waits),
            None => self.waiting.iter().take(urgency.into()).any(|waiting| waits(waiting)),
        }
    }

    /// How urgent the most urgent request is that waits; known as above.
    pub(super) fn most_urgent(&self) -> Option<u8> {
        let waits = |waiting: &AtomicU32| waiting.load(Ordering::Relaxed) > 0;
        let found = match &self.magnitudes {
            Some(all) => all.iter().position(waits),
            None => self.waiting.iter().position(|waiting| waits(waiting)),
        };
        found.and_then(|at| u8::try_from(at).ok())
    }

    fn waiting_alike(&self, meta: &Waiting) -> Option<&AtomicU32> {
        self.magnitudes.as_ref()?.get(usize::from(meta.magnitude).min(MAGNITUDES - 1))
    }

    /// Bounds the room of each tenant, in items and in bytes.
    pub(super) fn tenant_room(mut self, items: Option<u32>, bytes: Option<u64>) -> Self {
        if items.is_some() || bytes.is_some() {
            let waiting = (0..PLACES).map(|_| Held::default()).collect();
            let items = items.map_or(u64::MAX, u64::from);
            self.tenants = Some(Tenants { items, bytes: bytes.unwrap_or(u64::MAX), waiting });
        }
        self
    }

    /// Whether several models take turns from now on.
    pub(super) fn set_shared(&self, shared: bool) {
        self.shared.store(shared, Ordering::Relaxed);
    }

    /// From now on so many batches can run at the same time.
    pub(super) fn set_workers(&self, workers: u32) {
        self.workers.store(workers.into(), Ordering::Relaxed);
    }

    /// From now on batches have at most so many rows.
    pub(super) fn set_max_batch_size(&self, rows: u32) {
        self.max_batch_size.store(rows, Ordering::Relaxed);
    }

    /// What such a request needs room of beside the queue's own.
    pub(super) fn kind(&self, options: &SubmitOptions) -> Kind {
        let by_class = self.timeouts.is_some() || self.limits.iter().any(|&limit| limit < u32::MAX);
        let class = usize::from(options.class()).min(CLASSES - 1);
        let tenant = self.tenants.as_ref().map_or(0, |_| options.owner());
        Kind { class: if by_class { class } else { 0 }, tenant }
    }

    /// Takes a place in the request's class, and one of its tenant's; false if one of them is full.
    #[inline]
    pub(super) fn join(&self, meta: &Waiting) -> bool {
        if self.counts && !take_place(&self.waiting[class(meta)], self.limits[class(meta)]) {
            return false;
        }
        let joined = self.tenants.as_ref().is_none_or(|tenants| tenants.join(meta));
        if !joined {
            self.leave_class(meta);
            return false;
        }
        if let Some(due) = &self.due {
            due.join(meta);
        }
        if let Some(alike) = self.waiting_alike(meta) {
            alike.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    fn leave_class(&self, meta: &Waiting) {
        if self.counts {
            self.waiting[class(meta)].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives the places back.
    #[inline]
    pub(super) fn leave(&self, meta: &Waiting) {
        self.leave_class(meta);
        if let Some(due) = &self.due {
            due.leave(meta);
        }
        if let Some(alike) = self.waiting_alike(meta) {
            alike.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(tenants) = &self.tenants {
            tenants.leave(meta);
        }
    }

    /// Whether the request would probably end after its deadline; `waiting` is how many wait in all.
    pub(super) fn would_miss(&self, meta: &Waiting, waiting: u32, busy: bool) -> bool {
        if !self.predicts || meta.deadline == Time::NEVER {
            return false;
        }
        // Its own batch is as full as what waits can make it: those behind it ride along.
        let most = self.max_batch_size.load(Ordering::Relaxed).max(meta.rows);
        let riders = self.rows_of(waiting).saturating_add(meta.rows.into()).min(most.into());
        let Some(own) = self.costs.high(meta.group, riders as u32) else { return false };
        let running = if busy { self.pace.batch() / 2 } else { 0 };
        let wait = self.margin(meta).widen(self.wait(meta, waiting).saturating_add(running));
        meta.arrived.after(Duration::from_nanos(wait.saturating_add(own))) > meta.deadline
    }

    /// Whether a request with a deadline is taken in, as one that will probably be in time or as one that is tried.
    pub(super) fn accepts(&self, meta: &mut Waiting, waiting: u32, busy: bool) -> bool {
        let misses = self.would_miss(meta, waiting, busy);
        meta.trial = (misses || !self.predicts) && self.is_tried(meta);
        !misses || meta.trial
    }

    /// Whether a request that would be late if nothing stood before it is tried all the same. What was learned while the system was
    /// held up would otherwise never be corrected: where all have deadlines nothing would run any more. As long as those that are
    /// tried are in time, all are.
    fn is_tried(&self, meta: &Waiting) -> bool {
        let own = self.costs.high(meta.group, meta.rows).map_or(Duration::ZERO, Duration::from_nanos);
        if meta.arrived.after(own) <= meta.deadline {
            return false;
        }
        let is_due = self.doubts.fetch_add(1, Ordering::Relaxed) + 1 >= TRIAL;
        if is_due {
            self.doubts.store(0, Ordering::Relaxed);
        }
        is_due
    }

    /// Some request was answered.
    #[inline]
    pub(super) fn answered(&self, meta: &Waiting, ended: Time) {
        if meta.trial && ended <= meta.deadline {
            self.doubts.store(TRIAL, Ordering::Relaxed);
        }
    }

    /// After about this long there should be room for such a request: when a batch has ended, or where room is by class, one of
    /// its class has left the queue.
    pub(super) fn retry_after(&self, meta: &Waiting) -> Duration {
        let class = class(meta);
        let is_full = self.counts && self.waiting[class].load(Ordering::Relaxed) >= self.limits[class];
        let turn = if is_full { self.pace.turn(class) } else { 0 };
        self.pace.retry_after().max(Duration::from_nanos(turn))
    }

    /// By how much the request would probably wait longer than its priority may; `waiting` is how many wait in all. A minute at
    /// most, as a class that had no turn of late may have it soon.
    pub(super) fn would_time_out(&self, meta: &Waiting, waiting: u32) -> Option<Duration> {
        let bound = *self.timeouts.as_ref().filter(|_| self.predicts)?.get(usize::from(meta.priority))?;
        let excess = self.margin(meta).widen(self.wait(meta, waiting)).saturating_sub(bound);
        (excess > 0).then(|| Duration::from_nanos(excess).min(LATEST_RETRY))
    }

    /// How long the request waits, in nanoseconds, until those that run before it have left the queue.
    fn wait(&self, meta: &Waiting, waiting: u32) -> u64 {
        let shared = self.shared.load(Ordering::Relaxed);
        let (before, class) = match if shared { Precedence::Unknown } else { self.precedence } {
            Precedence::Arrival => (waiting, 0),
            Precedence::Class => {
                let urgent = self.waiting[..=class(meta)].iter().map(|n| n.load(Ordering::Relaxed)).sum();
                (urgent, class(meta))
            }
            Precedence::Deadline => {
                let Some(due) = &self.due else { return 0 };
                let Before { requests, gone } = due.before(meta);
                return self.time_for(meta.group, requests, 0).min(nanos(gone.since(meta.arrived)));
            }
            Precedence::Cost | Precedence::Unknown => (0, 0),
        };
        self.time_for(meta.group, before, class)
    }

    /// How much longer than foretold such a request is taken to wait.
    pub(super) fn margin(&self, meta: &Waiting) -> &Margin {
        let span = nanos(meta.deadline.since(meta.arrived)).max(1).ilog2() as usize;
        // From half a millisecond on, by factors of four.
        let class = if self.due.is_some() { span.saturating_sub(17) / 2 } else { 0 };
        &self.margins[class.min(CLASSES - 1)]
    }

    /// Requests were accepted in vain.
    pub(super) fn lost<'a>(&self, metas: impl Iterator<Item = &'a Waiting>) {
        let mut last = None;
        for meta in metas {
            let margin = self.margin(meta);
            if last.is_none_or(|last| !std::ptr::eq(last, margin)) {
                margin.raise();
            }
            last = Some(margin);
        }
    }

    fn rows_of(&self, requests: u32) -> u64 {
        self.pace.rows_of(requests)
    }

    /// How long the workers need for the batches that `requests` requests fill while those of more urgent classes than `class`
    /// go on overtaking them, in nanoseconds. Best known from how fast the queue drained of late while work waited; before
    /// that, from the running times of late or of full batches, whichever is less. What does not fill a batch rides with the
    /// request that asks.
    fn time_for(&self, group: u64, requests: u32, class: usize) -> u64 {
        let rows = self.rows_of(requests);
        if let Some(drained) = self.pace.drain(rows, class) {
            return drained;
        }
        let singly = u64::from(requests).saturating_mul(self.pace.request());
        let most = self.max_batch_size.load(Ordering::Relaxed);
        let batches = rows / u64::from(most.max(1));
        let full = self.costs.predict(group, most).map_or(u64::MAX, nanos);
        singly.min(batches.saturating_mul(full)) / self.workers.load(Ordering::Relaxed).max(1)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn admission(precedence: Precedence) -> Admission {
        let admission = Admission::new(precedence, 1, 4, true, [3; CLASSES]);
        admission.costs.observe(0, 4, Duration::from_micros(100));
        admission.pace.observe(100_000, 4, 4);
        admission
    }

    fn request(priority: u8, deadline_us: u64) -> Waiting {
        let deadline = Time::from_nanos(deadline_us * 1000);
        Waiting { priority, deadline, ..Waiting::at(Time::ZERO) }
    }

    #[test]
    fn a_deadline_is_held_against_the_backlog_and_the_own_run() {
        let admission = admission(Precedence::Arrival);
        assert!(admission.would_miss(&request(1, 99), 0, false), "its own run");
        assert!(!admission.would_miss(&request(1, 100), 0, false));
        assert!(admission.would_miss(&request(1, 312), 9, false), "two batches before it and a margin, and its own");
        assert!(!admission.would_miss(&request(1, 313), 9, false));
        assert!(admission.would_miss(&request(1, 120), 0, true), "the batch that runs");
        assert!(!admission.would_miss(&Waiting::at(Time::ZERO), 1000, true), "no deadline");
    }

    #[test]
    fn only_the_more_urgent_stand_before_the_urgent() {
        let admission = admission(Precedence::Class);
        (0..3).for_each(|_| assert!(admission.join(&request(2, 0)) && admission.join(&request(3, 0))));
        assert!(!admission.would_miss(&request(1, 150), 6, false));
        assert!(!admission.would_miss(&request(2, 150), 6, false), "the three before it ride with it");
        assert!(admission.would_miss(&request(3, 150), 6, false));
    }

    #[test]
    fn who_is_due_earlier_stands_before_who_is_due_later() {
        let admission = Admission::new(Precedence::Deadline, 1, 4, true, [u32::MAX; CLASSES]);
        admission.costs.observe(0, 4, Duration::from_micros(100));
        admission.pace.observe(100_000, 4, 4);
        let misses = |deadline_us, waiting| admission.would_miss(&request(1, deadline_us), waiting, false);
        (0..1000).for_each(|_| assert!(admission.join(&request(1, 900_000))));
        assert!(!misses(150, 1000), "a thousand wait, and none of them before it");
        (0..9).for_each(|_| assert!(admission.join(&request(1, 300))));
        assert!(misses(305, 1009), "two batches before it and a margin, and its own");
        assert!(!misses(330, 1009));
        assert!(!misses(150, 1009), "it is due before them");
        // More than can be met before they are due: those that are left are given up, and then it runs.
        (0..400).for_each(|_| assert!(admission.join(&request(1, 1500))));
        assert!(misses(1600, 1409) && !misses(2000, 1409));
        assert!(!misses(800_000, 1409), "what is due late does not wait for what is gone by then");
        (0..8000).for_each(|_| assert!(admission.join(&request(1, 790_000))));
        assert!(!misses(800_000, 9409), "they take 235 ms");
        (0..30_000).for_each(|_| assert!(admission.join(&request(1, 790_000))));
        assert!(misses(800_000, 39_409), "these are not gone before it is due itself");
    }

    #[test]
    fn those_that_are_lost_widen_the_margin_of_their_like() {
        let admission = Admission::new(Precedence::Deadline, 1, 4, true, [u32::MAX; CLASSES]);
        let [near, far] = [request(1, 1000), request(1, 900_000)];
        let widened = |meta| admission.margin(meta).widen(16_000);
        (0..100).for_each(|_| admission.lost([far, far].iter()));
        assert_eq!((widened(&near), widened(&far)), (17_000, 32_000));
    }

    #[test]
    fn a_class_has_its_own_room() {
        let admission = admission(Precedence::Arrival);
        (0..3).for_each(|_| assert!(admission.join(&request(9, 0))));
        assert!(!admission.join(&request(7, 0)) && admission.join(&request(1, 0)));
        admission.leave(&request(8, 0));
        assert!(admission.join(&request(7, 0)));
    }

    #[test]
    fn its_own_batch_is_as_full_as_what_waits_makes_it() {
        let admission = admission(Precedence::Unknown);
        admission.costs.observe(0, 1, Duration::from_micros(20));
        assert!(!admission.would_miss(&request(1, 20), 0, false), "alone");
        assert!(admission.would_miss(&request(1, 99), 3, false), "in a full batch");
        assert!(!admission.would_miss(&request(1, 100), 3, false));
    }

    #[test]
    fn gaps_between_batches_are_believed_before_running_times() {
        let admission = admission(Precedence::Arrival);
        // Batches run for 100 us, and leave the queue only every 160: something else has the processor.
        (0..200).for_each(|_| admission.pace.observe_gap(160_000, [request(1, 0); 4].iter()));
        assert!(admission.would_miss(&request(1, 439), 9, false));
        assert!(!admission.would_miss(&request(1, 441), 9, false));
    }

    #[test]
    fn the_less_urgent_wait_longer_while_the_urgent_overtake() {
        let admission = Admission::new(Precedence::Class, 1, 4, true, [u32::MAX; CLASSES]);
        admission.costs.observe(0, 4, Duration::from_micros(100));
        admission.pace.observe(100_000, 4, 4);
        // Of each four rows that leave in 100 us three are urgent.
        let batch = [request(0, 0), request(0, 0), request(0, 0), request(2, 0)];
        (0..200).for_each(|_| admission.pace.observe_gap(100_000, batch.iter()));
        (0..8).for_each(|_| assert!(admission.join(&request(2, 0))));
        assert!(admission.would_miss(&request(2, 920), 8, false), "eight rows, one in each 100 us");
        assert!(!admission.would_miss(&request(2, 960), 8, false));
        assert!(!admission.would_miss(&request(0, 100), 8, false), "nobody stands before the urgent one");
    }

    #[test]
    fn a_class_that_would_time_out_in_the_queue_is_refused_and_told_when_to_come_back() {
        let timeout = |priority| (priority == 2).then_some(Duration::from_micros(250));
        let admission = admission(Precedence::Arrival).timeouts(timeout);
        (0..200).for_each(|_| admission.pace.observe_gap(100_000, [request(1, 0); 4].iter()));
        assert_eq!(admission.would_time_out(&request(2, 0), 8), None, "two batches and the margin: 213 us");
        let excess = admission.would_time_out(&request(2, 0), 12).map(|excess| excess.as_micros());
        assert!(excess.is_some_and(|micros| (65..72).contains(&micros)), "three: 319 us, and not {excess:?}");
        assert_eq!(admission.would_time_out(&request(1, 0), 1000), None, "no bound");
        assert_eq!(admission.would_time_out(&request(2, 0), 1 << 30), Some(LATEST_RETRY));
    }

    #[test]
    fn a_class_without_room_is_told_when_one_of_it_leaves() {
        let admission = admission(Precedence::Class);
        // In each 100 us one of class 2 leaves beside three urgent ones.
        let batch = [request(0, 0), request(0, 0), request(0, 0), request(2, 0)];
        (0..200).for_each(|_| admission.pace.observe_gap(100_000, batch.iter()));
        assert_eq!(admission.retry_after(&request(2, 0)), Duration::from_micros(100), "room by class is left: a batch");
        (0..3).for_each(|_| assert!(admission.join(&request(2, 0)) && admission.join(&request(5, 0))));
        let after = |priority| admission.retry_after(&request(priority, 0)).as_micros();
        assert!((99..=101).contains(&after(2)), "{}", after(2));
        assert!(after(5) > 100_000, "none of its class has left of late: {}", after(5));
    }

    #[test]
    fn a_tenant_has_its_own_room() {
        let admission = admission(Precedence::Arrival).tenant_room(Some(2), Some(100));
        let of = |tenant, priority| Waiting { tenant, ..request(priority, 0) };
        (0..2).for_each(|_| assert!(admission.join(&of(7, 1))));
        assert!(!admission.join(&of(7, 1)) && admission.join(&of(8, 1)));
        // The refused one left its class as well: that has three places.
        assert!(!admission.join(&of(9, 1)) && admission.join(&of(9, 2)));
        admission.leave(&of(7, 1));
        assert!(admission.join(&of(7, 1)));
        let heavy = |bytes| Waiting { bytes, ..of(3, 2) };
        assert!(admission.join(&heavy(60)) && !admission.join(&heavy(41)) && admission.join(&heavy(40)));
        admission.leave(&heavy(60));
        assert!(admission.join(&heavy(60)), "what was refused took no place");
    }

    #[test]
    fn nothing_is_refused_before_anything_is_known() {
        let admission = Admission::new(Precedence::Arrival, 1, 4, true, [u32::MAX; CLASSES]);
        assert!(!admission.would_miss(&request(1, 1), 1000, true));
    }
}
