//! The elementwise operators as nodes: values, dtypes, wrapping, errors, old opsets, and lengths that travel through.

use super::*;
use crate::error::{ErrorKind, Result};
use crate::ops::testing::{run, run_node};
use crate::ops::{Attr, Inputs, Op, registry};
use crate::tensor::{DType, Dim, Element, Fact, Symbol, Tensor};
use half::{bf16, f16};

fn node(op_type: &str, attrs: &[(&str, Attr)], inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    let opset = registry::find("", op_type).unwrap().opset;
    Ok(run_node(op_type, opset, attrs, &inputs)?.remove(0))
}

/// A binary operator on two vectors.
fn binary<T: Element, U: Element>(op_type: &str, a: &[T], b: &[T]) -> Result<Vec<U>> {
    let result = node(op_type, &[], &[&Tensor::vector(a.to_vec()), &Tensor::vector(b.to_vec())])?;
    Ok(result.as_slice::<U>()?.to_vec())
}

#[test]
fn every_unary_operator_runs_on_every_dtype_it_accepts() {
    for def in OPS.iter().filter(|d| *d.inputs.end() == 1 && d.domain.is_empty() && !d.name.contains("Cast")) {
        for dtype in DType::ALL {
            let x = Tensor::new([2, 3], vec![0.0f32, 1.0, 2.0, 0.5, 100.0, 3.0]).unwrap().cast(dtype).unwrap();
            match node(def.name, &[], &[&x]) {
                Ok(y) => assert_eq!(y.shape(), x.shape(), "{} of {dtype}", def.name),
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidModel, "{} of {dtype}: {error}", def.name),
            }
        }
    }
}

#[test]
fn every_binary_operator_runs_on_every_dtype_it_accepts() {
    let (a, b) = ([2usize, 1, 2], [3usize, 1]);
    for def in OPS.iter().filter(|d| d.inputs == (2..=2) && d.domain.is_empty() && !d.name.contains("Cast")) {
        let attrs: &[(&str, Attr)] =
            if def.name == "BitShift" { &[("direction", Attr::Str("LEFT".to_owned()))] } else { &[] };
        for dtype in DType::ALL {
            let x = Tensor::new(a, vec![3.0f32, 1.0, 5.0, 7.0]).unwrap().cast(dtype).unwrap();
            let y = Tensor::new(b, vec![1.0f32, 2.0, 3.0]).unwrap().cast(dtype).unwrap();
            let (x, y, expected) = match def.name {
                "PRelu" => (x, y.rows(0..1).unwrap(), vec![2, 1, 2]),
                _ => (x, y, vec![2, 3, 2]),
            };
            match node(def.name, attrs, &[&x, &y]) {
                Ok(z) => assert_eq!(**z.shape(), expected, "{} of {dtype}", def.name),
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidModel, "{} of {dtype}: {error}", def.name),
            }
        }
    }
}

#[test]
fn integers_wrap() {
    assert_eq!(binary::<u8, u8>("Add", &[250], &[10]).unwrap(), [4]);
    assert_eq!(binary::<i8, i8>("Mul", &[100], &[2]).unwrap(), [-56]);
    assert_eq!(binary::<u64, u64>("Mul", &[u64::MAX], &[u64::MAX]).unwrap(), [1]);
    assert_eq!(binary::<i64, i64>("Div", &[i64::MIN], &[-1]).unwrap(), [i64::MIN]);
    assert_eq!(binary::<i64, i64>("Mod", &[i64::MIN], &[-1]).unwrap(), [0]);
    assert_eq!(binary::<i64, i64>("Pow", &[3, 2, -2, 2], &[3, 64, 3, -1]).unwrap(), [27, 0, -8, 0]);
    let least = Tensor::vector(vec![i64::MIN, 5]);
    assert_eq!(node("Abs", &[], &[&least]).unwrap().as_slice::<i64>().unwrap(), [i64::MIN, 5]);
    assert_eq!(node("Neg", &[], &[&least]).unwrap().as_slice::<i64>().unwrap(), [i64::MIN, -5]);
}

#[test]
fn integers_divide_towards_zero_and_never_by_it() {
    assert_eq!(binary::<i32, i32>("Div", &[-7, 7, 7], &[2, -2, 2]).unwrap(), [-3, -3, 3]);
    assert_eq!(binary::<u64, u64>("Div", &[u64::MAX], &[2]).unwrap(), [u64::MAX / 2]);
    for op_type in ["Div", "Mod"] {
        let error = binary::<i32, i32>(op_type, &[1], &[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(binary::<i64, i64>("Pow", &[0], &[-1]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(binary::<f32, f32>("Div", &[1.0], &[0.0]).unwrap(), [f32::INFINITY]);
}

#[test]
fn the_remainder_takes_the_sign_that_is_asked_for() {
    let (a, b) = (vec![-4, 7, 5, 4, -7, 8], vec![2, -3, 8, -2, 3, 5]);
    assert_eq!(binary::<i32, i32>("Mod", &a, &b).unwrap(), [0, -2, 5, 0, 2, 3]);
    let fmod = [("fmod", Attr::Int(1))];
    let c = node("Mod", &fmod, &[&Tensor::vector(a), &Tensor::vector(b)]).unwrap();
    assert_eq!(c.as_slice::<i32>().unwrap(), [0, 1, 5, 0, -1, 3]);
    let x = Tensor::vector(vec![-4.3f32, 7.25]);
    let d = node("Mod", &fmod, &[&x, &Tensor::vector(vec![2.0f32, -3.0])]).unwrap();
    assert_eq!(d.as_slice::<f32>().unwrap(), [-4.3f32 % 2.0, 1.25]);
}

#[test]
fn shifts_past_the_width_yield_zero() {
    let shift = |direction: &str| {
        let (x, y) = (Tensor::vector(vec![16u8, 255, 1, 1]), Tensor::vector(vec![1u8, 4, 8, 200]));
        let z = node("BitShift", &[("direction", Attr::Str(direction.to_owned()))], &[&x, &y]).unwrap();
        z.as_slice::<u8>().unwrap().to_vec()
    };
    assert_eq!(shift("LEFT"), [32, 240, 0, 0]);
    assert_eq!(shift("RIGHT"), [8, 15, 0, 0]);
    let wide = Tensor::vector(vec![u64::MAX]);
    let right = [("direction", Attr::Str("RIGHT".to_owned()))];
    let z = node("BitShift", &right, &[&wide, &Tensor::vector(vec![63u64])]).unwrap();
    assert_eq!(z.as_slice::<u64>().unwrap(), [1]);
}

#[test]
fn powers_keep_the_dtype_of_the_base() {
    let base = Tensor::vector(vec![2i64, 3]);
    let y = node("Pow", &[], &[&base, &Tensor::vector(vec![0.5f32, 2.0])]).unwrap();
    assert_eq!(y.as_slice::<i64>().unwrap(), [1, 9]);
    let z = node("Pow", &[], &[&Tensor::vector(vec![0.5f32]), &Tensor::vector(vec![-2i32])]).unwrap();
    assert_eq!(z.as_slice::<f32>().unwrap(), [4.0]);
    let w = node("Pow", &[], &[&Tensor::vector(vec![3i32]), &Tensor::vector(vec![4u64])]).unwrap();
    assert_eq!(w.as_slice::<i32>().unwrap(), [81]);
}

#[test]
fn comparisons_are_exact_and_false_for_nan() {
    let big = 1i64 << 60;
    assert_eq!(binary::<i64, bool>("Less", &[big, 1], &[big + 1, 1]).unwrap(), [true, false]);
    assert_eq!(binary::<u64, bool>("Greater", &[u64::MAX], &[1]).unwrap(), [true]);
    for op_type in ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"] {
        assert_eq!(binary::<f32, bool>(op_type, &[f32::NAN], &[f32::NAN]).unwrap(), [false], "{op_type}");
    }
    assert_eq!(binary::<bool, bool>("Equal", &[true, false], &[true, true]).unwrap(), [true, false]);
    assert_eq!(binary::<f16, bool>("GreaterOrEqual", &[f16::ONE], &[f16::ONE]).unwrap(), [true]);
}

#[test]
fn extremes_of_many_inputs_propagate_nan() {
    let inputs = [
        Tensor::vector(vec![1.0f32, f32::NAN, 3.0]),
        Tensor::vector(vec![2.0f32, 0.0, f32::NAN]),
        Tensor::scalar(2.5f32),
    ];
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let most = node("Max", &[], &inputs).unwrap();
    assert_eq!(format!("{most:?}"), "f32[3][2.5, NaN, NaN]");
    let least = node("Min", &[], &inputs).unwrap();
    assert_eq!(format!("{least:?}"), "f32[3][1.0, NaN, NaN]");
    let mean = node("Mean", &[], &[&Tensor::vector(vec![1.0f32, 2.0]), &Tensor::scalar(2.0f32)]).unwrap();
    assert_eq!(mean.as_slice::<f32>().unwrap(), [1.5, 2.0]);
    let unsigned = node("Max", &[], &[&Tensor::scalar(u64::MAX), &Tensor::scalar(1u64)]).unwrap();
    assert_eq!(unsigned.to_scalar::<u64>().unwrap(), u64::MAX);
}

#[test]
fn clip_holds_between_bounds_of_every_opset() {
    let x = Tensor::vector(vec![-2.0f32, 0.5, 9.0, f32::NAN]);
    let attrs = [("min", Attr::Float(-1.0)), ("max", Attr::Float(1.0))];
    for (opset, attrs, inputs, expected) in [
        (6, &attrs[..], vec![], "[-1.0, 0.5, 1.0, NaN]"),
        (7, &attrs[1..], vec![], "[-2.0, 0.5, 1.0, NaN]"),
        (10, &[], vec![], "[-2.0, 0.5, 9.0, NaN]"),
        (13, &[], vec![Some(-1.0f32), Some(1.0)], "[-1.0, 0.5, 1.0, NaN]"),
        (13, &[], vec![None, Some(1.0)], "[-2.0, 0.5, 1.0, NaN]"),
        (13, &[], vec![Some(5.0), Some(1.0)], "[1.0, 1.0, 1.0, NaN]"),
    ] {
        let bounds: Vec<Option<Tensor>> = inputs.into_iter().map(|b| b.map(Tensor::scalar)).collect();
        let operands: Vec<Option<&Tensor>> =
            std::iter::once(Some(&x)).chain(bounds.iter().map(Option::as_ref)).collect();
        let y = run_node("Clip", opset, attrs, &operands).unwrap().remove(0);
        assert_eq!(format!("{y:?}"), format!("f32[4]{expected}"), "opset {opset}");
    }
    let half = Tensor::vector(vec![f16::from_f32(-3.0)]);
    let y = run_node("Clip", 6, &attrs, &[Some(&half)]).unwrap().remove(0);
    assert_eq!(y.as_slice::<f16>().unwrap(), [f16::NEG_ONE]);
}

#[test]
fn where_moves_every_dtype() {
    let condition = Tensor::new([2, 1], vec![true, false]).unwrap();
    for dtype in DType::ALL {
        let x = Tensor::vector(vec![1u8, 1, 1]).cast(dtype).unwrap();
        let y = Tensor::scalar(0u8).cast(dtype).unwrap();
        let z = node("Where", &[], &[&condition, &x, &y]).unwrap();
        assert_eq!(z.to_i64_vec().unwrap(), [1, 1, 1, 0, 0, 0], "{dtype}");
    }
}

#[test]
fn casts_reach_every_dtype_and_bits_survive_a_bit_cast() {
    for from in DType::ALL {
        for to in DType::ALL {
            let x = Tensor::vector(vec![0u8, 1, 1]).cast(from).unwrap();
            let y = run(&Cast { to }, &[Some(&x)]).unwrap().remove(0);
            assert_eq!((y.dtype(), y.to_i64_vec().unwrap()), (to, vec![0, 1, 1]), "{from} to {to}");
            let like = run(&CastLike, &[Some(&x), Some(&y)]).unwrap().remove(0);
            assert_eq!(like, y);
            let bits = run(&BitCast { to }, &[Some(&x)]);
            match bits {
                Ok(bits) => assert_eq!(bits[0].as_bytes(), x.as_bytes()),
                Err(error) => assert!(from.size() != to.size(), "{from} to {to}: {error}"),
            }
        }
    }
    let x = Tensor::vector(vec![2u8]);
    assert!(run(&BitCast { to: DType::Bool }, &[Some(&x)]).is_err());
}

#[test]
fn half_floats_are_rounded_once_at_the_end() {
    let x = Tensor::vector(vec![f16::from_f32(2.0), f16::from_f32(0.1)]);
    let y = node("Sqrt", &[], &[&x]).unwrap();
    let expected: Vec<f16> = x.as_slice::<f16>().unwrap().iter().map(|v| f16::from_f64(v.to_f64().sqrt())).collect();
    assert_eq!(y.as_slice::<f16>().unwrap(), expected);
    assert_eq!(binary::<bf16, bf16>("Add", &[bf16::ONE], &[bf16::ONE]).unwrap(), [bf16::from_f32(2.0)]);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let (x, y) = (Fact::concrete(DType::F32, &[2, 3]), Fact::concrete(DType::F32, &[2]));
    let cases: [(&dyn Op, &[&Fact], ErrorKind); 5] = [
        (&Binary(BinaryKind::Add), &[&x, &y], ErrorKind::Shape),
        (&Binary(BinaryKind::PRelu), &[&y, &x], ErrorKind::Shape),
        (&Variadic(VariadicKind::Max), &[&x, &y], ErrorKind::Shape),
        (&Clip, &[&x, &y], ErrorKind::Shape),
        (&Where, &[&x, &x, &x], ErrorKind::InvalidModel),
    ];
    for (op, facts, kind) in cases {
        let facts: Vec<Option<&Fact>> = facts.iter().copied().map(Some).collect();
        assert_eq!(op.infer(Inputs::new(&facts)).unwrap_err().kind(), kind, "{op:?}");
    }
}

#[test]
fn a_slope_of_symbols_may_turn_out_to_fit() {
    let x = Fact::concrete(DType::F32, &[2, 3, 1]);
    let slope =
        Fact::new(DType::F32, vec![Dim::Known(1), Dim::Symbol(Symbol::new("C")), Dim::Symbol(Symbol::new("W"))]);
    let infer = |slope: &Fact| Binary(BinaryKind::PRelu).infer(Inputs::new(&[Some(&x), Some(slope)]));
    assert_eq!(infer(&slope).unwrap().remove(0).dims(), x.dims());
    assert_eq!(infer(&Fact::concrete(DType::F32, &[1, 3, 2])).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn lengths_travel_through_integer_arithmetic() {
    let n = Dim::Symbol(Symbol::new("N"));
    let shape = Fact::concrete(DType::I64, &[2]).with_content(vec![n.clone(), Dim::Known(6)]);
    let constant = |v: i64| Fact::constant(Tensor::scalar(v));
    let content = |op: &dyn Op, facts: &[&Fact]| {
        let facts: Vec<Option<&Fact>> = facts.iter().copied().map(Some).collect();
        op.infer(Inputs::new(&facts)).unwrap().remove(0).content
    };
    let known = |first: Dim, second: usize| Some(vec![first, Dim::Known(second)]);
    let arithmetic = |kind, v| content(&Binary(kind), &[&shape, &constant(v)]);
    assert_eq!(arithmetic(BinaryKind::Mul, 1), known(n.clone(), 6));
    assert_eq!(arithmetic(BinaryKind::Add, 2), known(Dim::Unknown, 8));
    assert_eq!(arithmetic(BinaryKind::Sub, 0), known(n.clone(), 6));
    assert_eq!(arithmetic(BinaryKind::Div, 2), known(Dim::Unknown, 3));
    assert_eq!(arithmetic(BinaryKind::Div, 0), Some(vec![Dim::Unknown; 2]));
    assert_eq!(content(&Unary(UnaryKind::Identity), &[&shape]), known(n.clone(), 6));
    assert_eq!(content(&Cast { to: DType::I32 }, &[&shape]), known(n.clone(), 6));
    assert_eq!(content(&Cast { to: DType::F32 }, &[&shape]), None);
    let condition = Fact::constant(Tensor::vector(vec![true, false]));
    let ones = Fact::constant(Tensor::vector(vec![1i64, 1]));
    assert_eq!(content(&Where, &[&condition, &shape, &ones]), known(n, 1));
}
