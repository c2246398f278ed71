//! The executor's settings. What is impossible is refused here, never ignored.

use super::admission::{Admission, CLASSES};
use super::batcher::Batcher;
use super::credit::{Credit, MAX_BYTES, MAX_ITEMS};
use super::executor::Executor;
use super::feedback;
use super::forecast::Forecasts;
use super::generations::{Generations, MAX_GENERATIONS};
use super::health::Quarantine;
use super::interrupt::{Interruption, Preemption};
use super::lane::Lane;
use super::models::Served;
use super::replicas::{Roster, add_replica};
use super::room::Room;
use super::runner::BatchRunner;
use super::shared::Shared;
use super::sleepers::{MAX_WORKERS, Sleepers};
use super::slots::Slots;
use super::timekeeper::Timekeeper;
use crate::balance::Balancer;
use crate::clock::{Clock, Monotonic};
use crate::error::{Result, bail, ensure};
use crate::monitor::{Counters, Feedback, Settings};
use crate::sched::{AdaptiveCap, FirstCome, Limits, Policy, Precedence};
use crate::sync::{Arc, Padded};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

/// Settings of an [`Executor`]; made by [`Executor::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<R: BatchRunner> {
    models: Vec<(R, Served)>,
    limits: Limits,
    workers: Option<usize>,
    queue_items: usize,
    queue_bytes: u64,
    policy: Box<dyn Policy>,
    clock: Box<dyn Clock>,
    shutdown_timeout: Duration,
    inline: bool,
    latency_target: Option<Duration>,
    class_items: [u32; CLASSES],
    tenant_items: Option<u32>,
    tenant_bytes: Option<u64>,
    predict_deadlines: bool,
    preemption: Option<Preemption>,
    feedback: Option<Feedback>,
    quarantine: Quarantine,
    balancer: Option<Box<dyn Balancer>>,
    patience: Duration,
}

impl<R: BatchRunner> Builder<R> {
    pub(super) fn new(runner: R) -> Self {
        Builder {
            models: vec![(runner, Served::new("model".to_owned(), 1))],
            limits: Limits::default(),
            workers: None,
            queue_items: 4096,
            queue_bytes: 1 << 30,
            policy: Box::new(FirstCome),
            clock: Box::new(Monotonic::new()),
            shutdown_timeout: Duration::from_secs(30),
            inline: true,
            latency_target: None,
            class_items: [u32::MAX; CLASSES],
            tenant_items: None,
            tenant_bytes: None,
            predict_deadlines: true,
            preemption: None,
            feedback: None,
            quarantine: Quarantine { panics: 8, rest: Duration::from_secs(1) },
            balancer: None,
            patience: Duration::ZERO,
        }
    }

    /// The name of the first model, for reports, and its share of the compute time against further ones. Default:
    /// "model" and 1.
    pub fn named(mut self, name: impl Into<String>, share: u32) -> Self {
        if let Some((_, first)) = self.models.first_mut() {
            *first = Served::new(name.into(), share);
        }
        self
    }

    /// Serves one more model by the same replicas, with a share of the compute time relative to the others'. Requests
    /// name it by its number, which here is its position: the first one is 0. More can be added to a running executor by
    /// [`Executor::add_model`].
    pub fn model(mut self, name: impl Into<String>, runner: R, share: u32) -> Self {
        self.models.push((runner, Served::new(name.into(), share)));
        self
    }

    /// How often in a row a model's requests may panic until it rests, and for how long: meanwhile its requests are
    /// refused and those of other models go on. After the rest the next panic sends it back. Zero panics: never. Default:
    /// 8, and one second.
    pub fn quarantine(mut self, panics: u32, rest: Duration) -> Self {
        self.quarantine = Quarantine { panics, rest };
        self
    }

    /// What decides which of several free replicas takes a batch. Default: the one that asks first.
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        self.balancer = Some(Box::new(balancer));
        self
    }

    /// How soon a busy replica must be free, by prediction, to be offered to the balancer: a batch that is given to it
    /// waits for it. Default zero: only free ones are offered.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Most rows in a batch. Default 32.
    pub fn max_batch_size(mut self, rows: u32) -> Self {
        self.limits.max_batch_size = rows;
        self
    }

    /// How long a request may wait for company. Default zero: a free worker takes what is there.
    pub fn max_queue_delay(mut self, delay: Duration) -> Self {
        self.limits.max_queue_delay = delay;
        self
    }

    /// How many requests of other groups may be passed over to fill a batch. Default 64.
    pub fn look_ahead(mut self, requests: usize) -> Self {
        self.limits.look_ahead = requests;
        self
    }

    /// Rows that batches should have where there are enough: a batch is cut to the largest of these that it reaches, and
    /// does not wait for more. Default: none.
    pub fn preferred_batch_sizes(mut self, rows: impl Into<Vec<u32>>) -> Self {
        self.limits.preferred_batch_sizes = rows.into();
        self
    }

    /// Most elements that padding unequal widths may add to a batch. Default 0: only equal widths ride together.
    pub fn max_padding(mut self, elements: u64) -> Self {
        self.limits.max_padding = elements;
        self
    }

    /// Whether a batch leaves to each idle replica an equal part of what could ride in it: shorter runs while there is
    /// little to do, full batches when all are busy. Default: it takes what fits.
    pub fn spread(mut self, spread: bool) -> Self {
        self.limits.spread = spread;
        self
    }

    /// Lets the batch size follow the load: it grows to `max_batch_size` while answers come within `target`, and shrinks
    /// when they do not. Default: off.
    pub fn latency_target(mut self, target: Duration) -> Self {
        self.latency_target = Some(target);
        self
    }

    /// Lets a controller move batch cap, queue delay and number of workers within the bounds that it is given, by what it
    /// measures. A snapshot shows its moves with their reasons. Default: off.
    pub fn feedback(mut self, feedback: Feedback) -> Self {
        self.feedback = Some(feedback);
        self
    }

    /// Most requests of one priority that wait; all from 7 on count together. Default: as many as the queue holds.
    pub fn class_items(mut self, priority: u8, items: u32) -> Self {
        self.class_items[usize::from(priority).min(CLASSES - 1)] = items;
        self
    }

    /// Most requests of one tenant that wait, so that one who floods the queue leaves room for others. Tenants are told
    /// apart by a hash; two may rarely count together. Default: as many as the queue holds.
    pub fn tenant_items(mut self, items: u32) -> Self {
        self.tenant_items = Some(items);
        self
    }

    /// Most bytes of requests of one tenant that wait, as [`tenant_items`](Self::tenant_items): where requests are large the
    /// queue's bytes run out before its places. Default: as many as the queue holds.
    pub fn tenant_bytes(mut self, bytes: u64) -> Self {
        self.tenant_bytes = Some(bytes);
        self
    }

    /// Whether a request is refused whose deadline cannot be met by what is known of the running times. Default: it is.
    pub fn predict_deadlines(mut self, predict: bool) -> Self {
        self.predict_deadlines = predict;
        self
    }

    /// Lets a more urgent request interrupt a batch of a less urgent class at its next checkpoint, when no worker is free:
    /// if the rest of the batch takes at least `gain` times as long as the urgent request, and at most `most` times for
    /// each batch. Needs a policy of priorities, or of the shortest job first: there a short request interrupts a long one, and a
    /// gain of 1 makes the mean wait the least where requests gain nothing by riding together; where they gain much, batches are
    /// kept full by a larger one. Default: off.
    pub fn preemption(mut self, gain: f64, most: u32) -> Self {
        self.preemption = Some(Preemption { gain, most });
        self
    }

    /// Batches that can run at the same time, each on a thread of its own: 1 to 48. Default: one per core.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Most requests that wait. Default 4096.
    pub fn queue_items(mut self, items: usize) -> Self {
        self.queue_items = items;
        self
    }

    /// Most bytes of requests that wait. Default 1 GiB.
    pub fn queue_bytes(mut self, bytes: u64) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// What decides which requests run next. Default: [`FirstCome`].
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// The clock. Default: the system's monotonic one.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// How long dropping the executor may wait for what it has accepted. Default 30 seconds.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Whether [`Executor::call`] may run on the caller's own thread when nothing waits. Default: it may.
    pub fn run_inline(mut self, inline: bool) -> Self {
        self.inline = inline;
        self
    }

    fn check(&self, workers: usize) -> Result<()> {
        ensure!(
            (1..=MAX_WORKERS).contains(&workers),
            InvalidInput,
            "workers is {workers}; it must be between 1 and {MAX_WORKERS}"
        );
        ensure!(self.limits.max_batch_size > 0, InvalidInput, "max_batch_size is 0; it must be at least 1");
        ensure!(
            (1..=MAX_ITEMS as usize).contains(&self.queue_items),
            InvalidInput,
            "queue_items is {}; it must be between 1 and {MAX_ITEMS}",
            self.queue_items
        );
        ensure!(
            (1..=MAX_BYTES).contains(&self.queue_bytes),
            InvalidInput,
            "queue_bytes is {}; it must be between 1 and {MAX_BYTES}",
            self.queue_bytes
        );
        let too_large = self.limits.preferred_batch_sizes.iter().find(|&&rows| rows > self.limits.max_batch_size);
        if let Some(rows) = too_large.or(self.limits.preferred_batch_sizes.iter().find(|&&rows| rows == 0)) {
            bail!(InvalidInput, "a preferred batch size is {rows}; it must lie between 1 and max_batch_size");
        }
        if let Some(Preemption { gain, .. }) = self.preemption {
            ensure!(gain >= 0.0, InvalidInput, "the gain of a preemption is {gain}; it must not be negative");
            ensure!(
                matches!(self.policy.precedence(), Precedence::Class | Precedence::Cost),
                InvalidInput,
                "preemption needs a policy of priorities or of the shortest job first, and {} is none",
                self.policy.name()
            );
        }
        let never = self.class_items.iter().position(|&items| items == 0);
        ensure!(never.is_none(), InvalidInput, "class_items of priority {} is 0", never.unwrap_or_default());
        ensure!(self.tenant_items != Some(0), InvalidInput, "tenant_items is 0");
        ensure!(self.tenant_bytes != Some(0), InvalidInput, "tenant_bytes is 0");
        ensure!(self.latency_target != Some(Duration::ZERO), InvalidInput, "latency_target is zero");
        if let Some(goal) = &self.feedback {
            ensure!(
                self.latency_target.is_none(),
                InvalidInput,
                "both latency_target and feedback would move the batch cap; choose one"
            );
            let Limits { max_batch_size: cap, max_queue_delay: delay, .. } = self.limits;
            feedback::check(goal, Settings { cap, delay, workers }, MAX_WORKERS)?;
        }
        Ok(())
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// `InvalidInput` if a setting is impossible, `Io` if a thread cannot be started.
    pub fn build(self) -> Result<Executor<R>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.workers.unwrap_or(cores.min(MAX_WORKERS));
        self.check(workers)?;
        let lanes = (cores / 4).clamp(1, 8);
        let most = self.limits.max_batch_size;
        let cap = self.latency_target.map(|target| AdaptiveCap::new(target, 1, most));
        let limits = Limits { max_batch_size: cap.as_ref().map_or(most, AdaptiveCap::rows), ..self.limits };
        let policy = self.policy;
        let precedence = policy.precedence();
        let at_first = limits.max_batch_size;
        let admission = Admission::new(precedence, workers, at_first, self.predict_deadlines, self.class_items)
            .tenant_room(self.tenant_items, self.tenant_bytes)
            .timeouts(|priority| policy.timeout(priority));
        let shared = Arc::new(Shared {
            generations: Generations::new(MAX_GENERATIONS),
            quarantine: self.quarantine,
            clock: self.clock,
            inline: self.inline,
            delays: AtomicBool::new(!limits.max_queue_delay.is_zero()),
            credit: Padded(Credit::new(self.queue_items as u32, self.queue_bytes)),
            room: Room::default(),
            lanes: (0..lanes).map(|_| Padded(Lane::new())).collect(),
            batcher: Mutex::new(Batcher::new(policy, limits, cap, Forecasts::new(self.balancer, self.patience))),
            ready: Padded(AtomicUsize::new(0)),
            slots: Slots::new(0),
            sleepers: Padded(Sleepers::new(0)),
            counters: Counters::default(),
            stats: (0..MAX_WORKERS).map(|_| OnceLock::new()).collect(),
            dead: AtomicUsize::new(0),
            aborting: AtomicBool::new(false),
            blocked: Padded(AtomicUsize::new(0)),
            admission,
            timekeeper: Timekeeper::new(),
            interruption: Interruption::new(self.preemption, MAX_WORKERS),
            adapts: self.latency_target.is_some(),
            retries: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            roster: Roster::new(),
            steering: feedback::Steering::default(),
            purged: AtomicU64::new(0),
            alive: Mutex::new(0),
            exited: Condvar::new(),
        });
        let executor = Executor::new(shared.clone(), self.shutdown_timeout);
        for (runner, served) in self.models {
            shared.add_model(runner, served)?;
        }
        for _ in 0..workers {
            add_replica(&shared)?;
        }
        if let Some(goal) = self.feedback {
            feedback::start(&shared, goal)?;
        }
        Ok(executor)
    }
}

impl<R: BatchRunner> fmt::Debug for Builder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("limits", &self.limits)
            .field("workers", &self.workers)
            .field("queue_items", &self.queue_items)
            .field("queue_bytes", &self.queue_bytes)
            .field("policy", &self.policy.name())
            .finish_non_exhaustive()
    }
}
