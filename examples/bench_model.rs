//! Times one model at one shape, and prints one line of JSON or a sentence.

mod support;

use clap::Parser;
use onrush::{CompileOptions, ErrorKind, Model, Result, Shape, Tensor};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::Made;

#[derive(Parser)]
#[command(about = "Times a model: median and 99th percentile of repeated runs")]
struct Arguments {
    /// The ONNX file
    model: PathBuf,
    /// Length of a symbolic first axis
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Length of any other symbolic axis
    #[arg(long, default_value_t = 32)]
    seq: usize,
    /// Threads that one call may use
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Rows that go through at once; by default the library chooses
    #[arg(long)]
    micro_batch: Option<usize>,
    /// Products in bfloat16: faster, with eight bits of precision
    #[arg(long)]
    bfloat16: bool,
    /// How long to measure
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Measure so many runs instead
    #[arg(long)]
    runs: Option<usize>,
    /// NAME=VALUE: every element of this input; may repeat
    #[arg(long)]
    fill: Vec<String>,
    /// NAME=D,D,...: the shape of this input, empty for a scalar; may repeat
    #[arg(long)]
    shape: Vec<String>,
    /// Map this compiled model in place of loading and compiling; it is written first where it is missing or stale
    #[arg(long)]
    compiled: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Record {
    median_ms: f64,
    p99_ms: f64,
    runs: usize,
    load_ms: f64,
    compile_ms: f64,
    first_ms: f64,
    /// What the process held before it called the library
    start_rss_mb: f64,
    rss_mb: f64,
    peak_rss_mb: f64,
    fallbacks: usize,
    threads: usize,
    micro_batch: Option<usize>,
    batch: usize,
}

fn main() {
    if let Err(error) = bench(&Arguments::parse()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let mut options = CompileOptions::new().threads(arguments.threads);
    options = options.bfloat16(arguments.bfloat16);
    if let Some(rows) = arguments.micro_batch {
        options = options.micro_batch(rows);
    }
    let Arguments { batch, seq, fill, shape, .. } = arguments;
    let made = Made { batch: *batch, seq: *seq, fill, shape };
    let shapes = |inputs: &[Tensor]| -> Vec<Shape> { inputs.iter().map(|t| t.shape().clone()).collect() };
    let start_rss_mb = memory_mb("VmRSS:");
    let start = Instant::now();
    let (compiled, load, inputs, start) = if let Some(path) = &arguments.compiled {
        let compiled = match Model::load_compiled(path, &options) {
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Malformed | ErrorKind::Stale) => {
                eprintln!("{error}: compiling");
                let compiled = Model::load(&arguments.model)?.compile(&options)?;
                compiled.plan(&shapes(&made.inputs(compiled.inputs())?))?;
                compiled.save_compiled(path)?;
                compiled
            }
            loaded => loaded?,
        };
        let load = start.elapsed();
        let inputs = made.inputs(compiled.inputs())?;
        (compiled, load, inputs, Instant::now())
    } else {
        let model = Model::load(&arguments.model)?;
        let load = start.elapsed();
        let inputs = made.inputs(model.inputs())?;
        let start = Instant::now();
        (model.compile(&options)?, load, inputs, start)
    };
    let plan = compiled.plan(&shapes(&inputs))?;
    let compile = start.elapsed();
    let mut scratch = plan.scratch()?;
    let start = Instant::now();
    plan.run(&mut scratch, &inputs)?;
    let first = start.elapsed();
    let rss_mb = memory_mb("VmRSS:");
    let mut times = Vec::new();
    let end = Instant::now() + arguments.seconds;
    let more = |done: usize| match arguments.runs {
        Some(runs) => done < runs.max(1),
        None => done < 3 || Instant::now() < end,
    };
    while more(times.len()) {
        let start = Instant::now();
        plan.run(&mut scratch, &inputs)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let record = Record {
        median_ms: milliseconds(times[times.len() / 2]),
        p99_ms: milliseconds(times[times.len() * 99 / 100]),
        runs: times.len(),
        load_ms: milliseconds(load),
        compile_ms: milliseconds(compile),
        first_ms: milliseconds(first),
        start_rss_mb,
        rss_mb,
        peak_rss_mb: memory_mb("VmHWM:"),
        fallbacks: plan.fallbacks().len(),
        threads: arguments.threads.max(1),
        micro_batch: plan.micro_batch(),
        batch: arguments.batch,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&record).expect("a record of numbers is JSON"));
    } else {
        let Record { median_ms, p99_ms, runs, load_ms, compile_ms, peak_rss_mb, fallbacks, .. } = record;
        println!("median {median_ms:.3} ms, p99 {p99_ms:.3} ms over {runs} runs");
        println!("load {load_ms:.1} ms, compile {compile_ms:.1} ms, {peak_rss_mb:.0} MB, {fallbacks} fallbacks");
    }
    Ok(())
}

/// A length of time that is no negative number, and no more than a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|e| format!("{e}"))?;
    let day = Duration::from_secs(24 * 60 * 60);
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()).map(|time| time.min(day))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A size of this process in MiB, where the system tells: `VmRSS:` what is resident, `VmHWM:` the most that ever was; 0
/// elsewhere.
fn memory_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
