//! Facts of values that one of several bodies, or one of several iterations, yields.

use crate::error::{Result, ensure};
use crate::ops::Body;
use crate::tensor::{Dim, Fact, Symbol};
use std::collections::HashSet;

/// What holds for a value that is described by either fact.
pub(super) fn join(a: &Fact, b: &Fact) -> Result<Fact> {
    ensure!(a.dtype == b.dtype, InvalidModel, "bodies yield {} and {} for one value", a.dtype, b.dtype);
    let same = |(x, y): (&Dim, &Dim)| if x == y { x.clone() } else { Dim::Unknown };
    let dims = |a: &[Dim], b: &[Dim]| -> Option<Vec<Dim>> {
        (a.len() == b.len()).then(|| a.iter().zip(b).map(same).collect())
    };
    Ok(Fact {
        dtype: a.dtype,
        shape: a.dims().zip(b.dims()).and_then(|(a, b)| dims(a, b)),
        value: if a.value == b.value { a.value.clone() } else { None },
        content: a.lengths().zip(b.lengths()).and_then(|(a, b)| dims(&a, &b)),
    })
}

/// The same shape and dtype, without what is known of the elements.
pub(super) fn without_elements(fact: &Fact) -> Fact {
    Fact { value: None, content: None, ..fact.clone() }
}

/// The facts of a body's outputs. A symbol that only the body knows means nothing outside, so it becomes unknown.
pub(super) fn infer_body(body: &dyn Body, inputs: &[Fact]) -> Result<Vec<Fact>> {
    let mut outputs = body.infer(inputs)?;
    ensure!(outputs.len() == body.output_count(), Internal, "a body inferred {} outputs", outputs.len());
    let dims = inputs.iter().flat_map(|f| f.shape.iter().chain(&f.content).flatten());
    let known: HashSet<Symbol> =
        dims.filter_map(|d| if let Dim::Symbol(s) = d { Some(s.clone()) } else { None }).collect();
    for fact in &mut outputs {
        for dim in fact.shape.iter_mut().chain(&mut fact.content).flatten() {
            if matches!(dim, Dim::Symbol(s) if !known.contains(s)) {
                *dim = Dim::Unknown;
            }
        }
    }
    Ok(outputs)
}

/// The facts of a body's outputs once the `carried` values have been through any number of iterations, and the facts
/// of those values. `first` is the index of the carried values among the inputs, `yielded` among the outputs.
///
/// Shapes that change from one iteration to the next are relaxed: first axis by axis, then altogether.
pub(super) fn iterate(
    body: &dyn Body,
    inputs: Vec<Fact>,
    first: usize,
    carried: usize,
    yielded: usize,
) -> Result<(Vec<Fact>, Vec<Fact>)> {
    let nested = nesting::enter();
    let mut inputs = inputs;
    let carried = first..first + carried;
    for fact in &mut inputs[carried.clone()] {
        *fact = if nested.is_deep() { Fact::unranked(fact.dtype) } else { without_elements(fact) };
    }
    const ROUNDS: usize = 4;
    let mut round = 0;
    loop {
        let outputs = infer_body(body, &inputs)?;
        let mut stable = true;
        for (slot, index) in carried.clone().enumerate() {
            let joined = without_elements(&join(&inputs[index], &outputs[yielded + slot])?);
            if joined != inputs[index] {
                stable = false;
                inputs[index] = if round < 2 { joined } else { Fact::unranked(joined.dtype) };
            }
        }
        if stable {
            return Ok((outputs, inputs.drain(carried).collect()));
        }
        round += 1;
        if round == ROUNDS - 1 {
            for fact in &mut inputs[carried.clone()] {
                *fact = Fact::unranked(fact.dtype);
            }
        }
    }
}

/// How deeply loops stand in loops while inferring. Each level may infer its body a few times, so deep levels do not
/// try to be precise: the work stays linear in the size of the model.
mod nesting {
    use std::cell::Cell;

    thread_local! {
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) struct Level(u32);

    pub(super) fn enter() -> Level {
        Level(DEPTH.replace(DEPTH.get() + 1))
    }

    impl Level {
        pub(super) fn is_deep(&self) -> bool {
            self.0 >= 2
        }
    }

    impl Drop for Level {
        fn drop(&mut self) {
            DEPTH.set(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn what_differs_is_unknown() {
        let a = Fact::concrete(DType::F32, &[2, 3]);
        assert_eq!(join(&a, &Fact::concrete(DType::F32, &[2, 4])).unwrap().to_string(), "f32[2, ?]");
        assert_eq!(join(&a, &Fact::concrete(DType::F32, &[2])).unwrap().to_string(), "f32[..]");
        assert!(join(&a, &Fact::concrete(DType::F64, &[2, 3])).is_err());
        let one = Fact::constant(Tensor::vector(vec![1i64, 2]));
        let other = Fact::constant(Tensor::vector(vec![1i64, 3]));
        assert_eq!(join(&one, &other).unwrap().content.unwrap(), [Dim::Known(1), Dim::Unknown]);
        assert!(join(&one, &one).unwrap().value.is_some());
    }
}
