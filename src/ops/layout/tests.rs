//! Shape arithmetic as exporters write it: chains of operators that must keep a symbolic batch.

use super::{Concat, Reshape, ShapeOf, Squeeze, Unsqueeze};
use crate::ops::Op;
use crate::ops::create::{ConstantOfShape, Range};
use crate::ops::index::{Gather, Slice};
use crate::ops::testing::{infer_one, symbol};
use crate::tensor::{DType, Dim, Fact, Tensor};

fn list(values: &[i64]) -> Fact {
    Fact::constant(Tensor::vector(values.to_vec()))
}

fn run(op: &dyn Op, inputs: &[&Fact]) -> Fact {
    infer_one(op, inputs).unwrap()
}

/// `[N, 4, 8]`.
fn image() -> Fact {
    Fact::new(DType::F32, vec![symbol("N"), Dim::Known(4), Dim::Known(8)])
}

#[test]
fn a_batch_that_is_gathered_and_joined_survives() {
    let shape = run(&ShapeOf::default(), &[&image()]);
    let batch = run(&Gather { axis: 0 }, &[&shape, &Fact::constant(Tensor::scalar(0i64))]);
    let batch = run(&Unsqueeze, &[&batch, &list(&[0])]);
    for rest in [vec![32i64], vec![-1], vec![2, -1]] {
        let target = run(&Concat { axis: 0 }, &[&batch, &list(&rest)]);
        let flat = run(&Reshape::default(), &[&image(), &target]);
        assert_eq!(flat.dims().unwrap()[0], symbol("N"), "{rest:?}");
        assert!(flat.dims().unwrap()[1..].iter().all(|d| d.known().is_some()), "{rest:?}: {flat}");
    }
}

#[test]
fn a_batch_that_is_sliced_and_squeezed_survives() {
    let shape = run(&ShapeOf::default(), &[&image()]);
    let batch = run(&Slice, &[&shape, &list(&[0]), &list(&[1]), &list(&[0])]);
    let filled = run(&ConstantOfShape { value: Tensor::vector(vec![0.0f32]) }, &[&batch]);
    assert_eq!(filled.dims().unwrap(), [symbol("N")]);
    let batch = run(&Squeeze, &[&batch, &list(&[0])]);
    let scalar = |v: i64| Fact::constant(Tensor::scalar(v));
    let positions = run(&Range, &[&scalar(0), &batch, &scalar(1)]);
    assert_eq!(positions.dims().unwrap(), [symbol("N")]);
}
