//! Control flow with small bodies, made of graphs.

use super::*;
use crate::ErrorKind;
use crate::graph::Graph;
use crate::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use crate::ops::{Body, Budget};
use crate::tensor::{DType, Dim, Fact, Symbol, Tensor};
use std::sync::Arc;

fn scalar(dtype: DType) -> Fact {
    Fact::concrete(dtype, &[])
}

fn eval(op: &dyn Op, inputs: &[Option<&Tensor>], budget: &Budget) -> Result<Vec<Tensor>> {
    let facts: Vec<Option<Fact>> = inputs.iter().map(|v| v.map(|v| Fact::constant(v.clone()))).collect();
    for fact in op.infer(Inputs::new(&facts.iter().map(Option::as_ref).collect::<Vec<_>>()))? {
        budget.admit(&fact)?;
    }
    op.eval(Inputs::new(inputs), budget)
}

/// `|iteration, condition, sum, addend| (sum + addend < limit, sum + addend, sum)`.
fn summing(limit: f32) -> Arc<dyn Body> {
    let mut body = Graph::new("body");
    body.input("iteration", scalar(DType::I64)).unwrap();
    body.input("condition", scalar(DType::Bool)).unwrap();
    let sum = body.input("sum", scalar(DType::F32)).unwrap();
    let addend = body.input("addend", scalar(DType::F32)).unwrap();
    let limit = body.constant("limit", Tensor::scalar(limit)).unwrap();
    let next = body.op("next", Binary(BinaryKind::Add), &[sum, addend]).unwrap();
    let goes_on = body.op("goes_on", Binary(BinaryKind::Less), &[next, limit]).unwrap();
    for output in [goes_on, next, sum] {
        body.output(output).unwrap();
    }
    Arc::new(body)
}

#[test]
fn a_loop_ends_by_count_or_by_condition() {
    let op = Loop { body: summing(10.0), captures: 1 };
    let (zero, three) = (Tensor::scalar(0.0f32), Tensor::scalar(3.0f32));
    for (trips, condition, sums) in [
        (Some(2i64), None, vec![0.0f32, 3.0]),
        (None, Some(true), vec![0.0, 3.0, 6.0, 9.0]),
        (Some(100), Some(true), vec![0.0, 3.0, 6.0, 9.0]),
        (Some(100), Some(false), vec![]),
        (Some(-1), None, vec![]),
    ] {
        let (trips, condition) = (trips.map(Tensor::scalar), condition.map(Tensor::scalar));
        let inputs = [trips.as_ref(), condition.as_ref(), Some(&zero), Some(&three)];
        let outputs = eval(&op, &inputs, &Budget::generous()).unwrap();
        assert_eq!(outputs[1].as_slice::<f32>().unwrap(), sums);
        assert_eq!(outputs[0].to_scalar::<f32>().unwrap(), sums.len() as f32 * 3.0);
    }
}

#[test]
fn an_endless_loop_meets_a_limit() {
    let op = Loop { body: summing(f32::INFINITY), captures: 1 };
    let (zero, one) = (Tensor::scalar(0.0f32), Tensor::scalar(1.0f32));
    let inputs = [None, None, Some(&zero), Some(&one)];
    let error = eval(&op, &inputs, &Budget::new(1 << 20, 3000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let error = eval(&op, &inputs, &Budget::new(400, 1 << 30)).unwrap_err();
    assert!(error.to_string().contains("bytes"), "{error}");
}

/// `|iteration, condition, x| (condition, x + x broadcast to [1, n])`: the rank grows once, then stays.
fn growing() -> Arc<dyn Body> {
    let mut body = Graph::new("body");
    body.input("iteration", scalar(DType::I64)).unwrap();
    let condition = body.input("condition", scalar(DType::Bool)).unwrap();
    let x = body.input("x", Fact::unranked(DType::F32)).unwrap();
    let zero = body.constant("zero", Tensor::new([1, 1], vec![0.0f32]).unwrap()).unwrap();
    let next = body.op("next", Binary(BinaryKind::Add), &[x, zero]).unwrap();
    body.output(condition).unwrap();
    body.output(next).unwrap();
    Arc::new(body)
}

#[test]
fn shapes_that_change_while_looping_are_relaxed() {
    let op = Loop { body: growing(), captures: 0 };
    let trips = Fact::constant(Tensor::scalar(2i64));
    let facts = [Some(&trips), None, Some(&Fact::concrete(DType::F32, &[3]))];
    assert_eq!(op.infer(Inputs::new(&facts)).unwrap()[0], Fact::unranked(DType::F32));
    let facts = [Some(&trips), None, Some(&Fact::concrete(DType::F32, &[2, 3]))];
    assert_eq!(op.infer(Inputs::new(&facts)).unwrap()[0], Fact::concrete(DType::F32, &[2, 3]));
}

#[test]
fn a_known_number_of_iterations_is_a_known_length() {
    let mut body = Graph::new("body");
    body.input("iteration", scalar(DType::I64)).unwrap();
    let condition = body.input("condition", scalar(DType::Bool)).unwrap();
    let x = body.input("x", Fact::unranked(DType::F32)).unwrap();
    for output in [condition, x, x] {
        body.output(output).unwrap();
    }
    let op = Loop { body: Arc::new(body), captures: 0 };
    let x = Fact::new(DType::F32, vec![Dim::Symbol(Symbol::new("N"))]);
    for (trips, shape) in [(4i64, "f32[4, N]"), (-4, "f32[0, N]"), (i64::MAX, "f32[9223372036854775807, N]")] {
        let trips = Fact::constant(Tensor::scalar(trips));
        let facts = op.infer(Inputs::new(&[Some(&trips), None, Some(&x)])).unwrap();
        assert_eq!(facts[1].to_string(), shape);
    }
    let value = Tensor::vector(vec![1.0f32]);
    let trips = Tensor::scalar(i64::MAX);
    let error = eval(&op, &[Some(&trips), None, Some(&value)], &Budget::new(1 << 20, 1 << 40)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

/// `|captured| op(captured)`.
fn unary(kind: UnaryKind, fact: Fact) -> Arc<dyn Body> {
    let mut body = Graph::new("branch");
    let x = body.input("x", fact).unwrap();
    let y = body.op("y", Unary(kind), &[x]).unwrap();
    body.output(y).unwrap();
    Arc::new(body)
}

#[test]
fn a_branch_is_chosen_by_the_condition() {
    let any = || Fact::unranked(DType::F32);
    let op = If { then_branch: unary(UnaryKind::Neg, any()), else_branch: unary(UnaryKind::Abs, any()), captures: 1 };
    for wrong in [Fact::concrete(DType::Bool, &[2]), Fact::concrete(DType::Bool, &[0]), scalar(DType::U8)] {
        let error = op.infer(Inputs::new(&[Some(&wrong), Some(&scalar(DType::F32))])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape, "{wrong}");
    }
    let x = Tensor::vector(vec![-1.0f32, 2.0]);
    for (condition, expected) in [(true, [1.0f32, -2.0]), (false, [1.0, 2.0])] {
        let outputs = eval(&op, &[Some(&Tensor::scalar(condition)), Some(&x)], &Budget::generous()).unwrap();
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), expected);
    }
}

#[test]
fn branches_that_differ_leave_the_shape_open() {
    // The second branch broadcasts to rank 2, and cannot run at all on rank 1 with length 5.
    let mut body = Graph::new("branch");
    let x = body.input("x", Fact::unranked(DType::F32)).unwrap();
    let ones = body.constant("ones", Tensor::new([1, 2], vec![1.0f32; 2]).unwrap()).unwrap();
    let y = body.op("y", Binary(BinaryKind::Add), &[x, ones]).unwrap();
    body.output(y).unwrap();
    let then_branch = unary(UnaryKind::Neg, Fact::unranked(DType::F32));
    let op = If { then_branch, else_branch: Arc::new(body), captures: 1 };
    let unknown = scalar(DType::Bool);
    let taken = Fact::constant(Tensor::scalar(false));
    for (condition, length, expected) in [
        (&unknown, 2, "f32[..]"),
        (&unknown, 5, "f32[5]"), // the branch that cannot run is not taken
        (&taken, 2, "f32[1, 2]"),
    ] {
        let x = Fact::concrete(DType::F32, &[length]);
        let facts = op.infer(Inputs::new(&[Some(condition), Some(&x)])).unwrap();
        assert_eq!(facts[0].to_string(), expected);
    }
    let x = Fact::concrete(DType::F32, &[5]);
    assert!(op.infer(Inputs::new(&[Some(&taken), Some(&x)])).is_err());
}

#[test]
fn nested_branches_and_loops_infer_and_run_in_linear_time() {
    const DEPTH: usize = 24;
    let mut body = unary(UnaryKind::Neg, Fact::unranked(DType::F32));
    for _ in 0..DEPTH {
        let mut outer = Graph::new("branch");
        let x = outer.input("x", Fact::unranked(DType::F32)).unwrap();
        let condition = outer.constant("condition", Tensor::scalar(true)).unwrap();
        let op = Arc::new(If { then_branch: body.clone(), else_branch: body, captures: 1 });
        let y = outer.node("if", op, &[Some(condition), Some(x)], &[Some("y")]).unwrap()[0].unwrap();
        outer.output(y).unwrap();
        body = Arc::new(outer);
    }
    let x = Tensor::vector(vec![1.0f32]);
    assert_eq!(
        body.eval(std::slice::from_ref(&x), &Budget::new(1 << 20, 1000)).unwrap()[0].to_f64_vec().unwrap(),
        [-1.0]
    );

    let mut body = growing();
    for _ in 0..8 {
        let mut outer = Graph::new("body");
        outer.input("iteration", scalar(DType::I64)).unwrap();
        let condition = outer.input("condition", scalar(DType::Bool)).unwrap();
        let x = outer.input("x", Fact::unranked(DType::F32)).unwrap();
        let one = outer.constant("one", Tensor::scalar(1i64)).unwrap();
        let op = Arc::new(Loop { body, captures: 0 });
        let y = outer.node("loop", op, &[Some(one), None, Some(x)], &[Some("y")]).unwrap()[0].unwrap();
        outer.output(condition).unwrap();
        outer.output(y).unwrap();
        body = Arc::new(outer);
    }
    let inputs = [Tensor::scalar(0i64), Tensor::scalar(true), x];
    let outputs = body.eval(&inputs, &Budget::new(1 << 20, 1000)).unwrap();
    assert_eq!(&**outputs[1].shape(), [1, 1]);
}

/// `|state, x, captured| (state + x, state * captured)`.
fn scanned(shape: &[usize]) -> Arc<dyn Body> {
    let mut body = Graph::new("body");
    let fact = || Fact::concrete(DType::I32, shape);
    let state = body.input("state", fact()).unwrap();
    let x = body.input("x", fact()).unwrap();
    let factor = body.input("factor", fact()).unwrap();
    let next = body.op("next", Binary(BinaryKind::Add), &[state, x]).unwrap();
    let scaled = body.op("scaled", Binary(BinaryKind::Mul), &[state, factor]).unwrap();
    body.output(next).unwrap();
    body.output(scaled).unwrap();
    Arc::new(body)
}

#[test]
fn a_scan_goes_either_way_along_any_axis() {
    let x = Tensor::new([2, 3], vec![1i32, 2, 3, 10, 20, 30]).unwrap();
    let start = Tensor::vector(vec![0i32, 0]);
    let factor = Tensor::vector(vec![1i32, 2]);
    let inputs = [Some(&start), Some(&x), Some(&factor)];
    for (input, output, shape, stacked) in [
        (ScanAxis { axis: 1, reverse: false }, ScanAxis { axis: 0, reverse: false }, [3, 2], [0, 0, 1, 20, 3, 60]),
        (ScanAxis { axis: -1, reverse: true }, ScanAxis { axis: 0, reverse: false }, [3, 2], [0, 0, 3, 60, 5, 100]),
        (ScanAxis { axis: 1, reverse: false }, ScanAxis { axis: 1, reverse: false }, [2, 3], [0, 1, 3, 0, 20, 60]),
        (ScanAxis { axis: 1, reverse: false }, ScanAxis { axis: -1, reverse: true }, [2, 3], [3, 1, 0, 60, 20, 0]),
    ] {
        let op = Scan { body: scanned(&[2]), inputs: vec![input], outputs: vec![output], captures: 1 };
        let outputs = eval(&op, &inputs, &Budget::generous()).unwrap();
        assert_eq!(outputs[0].as_slice::<i32>().unwrap(), [6, 60]);
        assert_eq!(outputs[1], Tensor::new(shape, stacked.to_vec()).unwrap());
        let facts = [&start, &x, &factor].map(|v| Fact::concrete(v.dtype(), v.shape()));
        let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        assert_eq!(op.infer(Inputs::new(&facts)).unwrap()[1], Fact::concrete(DType::I32, &shape));
    }
}

#[test]
fn a_batched_scan_ends_each_row_at_its_length() {
    let row =
        Scan { body: scanned(&[]), inputs: vec![ScanAxis::default()], outputs: vec![ScanAxis::default()], captures: 1 };
    let op = BatchScan { row };
    let lengths = Tensor::vector(vec![3i64, 1]);
    let start = Tensor::vector(vec![1i32, 2]);
    let x = Tensor::new([2, 3], vec![1i32, 2, 3, 10, 20, 30]).unwrap();
    let factor = Tensor::scalar(1i32);
    let inputs = [Some(&lengths), Some(&start), Some(&x), Some(&factor)];
    let outputs = eval(&op, &inputs, &Budget::generous()).unwrap();
    assert_eq!(outputs[0].as_slice::<i32>().unwrap(), [7, 12]);
    assert_eq!(outputs[1], Tensor::new([2, 3], vec![1, 2, 4, 2, 0, 0]).unwrap());
    let past_the_end = Tensor::vector(vec![3i64, 4]);
    let inputs = [Some(&past_the_end), Some(&start), Some(&x), Some(&factor)];
    assert_eq!(eval(&op, &inputs, &Budget::generous()).unwrap_err().kind(), ErrorKind::InvalidInput);
}
