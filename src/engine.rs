//! The façade over serving: many callers, one engine.

use crate::balance::Balancer;
use crate::compile_options::CompileOptions;
use crate::divided::{DividedTicket, SubmittingDivided};
use crate::error::{Result, ensure, err};
use crate::exec::{self, Executor, Pinned, Refused, ReplicaId, Shutdown, SubmitOptions, Submitting};
use crate::feeds::{Feeds, Outputs};
use crate::model::{CompiledModel, Model};
use crate::monitor::{ReplicaState, Snapshot};
use crate::runner::ModelRunner;
use crate::sched::Policy;
use crate::served::ServedModel;
use crate::stages::StageInfo;
use crate::tensor::Tensor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The claim to the answer of one request: a future, or something to [`wait`](exec::Ticket::wait) for. Dropping it
/// cancels the request.
pub type Ticket = exec::Ticket<ModelRunner>;

/// The claim to the answers of many requests, in their order: a future that wakes once, or something to
/// [`wait`](exec::GroupTicket::wait) for. Dropping it cancels those that have not ended.
pub type GroupTicket = exec::GroupTicket<ModelRunner>;

/// A request that was refused, with the reason. Its inputs come back: in the model's order, or as they were given where
/// they do not fit the model.
pub type RefusedFeeds = Refused<Vec<Tensor>>;

/// What an engine serves: a loaded model, or one that is compiled already.
#[derive(Debug)]
pub enum EngineModel {
    /// Compiled when the engine is built.
    Loaded(Box<Model>),
    /// Shared with others.
    Compiled(CompiledModel),
}

impl EngineModel {
    fn compile(self, options: &CompileOptions) -> Result<CompiledModel> {
        match self {
            EngineModel::Loaded(model) => model.compile(options),
            EngineModel::Compiled(model) => Ok(model),
        }
    }
}

impl From<Model> for EngineModel {
    fn from(model: Model) -> Self {
        EngineModel::Loaded(Box::new(model))
    }
}

impl From<CompiledModel> for EngineModel {
    fn from(model: CompiledModel) -> Self {
        EngineModel::Compiled(model)
    }
}

/// Answers many callers at once: rows of concurrent requests are stacked, run as one batch, and scattered.
///
/// ```no_run
/// use onrush::{Engine, Model, Tensor};
/// use std::time::Duration;
///
/// let engine = Engine::builder(Model::load("digits.onnx")?)
///     .max_batch_size(32)
///     .max_queue_delay(Duration::from_micros(200))
///     .build()?;
///
/// std::thread::scope(|scope| {
///     for client in 0..64 {
///         let engine = &engine;
///         scope.spawn(move || {
///             let image = Tensor::zeros(onrush::DType::F32, [1, 1, 8, 8])?;
///             let ticket = engine.submit([image])?;
///             let answer = ticket.wait()?;
///             println!("client {client}: {:?}", answer[0]);
///             Ok::<(), onrush::Error>(())
///         });
///     }
/// });
/// # Ok::<(), onrush::Error>(())
/// ```
pub struct Engine {
    executor: Executor<ModelRunner>,
    compile: CompileOptions,
    max_batch_size: u32,
    divisions: AtomicU64,
    stages: Stages,
    /// The axis that may be padded.
    pad: Option<String>,
}

/// Into how many stages models are cut, and how many rows pass through them at once.
#[derive(Debug, Clone, Copy)]
struct Stages {
    count: usize,
    rows: usize,
    /// One worker has all the threads of the model.
    alone: bool,
    /// The host promises that rows keep apart.
    independent_rows: bool,
}

impl Stages {
    fn runner(self, model: CompiledModel, max_batch_size: u32, pad: Option<&str>) -> Result<ModelRunner> {
        let runner = ModelRunner::new(model, max_batch_size, self.independent_rows)?.alone(self.alone).padded(pad)?;
        if self.count > 1 { runner.in_stages(self.count, self.rows) } else { Ok(runner) }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("model", &self.model()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the description of an engine for `model`.
    pub fn builder(model: impl Into<EngineModel>) -> EngineBuilder {
        EngineBuilder {
            model: model.into(),
            compile: CompileOptions::default(),
            max_batch_size: 1,
            max_queue_delay: Duration::ZERO,
            workers: None,
            queue_items: None,
            queue_bytes: None,
            policy: None,
            executor: None,
            name: "model".to_owned(),
            share: 1,
            more: Vec::new(),
            stages: Stages { count: 1, rows: 4, alone: false, independent_rows: false },
            pad: None,
        }
    }

    /// The model that it serves.
    #[must_use]
    pub fn model(&self) -> CompiledModel {
        self.executor.runner().model().clone()
    }

    /// Hands in a request, waiting for room in the queue.
    ///
    /// # Errors
    /// [`Refused`] with the reason and the inputs: wrong inputs, or an engine that is shut down. It converts into
    /// [`Error`](crate::Error).
    pub fn submit(&self, feeds: impl Into<Feeds>) -> Result<Ticket, RefusedFeeds> {
        self.submit_with(feeds, SubmitOptions::new())
    }

    /// As [`submit`](Engine::submit), with a priority, a deadline or a tenant.
    ///
    /// # Errors
    /// As [`submit`](Engine::submit), and a deadline that cannot be met.
    pub fn submit_with(&self, feeds: impl Into<Feeds>, options: SubmitOptions) -> Result<Ticket, RefusedFeeds> {
        self.first().submit_with(feeds, options)
    }

    /// Hands in a request without ever waiting.
    ///
    /// # Errors
    /// As [`submit`](Engine::submit), and [`Reason::Full`](crate::Reason::Full) with the time after which to try again.
    pub fn try_submit(&self, feeds: impl Into<Feeds>) -> Result<Ticket, RefusedFeeds> {
        self.try_submit_with(feeds, SubmitOptions::new())
    }

    /// As [`try_submit`](Engine::try_submit), with a priority, a deadline or a tenant.
    ///
    /// # Errors
    /// As [`try_submit`](Engine::try_submit), and a deadline that cannot be met.
    pub fn try_submit_with(&self, feeds: impl Into<Feeds>, options: SubmitOptions) -> Result<Ticket, RefusedFeeds> {
        self.first().try_submit_with(feeds, options)
    }

    /// Hands in a request from asynchronous code: the future waits for room, and yields a ticket, itself a future.
    ///
    /// # Errors
    /// As [`submit`](Engine::submit), for inputs that do not fit; the rest comes from the future.
    pub fn submit_async(&self, feeds: impl Into<Feeds>) -> Result<Submitting<'_, ModelRunner>, RefusedFeeds> {
        self.first().submit_async(feeds)
    }

    /// As [`submit_async`](Engine::submit_async), with a priority, a deadline or a tenant.
    ///
    /// # Errors
    /// As [`submit_async`](Engine::submit_async).
    pub fn submit_async_with(
        &self,
        feeds: impl Into<Feeds>,
        options: SubmitOptions,
    ) -> Result<Submitting<'_, ModelRunner>, RefusedFeeds> {
        self.first().submit_async_with(feeds, options)
    }

    /// Hands in many requests without ever waiting: all are taken in, or none. Their ticket wakes once, when all have ended.
    ///
    /// # Errors
    /// As [`try_submit_with`](Engine::try_submit_with), with all requests.
    pub fn submit_many<F: Into<Feeds>>(
        &self,
        requests: impl IntoIterator<Item = F>,
        options: SubmitOptions,
    ) -> Result<GroupTicket, Refused<Vec<Vec<Tensor>>>> {
        self.first().submit_many(requests, options)
    }

    /// Asks and waits for the answer; an idle engine computes it on the calling thread.
    ///
    /// # Errors
    /// Wrong inputs, a failed run, or an engine that is shut down.
    pub fn run(&self, feeds: impl Into<Feeds>) -> Result<Outputs> {
        self.first().run(feeds)
    }

    /// As [`run`](Engine::run), with a priority, a deadline or a tenant.
    ///
    /// # Errors
    /// As [`run`](Engine::run), and a deadline that cannot be met.
    pub fn run_with(&self, feeds: impl Into<Feeds>, options: SubmitOptions) -> Result<Outputs> {
        self.first().run_with(feeds, options)
    }

    /// Counters and distributions so far, and what the process uses.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.executor.snapshot();
        snapshot.process = crate::process::usage();
        snapshot
    }

    /// Stops taking requests and answers those that wait, for at most `timeout`; true when all were answered. A dropped
    /// engine does the same.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        self.executor.shutdown(Shutdown::Drain, timeout)
    }

    /// Stops taking requests and cancels those that wait; true when what was running has ended within `timeout`.
    pub fn abort(&self, timeout: Duration) -> bool {
        self.executor.shutdown(Shutdown::Abort, timeout)
    }

    /// Hands in a request of many rows that is divided over the replicas, waiting for room in the queue; the answers are
    /// merged, bit for bit what they would be undivided. The parts go in one by one as room comes, so that there may be more
    /// of them than the queue holds.
    ///
    /// # Errors
    /// As [`submit`](Engine::submit); then no part of it runs on, but those that run already.
    pub fn submit_divided(&self, feeds: impl Into<Feeds>) -> Result<DividedTicket, RefusedFeeds> {
        self.first().submit_divided(feeds, SubmitOptions::new())
    }

    /// As [`submit_divided`](Engine::submit_divided), without ever waiting: all parts are taken in, or none.
    ///
    /// # Errors
    /// As [`try_submit`](Engine::try_submit).
    pub fn try_submit_divided(&self, feeds: impl Into<Feeds>) -> Result<DividedTicket, RefusedFeeds> {
        self.first().try_submit_divided(feeds, SubmitOptions::new())
    }

    /// As [`submit_divided`](Engine::submit_divided), from asynchronous code: the future waits for room for one part after the
    /// other, and yields a ticket, itself a future. Dropped before, it takes back the parts that are in.
    ///
    /// # Errors
    /// As [`submit`](Engine::submit), for inputs that do not fit; the rest comes from the future.
    pub fn submit_divided_async(&self, feeds: impl Into<Feeds>) -> Result<SubmittingDivided<'_>, RefusedFeeds> {
        self.first().submit_divided_async(feeds, SubmitOptions::new())
    }

    /// One of the models, by the name that it was given to the builder with.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where there is none of that name.
    pub fn of(&self, name: &str) -> Result<ServedModel<'_>> {
        let found = self.executor.model_named(name);
        let names = || self.executor.model_names();
        let number = found.ok_or_else(|| err!(InvalidInput, "no model is named {name:?}; there are {:?}", names()))?;
        Ok(ServedModel::new(self, number))
    }

    /// Serves one more model by the same replicas from now on, reached by [`of`](Engine::of): with a share of the compute
    /// time relative to those of the others.
    ///
    /// ```no_run
    /// # fn main() -> onrush::Result<()> {
    /// # let engine = onrush::Engine::builder(onrush::Model::load("model.onnx")?).build()?;
    /// let ranker = engine.add_model("ranker", onrush::Model::load("ranker.onnx")?, 1)?;
    /// println!("{:?}", ranker.model()?.inputs());
    /// engine.remove_model("ranker", std::time::Duration::from_secs(5))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What compiling says; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model that cannot be batched as the
    /// engine does, a share of 0, or a name that another model has; [`Limit`](crate::ErrorKind::Limit) if there are 32.
    pub fn add_model(
        &self,
        name: impl Into<String>,
        model: impl Into<EngineModel>,
        share: u32,
    ) -> Result<ServedModel<'_>> {
        let runner = self.runner_for(model.into())?;
        Ok(ServedModel::new(self, self.executor.add_model(name, runner, share)?))
    }

    /// Takes no requests for a model any more, and waits until those that were accepted have ended; true when that was
    /// within `timeout`. If not, the model goes when they have.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where there is none of that name, and for the first model, which
    /// can be [swapped](Engine::swap) and not removed.
    pub fn remove_model(&self, name: &str, timeout: Duration) -> Result<bool> {
        self.executor.remove_model(self.of(name)?.number(), timeout)
    }

    /// Changes a model's share of the compute time against the other models.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where there is none of that name, and for a share of 0.
    pub fn set_share(&self, name: &str, share: u32) -> Result<()> {
        self.executor.set_share(self.of(name)?.number(), share)
    }

    /// Runs an example request at growing batch sizes, so that plans are built, and deadlines, costs and shares are right
    /// from the first request on. Call it again after a [`swap`](Engine::swap).
    ///
    /// # Errors
    /// As [`run`](Engine::run).
    pub fn warm_up(&self, example: impl Into<Feeds>) -> Result<()> {
        self.first().warm_up(example)
    }

    fn first(&self) -> ServedModel<'_> {
        ServedModel::new(self, 0)
    }

    /// Serves another model from now on. Requests that were accepted before are answered by the one before, which goes
    /// when the last of them has ended; new ones are checked against the new one.
    ///
    /// ```no_run
    /// # fn main() -> onrush::Result<()> {
    /// # let engine = onrush::Engine::builder(onrush::Model::load("model.onnx")?).build()?;
    /// engine.swap(onrush::Model::load("better.onnx")?)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What compiling says; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model that cannot be batched as the
    /// engine does; [`Overloaded`](crate::ErrorKind::Overloaded) while too many earlier ones still have requests.
    pub fn swap(&self, model: impl Into<EngineModel>) -> Result<()> {
        self.first().swap(model)
    }

    /// Takes the model for healthy again that rests because it kept panicking.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) only.
    pub fn reinstate(&self) -> Result<()> {
        self.first().reinstate()
    }

    /// The replicas, in order of their numbers: each runs one batch at a time.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.executor.replicas()
    }

    /// Adds a replica; it takes batches at once.
    ///
    /// # Errors
    /// As [`Executor::add_replica`].
    pub fn add_replica(&self) -> Result<ReplicaId> {
        self.executor.add_replica()
    }

    /// Lets a replica take no batch any more, and waits until the one that it runs has ended; true when that was within
    /// `timeout`.
    ///
    /// # Errors
    /// As [`Executor::drain_replica`].
    pub fn drain_replica(&self, replica: ReplicaId, timeout: Duration) -> Result<bool> {
        self.executor.drain_replica(replica, timeout)
    }

    /// Lets a drained replica take batches again.
    ///
    /// # Errors
    /// As [`Executor::resume_replica`].
    pub fn resume_replica(&self, replica: ReplicaId) -> Result<()> {
        self.executor.resume_replica(replica)
    }

    /// Drains a replica and ends its thread; true when it was gone within `timeout`.
    ///
    /// # Errors
    /// As [`Executor::remove_replica`].
    pub fn remove_replica(&self, replica: ReplicaId, timeout: Duration) -> Result<bool> {
        self.executor.remove_replica(replica, timeout)
    }

    pub(crate) fn executor(&self) -> &Executor<ModelRunner> {
        &self.executor
    }

    pub(crate) fn pinned(&self, model: u32) -> Result<Pinned<'_, ModelRunner>> {
        self.executor.pinned(model).ok_or_else(|| err!(InvalidInput, "the model was removed from the engine"))
    }

    pub(crate) fn runner_for(&self, model: EngineModel) -> Result<ModelRunner> {
        self.stages.runner(model.compile(&self.compile)?, self.max_batch_size, self.pad.as_deref())
    }

    /// The stages that the first model was cut into, from first to last; empty where it runs as a whole.
    #[must_use]
    pub fn stages(&self) -> Vec<StageInfo> {
        let runner = self.executor.runner();
        runner.pipeline().map(|pipeline| pipeline.stages().to_vec()).unwrap_or_default()
    }

    pub(crate) fn active_replicas(&self) -> usize {
        let replicas = self.executor.snapshot_replicas();
        replicas.iter().filter(|replica| replica.state == ReplicaState::Active).count()
    }

    pub(crate) fn max_rows(&self) -> usize {
        self.max_batch_size as usize
    }

    pub(crate) fn next_division(&self) -> u64 {
        self.divisions.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The description of an [`Engine`].
#[must_use = "an engine is made by `build`"]
pub struct EngineBuilder {
    model: EngineModel,
    compile: CompileOptions,
    max_batch_size: u32,
    max_queue_delay: Duration,
    workers: Option<usize>,
    queue_items: Option<usize>,
    queue_bytes: Option<u64>,
    policy: Option<Box<dyn Policy>>,
    executor: Option<ChangeExecutor>,
    name: String,
    share: u32,
    more: Vec<(String, EngineModel, u32)>,
    stages: Stages,
    pad: Option<(String, u64)>,
}

/// A change to the settings of the executor.
type ChangeExecutor = Box<dyn FnOnce(exec::Builder<ModelRunner>) -> exec::Builder<ModelRunner>>;

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("max_batch_size", &self.max_batch_size)
            .field("max_queue_delay", &self.max_queue_delay)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// The most rows that run together; 1 by default. More needs a model whose inputs and outputs all have a symbolic
    /// batch axis, and whose rows keep apart: what one row yields depends on no other. That is proven from the graph, so
    /// that a batched answer is the answer alone; a model that mixes rows (a softmax over the batch, one scale for
    /// all rows as `DynamicQuantizeLinear` makes) is refused with the node that does.
    pub fn max_batch_size(mut self, rows: u32) -> Self {
        self.max_batch_size = rows;
        self
    }

    /// Promises that rows keep apart, where no proof is found: behind an `If` that data decide, or where an answer may depend
    /// a little on its neighbors, as with one scale for all rows.
    pub fn independent_rows(mut self) -> Self {
        self.stages.independent_rows = true;
        self
    }

    /// How long a free worker may wait for a batch to fill; zero by default, so that nothing waits while a worker is
    /// free.
    pub fn max_queue_delay(mut self, delay: Duration) -> Self {
        self.max_queue_delay = delay;
        self
    }

    /// How many batches can run at the same time; by default one for each core, each on its worker's thread alone. A
    /// single worker divides each batch over the [threads](CompileOptions::threads) of the model: less throughput under
    /// load, the shortest time for a request that comes alone.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many requests may wait.
    pub fn queue_items(mut self, items: usize) -> Self {
        self.queue_items = Some(items);
        self
    }

    /// How many bytes of inputs may wait.
    pub fn queue_bytes(mut self, bytes: u64) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// Which requests ride together and when; first come, first served by default.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Box::new(policy));
        self
    }

    /// The name of the first model, "model" by default, and its share of the compute time against those that are
    /// [added](EngineBuilder::model), 1 by default.
    pub fn named(mut self, name: impl Into<String>, share: u32) -> Self {
        (self.name, self.share) = (name.into(), share);
        self
    }

    /// Serves one more model by the same workers, reached by [`Engine::of`]. Where both have requests waiting, each gets
    /// its share of the compute time.
    pub fn model(mut self, name: impl Into<String>, model: impl Into<EngineModel>, share: u32) -> Self {
        self.more.push((name.into(), model.into(), share));
        self
    }

    /// Cuts each model into `count` stages, each on a thread of its own, through which a batch passes `rows` rows at a
    /// time: so that each core keeps its part of the weights. The cuts are where the times of the stages, measured when
    /// the engine is built, balance and what is handed over is small. The answers are the same, bit for bit. Give it
    /// [two workers](EngineBuilder::workers), so that a batch follows while another one leaves. 1 and 4 by default: no
    /// stages.
    pub fn stages(mut self, count: usize, rows: usize) -> Self {
        self.stages = Stages { count, rows, ..self.stages };
        self
    }

    /// Declares that requests may be padded with zeros along the axis that the model names `axis`, so that unequal lengths
    /// ride in one batch: as far as that adds at most `elements` elements, the lengths times the rows. Outputs that have the
    /// axis are cut to the request's own length. It is for the host to know that this is safe: because a mask, which is
    /// padded with zeros too, hides what was added, or because elements do not meet. A padded answer may differ from one
    /// alone in the last bits. Default: only equal lengths ride together.
    pub fn pad(mut self, axis: impl Into<String>, elements: u64) -> Self {
        self.pad = Some((axis.into(), elements));
        self
    }

    /// Which of several free workers takes a batch; the one that asks first by default.
    pub fn balancer(self, balancer: impl Balancer) -> Self {
        self.executor(|settings| settings.balancer(balancer))
    }

    /// The rarer settings of the executor: preferred batch sizes, a latency target, room for each class, and more.
    ///
    /// ```no_run
    /// # fn main() -> onrush::Result<()> {
    /// # let model = onrush::Model::load("model.onnx")?;
    /// let engine = onrush::Engine::builder(model).executor(|settings| settings.class_items(2, 100)).build()?;
    /// # Ok(()) }
    /// ```
    pub fn executor(
        mut self,
        change: impl FnOnce(exec::Builder<ModelRunner>) -> exec::Builder<ModelRunner> + 'static,
    ) -> Self {
        let before = self.executor.take();
        self.executor = Some(Box::new(|settings| change(before.into_iter().fold(settings, |s, change| change(s)))));
        self
    }

    /// How the model is compiled, where it is not compiled already.
    pub fn compile_options(mut self, options: CompileOptions) -> Self {
        self.compile = options;
        self
    }

    /// Compiles the model and starts the workers.
    ///
    /// # Errors
    /// What compiling says; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a batch size that the model cannot
    /// take, or settings that contradict each other.
    pub fn build(self) -> Result<Engine> {
        let stages = Stages { alone: self.workers == Some(1), ..self.stages };
        let Stages { count, rows, .. } = stages;
        ensure!(count > 0 && rows > 0, InvalidInput, "{count} stages for {rows} rows at once; both must be at least 1");
        let (pad, elements) = self.pad.unzip();
        let runner =
            |model: EngineModel| stages.runner(model.compile(&self.compile)?, self.max_batch_size, pad.as_deref());
        let first = runner(self.model)?;
        if let Some(axis) = &pad {
            ensure!(first.pads(), InvalidInput, "no input has an axis named {axis:?} that could be padded");
        }
        let mut builder = Executor::builder(first)
            .max_padding(elements.unwrap_or(0))
            .named(self.name, self.share)
            .max_batch_size(self.max_batch_size)
            .max_queue_delay(self.max_queue_delay);
        for (name, model, share) in self.more {
            builder = builder.model(name, runner(model)?, share);
        }
        if let Some(workers) = self.workers {
            builder = builder.workers(workers);
        }
        if let Some(items) = self.queue_items {
            builder = builder.queue_items(items);
        }
        if let Some(bytes) = self.queue_bytes {
            builder = builder.queue_bytes(bytes);
        }
        if let Some(policy) = self.policy {
            builder = builder.policy(policy);
        }
        if let Some(change) = self.executor {
            builder = change(builder);
        }
        let (compile, max_batch_size) = (self.compile, self.max_batch_size);
        let (executor, divisions) = (builder.build()?, AtomicU64::new(0));
        Ok(Engine { executor, compile, max_batch_size, divisions, stages, pad })
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Engine>();
};
