//! The one owner of the policy: drains the lanes into the queue, asks the policy, and hands out claimed batches.
//!
//! A free worker enters it through a lock that no submitter ever takes. What it takes out it only returns: waking and
//! counting are left to the caller, after the lock is free, since a waker may run anybody's code.

use super::entry::{Claimed, Entry};
use super::forecast::Forecasts;
use super::lane::Lane;
use super::queue::Queue;
use super::runner::Job;
use super::slots::Slot;
use crate::clock::Time;
use crate::monitor::Ended;
use crate::sched::{AdaptiveCap, Costs, Decision, FirstCome, Limits, Policy, Shares, View, Waiting};
use crate::sync::{Arc, Padded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How soon to look again when a policy neither runs anything nor says when to look again.
const FALLBACK: Duration = Duration::from_millis(1);

/// What a look at the queue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A batch: it lies in [`Taken::jobs`].
    Formed,
    /// Nothing to run before this time, unless something arrives.
    Again(Time),
    /// Nothing waits.
    Empty,
}

/// What is told about a batch that ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    pub(super) rows: u32,
    pub(super) slowest: Duration,
}

/// What left the queue in a look. Kept and reused by each worker.
pub(super) struct Taken<Q, S> {
    /// The batch.
    pub(super) jobs: Vec<Job<Q, S>>,
    /// Requests to be ended without a run.
    pub(super) ended: Vec<(Claimed<Q, S>, Ended)>,
    /// The batch before, until the batcher is told of it.
    pub(super) ran: Option<Ran>,
}

impl<Q, S> Default for Taken<Q, S> {
    fn default() -> Self {
        Taken { jobs: Vec::new(), ended: Vec::new(), ran: None }
    }
}

impl<Q, S> Taken<Q, S> {
    /// The requests that are to be ended because their deadlines have passed or cannot be met.
    pub(super) fn expired(&self) -> impl Iterator<Item = &Waiting> {
        self.ended.iter().filter(|(_, how)| *how == Ended::Expired).map(|(claimed, _)| claimed.meta())
    }

    /// The requests that left the queue.
    pub(super) fn left(&self) -> impl Iterator<Item = &Waiting> {
        let ended = self.ended.iter().map(|(claimed, _)| claimed.meta());
        self.jobs.iter().map(|job| job.claimed.meta()).chain(ended)
    }
}

/// What decides: the shares of several models, or the policy alone.
fn rule(policy: &mut Shares<Box<dyn Policy>>, shares: bool) -> &mut dyn Policy {
    if shares { policy } else { policy.inner_mut() }
}

pub(super) struct Batcher<Q, S> {
    queue: Queue<Q, S>,
    policy: Shares<Box<dyn Policy>>,
    /// Whether there are several models, so that shares matter.
    shares: bool,
    decision: Decision,
    drained: Vec<Arc<Entry<Q, S>>>,
    limits: Limits,
    cap: Option<AdaptiveCap>,
    /// Some worker sleeps no longer than until then.
    pub(super) timer: Time,
    pub(super) forecasts: Forecasts,
    /// The slots that a batch was formed for and that have not asked again, one bit each.
    running: u64,
    /// When the last batch was formed, if more waited then and no slot was free.
    backlogged: Option<Time>,
}

impl<Q, S> Batcher<Q, S> {
    pub(super) fn new(policy: Box<dyn Policy>, limits: Limits, cap: Option<AdaptiveCap>, forecasts: Forecasts) -> Self {
        let (queue, decision) = (Queue::new(), Decision::default());
        Batcher {
            queue,
            policy: Shares::new(policy),
            shares: false,
            decision,
            drained: Vec::new(),
            limits,
            cap,
            timer: Time::NEVER,
            forecasts,
            running: 0,
            backlogged: None,
        }
    }

    /// From now on there are these models, with these shares.
    pub(super) fn set_shares(&mut self, models: &[(u32, u32)]) {
        self.shares = models.len() > 1;
        self.policy.set_weights(models);
    }

    /// Told what a look found; how long after the one before a batch was formed, if work waited all the time because every
    /// slot was taken.
    pub(super) fn gap(&mut self, now: Time, look: Look, any_free: bool) -> Option<Duration> {
        let backlogged = (look == Look::Formed && self.queue.len() > 0 && !any_free).then_some(now);
        let before = std::mem::replace(&mut self.backlogged, backlogged)?;
        (look == Look::Formed).then(|| now.since(before))
    }

    /// Told after each batch: how many rows rode, and how long the slowest request was in the executor. Most rows in a batch from
    /// now on.
    pub(super) fn observe(&mut self, Ran { rows, slowest }: Ran) -> u32 {
        if let Some(cap) = &mut self.cap {
            cap.observe(rows, slowest);
            self.limits.max_batch_size = cap.rows();
        }
        self.limits.max_batch_size
    }

    /// When the first of those in the queue is given up, or an earlier time.
    pub(super) fn earliest_end(&self) -> Time {
        self.queue.earliest_end
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Most rows in a batch, and how long a request may wait for company.
    pub(super) fn bounds(&self) -> (u32, Duration) {
        (self.limits.max_batch_size, self.limits.max_queue_delay)
    }

    /// From now on batches have at most so many rows.
    pub(super) fn set_cap(&mut self, rows: u32) {
        self.limits.max_batch_size = rows;
    }

    /// From now on a request may wait so long for company.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.limits.max_queue_delay = delay;
    }

    /// From now on nothing waits for company.
    pub(super) fn stop_delaying(&mut self) {
        self.limits.max_queue_delay = Duration::ZERO;
    }

    /// Moves what stands in the lanes to the end of the queue, in order of arrival.
    pub(super) fn drain(&mut self, lanes: &[Padded<Lane<Entry<Q, S>>>]) {
        if let [lane] = lanes {
            lane.drain().filter(|entry| entry.is_waiting()).for_each(|entry| self.queue.push(entry));
            return;
        }
        let waiting = lanes.iter().flat_map(|lane| lane.drain()).filter(|entry| entry.is_waiting());
        self.drained.extend(waiting);
        self.drained.sort_by_key(|entry| entry.meta.arrived);
        self.drained.drain(..).for_each(|entry| self.queue.push(entry));
    }

    /// Takes those whose deadline has passed.
    pub(super) fn expire(&mut self, now: Time, taken: &mut Taken<Q, S>) {
        self.queue.expire(now, |entry| {
            taken.ended.extend(Entry::claim(entry).map(|claimed| (claimed, Ended::Expired)));
        });
    }

    /// Removes those that were cancelled, and takes those whose deadline has passed.
    pub(super) fn sweep(&mut self, now: Time, taken: &mut Taken<Q, S>) {
        let leaves = |entry: &Entry<Q, S>| !entry.is_waiting() || entry.meta.gives_up() <= now;
        self.queue.sweep(leaves, |entry| {
            taken.ended.extend(Entry::claim(entry).map(|claimed| (claimed, Ended::Expired)));
        });
    }

    /// Whether the deadline or the patience of some request has passed.
    pub(super) fn has_expired(&self, now: Time) -> bool {
        self.queue.earliest_end <= now
    }

    /// Takes everything, to be ended without a run.
    pub(super) fn abort(&mut self, taken: &mut Taken<Q, S>) {
        self.queue
            .sweep(|_| true, |entry| taken.ended.extend(Entry::claim(entry).map(|claimed| (claimed, Ended::Failed))));
    }

    /// Asks the policy, until there is a batch or nothing to run now; `slot` becomes the one that the balancer names.
    pub(super) fn look<T>(
        &mut self,
        now: Time,
        costs: &dyn Costs,
        slot: &mut Slot<'_, T>,
        taken: &mut Taken<Q, S>,
    ) -> Look {
        self.running &= !(1 << slot.index());
        loop {
            if self.queue.len() == 0 {
                return Look::Empty;
            }
            // A worker that waits for its turn to look holds its slot already, and is idle all the same.
            let idle = slot.slots().opened() & (slot.slots().free() | !self.running) & !(1 << slot.index());
            self.decide(now, costs, idle.count_ones());
            if let Some(leader) = self.decision.run.first().and_then(|&at| self.queue.waiting().get(at))
                && let Err(free_at) = self.forecasts.balance(now, leader.group, slot)
            {
                self.decision.run.clear();
                self.take_decided(slot.index(), taken);
                return Look::Again(free_at);
            }
            self.take_decided(slot.index(), taken);
            if let Some(job) = taken.jobs.first() {
                self.running |= 1 << slot.index();
                let rows = taken.jobs.iter().fold(0_u32, |rows, job| rows.saturating_add(job.claimed.meta().rows));
                let requests = taken.jobs.len() as u32;
                self.forecasts.runs(now, slot.index(), job.claimed.meta().group, rows, requests, costs);
                return Look::Formed;
            }
            if self.decision.run.is_empty() && self.decision.drop.is_empty() {
                return Look::Again(self.decision.look_again.min(self.queue.earliest_end));
            }
        }
    }

    /// Takes a batch of those alone that are `urgent`, if the first of them may run by `worth`.
    pub(super) fn look_urgent(
        &mut self,
        now: Time,
        costs: &dyn Costs,
        slot: usize,
        urgent: impl Fn(&Waiting) -> bool,
        worth: impl Fn(&Waiting) -> bool,
        taken: &mut Taken<Q, S>,
    ) -> bool {
        let (positions, waiting): (Vec<usize>, Vec<Waiting>) =
            self.queue.waiting().iter().copied().enumerate().filter(|(_, request)| urgent(request)).unzip();
        if !waiting.first().is_some_and(worth) {
            return false;
        }
        let limits = Limits { max_queue_delay: Duration::ZERO, ..self.limits.clone() };
        self.decision.clear();
        let view = View::new(now, &waiting, &limits, costs);
        let (policy, decision) = (rule(&mut self.policy, self.shares), &mut self.decision);
        if catch_unwind(AssertUnwindSafe(|| policy.decide(&view, decision))).is_err() {
            return false;
        }
        for at in decision.run.iter_mut().chain(&mut decision.drop) {
            *at = positions.get(*at).copied().unwrap_or(usize::MAX);
        }
        self.take_decided(slot, taken);
        !taken.jobs.is_empty()
    }

    fn decide(&mut self, now: Time, costs: &dyn Costs, idle: u32) {
        let deadlines_rise = self.queue.deadlines_rise();
        let view = View { idle, deadlines_rise, ..View::new(now, self.queue.waiting(), &self.limits, costs) };
        let decision = &mut self.decision;
        decision.clear();
        let policy = rule(&mut self.policy, self.shares);
        let decided = catch_unwind(AssertUnwindSafe(|| policy.decide(&view, decision)));
        if decided.is_err() {
            // A policy that panics must not stop the engine: first come, first served from now on.
            *self.policy.inner_mut() = Box::new(FirstCome);
            decision.clear();
            rule(&mut self.policy, self.shares).decide(&view, decision);
        }
        // What is not there would be no progress, and be asked for again at once.
        let waiting = self.queue.len();
        decision.run.retain(|&at| at < waiting);
        decision.drop.retain(|&at| at < waiting);
        let nothing = decision.run.is_empty() && decision.drop.is_empty();
        let asleep = decision.look_again == Time::NEVER && self.limits.max_queue_delay.is_zero();
        if nothing && (decision.look_again <= now || asleep) {
            decision.look_again = now.after(FALLBACK);
        }
    }

    fn take_decided(&mut self, slot: usize, taken: &mut Taken<Q, S>) {
        let Decision { run, drop, .. } = &self.decision;
        // The common case of a policy that serves in order of arrival: the front leaves, nothing has to be moved.
        let mut in_front = drop.iter().chain(run).enumerate().all(|(rank, &at)| rank == at);
        for &at in drop {
            let claimed = self.queue.take(at).and_then(Entry::claim);
            taken.ended.extend(claimed.map(|claimed| (claimed, Ended::Expired)));
        }
        // One batch runs one generation of one model, whatever a policy says.
        let mut seat = None;
        for &at in run {
            let own = self.queue.seat(at);
            if seat.is_some() && own != seat {
                in_front = false;
                continue;
            }
            seat = own;
            let claimed = self.queue.take(at).and_then(|entry| {
                entry.assign(slot);
                Entry::claim(entry)
            });
            taken.jobs.extend(claimed.map(|claimed| Job { claimed, answer: None }));
        }
        if in_front {
            self.queue.remove_front(drop.len() + run.len());
        } else {
            self.queue.remove_taken();
        }
    }
}
