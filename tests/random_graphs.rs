//! Properties that hold for every graph: random ones, each named by its seed.

#[path = "support/random_graph/mod.rs"]
mod random_graph;

use onrush::onnx::{self, LoadOptions};
use onrush::ops::Budget;
use onrush::{CompileOptions, Fact, Model, Tensor};

#[test]
fn interpretation_repeats_itself_and_agrees_with_inference() {
    for seed in 0..random_graph::count() {
        let random = random_graph::generate(seed);
        let place = || format!("seed {seed}\n{}", random.describe());
        random.graph.verify().unwrap_or_else(|e| panic!("{e}, {}", place()));
        for _ in 0..2 {
            let outputs = random.graph.interpret(&random.inputs).unwrap_or_else(|e| panic!("{e}, {}", place()));
            assert_eq!(outputs, random.outputs, "{}", place());
        }
        let symbolic: Vec<Fact> = random.graph.inputs().iter().map(|id| random.graph.fact(*id).clone()).collect();
        let concrete: Vec<Fact> = random.inputs.iter().map(|v| Fact::concrete(v.dtype(), v.shape())).collect();
        for (inputs, complete) in [(symbolic, false), (concrete, true)] {
            let facts = random.graph.infer_values(&inputs, &Budget::generous());
            let facts = facts.unwrap_or_else(|e| panic!("{e}, {}", place()));
            for (id, value) in &random.values {
                let fact = &facts[id.index()];
                let name = random.graph.value(*id).name();
                let holds = fact.unify(&Fact::concrete(value.dtype(), value.shape())).is_ok();
                assert!(holds, "{name} is {fact:?}, not {value:?}, {}", place());
                assert!(!complete || fact.concrete_shape().is_some(), "{name} is only {fact:?}, {}", place());
                assert!(fact.value.as_ref().is_none_or(|v| v == value), "{name} is {value:?}, {}", place());
                if let Some(lengths) = fact.lengths().filter(|_| fact.value.is_none()) {
                    let known = lengths.iter().zip(value.to_i64_vec().unwrap());
                    let agrees = |(d, n): (&onrush::Dim, i64)| d.known().is_none_or(|d| d as i64 == n);
                    assert!(known.clone().all(agrees), "{name} is {fact:?}, not {value:?}, {}", place());
                }
            }
        }
    }
}

#[test]
fn a_specialized_graph_answers_alike() {
    for seed in 0..random_graph::count() {
        let random = random_graph::generate(seed);
        let shapes: Vec<_> = random.inputs.iter().map(|v| v.shape().clone()).collect();
        let special = random.graph.specialize(&shapes).and_then(|graph| {
            graph.verify()?;
            graph.interpret(&random.inputs)
        });
        let outputs = special.unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", random.describe()));
        assert_eq!(outputs, random.outputs, "seed {seed}\n{}", random.describe());
    }
}

#[test]
fn a_graph_survives_its_file() {
    for seed in 0..random_graph::count() {
        let random = random_graph::generate(seed);
        let read = onnx::export(&random.graph).and_then(|bytes| onnx::import(bytes.into(), &LoadOptions::default()));
        let outputs = read.and_then(|read| read.graph.interpret(&random.inputs));
        let outputs = outputs.unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", random.describe()));
        assert_eq!(outputs, random.outputs, "seed {seed}\n{}", random.describe());
    }
}

#[test]
fn an_optimized_graph_answers_alike() {
    for seed in 0..random_graph::count() {
        let random = random_graph::generate(seed);
        let mut graph = random.graph.clone();
        let place = |e: onrush::Error| -> ! { panic!("seed {seed}: {e}\n{}", random.describe()) };
        onrush::passes::optimize(&mut graph).unwrap_or_else(|e| place(e));
        graph.verify().unwrap_or_else(|e| place(e));
        let outputs = graph.interpret(&random.inputs).unwrap_or_else(|e| place(e));
        random.assert_close(&outputs, "optimized");
        let again = onrush::passes::optimize(&mut graph).unwrap_or_else(|e| place(e));
        assert!(again.changes.is_empty(), "seed {seed} is not optimized at once: {again}\n{}", random.describe());
    }
}

#[test]
fn a_plan_answers_like_the_interpreter() {
    for seed in 0..random_graph::count() {
        let random = random_graph::generate(seed);
        let place = |e: onrush::Error| -> ! { panic!("seed {seed}: {e}\n{}", random.describe()) };
        let model = Model::from_graph(random.graph.clone()).unwrap_or_else(|e| place(e));
        for optimize in [false, true] {
            let compiled = model.compile(&CompileOptions::new().optimize(optimize)).unwrap_or_else(|e| place(e));
            // Twice, so that what the first run leaves in the scratch would show.
            for _ in 0..2 {
                let outputs = compiled.run(random.inputs.clone()).unwrap_or_else(|e| place(e));
                let outputs: Vec<Tensor> = (0..outputs.len()).map(|i| outputs[i].clone()).collect();
                random.assert_close(&outputs, if optimize { "optimized plan" } else { "plain plan" });
            }
        }
    }
}

#[test]
fn a_seed_names_one_graph_and_seeds_differ() {
    let (first, again) = (random_graph::generate(7), random_graph::generate(7));
    assert_eq!(first.describe(), again.describe());
    first.assert_close(&again.outputs, "the same graph");
    assert_ne!(first.describe(), random_graph::generate(8).describe());
    let off = Tensor::vector(vec![1.0f32, 2.1]);
    let right = Tensor::vector(vec![1.0f32, 2.0]);
    assert!(random_graph::close(&off, &right, 0.05).is_err() && random_graph::close(&off, &right, 0.2).is_ok());
    assert!(random_graph::close(&Tensor::vector(vec![f32::NAN, 2.0]), &right, 0.2).is_err());
}
