//! Shows a model: its layers, what the passes make of it, and where its time goes.

mod support;

use clap::Parser;
use onrush::backend::Profile;
use onrush::graph::Graph;
use onrush::{CompileOptions, CompiledModel, Error, Model, Result, Shape, Summary};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use support::Made;

#[derive(Parser)]
#[command(about = "Shows a model: summary, graph before and after the passes, time per step")]
struct Arguments {
    /// The ONNX file
    model: PathBuf,
    /// Write the optimized graph in Graphviz's format; the graph as loaded goes beside it, as FILE.before
    #[arg(long)]
    dot: Option<PathBuf>,
    /// Run it and print the time of each step
    #[arg(long)]
    profile: bool,
    /// Products in bfloat16
    #[arg(long)]
    bfloat16: bool,
    /// Length of a symbolic first axis when profiling
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Length of any other symbolic axis when profiling
    #[arg(long, default_value_t = 32)]
    seq: usize,
    /// NAME=VALUE: every element of this input; may repeat
    #[arg(long)]
    fill: Vec<String>,
    /// NAME=D,D,...: the shape of this input, empty for a scalar; may repeat
    #[arg(long)]
    shape: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

fn main() {
    if let Err(error) = inspect(&Arguments::parse()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn inspect(arguments: &Arguments) -> Result<()> {
    let model = Model::load(&arguments.model)?;
    let compiled = model.compile(&CompileOptions::new().bfloat16(arguments.bfloat16))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&model.summary()).expect("a summary is JSON"));
    } else {
        for (kind, list) in [("input", model.inputs()), ("output", model.outputs())] {
            for info in list {
                println!("{kind:<7} {info}");
            }
        }
        println!("\n{}\n{}\n{}", model.summary(), compiled.report(), Summary::of(compiled.graph()));
    }
    if let Some(path) = &arguments.dot {
        write(path, &dot(compiled.graph())?)?;
        let mut before = path.clone().into_os_string();
        before.push(".before");
        write(before.as_ref(), &dot(model.graph())?)?;
    }
    if arguments.profile {
        profile(arguments, &model, &compiled)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::from(error).at(path.display().to_string()))
}

fn profile(arguments: &Arguments, model: &Model, compiled: &CompiledModel) -> Result<()> {
    let Arguments { batch, seq, fill, shape, .. } = arguments;
    let inputs = Made { batch: *batch, seq: *seq, fill, shape }.inputs(model.inputs())?;
    let shapes: Vec<Shape> = inputs.iter().map(|t| t.shape().clone()).collect();
    let plan = compiled.plan(&shapes)?;
    let mut scratch = plan.scratch()?;
    plan.run(&mut scratch, &inputs)?;
    let mut profile = Profile::new();
    for _ in 0..20 {
        plan.run_profiled(&mut scratch, &inputs, &mut profile)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&profile).expect("a profile is JSON"));
        return Ok(());
    }
    println!("{profile}{:.1} MB of working memory", plan.scratch_bytes() as f64 / 1e6);
    for step in plan.fallbacks() {
        println!("by reference evaluation: {step}");
    }
    Ok(())
}

/// The graph in Graphviz's format: boxes for nodes, ellipses for inputs and outputs, facts on the edges.
fn dot(graph: &Graph) -> Result<String> {
    let mut text = String::from("digraph model {\n  node [shape=box, fontname=Helvetica, fontsize=10];\n");
    for input in graph.inputs() {
        let value = graph.value(*input);
        let label = format!("{}\n{}", value.name(), value.fact());
        let _ = writeln!(text, "  v{} [label={label:?}, shape=ellipse];", input.index());
    }
    for (id, node) in graph.nodes()? {
        let _ = writeln!(text, "  n{} [label={:?}];", id.index(), node.op().name());
        for input in node.inputs().iter().flatten() {
            let value = graph.value(*input);
            let from = match value.producer() {
                Some((producer, _)) => format!("n{}", producer.index()),
                None if value.fact().value.is_some() => continue,
                None => format!("v{}", input.index()),
            };
            let fact = value.fact().to_string();
            let _ = writeln!(text, "  {from} -> n{} [label={fact:?}, fontsize=8];", id.index());
        }
    }
    for output in graph.outputs() {
        let value = graph.value(*output);
        let _ = writeln!(text, "  o{} [label={:?}, shape=ellipse];", output.index(), value.name());
        if let Some((producer, _)) = value.producer() {
            let _ = writeln!(text, "  n{} -> o{};", producer.index(), output.index());
        }
    }
    text.push_str("}\n");
    Ok(text)
}
