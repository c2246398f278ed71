//! What a plan costs around its kernels: `cargo bench --bench plan`. A chain of trivial steps gives the overhead of one; a
//! batch through one core and through all of them gives what dividing it brings.

use onrush::graph::Graph;
use onrush::ops::elementwise::{Unary, UnaryKind};
use onrush::ops::nn::{Conv, Padding};
use onrush::{CompileOptions, CompiledModel, DType, Dim, Fact, Model, Result, Shape, Symbol, Tensor};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Steps of the long chain.
const STEPS: usize = 1024;

/// Images of the batch.
const BATCH: usize = 8;

fn main() -> Result<()> {
    let patience = if std::env::args().any(|argument| argument == "--quick") { 60 } else { 600 };
    let patience = Duration::from_millis(patience);

    let [short, long] =
        [chain(2)?, chain(2 + STEPS)?].map(|model| run_time(&model, Tensor::vector(vec![1.0f32]), patience));
    let step = (long?.as_secs_f64() - short?.as_secs_f64()) / STEPS as f64 * 1e9;
    println!("a trivial step of a plan                 {step:8.1} ns");

    let images = Tensor::zeros(DType::F32, [BATCH, 16, 56, 56])?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut alone = None;
    for threads in [1, cores] {
        let model = convolutions()?.compile(&CompileOptions::new().threads(threads))?;
        let time = run_time(&model, images.clone(), patience)?;
        let alone = *alone.get_or_insert(time);
        let gain = alone.as_secs_f64() / time.as_secs_f64();
        println!("a batch of {BATCH} on {threads:2} threads             {time:>11.2?}  {gain:.2} times one thread");
    }
    Ok(())
}

/// A chain of so many steps over one element, none of which falls to another.
fn chain(steps: usize) -> Result<CompiledModel> {
    let mut graph = Graph::new("chain");
    let mut value = graph.input("x", Fact::concrete(DType::F32, &[1]))?;
    for step in 0..steps {
        let kind = if step % 2 == 0 { UnaryKind::Neg } else { UnaryKind::Sqrt };
        value = graph.op("step", Unary(kind), &[value])?;
    }
    graph.output(value)?;
    Model::from_graph(graph)?.compile(&CompileOptions::new().optimize(false).threads(1))
}

/// Four convolutions over images whose number is open.
fn convolutions() -> Result<Model> {
    let mut graph = Graph::new("convolutions");
    let dims = vec![Dim::Symbol(Symbol::new("N")), Dim::Known(16), Dim::Known(56), Dim::Known(56)];
    let mut value = graph.input("x", Fact::new(DType::F32, dims))?;
    let weight = graph.constant("weight", Tensor::new([16, 16, 3, 3], vec![0.01f32; 16 * 16 * 9])?)?;
    for _ in 0..4 {
        let padding = Padding::Explicit { begin: vec![1, 1], end: vec![1, 1] };
        let conv = Conv { group: 1, kernel: None, strides: vec![], dilations: vec![], padding };
        value = graph.op("conv", conv, &[value, weight])?;
    }
    graph.output(value)?;
    Model::from_graph(graph)
}

/// The shortest of the runs that fit in `patience`, short ones timed several at a time.
fn run_time(model: &CompiledModel, input: Tensor, patience: Duration) -> Result<Duration> {
    let plan = model.plan(&[Shape::from(&input.shape()[..])])?;
    let mut scratch = plan.scratch()?;
    let inputs = [input];
    plan.run(&mut scratch, &inputs)?;
    let start = Instant::now();
    let mut shortest = Duration::MAX;
    while start.elapsed() < patience {
        const TURNS: u32 = 4;
        let turn = Instant::now();
        for _ in 0..TURNS {
            plan.run(&mut scratch, black_box(&inputs))?;
        }
        shortest = shortest.min(turn.elapsed() / TURNS);
    }
    Ok(shortest)
}
