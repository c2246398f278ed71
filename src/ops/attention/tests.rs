//! What follows from the definitions, on small numbers. Keys of zeros weigh all values alike, so that an output is the
//! mean of the values in reach.

use super::*;
use crate::ErrorKind;
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::reader::Operand;
use crate::ops::testing::run;
use crate::ops::{Attr, NodeReader, Reading};
use crate::tensor::{DType, Fact, Tensor};
use std::sync::Arc;

const PLAIN: Attention = Attention {
    is_causal: false,
    q_num_heads: None,
    kv_num_heads: None,
    scale: None,
    softcap: 0.0,
    softmax_precision: None,
    qk_output: None,
    left_window: None,
    right_window: None,
};

fn tensor(shape: &[usize], elements: &[f32]) -> Tensor {
    Tensor::new(shape, elements.to_vec()).unwrap()
}

fn assert_close(value: &Tensor, expected: &[f64]) {
    let value = value.to_f64_vec().unwrap();
    let close = value.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(close && value.len() == expected.len(), "{value:?} is not {expected:?}");
}

/// Q, K and V `[1, 1, 4, 1]` with keys of zeros and values 1, 2, 4, 8.
fn means() -> [Tensor; 3] {
    let zeros = tensor(&[1, 1, 4, 1], &[0.0; 4]);
    [zeros.clone(), zeros, tensor(&[1, 1, 4, 1], &[1.0, 2.0, 4.0, 8.0])]
}

#[test]
fn a_query_attends_what_is_in_reach() {
    let [q, k, v] = means();
    let (causal, all) = ([1.0, 1.5, 7.0 / 3.0, 3.75], [3.75; 4]);
    let is_causal = true;
    for (op, expected) in [
        (PLAIN, all),
        (Attention { is_causal, ..PLAIN }, causal),
        (Attention { is_causal, left_window: Some(1), ..PLAIN }, [1.0, 1.5, 3.0, 6.0]),
        (Attention { left_window: Some(0), right_window: Some(1), ..PLAIN }, [1.5, 3.0, 6.0, 8.0]),
    ] {
        assert_close(&run(&op, &[Some(&q), Some(&k), Some(&v)]).unwrap()[0], &expected);
    }
}

#[test]
fn masks_are_added_or_exclude() {
    let [q, k, v] = means();
    let second = Tensor::vector(vec![false, true, false, false]);
    let nothing = Tensor::new([4, 1], vec![true, false, true, false]).unwrap(); // shorter than the keys: the rest is out
    let lifted = tensor(&[1, 4], &[0.0, 100.0, 0.0, f32::NEG_INFINITY]);
    let whole = Tensor::new([1, 4], vec![0i8, 100, 0, -100]).unwrap(); // numbers are added, whatever their dtype
    let cases = [(&second, [2.0; 4]), (&nothing, [1.0, 0.0, 1.0, 0.0]), (&lifted, [2.0; 4]), (&whole, [2.0; 4])];
    for (mask, expected) in cases {
        assert_close(&run(&PLAIN, &[Some(&q), Some(&k), Some(&v), Some(mask)]).unwrap()[0], &expected);
    }
    let wrong = Tensor::new([3, 4], vec![true; 12]).unwrap();
    assert_eq!(run(&PLAIN, &[Some(&q), Some(&k), Some(&v), Some(&wrong)]).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn values_out_of_reach_do_not_leak() {
    let [q, k, _] = means();
    let v = tensor(&[1, 1, 4, 1], &[1.0, 2.0, f32::NAN, f32::INFINITY]);
    let valid = Tensor::vector(vec![2i64]);
    let inputs = [Some(&q), Some(&k), Some(&v), None, None, None, Some(&valid)];
    assert_close(&run(&PLAIN, &inputs).unwrap()[0], &[1.5; 4]);
    // Two valid keys for four queries: the first two queries come before the first key.
    let causal = Attention { is_causal: true, ..PLAIN };
    assert_close(&run(&causal, &inputs).unwrap()[0], &[0.0, 0.0, 1.0, 1.5]);
}

#[test]
fn the_past_comes_first() {
    let op = Attention { is_causal: true, qk_output: Some(QkOutput::Weights), ..PLAIN };
    let [q, k, v] = [[1.0f32], [0.0], [8.0]].map(|e| tensor(&[1, 1, 1, 1], &e));
    let (past_k, past_v) = (tensor(&[1, 1, 2, 1], &[0.0; 2]), tensor(&[1, 1, 2, 1], &[1.0, 3.0]));
    let outputs = run(&op, &[Some(&q), Some(&k), Some(&v), None, Some(&past_k), Some(&past_v)]).unwrap();
    assert_close(&outputs[0], &[4.0]);
    assert_close(&outputs[2], &[1.0, 3.0, 8.0]);
    assert_close(&outputs[3], &[1.0 / 3.0; 3]);
}

#[test]
fn scores_come_out_at_each_stage() {
    let [q, k, v] = [[2.0f32, 0.0], [3.0, 0.0], [1.0, 1.0]].map(|e| tensor(&[1, 1, 1, 2], &e));
    let mask = tensor(&[1], &[0.5]);
    let capped = 4.0 * (3.0f64 / 4.0).tanh();
    for (stage, expected) in [
        (QkOutput::Scores, 3.0),
        (QkOutput::Capped, capped),
        (QkOutput::Masked, capped + 0.5),
        (QkOutput::Weights, 1.0),
    ] {
        let op = Attention { scale: Some(0.5), softcap: 4.0, qk_output: Some(stage), ..PLAIN };
        assert_close(&run(&op, &[Some(&q), Some(&k), Some(&v), Some(&mask)]).unwrap()[3], &[expected]);
    }
}

#[test]
fn heads_lie_side_by_side_or_apart() {
    let elements: Vec<f32> = (0..16).map(|i| (i * 7 % 5) as f32 / 2.0).collect();
    let merged = tensor(&[1, 2, 8], &elements); // length 2, four heads of size 2
    let apart: Vec<f32> = (0..4).flat_map(|h| [h * 2, h * 2 + 1, 8 + h * 2, 9 + h * 2]).map(|i| elements[i]).collect();
    let apart = tensor(&[1, 4, 2, 2], &apart);
    let keys = tensor(&[1, 2, 2, 2], &elements[..8]);
    let merged_keys = tensor(&[1, 2, 4], &[0, 1, 4, 5, 2, 3, 6, 7].map(|i| elements[i]));
    let by_head = run(&PLAIN, &[Some(&apart), Some(&keys), Some(&keys)]).unwrap();
    let op = Attention { q_num_heads: Some(4), kv_num_heads: Some(2), ..PLAIN };
    let side = run(&op, &[Some(&merged), Some(&merged_keys), Some(&merged_keys)]).unwrap();
    let back: Vec<f64> = (0..4)
        .flat_map(|h| [h * 2, h * 2 + 1, 8 + h * 2, 9 + h * 2])
        .collect::<Vec<usize>>()
        .iter()
        .map(|&i| side[0].to_f64_vec().unwrap()[i])
        .collect();
    assert_close(&by_head[0], &back);
    assert_eq!(side[1], keys);
    let op = Attention { q_num_heads: Some(4), kv_num_heads: Some(3), ..PLAIN };
    assert!(run(&op, &[Some(&merged), Some(&merged_keys), Some(&merged_keys)]).is_err());
}

#[test]
fn a_rotation_takes_the_angle_of_the_position() {
    let x = tensor(&[1, 1, 2, 4], &[1.0, 2.0, 0.0, 5.0, 1.0, 2.0, 0.0, 5.0]);
    let (cos, sin) = (tensor(&[2, 1], &[1.0, 0.0]), tensor(&[2, 1], &[0.0, 1.0])); // no turn, a quarter turn
    let positions = Tensor::new([1, 2], vec![0i64, 1]).unwrap();
    for (interleaved, turned) in [(true, [-2.0, 1.0, 0.0, 5.0]), (false, [-2.0, 1.0, 0.0, 5.0])] {
        let op = RotaryEmbedding { interleaved, rotary_dim: 2, num_heads: None };
        let y = run(&op, &[Some(&x), Some(&cos), Some(&sin), Some(&positions)]).unwrap();
        assert_close(&y[0].rows(0..1).unwrap(), &[[1.0, 2.0, 0.0, 5.0], turned].concat());
    }
    let (cos, sin) = (tensor(&[1, 2, 2], &[0.0; 4]), tensor(&[1, 2, 2], &[1.0; 4]));
    for (interleaved, turned) in [(true, [-2.0, 1.0, -5.0, 0.0]), (false, [0.0, -5.0, 1.0, 2.0])] {
        let op = RotaryEmbedding { interleaved, rotary_dim: 0, num_heads: None };
        let y = run(&op, &[Some(&x), Some(&cos), Some(&sin)]).unwrap();
        assert_close(&y[0], &[turned, turned].concat());
    }
    let past_the_end = Tensor::new([1, 2], vec![0i64, 2]).unwrap();
    let op = RotaryEmbedding { interleaved: false, rotary_dim: 2, num_heads: None };
    let (cos, sin) = (tensor(&[2, 1], &[1.0, 0.0]), tensor(&[2, 1], &[0.0, 1.0]));
    let error = run(&op, &[Some(&x), Some(&cos), Some(&sin), Some(&past_the_end)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn bodies_change_scores_and_weights() {
    let modify = |kind, operand: f32| {
        let mut body = Graph::new("modify");
        let scores = body.input("scores", Fact::unranked(DType::F32)).unwrap();
        let captured = body.input("captured", Fact::unranked(DType::F32)).unwrap();
        let operand = body.constant("operand", Tensor::scalar(operand)).unwrap();
        let scaled = body.op("scaled", Binary(BinaryKind::Mul), &[captured, operand]).unwrap();
        let changed = body.op("changed", Binary(kind), &[scores, scaled]).unwrap();
        body.output(changed).unwrap();
        Some(Arc::new(body) as Arc<dyn crate::ops::Body>)
    };
    let [q, k, v] = means();
    let op = FlexAttention {
        scale: None,
        softmax_precision: None,
        score_mod: modify(BinaryKind::Add, 1.0),
        prob_mod: modify(BinaryKind::Mul, 2.0),
        captures: 1,
    };
    let captured = tensor(&[4], &[0.0, 0.0, 0.0, 1000.0]); // all weight on the last key, then scaled by 2000
    assert_close(&run(&op, &[Some(&q), Some(&k), Some(&v), Some(&captured)]).unwrap()[0], &[16000.0; 4]);
}

#[test]
fn a_corrected_state_forgets_what_a_key_held() {
    let op = |rule| LinearAttention { q_num_heads: 1, kv_num_heads: 1, scale: 1.0, rule };
    let ones = tensor(&[1, 2, 1], &[1.0, 1.0]); // one key, used twice
    let v = tensor(&[1, 2, 1], &[3.0, 5.0]);
    let gate = tensor(&[1, 2, 1], &[0.5f32.ln(); 2]);
    let inputs = [Some(&ones), Some(&ones), Some(&v), None, Some(&gate), Some(&ones)];
    for (rule, expected) in [
        (UpdateRule::Linear, [3.0, 8.0]),
        (UpdateRule::Gated, [3.0, 6.5]),
        (UpdateRule::Delta, [3.0, 5.0]),
        (UpdateRule::GatedDelta, [3.0, 5.0]),
    ] {
        let outputs = run(&op(rule), &inputs).unwrap();
        assert_close(&outputs[0], &expected);
        assert_close(&outputs[1], &expected[1..]);
    }
}

/// Reads a node of ONNX Runtime's domain into its several nodes, and runs them.
fn run_contrib(name: &str, attrs: &[(&str, Attr)], inputs: &[Option<&Tensor>]) -> Result<Tensor> {
    let def = crate::ops::registry::find(contrib::DOMAIN, name).unwrap();
    let attrs = attrs.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
    let present = inputs.iter().map(Option::is_some).collect();
    let ranks = inputs.iter().map(|v| v.map(Tensor::rank)).collect();
    let mut node = NodeReader::new(name, 1, attrs, present, 1, 0).with_ranks(ranks);
    let reading = (def.read)(&mut node)?;
    node.finish()?;
    let Reading::Nodes(nodes) = reading else { panic!("{name} is one node") };
    let mut made: Vec<Vec<Tensor>> = Vec::new();
    for (op, operands) in nodes {
        let operand = |operand: &Operand| match operand {
            Operand::Input(index) => inputs[*index].unwrap().clone(),
            Operand::Output { node, output } => made[*node][*output].clone(),
            Operand::Constant(value) => value.clone(),
        };
        let operands: Vec<Tensor> = operands.iter().map(operand).collect();
        made.push(run(op.as_ref(), &operands.iter().map(Some).collect::<Vec<_>>())?);
    }
    Ok(made.pop().unwrap().swap_remove(0))
}

#[test]
fn contributed_attention_is_told_in_terms_of_onnx() {
    let zeros = tensor(&[2, 2, 1], &[0.0; 4]);
    let v = tensor(&[2, 2, 1], &[1.0, 3.0, 5.0, 9.0]);
    let heads = ("num_heads", Attr::Int(1));
    let lengths = Tensor::vector(vec![1i32, 2]);
    let mask = Tensor::new([2, 2], vec![1i32, 0, 1, 1]).unwrap();
    let expected = [1.0, 1.0, 7.0, 7.0];
    let inputs = [Some(&zeros), Some(&zeros), Some(&v), None, Some(&mask)];
    assert_close(&run_contrib("MultiHeadAttention", std::slice::from_ref(&heads), &inputs).unwrap(), &expected);
    // The weights yield queries and keys of zeros, and the input itself as values.
    let w = tensor(&[1, 3], &[0.0, 0.0, 1.0]);
    let bias = tensor(&[3], &[0.0, 0.0, 1.0]);
    for mask in [&lengths, &mask] {
        let y = run_contrib("Attention", std::slice::from_ref(&heads), &[Some(&v), Some(&w), Some(&bias), Some(mask)]);
        assert_close(&y.unwrap(), &expected.map(|e| e + 1.0));
    }
    let past = tensor(&[2, 2, 1, 1, 1], &[0.0; 4]);
    let error = run_contrib("Attention", &[heads], &[Some(&v), Some(&w), None, None, Some(&past)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_contributed_rotation_may_start_at_an_offset() {
    let x = tensor(&[1, 2, 4], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]); // two heads of size 2, by the angles
    let (cos, sin) = (tensor(&[3, 1], &[9.0, 1.0, 0.0]), tensor(&[3, 1], &[9.0, 0.0, 1.0]));
    let all = Tensor::new([1, 2], vec![1i64, 2]).unwrap();
    for positions in [&all, &Tensor::vector(vec![1i64])] {
        let y = run_contrib("RotaryEmbedding", &[], &[Some(&x), Some(positions), Some(&cos), Some(&sin)]).unwrap();
        assert_close(&y, &[1.0, 2.0, 1.0, 2.0, -2.0, 1.0, -2.0, 1.0]);
    }
}

#[test]
fn embeddings_are_summed_and_normalized() {
    let op = EmbedLayerNormalization { epsilon: 0.0 };
    let words = Tensor::new([2, 1], vec![1i32, 0]).unwrap();
    let table = tensor(&[2, 2], &[1.0, 2.0, 3.0, 9.0]);
    let positions = tensor(&[1, 2], &[1.0, 0.0]);
    let (scale, shift) = (tensor(&[2], &[2.0, 2.0]), tensor(&[2], &[0.0, 1.0]));
    let mask = Tensor::new([2, 1], vec![1i32, 0]).unwrap();
    let inputs = [&words, &table, &positions, &scale, &shift, &mask].map(Some);
    let [words, table, positions, scale, shift, mask] = inputs;
    let inputs = [words, None, table, positions, None, scale, shift, mask];
    let outputs = run(&op, &inputs).unwrap();
    assert_close(&outputs[2], &[4.0, 9.0, 2.0, 2.0]);
    assert_close(&outputs[0].rows(0..1).unwrap(), &[-2.0, 3.0]);
    assert_eq!(outputs[1].as_slice::<i32>().unwrap(), [1, 0]);
    let outside = Tensor::new([2, 1], vec![1i32, 2]).unwrap();
    let mut inputs = inputs;
    inputs[0] = Some(&outside);
    assert_eq!(run(&op, &inputs).unwrap_err().kind(), ErrorKind::InvalidInput);
}
