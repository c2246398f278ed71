//! Bytes by chance: whatever comes of them, it is no panic and takes no time.

use super::support::*;
use super::{bounded, refused};
use onrush::ErrorKind::Malformed;
use onrush::onnx::{LoadOptions, import};
use std::path::Path;

/// A model with something of everything.
fn sample() -> Vec<u8> {
    let then =
        Graph { nodes: vec![node("Relu", &["h"], &["t"], &[])], outputs: vec![unshaped("t", F32)], ..Graph::default() };
    let r#else =
        Graph { nodes: vec![node("Neg", &["h"], &["e"], &[])], outputs: vec![unshaped("e", F32)], ..Graph::default() };
    let branches = [body("then_branch", &then.message()), body("else_branch", &r#else.message())];
    let graph = Graph {
        nodes: vec![
            node("Add", &["x", "w"], &["h"], &[]),
            node("If", &["c"], &["i"], &branches),
            node("Reshape", &["i", "shape"], &["r"], &[int("allowzero", 1)]),
            node("Transpose", &["r"], &["y"], &[ints("perm", &[1, 0])]),
        ],
        initializers: vec![
            floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            integers("shape", &[1, 4]),
            raw("c", BOOL, &[], &[1]),
        ],
        inputs: vec![value("x", F32, &[2, 2])],
        outputs: vec![value("y", F32, &[4, 1])],
    };
    graph.model(17).0
}

#[test]
fn the_sample_itself_is_sound() {
    let model = import(sample().into(), &LoadOptions::default()).unwrap();
    let x = onrush::Tensor::new([2, 2], vec![0.0f32; 4]).unwrap();
    let y = model.graph.interpret(&[x]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn truncated_at_every_offset() {
    let model = sample();
    for end in 0..model.len() {
        refused(&model[..end], Malformed, &[]);
    }
}

#[test]
fn a_real_model_truncated_at_every_offset() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/mnist/model.onnx");
    let Ok(model) = std::fs::read(&path) else {
        assert!(std::env::var("ONRUSH_REQUIRE_SHARED").as_deref() != Ok("1"), "{} is missing", path.display());
        println!("skipped: no model at {}", path.display());
        return;
    };
    let model = bytes::Bytes::from(model);
    let mut accepted = 0;
    for end in 0..model.len() {
        accepted += usize::from(bounded(|| import(model.slice(..end), &LoadOptions::default())).is_ok());
    }
    // What stands behind the graph may be cut off.
    assert!(accepted < 64, "{accepted} truncated files were accepted");
}

#[test]
fn random_bytes() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..4_000 {
        let bytes: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        // Every other time as a graph, so that the walk gets further.
        let bytes = if random.bool() { header(17).bytes(7, &bytes).0 } else { bytes };
        let _ = bounded(|| import(bytes.into(), &LoadOptions::default()));
    }
}

#[test]
fn flipped_bits_and_replaced_bytes() {
    let model = sample();
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..4_000 {
        let mut bytes = model.clone();
        for _ in 0..random.usize(1..4) {
            let position = random.usize(..bytes.len());
            bytes[position] = if random.bool() { bytes[position] ^ 1 << random.u8(..8) } else { random.u8(..) };
        }
        let x = onrush::Tensor::new([2, 2], vec![0.0f32; 4]).unwrap();
        bounded(|| {
            if let Ok(model) = import(bytes.into(), &LoadOptions::default()) {
                let _ = model.graph.interpret_within(&[x], &onrush::ops::Budget::new(1 << 20, 1_000));
            }
        });
    }
}
