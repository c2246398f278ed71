//! Puts an engine under load: callers in a closed loop, or arrivals that do not wait for answers.
//!
//! In an open loop latency counts from the moment at which a request was *scheduled* to arrive, so that a generator which
//! falls behind hides nothing.

mod behind;
mod drive;
mod mix;
mod page;
mod report;
#[path = "../support/mod.rs"]
mod support;

use clap::{Parser, ValueEnum};
use drive::{Arrivals, Load, closed, open};
use mix::{Kind, Mix};
use onrush::monitor::Feedback;
use onrush::sched::{EarliestDeadline, FairShare, FirstCome, Policy, ShortestJob, StrictPriority};
use onrush::{Engine, EngineModel, Error, ErrorKind, Model, Result};
use report::Record;
use std::path::PathBuf;
use std::time::Duration;
use support::Made;

#[derive(Clone, Parser)]
#[command(about = "Puts an engine under load and tells latency, throughput, refusals and batch sizes")]
struct Arguments {
    /// The ONNX file
    model: PathBuf,
    /// Callers that wait for each answer, or arrivals that do not
    #[arg(long, value_enum, default_value_t = Mode::Closed)]
    mode: Mode,
    /// Open loop: arrivals as a share of the capacity, which is measured first
    #[arg(long, default_value_t = 0.8)]
    load: f64,
    /// Open loop: arrivals per second, in place of a share
    #[arg(long, conflicts_with = "load")]
    rate: Option<f64>,
    /// Open loop: how the arrivals are spaced
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Closed loop: threads that ask
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Closed loop: requests that each of them keeps in the engine
    #[arg(long, default_value_t = 1)]
    outstanding: usize,
    /// Which requests run first
    #[arg(long, value_enum, ignore_case = true, default_value_t = PolicyName::FirstCome)]
    policy: PolicyName,
    /// Open loop: compare these policies, separated by commas; or "all"
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    policies: Vec<PolicyName>,
    /// Most rows in a batch
    #[arg(long, default_value_t = 32)]
    cap: u32,
    /// Batches that run at the same time; by default one for each core
    #[arg(long)]
    threads: Option<usize>,
    /// Cut the model into so many stages on threads of their own, through which a batch passes
    #[arg(long, default_value_t = 1)]
    stages: usize,
    /// With stages: rows that pass through them at once
    #[arg(long, default_value_t = 4)]
    stage_rows: usize,
    /// How long to measure each load
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// NAME=VALUE: every element of this input; may repeat
    #[arg(long)]
    fill: Vec<String>,
    /// NAME=D,D,...: the shape of this input, empty for a scalar; may repeat
    #[arg(long)]
    shape: Vec<String>,
    /// Length of any symbolic axis but the first
    #[arg(long, default_value_t = 32)]
    seq: usize,
    /// Open loop: loads from 10 to 150 % of capacity
    #[arg(long)]
    sweep: bool,
    /// Answers later than this are not good; open-loop requests carry it as their deadline. By default ten full batches,
    /// and at least 5 ms: below that the system's scheduler decides, as this program shares the processor with the engine
    #[arg(long)]
    target_ms: Option<f64>,
    /// Open loop: requests carry no deadline, so that nothing is shed but by want of room
    #[arg(long)]
    no_deadlines: bool,
    /// Requests of several kinds, told apart in the results
    #[arg(long, value_enum, default_value_t = Mix::None)]
    mix: Mix,
    /// Microseconds that a request may wait for company
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    /// Most requests that wait; under fair share no tenant may fill more than half of it
    #[arg(long)]
    queue: Option<usize>,
    /// Priorities: lets urgent requests interrupt running batches, and ride without less urgent ones. Shortest job: lets requests
    /// interrupt batches of which more is left than they take
    #[arg(long)]
    preempt: bool,
    /// Lets a controller move batch cap, delay and workers towards the target, and prints its moves
    #[arg(long)]
    feedback: bool,
    /// Write a page with plots
    #[arg(long)]
    html: Option<PathBuf>,
    /// Print one line of JSON for each load
    #[arg(long)]
    json: bool,
    /// Print what Prometheus would scrape after the last load
    #[arg(long)]
    prometheus: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Open,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PolicyName {
    #[value(aliases = ["fcfs", "fifo", "first_come"])]
    FirstCome,
    #[value(aliases = ["priorities", "strict-priority", "strict_priority"])]
    Priority,
    #[value(aliases = ["sjf", "shortest", "shortest_job", "shortest-job-first"])]
    ShortestJob,
    #[value(aliases = ["edf", "deadline", "earliest_deadline", "earliest-deadline-first"])]
    EarliestDeadline,
    #[value(aliases = ["fair", "fair_share", "drr"])]
    FairShare,
    #[value(hide = true)]
    All,
}

impl PolicyName {
    /// Answers are good for nothing after `target`, so that nobody moves up a class by having waited for longer.
    fn make(self, separate: bool, target: Duration) -> Box<dyn Policy> {
        let ageing = target.max(Duration::from_millis(500));
        match self {
            PolicyName::Priority if separate => Box::new(StrictPriority::new(ageing).separate()),
            PolicyName::FirstCome | PolicyName::All => Box::new(FirstCome),
            PolicyName::Priority => Box::new(StrictPriority::new(ageing)),
            PolicyName::ShortestJob => Box::new(ShortestJob::new(Duration::from_millis(500))),
            PolicyName::EarliestDeadline => Box::new(EarliestDeadline::new()),
            PolicyName::FairShare => Box::new(FairShare::new(Duration::from_millis(1))),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Most bytes of requests that wait.
const QUEUE_BYTES: u64 = 1 << 30;

struct Test<'a> {
    arguments: &'a Arguments,
    model: onrush::CompiledModel,
    kinds: Vec<Kind>,
}

impl Test<'_> {
    fn engine(&self, policy: PolicyName, target: Duration) -> Result<Engine> {
        let Arguments { cap, delay_us, threads, queue, preempt, .. } = *self.arguments;
        let Arguments { feedback, stages, stage_rows, .. } = *self.arguments;
        let mut builder = Engine::builder(EngineModel::from(self.model.clone()))
            .max_batch_size(cap)
            .max_queue_delay(Duration::from_micros(delay_us))
            .queue_bytes(QUEUE_BYTES)
            .stages(stages, stage_rows)
            .policy(policy.make(preempt, target));
        if let Some(threads) = threads {
            builder = builder.workers(threads);
        }
        if let Some(items) = queue {
            builder = builder.queue_items(items);
        }
        let (shared, room) = (policy == PolicyName::FairShare, queue.unwrap_or(4096).max(2));
        let gain = match policy {
            PolicyName::Priority if preempt => Some(0.1),
            PolicyName::ShortestJob if preempt => Some(1.0),
            _ => None,
        };
        let engine = builder
            .executor(move |settings| {
                let settings = if let Some(gain) = gain { settings.preemption(gain, 64) } else { settings };
                let settings = if shared {
                    settings.tenant_items(room as u32 / 2).tenant_bytes(QUEUE_BYTES / 2)
                } else {
                    settings
                };
                if !feedback {
                    return settings;
                }
                let most = Duration::from_micros(delay_us).max(target / 4);
                settings.feedback(Feedback::new(target).batch_cap(1..=cap).queue_delay(Duration::ZERO..=most))
            })
            .build()?;
        engine.warm_up(self.kinds[0].inputs.clone())?;
        Ok(engine)
    }

    /// Answers per second when the engine never runs dry.
    fn capacity(&self) -> Result<f64> {
        let arguments = Arguments { feedback: false, ..self.arguments.clone() };
        let test = Test { arguments: &arguments, model: self.model.clone(), kinds: self.kinds.clone() };
        let engine = test.engine(PolicyName::FirstCome, Duration::MAX)?;
        let outstanding = self.arguments.cap as usize * 2;
        let once =
            |seconds| closed(&engine, &self.kinds, 2, outstanding, Duration::from_secs_f64(seconds), Duration::MAX);
        once(self.arguments.seconds.min(0.5));
        Ok(once(self.arguments.seconds.min(2.0)).answered_per_s)
    }

    fn target(&self, capacity: f64) -> Duration {
        let batch = f64::from(self.arguments.cap) / capacity.max(1.0);
        Duration::from_secs_f64(self.arguments.target_ms.map_or((batch * 10.0).max(5e-3), |ms| ms / 1e3))
    }

    fn open(&self, policy: PolicyName, rate: f64, capacity: f64) -> Result<Record> {
        let target = self.target(capacity);
        let engine = self.engine(policy, target)?;
        let load = Load {
            rate,
            arrivals: self.arguments.arrivals,
            time: Duration::from_secs_f64(self.arguments.seconds),
            target,
            deadlines: !self.arguments.no_deadlines,
        };
        // Warm: plans are built and costs learned.
        let warm = Load { rate: rate.min(capacity), time: load.time.min(Duration::from_millis(300)), ..load };
        open(&engine, &self.kinds, &warm);
        let mut record = open(&engine, &self.kinds, &load);
        record.load = rate / capacity.max(f64::MIN_POSITIVE);
        record.policy = policy.name();
        Ok(self.finished(record, capacity, &engine))
    }

    fn closed(&self, capacity: f64) -> Result<Record> {
        let target = self.target(capacity);
        let engine = self.engine(self.arguments.policy, target)?;
        let once = |seconds| {
            let time = Duration::from_secs_f64(seconds);
            closed(&engine, &self.kinds, self.arguments.clients, self.arguments.outstanding, time, target)
        };
        once(self.arguments.seconds.min(0.5));
        let mut record = once(self.arguments.seconds);
        record.load = record.answered_per_s / capacity.max(f64::MIN_POSITIVE);
        record.policy = self.arguments.policy.name();
        Ok(self.finished(record, capacity, &engine))
    }

    fn finished(&self, mut record: Record, capacity: f64, engine: &Engine) -> Record {
        record.capacity_per_s = capacity;
        if self.arguments.mix == Mix::Tenants {
            record.judge_fairness();
        }
        let snapshot = engine.snapshot();
        snapshot.moves.iter().for_each(|step| eprintln!("{step}"));
        if self.arguments.prometheus {
            eprint!("{}", snapshot.to_prometheus());
        }
        record
    }
}

impl Arguments {
    /// Refuses what cannot be measured.
    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::InvalidInput, what));
        let least = |least: f64, value: f64| value >= least && value.is_finite();
        match self {
            _ if !(self.seconds > 0.0 && self.seconds < 1e6) => wrong("--seconds must be above 0"),
            _ if !least(0.0, self.load) || !self.rate.is_none_or(|rate| least(0.0, rate)) => {
                wrong("--load and --rate must not be negative")
            }
            _ if !self.target_ms.is_none_or(|ms| ms > 0.0 && ms < 1e9) => wrong("--target-ms must be above 0"),
            _ if self.clients == 0 || self.outstanding == 0 => wrong("--clients and --outstanding must be at least 1"),
            _ => Ok(()),
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    arguments.check()?;
    let model = Model::load(&arguments.model)?;
    let made = Made { batch: 1, seq: arguments.seq, fill: &arguments.fill, shape: &arguments.shape };
    let kinds = arguments.mix.kinds(&made, model.inputs())?;
    let model = model.compile(&onrush::CompileOptions::new())?;
    // Inputs that the model cannot take are told of here, not counted as failures under load.
    for kind in &kinds {
        model.run(kind.inputs.clone())?;
    }
    let test = Test { arguments, model, kinds };
    let capacity = test.capacity()?;
    let mut records = Vec::new();
    if arguments.mode == Mode::Closed && !arguments.sweep {
        records.push(test.closed(capacity)?);
    } else {
        let loads: Vec<f64> = match (arguments.sweep, arguments.rate) {
            (true, _) => [0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5].map(|load| load * capacity).into(),
            (false, Some(rate)) => vec![rate],
            (false, None) => vec![arguments.load * capacity],
        };
        let all = &PolicyName::value_variants()[..PolicyName::value_variants().len() - 1];
        let policies = match arguments.policies.as_slice() {
            [] => &[arguments.policy],
            asked if asked.contains(&PolicyName::All) => all,
            asked => asked,
        };
        for &policy in policies {
            for &rate in &loads {
                records.push(test.open(policy, rate, capacity)?);
            }
        }
    }
    if arguments.json {
        records.iter().for_each(|record| println!("{}", record.json()));
    } else {
        println!("capacity {capacity:.0} answers/s\n{}", report::table(&records));
    }
    if let Some(path) = &arguments.html {
        let name = arguments.model.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        std::fs::write(path, page::html(&name, &records))?;
    }
    Ok(())
}
