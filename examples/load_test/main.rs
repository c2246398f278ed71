//! Puts an engine under load: callers in a closed loop, or arrivals that do not wait for answers.
//!
//! In an open loop latency counts from the moment at which a request was *scheduled* to arrive, so that a generator which
//! falls behind hides nothing.

mod drive;
mod page;
mod report;
#[path = "../support/mod.rs"]
mod support;

use clap::{Parser, ValueEnum};
use drive::{Arrivals, Load, closed, open};
use onrush::sched::{EarliestDeadline, FairShare, FirstCome, Policy, ShortestJob, StrictPriority};
use onrush::{Engine, EngineModel, Model, Result, Tensor};
use report::Record;
use std::path::PathBuf;
use std::time::Duration;
use support::Made;

#[derive(Parser)]
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
    #[arg(long)]
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
    #[arg(long, value_enum, default_value_t = PolicyName::FirstCome)]
    policy: PolicyName,
    /// Most rows in a batch
    #[arg(long, default_value_t = 32)]
    cap: u32,
    /// Batches that run at the same time; by default one for each core
    #[arg(long)]
    threads: Option<usize>,
    /// How long to measure each load
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Answers later than this are not good; open-loop requests carry it as their deadline. By default ten full batches
    #[arg(long)]
    target_ms: Option<f64>,
    /// Microseconds that a request may wait for company
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    /// Length of any symbolic axis but the first
    #[arg(long, default_value_t = 32)]
    seq: usize,
    /// NAME=VALUE: every element of this input; may repeat
    #[arg(long)]
    fill: Vec<String>,
    /// NAME=D,D,...: the shape of this input, empty for a scalar; may repeat
    #[arg(long)]
    shape: Vec<String>,
    /// Open loop: loads from 10 to 150 % of capacity, under every policy
    #[arg(long)]
    sweep: bool,
    /// Write a page with plots
    #[arg(long)]
    html: Option<PathBuf>,
    /// Print one line of JSON for each load
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Open,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PolicyName {
    FirstCome,
    Priority,
    ShortestJob,
    EarliestDeadline,
    FairShare,
}

impl PolicyName {
    fn make(self) -> Box<dyn Policy> {
        match self {
            PolicyName::FirstCome => Box::new(FirstCome),
            PolicyName::Priority => Box::new(StrictPriority::new(Duration::from_millis(500))),
            PolicyName::ShortestJob => Box::new(ShortestJob::new(Duration::from_millis(500))),
            PolicyName::EarliestDeadline => Box::new(EarliestDeadline::new()),
            PolicyName::FairShare => Box::new(FairShare::new(Duration::from_millis(1))),
        }
    }
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

struct Test<'a> {
    arguments: &'a Arguments,
    model: onrush::CompiledModel,
    inputs: Vec<Tensor>,
}

impl Test<'_> {
    fn engine(&self, policy: PolicyName) -> Result<Engine> {
        let builder = Engine::builder(EngineModel::from(self.model.clone()))
            .max_batch_size(self.arguments.cap)
            .max_queue_delay(Duration::from_micros(self.arguments.delay_us))
            .policy(policy.make());
        match self.arguments.threads {
            Some(threads) => builder.workers(threads).build(),
            None => builder.build(),
        }
    }

    /// Answers per second when the engine never runs dry.
    fn capacity(&self) -> Result<f64> {
        let engine = self.engine(PolicyName::FirstCome)?;
        let outstanding = self.arguments.cap as usize * 2;
        let once =
            |seconds| closed(&engine, &self.inputs, 2, outstanding, Duration::from_secs_f64(seconds), Duration::MAX);
        once(0.5);
        Ok(once(self.arguments.seconds.min(2.0)).answered_per_s)
    }

    fn open(&self, policy: PolicyName, rate: f64, capacity: f64) -> Result<Record> {
        let engine = self.engine(policy)?;
        let batch = f64::from(self.arguments.cap) / capacity.max(1.0);
        let target = self.arguments.target_ms.map_or(batch * 10.0, |ms| ms / 1e3);
        let load = Load {
            rate,
            arrivals: self.arguments.arrivals,
            time: Duration::from_secs_f64(self.arguments.seconds),
            target: Duration::from_secs_f64(target),
        };
        // Warm: plans are built and costs learned.
        let warm = Load { rate: rate.min(capacity), time: Duration::from_millis(300), ..load };
        open(&engine, &self.inputs, &warm);
        let mut record = open(&engine, &self.inputs, &load);
        record.capacity_per_s = capacity;
        record.load = rate / capacity.max(f64::MIN_POSITIVE);
        record.policy = policy.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        Ok(record)
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let model = Model::load(&arguments.model)?;
    let made = Made { batch: 1, seq: arguments.seq, fill: &arguments.fill, shape: &arguments.shape };
    let inputs = made.inputs(model.inputs())?;
    let model = model.compile(&onrush::CompileOptions::new())?;
    let test = Test { arguments, model, inputs };
    let mut records = Vec::new();
    if arguments.mode == Mode::Closed && !arguments.sweep {
        let engine = test.engine(arguments.policy)?;
        let target = arguments.target_ms.map_or(Duration::MAX, |ms| Duration::from_secs_f64(ms / 1e3));
        let once = |seconds| {
            let time = Duration::from_secs_f64(seconds);
            closed(&engine, &test.inputs, arguments.clients, arguments.outstanding, time, target)
        };
        once(0.5);
        records.push(once(arguments.seconds));
    } else {
        let capacity = test.capacity()?;
        let loads: Vec<f64> = match (arguments.sweep, arguments.rate) {
            (true, _) => [0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5].map(|load| load * capacity).into(),
            (false, Some(rate)) => vec![rate],
            (false, None) => vec![arguments.load * capacity],
        };
        let policies = if arguments.sweep { PolicyName::value_variants() } else { &[arguments.policy] };
        for &policy in policies {
            for &rate in &loads {
                records.push(test.open(policy, rate, capacity)?);
            }
        }
    }
    if arguments.json {
        records.iter().for_each(|record| println!("{}", record.json()));
    } else {
        println!("{}", report::table(&records));
    }
    if let Some(path) = &arguments.html {
        std::fs::write(path, page::html(&records))?;
    }
    Ok(())
}
