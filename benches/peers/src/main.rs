//! Times Onrush, rten and tract on the same ONNX models in one process, in turn, and prints ratios.
//!
//!     cargo run --release -- MODEL.onnx ... [--batch 1,8] [--threads 1,2] [--seq 32] [--seconds 0.3] [--rounds 3]
//!
//! Each round runs every engine once for `--seconds`; a figure is the median of the rounds' medians, so that drift hits all
//! alike. The ratio is the best peer's time over Onrush's: above 1 Onrush is faster. tract divides only some of its
//! operators over threads.

mod engines;
mod feeds;

use clap::Parser;
use engines::{ENGINES, Run};
use feeds::{Wishes, feeds};
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Times Onrush, rten and tract on the same models")]
struct Arguments {
    /// The ONNX files
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Lengths of a symbolic first axis
    #[arg(long, value_delimiter = ',', default_value = "1")]
    batch: Vec<usize>,
    /// Length of any other symbolic axis
    #[arg(long, default_value_t = 32)]
    seq: usize,
    /// Threads that one call may use
    #[arg(long, value_delimiter = ',', default_value = "1")]
    threads: Vec<usize>,
    /// How long to measure each engine in each round
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// NAME=VALUE: every element of this input, in models that have it; may repeat
    #[arg(long)]
    fill: Vec<String>,
    /// NAME=D,D,...: the shape of this input, empty for a scalar; may repeat
    #[arg(long)]
    shape: Vec<String>,
    /// Print a line of JSON for each cell
    #[arg(long)]
    json: bool,
}

/// One model at one batch on so many threads; medians in milliseconds, in the order of the engines.
#[derive(Serialize)]
struct Cell {
    model: String,
    batch: usize,
    threads: usize,
    median_ms: Vec<Result<f64, String>>,
    ratio: Option<f64>,
}

fn main() {
    let arguments = Arguments::parse();
    // What a peer panics about is reported as its answer.
    std::panic::set_hook(Box::new(|_| ()));
    let mut ratios = Vec::new();
    if !arguments.json {
        let names: Vec<String> = ENGINES.iter().map(|(name, _)| format!("{name:>10}")).collect();
        println!("{:22} {:>3} {:>2} {}  ratio", "model", "b", "t", names.join(" "));
    }
    for path in &arguments.models {
        for &threads in &arguments.threads {
            for &batch in &arguments.batch {
                match cell(&arguments, path, batch, threads) {
                    Ok(Some(cell)) => {
                        ratios.extend(cell.ratio);
                        show(&cell, arguments.json);
                    }
                    Ok(None) => {}
                    Err(error) => eprintln!("{}: {error}", path.display()),
                }
            }
        }
    }
    if !arguments.json && !ratios.is_empty() {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        let worst = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        println!("geometric mean {mean:.3}, worst {worst:.3}, cells {}", ratios.len());
    }
}

/// `None` for a batch that the model's inputs do not have room for.
fn cell(arguments: &Arguments, path: &Path, batch: usize, threads: usize) -> Result<Option<Cell>, String> {
    let model = onrush::Model::load(path).map_err(|error| error.to_string())?;
    let wishes = Wishes { batch, seq: arguments.seq, fill: &arguments.fill, shape: &arguments.shape };
    let feeds = feeds(model.inputs(), &wishes)?;
    drop(model);
    if batch > 1 && feeds.iter().all(|feed| feed.shape.first() != Some(&batch)) {
        return Ok(None);
    }
    let mut runs: Vec<Result<Run, String>> = ENGINES
        .iter()
        .map(|(_, open)| caught(|| open(path, &feeds, threads)).and_then(|mut run| caught(&mut run).map(|_| run)))
        .collect();
    let mut medians = vec![Vec::new(); runs.len()];
    for _ in 0..arguments.rounds.max(1) {
        for (run, medians) in runs.iter_mut().zip(&mut medians) {
            let Ok(open) = run else { continue };
            match caught(|| timed(open, arguments.seconds)) {
                Ok(median) => medians.push(median),
                Err(error) => *run = Err(error),
            }
        }
    }
    let median_ms: Vec<Result<f64, String>> =
        runs.into_iter().zip(medians).map(|(run, mut medians)| run.map(|_| median(&mut medians))).collect();
    let best = median_ms[1..].iter().flatten().copied().reduce(f64::min);
    let ratio = best.zip(median_ms[0].as_ref().ok()).map(|(best, ours)| best / ours);
    let model = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(Cell { model, batch, threads, median_ms, ratio }))
}

/// The median of repeated runs in milliseconds.
fn timed(run: &mut Run, seconds: f64) -> Result<f64, Box<dyn std::error::Error>> {
    let (start, patience) = (Instant::now(), Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)));
    let mut times = Vec::new();
    while times.len() < 3 || start.elapsed() < patience {
        let start = Instant::now();
        std::hint::black_box(run()?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&mut times))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a step says, or panics, in one line.
fn caught<T>(step: impl FnOnce() -> Result<T, Box<dyn std::error::Error>>) -> Result<T, String> {
    let line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(answer) => answer.map_err(|error| {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            line(text)
        }),
        Err(panic) => Err(line(match panic.downcast_ref::<String>() {
            Some(text) => format!("panics: {text}"),
            None => format!("panics: {}", panic.downcast_ref::<&str>().unwrap_or(&"")),
        })),
    }
}

fn show(cell: &Cell, json: bool) {
    if json {
        println!("{}", serde_json::to_string(cell).expect("a record of numbers and text is JSON"));
        return;
    }
    let column = |median: &Result<f64, String>| match median {
        Ok(median) => format!("{median:10.3}"),
        Err(_) => format!("{:>10}", "-"),
    };
    let columns: Vec<String> = cell.median_ms.iter().map(column).collect();
    let ratio = cell.ratio.map_or(String::new(), |ratio| format!("{ratio:6.2}"));
    println!("{:22} {:3} {:2} {} {ratio}", cell.model, cell.batch, cell.threads, columns.join(" "));
    for ((name, _), median) in ENGINES.iter().zip(&cell.median_ms) {
        if let Err(error) = median {
            println!("  {name}: {}", error.chars().take(200).collect::<String>());
        }
    }
}
