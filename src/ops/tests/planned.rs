//! A plan answers a node like the reference evaluation, whatever the node: it refuses what that refuses for its values,
//! and never panics or blames itself.

use super::pool::{Case, cases, each};
use crate::ops::Budget;
use crate::tensor::{DType, Dim, Fact, Symbol, Tensor};
use crate::{CompileOptions, Error, ErrorKind, Model, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A model of the one node, and its inputs: some operands are constants, some lengths are only known by name.
fn model(random: &mut fastrand::Rng, case: &Case) -> Result<(Model, Vec<Tensor>)> {
    let mut graph = crate::graph::Graph::new("node");
    let (mut operands, mut inputs) = (Vec::new(), Vec::new());
    for (index, tensor) in case.tensors.iter().enumerate() {
        operands.push(match tensor {
            None => None,
            Some(tensor) if random.u8(..3) == 0 => Some(graph.constant("c", tensor.clone())?),
            Some(tensor) => {
                let named = random.bool();
                let dim = |(axis, &n): (usize, &usize)| match named && axis == 0 {
                    true => Dim::Symbol(Symbol::new(&format!("N{index}"))),
                    false => Dim::Known(n),
                };
                let dims = tensor.shape().iter().enumerate().map(dim).collect();
                inputs.push(tensor.clone());
                Some(graph.input(&format!("x{index}"), Fact::new(tensor.dtype(), dims))?)
            }
        });
    }
    let names: Vec<String> = (0..case.outputs).map(|index| format!("y{index}")).collect();
    let names: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
    for output in graph.node("node", case.op.clone(), &operands, &names)?.into_iter().flatten() {
        graph.output(output)?;
    }
    Ok((Model::from_graph(graph)?, inputs))
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    let tolerance = if a.dtype() == DType::F16 { 2e-2 } else { 1e-3 };
    let (Ok(left), Ok(right)) = (a.to_f64_vec(), b.to_f64_vec()) else { return false };
    let near =
        |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + b.abs());
    a.dtype() == b.dtype() && a.shape() == b.shape() && left.iter().zip(&right).all(near)
}

/// What is wrong with the answer of a plan; sums of wild numbers depend on their order.
fn fault(reference: &Result<Vec<Tensor>>, planned: &Result<Vec<Tensor>>, tame: bool) -> Option<String> {
    let kind = |result: &Result<Vec<Tensor>>| result.as_ref().err().map(Error::kind);
    match (reference, planned) {
        (_, Err(error)) if error.kind() == ErrorKind::Internal => Some(error.to_string()),
        (Ok(reference), Ok(planned)) => {
            let apart = reference.iter().zip(planned).find(|(a, b)| a.shape() != b.shape() || tame && !close(b, a));
            apart.map(|(reference, planned)| format!("{planned:?} instead of {reference:?}"))
        }
        // What the memory or the steps are for is not the same.
        (Ok(_), Err(error)) if kind(planned) != Some(ErrorKind::Limit) => Some(error.to_string()),
        _ => None,
    }
}

fn attempt(random: &mut fastrand::Rng, case: &Case, tame: bool) -> Option<String> {
    let (model, inputs) = model(random, case).ok()?;
    let reference = model.graph().interpret_within(&inputs, &Budget::new(1 << 20, 1 << 10));
    [true, false].into_iter().find_map(|optimize| {
        let options = CompileOptions::new().optimize(optimize).max_run_bytes(1 << 20).max_run_steps(1 << 10).threads(1);
        let planned = model.compile(&options).and_then(|model| model.run(&inputs[..]));
        fault(&reference, &planned.map(crate::Outputs::into_vec), tame)
            .map(|fault| format!("optimize {optimize}: {fault}"))
    })
}

fn check(seed: u64, tame: bool) {
    let mut faults = Vec::new();
    each(seed, cases(12), tame, |random, case| {
        if !case.op.is_pure() {
            return false;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(random, case, tame)));
        let fault = outcome.unwrap_or_else(|_| Some("it panicked".to_owned()));
        faults.extend(fault.map(|fault| format!("{fault}\n  {case:?}")));
        true
    });
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_plan_of_one_node_answers_like_the_reference() {
    check(5, true);
}

#[test]
fn a_plan_of_one_node_survives_wild_numbers() {
    check(6, false);
}
