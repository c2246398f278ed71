//! Runs a model on its recorded inputs and compares the outputs: exit code 1 on a mismatch.
//!
//! `DIR` holds `model.onnx` and `test_data_set_*` with `input_N.pb` and `output_N.pb`, as the ONNX backend suite lays
//! out its cases.

use clap::Parser;
use onrush::{CompileOptions, CompiledModel, Error, Model, Result, Tensor, onnx};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Runs DIR/model.onnx on each DIR/test_data_set_* and compares the outputs")]
struct Arguments {
    /// The folder with model.onnx
    dir: PathBuf,
    /// Relative tolerance: an element passes within it, or within the absolute one
    #[arg(long, default_value_t = 1e-3)]
    rtol: f64,
    /// Absolute tolerance
    #[arg(long, default_value_t = 1e-4)]
    atol: f64,
    /// Run the graph as the file has it, without the passes
    #[arg(long)]
    unoptimized: bool,
}

fn main() -> ExitCode {
    match check(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(arguments: &Arguments) -> Result<bool> {
    let model = Model::load(arguments.dir.join("model.onnx"))?;
    let model = model.compile(&CompileOptions::new().optimize(!arguments.unoptimized))?;
    let sets = numbered(&arguments.dir, "test_data_set_")?;
    if sets.is_empty() {
        eprintln!("{} has no test_data_set_*", arguments.dir.display());
        return Ok(false);
    }
    let mut good = true;
    for set in sets {
        good &= check_set(arguments, &model, &set)?;
    }
    Ok(good)
}

fn check_set(arguments: &Arguments, model: &CompiledModel, set: &Path) -> Result<bool> {
    let inputs = tensors(set, "input_")?;
    let expected = tensors(set, "output_")?;
    let outputs = model.run(inputs)?;
    let place = set.file_name().unwrap_or_default().to_string_lossy();
    let mut good = outputs.len() == expected.len();
    if !good {
        println!("FAIL {place}: {} outputs, {} expected", outputs.len(), expected.len());
    }
    for ((name, found), wanted) in outputs.iter().zip(&expected) {
        match compare(found, wanted, arguments.rtol, arguments.atol)? {
            Verdict::Match { absolute, relative } => {
                println!("ok   {place} {name}: largest absolute error {absolute:.3e}, relative {relative:.3e}");
            }
            Verdict::Differs(why) => {
                println!("FAIL {place} {name}: {why}");
                good = false;
            }
        }
    }
    Ok(good)
}

enum Verdict {
    Match { absolute: f64, relative: f64 },
    Differs(String),
}

fn compare(found: &Tensor, wanted: &Tensor, rtol: f64, atol: f64) -> Result<Verdict> {
    if found.dtype() != wanted.dtype() || found.shape() != wanted.shape() {
        let (a, b) = (found.dtype(), wanted.dtype());
        return Ok(Verdict::Differs(format!("{a}{} instead of {b}{}", found.shape(), wanted.shape())));
    }
    if found.dtype().is_integer() {
        // As floats two large integers that differ may look the same.
        let (found, wanted) = (found.to_i64_vec()?, wanted.to_i64_vec()?);
        return Ok(match found.iter().zip(&wanted).position(|(a, b)| a != b) {
            None => Verdict::Match { absolute: 0.0, relative: 0.0 },
            Some(index) => Verdict::Differs(format!("element {index} is {}, not {}", found[index], wanted[index])),
        });
    }
    let (mut absolute, mut relative, mut first) = (0f64, 0f64, None);
    for (index, (a, b)) in found.to_f64_vec()?.into_iter().zip(wanted.to_f64_vec()?).enumerate() {
        if a == b || (a.is_nan() && b.is_nan()) {
            continue;
        }
        let difference = (a - b).abs();
        absolute = larger(absolute, difference);
        relative = larger(relative, difference / b.abs());
        // Nothing finite is close to infinity.
        let close = difference <= atol || (b.is_finite() && difference <= rtol * b.abs());
        if !close && first.is_none() {
            first = Some(format!("element {index} is {a}, not {b}"));
        }
    }
    Ok(match first {
        None => Verdict::Match { absolute, relative },
        Some(first) => {
            Verdict::Differs(format!("{first}; largest absolute error {absolute:.3e}, relative {relative:.3e}"))
        }
    })
}

/// The larger of two errors; NaN, which is none of either size, stays.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn tensors(set: &Path, prefix: &str) -> Result<Vec<Tensor>> {
    let files = numbered(set, prefix)?;
    let read = |file: &PathBuf| Ok(onnx::read_tensor(&std::fs::read(file)?)?.1);
    files.iter().map(|file| read(file).map_err(|error: Error| error.at(file.display().to_string()))).collect()
}

/// The entries of a folder named `prefix` and a number, in the order of that number.
fn numbered(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(number) = stem.strip_prefix(prefix).and_then(|n| n.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
