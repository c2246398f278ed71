//! Every registered operator against random attributes, facts and tensors: it may refuse them, but not panic, ask for
//! memory that it has not announced, or contradict what it inferred.

use super::pool::{Case, cases, each};
use crate::ops::{Budget, Inputs};
use crate::tensor::{Dim, Fact, Symbol, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a plan may know of a tensor, and shapes that no tensor has.
fn fact(random: &mut fastrand::Rng, tensor: &Tensor) -> Fact {
    let dims = |random: &mut fastrand::Rng, wild: bool| -> Vec<Dim> {
        let dim = |&n: &usize| match random.usize(..4) {
            0 => Dim::Unknown,
            1 => Dim::Symbol(Symbol::new("N")),
            2 if wild => Dim::Known([usize::MAX, 1 << 40, i64::MAX as usize][n % 3]),
            _ => Dim::Known(n),
        };
        tensor.shape().iter().map(dim).collect()
    };
    let dtype = tensor.dtype();
    match random.usize(..6) {
        0 => Fact::unranked(dtype),
        1 => Fact::new(dtype, dims(random, false)),
        2 => Fact::new(dtype, dims(random, true)),
        3 if dtype.is_integer() && tensor.rank() <= 1 => {
            let content =
                (0..tensor.len()).map(|i| [Dim::Unknown, Dim::Known(i), Dim::Known(usize::MAX)][i % 3].clone());
            Fact::concrete(dtype, tensor.shape()).with_content(content.collect())
        }
        _ => Fact::constant(tensor.clone()),
    }
}

fn attempt(case: &Case, facts: &[Option<Fact>]) {
    let partly: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let _ = case.op.infer(Inputs::new(&partly));
    let constants: Vec<Option<Fact>> = case.tensors.iter().map(|t| t.clone().map(Fact::constant)).collect();
    let constants: Vec<Option<&Fact>> = constants.iter().map(Option::as_ref).collect();
    let Ok(inferred) = case.op.infer(Inputs::new(&constants)) else { return };
    let budget = Budget::new(1 << 20, 1 << 10);
    if inferred.iter().any(|fact| budget.admit(fact).is_err()) {
        return;
    }
    let inputs: Vec<Option<&Tensor>> = case.tensors.iter().map(Option::as_ref).collect();
    let Ok(outputs) = case.op.eval(Inputs::new(&inputs), &budget) else { return };
    for (fact, output) in inferred.iter().zip(&outputs) {
        let joined =
            Fact { value: None, content: None, ..fact.clone() }.unify(&Fact::concrete(output.dtype(), output.shape()));
        assert!(joined.is_ok(), "{fact} was inferred, {output:?} made");
    }
}

#[test]
fn wild_inputs_are_refused_without_a_panic() {
    let mut faults = Vec::new();
    each(11, cases(100), false, |random, case| {
        let facts: Vec<Option<Fact>> = case.tensors.iter().map(|t| t.as_ref().map(|t| fact(random, t))).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(case, &facts)));
        if outcome.is_err() {
            faults.push(format!("{case:?} or {facts:?}"));
        }
        outcome.is_ok()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
