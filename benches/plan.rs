//! What a plan costs around its kernels: `cargo bench --bench plan`. A chain of trivial steps gives the overhead of one; a
//! batch through a small residual network, on one core and on all of them, gives what dividing it brings.

mod support {
    pub(crate) mod timing;
}

use onrush::graph::{Graph, ValueId};
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::nn::{Conv, Padding};
use onrush::{CompileOptions, CompiledModel, DType, Dim, Fact, Model, Result, Shape, Symbol, Tensor};
use std::hint::black_box;
use std::time::{Duration, Instant};
use support::timing::is_timed;

/// Steps of the long chain.
const STEPS: usize = 1024;

/// Images of the batch.
const BATCH: usize = 8;

fn main() -> Result<()> {
    let patience = if is_timed() { Duration::from_millis(600) } else { Duration::ZERO };

    let [short, long] =
        [chain(2)?, chain(2 + STEPS)?].map(|model| run_time(&model, Tensor::vector(vec![1.0f32]), patience));
    let step = (long?.as_secs_f64() - short?.as_secs_f64()) / STEPS as f64 * 1e9;
    println!("a trivial step of a plan                 {step:8.1} ns");

    let images = Tensor::zeros(DType::F32, [BATCH, 3, 224, 224])?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let models = [1, cores].map(|threads| residual()?.compile(&CompileOptions::new().threads(threads)));
    let mut alone = None;
    for (threads, model) in [1, cores].into_iter().zip(models) {
        let time = run_time(&model?, images.clone(), patience)?;
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

/// A network built like ResNet-50, with one block for each of its stages, over images whose number is open.
fn residual() -> Result<Model> {
    let mut graph = Graph::new("residual");
    let dims = vec![Dim::Symbol(Symbol::new("N")), Dim::Known(3), Dim::Known(224), Dim::Known(224)];
    let image = graph.input("x", Fact::new(DType::F32, dims))?;
    let stem = conv(&mut graph, image, [3, 64], 7, 2)?;
    let stem = graph.op("relu", Unary(UnaryKind::Relu), &[stem])?;
    let mut value = conv(&mut graph, stem, [64, 64], 3, 2)?;
    let mut channels = 64;
    for (width, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
        let mut body = conv(&mut graph, value, [channels, width], 1, 1)?;
        for (between, kernel, stride) in [([width, width], 3, stride), ([width, 4 * width], 1, 1)] {
            body = graph.op("relu", Unary(UnaryKind::Relu), &[body])?;
            body = conv(&mut graph, body, between, kernel, stride)?;
        }
        let beside = conv(&mut graph, value, [channels, 4 * width], 1, stride)?;
        let sum = graph.op("add", Binary(BinaryKind::Add), &[body, beside])?;
        value = graph.op("relu", Unary(UnaryKind::Relu), &[sum])?;
        channels = 4 * width;
    }
    graph.output(value)?;
    Model::from_graph(graph)
}

/// A padded convolution from so many channels to so many.
fn conv(graph: &mut Graph, x: ValueId, [from, to]: [usize; 2], kernel: usize, stride: usize) -> Result<ValueId> {
    let weight = Tensor::new([to, from, kernel, kernel], vec![0.01f32; to * from * kernel * kernel])?;
    let weight = graph.constant("weight", weight)?;
    let pads = vec![kernel as i64 / 2; 2];
    let padding = Padding::Explicit { begin: pads.clone(), end: pads };
    graph.op(
        "conv",
        Conv { group: 1, kernel: None, strides: vec![stride; 2], dilations: vec![], padding },
        &[x, weight],
    )
}

/// The shortest of the runs that fit in `patience`, at least one; short ones timed several at a time.
fn run_time(model: &CompiledModel, input: Tensor, patience: Duration) -> Result<Duration> {
    let plan = model.plan(&[Shape::from(&input.shape()[..])])?;
    let mut scratch = plan.scratch()?;
    let inputs = [input];
    plan.run(&mut scratch, &inputs)?;
    let turns = {
        let start = Instant::now();
        plan.run(&mut scratch, &inputs)?;
        if start.elapsed() < Duration::from_millis(1) { 4 } else { 1 }
    };
    let start = Instant::now();
    let mut shortest = Duration::MAX;
    while shortest == Duration::MAX || start.elapsed() < patience {
        let turn = Instant::now();
        for _ in 0..turns {
            plan.run(&mut scratch, black_box(&inputs))?;
        }
        shortest = shortest.min(turn.elapsed() / turns);
    }
    Ok(shortest)
}
