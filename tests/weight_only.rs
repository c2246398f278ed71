//! Products with weights of few bits: by a kernel, in every form that a graph gives them, the same from a file, alone
//! and in a batch.

use onrush::graph::{Graph, ValueId};
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::matrix::MatMul;
use onrush::ops::quant::{DequantizeLinear, MatMulNBits};
use onrush::{CompileOptions, CompiledModel, DType, Fact, Model, Tensor};

/// Numbers in -1..1, other ones for another seed.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let element = |i: usize| ((i * 37 + seed * 101 + i * i % 13 * 5) % 128) as f32 / 64.0 - 1.0;
    Tensor::new(shape, (0..len).map(element).collect::<Vec<f32>>()).unwrap()
}

fn bytes(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    Tensor::new(shape, (0..len).map(|i| (i * 7919 % 251) as u8).collect::<Vec<_>>()).unwrap()
}

const K: usize = 300;
const N: usize = 70;

/// `MatMulNBits` of `x`, with zero points as bytes, as floats, or none.
fn product(graph: &mut Graph, x: ValueId, bits: usize, zeros: usize, bias: bool) -> ValueId {
    let op = MatMulNBits { k: K, n: N, bits, block_size: 32 };
    let blocks = op.blocks();
    let mut inputs = vec![Some(x), Some(graph.constant("codes", bytes(&[N, blocks, 32 * bits / 8])).unwrap())];
    let scales =
        Tensor::new([N * blocks], (0..N * blocks).map(|i| 0.01 + i as f32 * 1e-5).collect::<Vec<_>>()).unwrap();
    inputs.push(Some(graph.constant("scales", scales).unwrap()));
    let zeros = match zeros {
        0 => None,
        1 => Some(bytes(&[N, (blocks * bits).div_ceil(8)])),
        _ => Some(numbers(&[N, blocks], 5)),
    };
    inputs.push(zeros.map(|zeros| graph.constant("zeros", zeros).unwrap()));
    if bias {
        inputs.extend([None, Some(graph.constant("bias", numbers(&[N], 3)).unwrap())]);
    }
    graph.node("product", std::sync::Arc::new(op), &inputs, &[Some("y")]).unwrap()[0].unwrap()
}

fn compiled(graph: Graph, inputs: &[Tensor], what: &str) -> CompiledModel {
    let expected = graph.interpret(inputs).unwrap();
    let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape().clone()).collect();
    let plan = model.plan(&shapes).unwrap();
    assert!(plan.fallbacks().is_empty(), "{what}: {:?}", plan.fallbacks());
    let got = model.run(inputs).unwrap().into_vec();
    let pairs = got[0].to_f64_vec().unwrap().into_iter().zip(expected[0].to_f64_vec().unwrap());
    let tolerance = if got[0].dtype() == DType::F16 { 2e-2 } else { 1e-4 };
    for (at, (got, expected)) in pairs.enumerate() {
        assert!((got - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {at} is {got}, not {expected}");
    }
    model
}

#[test]
fn every_form_of_matmul_n_bits_has_a_kernel() {
    for (bits, zeros, bias) in [(4, 0, false), (4, 1, true), (8, 2, false), (8, 1, true), (2, 0, true), (2, 1, false)] {
        let mut graph = Graph::new("few bits");
        let x = graph.input("x", Fact::concrete(DType::F32, &[2, 3, K])).unwrap();
        let y = product(&mut graph, x, bits, zeros, bias);
        graph.output(y).unwrap();
        compiled(graph, &[numbers(&[2, 3, K], 1)], &format!("{bits} bits, zeros {zeros}, bias {bias}"));
    }
}

#[test]
fn what_follows_the_product_is_taken_in() {
    let mut graph = Graph::new("block");
    let x = graph.input("x", Fact::concrete(DType::F32, &[5, K])).unwrap();
    let other = graph.input("other", Fact::concrete(DType::F32, &[5, N])).unwrap();
    let y = product(&mut graph, x, 4, 0, false);
    let bias = graph.constant("bias", numbers(&[N], 2)).unwrap();
    let y = graph.op("bias", Binary(BinaryKind::Add), &[y, bias]).unwrap();
    let y = graph.op("sum", Binary(BinaryKind::Add), &[y, other]).unwrap();
    let y = graph.op("gelu", Unary(UnaryKind::Gelu { tanh: false }), &[y]).unwrap();
    graph.output(y).unwrap();
    let model = compiled(graph, &[numbers(&[5, K], 1), numbers(&[5, N], 4)], "a block");
    assert_eq!(model.graph().node_count(), 1);
}

#[test]
fn halves_are_widened() {
    let mut graph = Graph::new("halves");
    let x = graph.input("x", Fact::concrete(DType::F16, &[3, K])).unwrap();
    let op = MatMulNBits { k: K, n: N, bits: 4, block_size: 32 };
    let codes = graph.constant("codes", bytes(&[N, op.blocks(), 16])).unwrap();
    let scales = vec![half::f16::from_f32(0.01); N * op.blocks()];
    let scales = graph.constant("scales", Tensor::vector(scales)).unwrap();
    let y = graph.op("product", op, &[x, codes, scales]).unwrap();
    graph.output(y).unwrap();
    compiled(graph, &[numbers(&[3, K], 1).cast(DType::F16).unwrap()], "halves");
}

/// A product of reals with bytes of which each column has a scale.
fn dequantized() -> Graph {
    let mut graph = Graph::new("weight-only");
    let x = graph.input("x", Fact::concrete(DType::F32, &[6, K])).unwrap();
    let scales = Tensor::vector((0..N).map(|i| 0.01 + i as f32 * 1e-4).collect::<Vec<_>>());
    let zeros = Tensor::vector(vec![128u8; N]);
    let [w, scales, zeros] = [bytes(&[K, N]), scales, zeros].map(|tensor| graph.constant("c", tensor).unwrap());
    let w = graph.op("w", DequantizeLinear { axis: 1, ..Default::default() }, &[w, scales, zeros]).unwrap();
    let y = graph.op("y", MatMul, &[x, w]).unwrap();
    graph.output(y).unwrap();
    graph
}

#[test]
fn dequantized_weights_stay_bytes_and_go_through_files() {
    let x = numbers(&[6, K], 1);
    let model = compiled(dequantized(), std::slice::from_ref(&x), "dequantized weights");
    let whole = model.run(std::slice::from_ref(&x)).unwrap().into_vec();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onrush");
    model.save_compiled(&path).unwrap();
    let again = Model::load_compiled(&path, &CompileOptions::new()).unwrap();
    assert_eq!(again.run(std::slice::from_ref(&x)).unwrap().into_vec()[0], whole[0]);
}
