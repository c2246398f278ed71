//! The reductions as nodes: axes of every opset, empty groups, NaN, ties, dtypes.

use super::*;
use crate::error::{ErrorKind, Result};
use crate::ops::testing::{run, run_node};
use crate::ops::{Attr, Inputs, Op};
use crate::tensor::{DType, Dim, Fact, Symbol, Tensor};

fn reduce(op_type: &str, x: &Tensor, axes: Option<&[i64]>, attrs: &[(&str, Attr)]) -> Result<Tensor> {
    let axes = axes.map(|a| Tensor::vector(a.to_vec()));
    let opset = crate::ops::registry::find("", op_type).unwrap().opset;
    Ok(run_node(op_type, opset, attrs, &[Some(x), axes.as_ref()])?.remove(0))
}

fn sample() -> Tensor {
    Tensor::new([3, 2, 2], (1..=12).map(|v| v as f32).collect()).unwrap()
}

#[test]
fn every_reduction_yields_its_formula() {
    for (op_type, expected) in [
        ("ReduceSum", [4.0, 6.0]),
        ("ReduceMean", [2.0, 3.0]),
        ("ReduceMax", [3.0, 4.0]),
        ("ReduceMin", [1.0, 2.0]),
        ("ReduceProd", [3.0, 8.0]),
        ("ReduceL1", [4.0, 6.0]),
        ("ReduceL2", [10f32.sqrt(), 20f32.sqrt()]),
        ("ReduceLogSum", [4f32.ln(), 6f32.ln()]),
        ("ReduceLogSumExp", [3.126_928, 4.126_928]),
        ("ReduceSumSquare", [10.0, 20.0]),
    ] {
        let y = reduce(op_type, &sample().rows(0..1).unwrap(), Some(&[1]), &[]).unwrap();
        assert_eq!(**y.shape(), [1, 1, 2], "{op_type}");
        for (actual, expected) in y.as_slice::<f32>().unwrap().iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-6, "{op_type}: {actual} is not {expected}");
        }
    }
}

#[test]
fn axes_are_read_as_every_opset_says_them() {
    let x = sample();
    let (axes, flat) = (("axes", Attr::Ints(vec![0, -1])), ("keepdims", Attr::Int(0)));
    let list = Tensor::vector(vec![0i64, -1]);
    let cases: [(u32, &[(&str, Attr)], Option<&Tensor>); 3] = [
        (11, &[axes, flat.clone()], None),
        (13, std::slice::from_ref(&flat), Some(&list)),
        (18, std::slice::from_ref(&flat), Some(&list)),
    ];
    for (opset, attrs, list) in cases {
        let y = run_node("ReduceSum", opset, attrs, &[Some(&x), list]).unwrap().remove(0);
        assert_eq!((&**y.shape(), y.to_i64_vec().unwrap()), (&[2usize][..], vec![33, 45]), "opset {opset}");
    }
    let mean = run_node("ReduceMean", 13, &[("axes", Attr::Ints(vec![1]))], &[Some(&x)]).unwrap().remove(0);
    assert_eq!(**mean.shape(), [3, 1, 2]);
    assert_eq!(reduce("ReduceSum", &x, None, &[]).unwrap().to_i64_vec().unwrap(), [78]);
}

#[test]
fn noop_still_applies_what_is_not_a_reduction() {
    let noop = [("noop_with_empty_axes", Attr::Int(1))];
    let x = Tensor::vector(vec![-2.0f32, 3.0]);
    for (op_type, expected) in [("ReduceSum", [-2, 3]), ("ReduceSumSquare", [4, 9]), ("ReduceL1", [2, 3])] {
        for axes in [None, Some(&[][..])] {
            let y = reduce(op_type, &x, axes, &noop).unwrap();
            assert_eq!(y.to_i64_vec().unwrap(), expected, "{op_type}");
        }
    }
}

#[test]
fn empty_groups_yield_the_neutral_element() {
    for (op_type, dtype, expected) in [
        ("ReduceSum", DType::F32, 0.0),
        ("ReduceProd", DType::F32, 1.0),
        ("ReduceMax", DType::F32, f64::NEG_INFINITY),
        ("ReduceMin", DType::F16, f64::INFINITY),
        ("ReduceMax", DType::I8, -128.0),
        ("ReduceMin", DType::U16, 65535.0),
        ("ReduceMax", DType::Bool, 0.0),
        ("ReduceMin", DType::Bool, 1.0),
        ("ReduceLogSum", DType::F32, f64::NEG_INFINITY),
        ("ReduceLogSumExp", DType::F32, f64::NEG_INFINITY),
        ("ReduceL2", DType::F32, 0.0),
        ("ReduceMean", DType::I32, 0.0),
    ] {
        let x = Tensor::zeros(dtype, [2, 0, 3]).unwrap();
        let y = reduce(op_type, &x, Some(&[1]), &[]).unwrap();
        assert_eq!((y.len(), y.to_f64_vec().unwrap()), (6, vec![expected; 6]), "{op_type} of {dtype}");
    }
    let mean = reduce("ReduceMean", &Tensor::zeros(DType::F32, [0]).unwrap(), None, &[]).unwrap();
    assert!(mean.as_slice::<f32>().unwrap()[0].is_nan());
}

#[test]
fn extremes_propagate_nan_and_large_exponents_do_not_overflow() {
    let x = Tensor::vector(vec![1.0f32, f32::NAN, 3.0]);
    for op_type in ["ReduceMax", "ReduceMin", "ReduceSum", "ReduceLogSumExp"] {
        assert!(reduce(op_type, &x, None, &[]).unwrap().as_slice::<f32>().unwrap()[0].is_nan(), "{op_type}");
    }
    let y = reduce("ReduceLogSumExp", &Tensor::vector(vec![1e4f32, 1e4]), None, &[]).unwrap();
    assert_eq!(y.as_slice::<f32>().unwrap(), [(1e4 + 2f64.ln()) as f32]);
    let unsigned = reduce("ReduceMax", &Tensor::vector(vec![u64::MAX, 1]), None, &[]).unwrap();
    assert_eq!(unsigned.as_slice::<u64>().unwrap(), [u64::MAX]);
    let huge = Tensor::vector(vec![i64::MIN, i64::MIN]);
    assert_eq!(reduce("ReduceSum", &huge, None, &[]).unwrap().as_slice::<i64>().unwrap(), [0]);
}

#[test]
fn unknown_axes_leave_what_can_be_said() {
    let n = Dim::Symbol(Symbol::new("N"));
    let x = Fact::new(DType::F32, vec![n.clone(), 3.into(), 4.into()]);
    let axes = Fact::concrete(DType::I64, &[2]);
    let listed = Fact::constant(Tensor::vector(vec![-1i64]));
    let infer = |keep_dims, axes: &Fact| {
        let op = Reduce { kind: ReduceKind::Sum, keep_dims, noop_with_empty_axes: false };
        op.infer(Inputs::new(&[Some(&x), Some(axes)])).unwrap().remove(0).shape
    };
    assert_eq!(infer(true, &axes), Some(vec![Dim::Unknown; 3]));
    assert_eq!(infer(false, &axes), Some(vec![Dim::Unknown]));
    assert_eq!(infer(false, &Fact::unranked(DType::I64)), None);
    assert_eq!(infer(false, &listed), Some(vec![n, 3.into()]));
}

#[test]
fn ties_and_nan_decide_where_an_extreme_stands() {
    let x = Tensor::new([2, 3], vec![2.0f32, 2.0, 1.0, 1.0, f32::NAN, f32::NAN]).unwrap();
    for (max, select_last, expected) in [(true, false, [0, 1]), (true, true, [1, 1]), (false, false, [2, 1])] {
        let op = ArgExtreme { max, axis: -1, keep_dims: false, select_last };
        assert_eq!(run(&op, &[Some(&x)]).unwrap()[0].as_slice::<i64>().unwrap(), expected, "{op:?}");
    }
    let op = ArgExtreme { max: true, axis: 0, keep_dims: true, select_last: false };
    let empty = Tensor::zeros(DType::F32, [0, 2]).unwrap();
    assert_eq!(run(&op, &[Some(&empty)]).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn the_top_few_come_in_order_with_ties_by_index() {
    let x = Tensor::new([2, 4], vec![1.0f32, 3.0, 3.0, 2.0, f32::NAN, 0.0, -0.0, 5.0]).unwrap();
    for (largest, k, expected) in [(1, 3, vec![1i64, 2, 3, 0, 3, 1]), (0, 2, vec![0, 3, 1, 2])] {
        let attrs = [("largest", Attr::Int(largest))];
        let results = run_node("TopK", 11, &attrs, &[Some(&x), Some(&Tensor::vector(vec![k]))]).unwrap();
        assert_eq!(results[1].as_slice::<i64>().unwrap(), expected, "largest {largest}");
        assert_eq!(**results[0].shape(), [2, k as usize]);
    }
    let old = run_node("TopK", 7, &[("k", Attr::Int(1)), ("axis", Attr::Int(0))], &[Some(&x)]).unwrap();
    assert_eq!(old[1].as_slice::<i64>().unwrap(), [1, 0, 0, 1]);
    for k in [5i64, -1] {
        assert!(run_node("TopK", 11, &[], &[Some(&x), Some(&Tensor::vector(vec![k]))]).is_err());
    }
    let none = run_node("TopK", 11, &[], &[Some(&x), Some(&Tensor::vector(vec![0i64]))]).unwrap();
    assert_eq!(**none[0].shape(), [2, 0]);
}

#[test]
fn running_sums_and_products_go_either_way() {
    let x = Tensor::vector(vec![1i32, 2, 3]);
    let axis = Tensor::scalar(0i32);
    for (exclusive, reverse, sums, products) in [
        (false, false, [1, 3, 6], [1, 2, 6]),
        (true, false, [0, 1, 3], [1, 1, 2]),
        (false, true, [6, 5, 3], [6, 6, 3]),
        (true, true, [5, 3, 0], [6, 3, 1]),
    ] {
        let inputs = [Some(&x), Some(&axis)];
        let sum = run(&CumSum { exclusive, reverse }, &inputs).unwrap().remove(0);
        assert_eq!(sum.as_slice::<i32>().unwrap(), sums, "exclusive {exclusive}, reverse {reverse}");
        let product = run(&CumProd { exclusive, reverse }, &inputs).unwrap().remove(0);
        assert_eq!(product.as_slice::<i32>().unwrap(), products, "exclusive {exclusive}, reverse {reverse}");
    }
    let y = Tensor::new([2, 3], vec![1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let down = run_node("CumSum", 11, &[], &[Some(&y), Some(&Tensor::vector(vec![-2i64]))]).unwrap();
    assert_eq!(down[0].to_i64_vec().unwrap(), [1, 2, 3, 5, 7, 9]);
}

#[test]
fn tensors_without_elements_and_with_huge_axes_have_nothing_to_do() {
    let huge = Tensor::zeros(DType::F32, [0, 1 << 40, 1 << 18]).unwrap();
    let axis = Tensor::scalar(0i64);
    assert!(run(&CumSum { exclusive: false, reverse: false }, &[Some(&huge), Some(&axis)]).is_ok());
    let op = ArgExtreme { max: true, axis: 1, keep_dims: true, select_last: false };
    assert!(run(&op, &[Some(&huge)]).is_ok());
    let sum = Reduce { kind: ReduceKind::Sum, keep_dims: true, noop_with_empty_axes: false };
    assert!(run(&sum, &[Some(&huge), Some(&Tensor::vector(vec![1i64]))]).is_ok());
}
