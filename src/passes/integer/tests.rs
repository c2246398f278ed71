//! What becomes a node on integers, and what has to stay as it is.

use super::super::testing::{check, graph_of, number, ramp};
use super::compute_on_integers;
use crate::graph::{Graph, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use crate::ops::matrix::MatMul;
use crate::ops::nn::{Conv, GlobalPool, GlobalPoolKind};
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::tensor::Tensor;

/// Quantized and dequantized with one scale.
fn rounded(graph: &mut Graph, x: ValueId, scale: f32) -> ValueId {
    let scale = number(graph, scale);
    let zero = graph.constant("zero", Tensor::scalar(100u8)).unwrap();
    let q = graph.op("q", QuantizeLinear::default(), &[x, scale, zero]).unwrap();
    graph.op("dq", DequantizeLinear::default(), &[q, scale, zero]).unwrap()
}

fn weight(graph: &mut Graph, shape: &[usize], axis: i64, scales: &[f32]) -> ValueId {
    let len: usize = shape.iter().product();
    let bytes = Tensor::new(shape, (0..len).map(|i| (i * 37 % 255) as u8 as i8).collect::<Vec<_>>()).unwrap();
    let bytes = graph.constant("bytes", bytes).unwrap();
    let scale = graph.constant("scales", Tensor::vector(scales.to_vec())).unwrap();
    graph.op("w", DequantizeLinear { axis, ..Default::default() }, &[bytes, scale]).unwrap()
}

#[test]
fn a_product_takes_the_conversions_around_it() {
    for (shape, image) in [(vec![2, 3, 4, 4], true), (vec![2, 3], false)] {
        let (mut graph, x) = graph_of(&shape);
        let x = rounded(&mut graph, x, 0.05);
        let y = if image {
            let w = weight(&mut graph, &[2, 3, 1, 1], 0, &[0.01, 0.02]);
            graph.op("y", Conv::default(), &[x, w]).unwrap()
        } else {
            let w = weight(&mut graph, &[3, 2], 1, &[0.01, 0.02]);
            graph.op("y", MatMul, &[x, w]).unwrap()
        };
        let y = rounded(&mut graph, y, 0.1);
        graph.output(y).unwrap();
        check(&mut graph, compute_on_integers, &[ramp(&shape)], 3);
    }
}

#[test]
fn scales_along_another_axis_and_real_inputs_stay_real() {
    for (axis, real) in [(0, false), (1, true)] {
        let (mut graph, x) = graph_of(&[2, 2]);
        let x = if real { x } else { rounded(&mut graph, x, 0.05) };
        let w = weight(&mut graph, &[2, 2], axis, &[0.01, 0.02]);
        let y = graph.op("y", MatMul, &[x, w]).unwrap();
        graph.output(y).unwrap();
        let nodes = graph.node_count();
        check(&mut graph, compute_on_integers, &[ramp(&[2, 2])], nodes);
    }
}

#[test]
fn a_result_that_is_wanted_as_it_is_stays_real() {
    let (mut graph, x) = graph_of(&[2, 3]);
    let x = rounded(&mut graph, x, 0.05);
    let w = weight(&mut graph, &[3, 2], 1, &[0.01, 0.02]);
    let y = graph.op("y", MatMul, &[x, w]).unwrap();
    let z = rounded(&mut graph, y, 0.1);
    graph.output(y).unwrap();
    graph.output(z).unwrap();
    // Quantized, the product, and the two conversions behind it.
    check(&mut graph, compute_on_integers, &[ramp(&[2, 3])], 4);
}

#[test]
fn sums_and_pools_of_bytes() {
    let (mut graph, x) = graph_of(&[2, 3, 4, 4]);
    let a = rounded(&mut graph, x, 0.05);
    let pooled = graph.op("pool", GlobalPool { kind: GlobalPoolKind::Average }, &[a]).unwrap();
    let pooled = rounded(&mut graph, pooled, 0.02);
    let sum = graph.op("sum", Binary(BinaryKind::Add), &[a, pooled]).unwrap();
    let sum = rounded(&mut graph, sum, 0.06);
    graph.output(sum).unwrap();
    check(&mut graph, compute_on_integers, &[ramp(&[2, 3, 4, 4])], 4);
}

#[test]
fn a_chain_of_functions_is_one_table() {
    let (mut graph, x) = graph_of(&[2, 3]);
    let a = rounded(&mut graph, x, 0.05);
    let b = graph.op("b", Unary(UnaryKind::Sigmoid), &[a]).unwrap();
    let b = rounded(&mut graph, b, 0.004);
    let c = graph.op("c", Binary(BinaryKind::Mul), &[a, b]).unwrap();
    let c = rounded(&mut graph, c, 0.03);
    let half = number(&mut graph, 0.5);
    let d = graph.op("d", Binary(BinaryKind::Mul), &[c, half]).unwrap();
    let d = rounded(&mut graph, d, 0.02);
    graph.output(d).unwrap();
    check(&mut graph, compute_on_integers, &[ramp(&[2, 3])], 3);
}

#[test]
fn a_vector_beside_it_is_no_function_of_one_byte() {
    let (mut graph, x) = graph_of(&[2, 3]);
    let a = rounded(&mut graph, x, 0.05);
    let vector = graph.constant("v", Tensor::vector(vec![1.0f32, 2.0, 3.0])).unwrap();
    let b = graph.op("b", Binary(BinaryKind::Add), &[a, vector]).unwrap();
    let b = rounded(&mut graph, b, 0.1);
    graph.output(b).unwrap();
    check(&mut graph, compute_on_integers, &[ramp(&[2, 3])], 5);
}
