//! Tunes a model for this machine, prints what it chose and gained, and keeps it in a file.

mod support;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use onrush::{CompileOptions, Model, Result, Tensor, TuneOptions};
use std::path::PathBuf;
use std::time::Duration;
use support::Made;

#[derive(Parser)]
#[command(about = "Measures which ways to run a model are fastest here")]
struct Arguments {
    /// The ONNX file
    model: PathBuf,
    /// Lengths of a symbolic first axis, one set of shapes each
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    batch: Vec<usize>,
    /// Length of any other symbolic axis
    #[arg(long, default_value_t = 32)]
    seq: usize,
    /// Threads that one call may use
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// About how long to measure
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Keep the result in this file
    #[arg(long)]
    file: Option<PathBuf>,
    /// NAME=VALUE: every element of this input; may repeat
    #[arg(long)]
    fill: Vec<String>,
    /// NAME=D,D,...: the shape of this input, empty for a scalar; may repeat
    #[arg(long)]
    shape: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() {
    if let Err(error) = tune(&Arguments::parse()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn tune(arguments: &Arguments) -> Result<()> {
    let Arguments { seq, fill, shape, .. } = arguments;
    let model = Model::load(&arguments.model)?;
    let mut sets: Vec<Vec<Tensor>> = Vec::new();
    for batch in &arguments.batch {
        let set = Made { batch: *batch, seq: *seq, fill, shape }.inputs(model.inputs())?;
        let known = |other: &Vec<Tensor>| other.iter().map(Tensor::shape).eq(set.iter().map(Tensor::shape));
        if !sets.iter().any(known) {
            sets.push(set);
        }
    }
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let seconds = Duration::try_from_secs_f64(arguments.seconds).unwrap_or_default();
    let options = TuneOptions::new().budget(seconds).progress(move |progress| {
        shown.set_length(progress.total as u64);
        shown.set_position(progress.done as u64);
        shown.set_message(format!("{}: {:.3} ms", progress.measured, progress.ms));
    });
    let tuning = model.tune(&CompileOptions::new().threads(arguments.threads), sets, options)?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.file {
        tuning.save(path)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&tuning).expect("a record of numbers is JSON"));
    } else {
        print!("{tuning}");
        println!("together {:.2}x", tuning.gain());
    }
    Ok(())
}
