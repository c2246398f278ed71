//! Quantized graphs run on integer kernels alone, and answer as the reference does to within one step of the output.

use onrush::graph::{Graph, ValueId};
use onrush::ops::elementwise::{Binary, BinaryKind, Cast, Unary, UnaryKind};
use onrush::ops::layout::Transpose;
use onrush::ops::matrix::{Gemm, MatMul};
use onrush::ops::nn::{Conv, GlobalPool, GlobalPoolKind, LayerNormalization, Padding, Pool, PoolKind, Softmax};
use onrush::ops::quant::{
    ConvInteger, DequantizeLinear, DynamicQuantizeLinear, MatMulInteger, QLinearConv, QLinearMatMul, QuantizeLinear,
};
use onrush::ops::reduce::{Reduce, ReduceKind};
use onrush::{CompileOptions, DType, Fact, Model, Tensor};
use std::sync::Arc;

/// A graph under construction: quantized activations of one dtype.
struct Net {
    graph: Graph,
    input: Tensor,
    signed: bool,
    last: ValueId,
}

/// Small numbers that repeat after a while, other ones for another seed.
fn number(i: usize, seed: usize) -> usize {
    (i * 7919 + seed * 104_729 + i * i % 1013 * 31) % 65_521
}

impl Net {
    /// An f32 input, quantized.
    fn new(shape: &[usize], signed: bool) -> Self {
        let len: usize = shape.iter().product();
        let reals: Vec<f32> = (0..len).map(|i| number(i, 1) as f32 / 32_760.0 - 1.0).collect();
        let mut graph = Graph::new("quantized");
        let last = graph.input("x", Fact::concrete(DType::F32, shape)).unwrap();
        let mut net = Net { graph, input: Tensor::new(shape, reals).unwrap(), signed, last };
        net.quantize(0.0083, 120);
        net
    }

    fn zero(&mut self, zero: i32) -> ValueId {
        let tensor = if self.signed { Tensor::scalar((zero - 128) as i8) } else { Tensor::scalar(zero as u8) };
        self.graph.constant("zero", tensor).unwrap()
    }

    /// `QuantizeLinear` and `DequantizeLinear` of what is last; the zero point as that of unsigned bytes.
    fn quantize(&mut self, scale: f32, zero: i32) {
        let scale = self.graph.constant("scale", Tensor::scalar(scale)).unwrap();
        let zero = self.zero(zero);
        let q = self.graph.op("q", QuantizeLinear::default(), &[self.last, scale, zero]).unwrap();
        self.last = self.graph.op("dq", DequantizeLinear::default(), &[q, scale, zero]).unwrap();
    }

    fn bytes(&mut self, shape: &[usize], unsigned: bool) -> ValueId {
        let len: usize = shape.iter().product();
        let tensor = if unsigned {
            Tensor::new(shape, (0..len).map(|i| (number(i, 3) % 200 + 28) as u8).collect::<Vec<u8>>())
        } else {
            Tensor::new(
                shape,
                (0..len).map(|i| (number(i, 3) % 255) as i32 - 127).map(|v| v as i8).collect::<Vec<i8>>(),
            )
        };
        self.graph.constant("weight", tensor.unwrap()).unwrap()
    }

    /// A dequantized weight; `channels` scales along `axis`, or one.
    fn weight(&mut self, shape: &[usize], axis: usize, each: bool, unsigned: bool) -> ValueId {
        let bytes = self.bytes(shape, unsigned);
        let n = shape[axis];
        let scales: Vec<f32> = (0..n).map(|i| 0.002 + i as f32 * 1e-4).collect();
        let (scale, zero) = match (each, unsigned) {
            (true, false) => (Tensor::vector(scales), Tensor::vector(vec![0i8; n])),
            (true, true) => (Tensor::vector(scales), Tensor::vector((0..n).map(|i| 126 + i as u8 % 3).collect())),
            (false, false) => (Tensor::scalar(0.003f32), Tensor::scalar(0i8)),
            (false, true) => (Tensor::scalar(0.003f32), Tensor::scalar(126u8)),
        };
        let scale = self.graph.constant("w scale", scale).unwrap();
        let zero = self.graph.constant("w zero", zero).unwrap();
        let op = DequantizeLinear { axis: axis as i64, ..Default::default() };
        self.graph.op("w", op, &[bytes, scale, zero]).unwrap()
    }

    fn vector(&mut self, n: usize) -> ValueId {
        let reals: Vec<f32> = (0..n).map(|i| number(i, 9) as f32 / 65_521.0 - 0.5).collect();
        self.graph.constant("vector", Tensor::vector(reals)).unwrap()
    }

    /// Sees that a kernel on integers took every step but the conversions named, and compares with the interpreter.
    fn check(mut self, step: f64, floats: usize, what: &str) {
        self.graph.output(self.last).unwrap();
        let inputs = [self.input];
        let expected = self.graph.interpret(&inputs).unwrap();
        let loaded = Model::from_graph(self.graph).unwrap();
        let model = loaded.compile(&CompileOptions::new()).unwrap();
        let plan = model.plan(&[inputs[0].shape().clone()]).unwrap();
        assert!(plan.fallbacks().is_empty(), "{what}: {:?}", plan.fallbacks());
        let names: Vec<&str> = model.graph().nodes().unwrap().map(|(_, node)| node.op().name()).collect();
        let real = |name: &&&str| {
            !["Quantized", "ChannelsLast", "ByteTable", "Transpose", "QuantizeLinear", "Chain"].contains(*name)
        };
        assert_eq!(names.iter().filter(real).count(), floats, "{what}: {names:?}");
        let got = model.run(&inputs[..]).unwrap().into_vec();
        assert_eq!(got[0].shape(), expected[0].shape(), "{what}");
        let (got, expected) = (got[0].to_f64_vec().unwrap(), expected[0].to_f64_vec().unwrap());
        let floats = loaded.compile(&CompileOptions::new().integers(false)).unwrap();
        let integers = floats.graph().nodes().unwrap().any(|(_, node)| node.op().name() == "Quantized");
        assert!(!integers, "{what}");
        let in_floats = floats.run(&inputs[..]).unwrap().into_vec()[0].to_f64_vec().unwrap();
        let near = in_floats.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() <= step * 1.001);
        assert!(near, "{what} in floats");
        let mut off = 0;
        for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!((got - expected).abs() <= step * 1.001, "{what}: element {at} is {got}, not {expected}");
            off += usize::from((got - expected).abs() > step * 0.5);
        }
        assert!(off * 50 <= got.len(), "{what}: {off} of {} are off by one", got.len());
    }
}

fn conv(pads: i64, stride: usize, group: usize) -> Conv {
    let padding = Padding::Explicit { begin: vec![pads; 2], end: vec![pads; 2] };
    Conv { group, kernel: None, strides: vec![stride; 2], dilations: vec![], padding }
}

#[test]
fn convolutions() {
    // Filters, channels of a group, kernel, padding, stride, groups.
    let sizes = [
        ([24, 12, 1, 1], 0, 1, 1),
        ([20, 12, 3, 3], 1, 1, 1),
        ([12, 1, 3, 3], 1, 2, 12),
        ([6, 4, 3, 2], 1, 1, 3),
        ([17, 12, 1, 1], 0, 2, 1),
    ];
    for (case, (shape, pads, stride, group)) in sizes.into_iter().enumerate() {
        for form in 0..8 {
            let (signed, each, unsigned) = (form & 1 == 1, form & 2 == 0, form & 4 == 4);
            let mut net = Net::new(&[2, 12, 7, 6], signed);
            let (x, w) = (net.last, net.weight(&shape, 0, each, unsigned));
            let bias = net.vector(shape[0]);
            net.last = net.graph.op("conv", conv(pads, stride, group), &[x, w, bias]).unwrap();
            if case == 1 {
                net.last = net.graph.op("relu", Unary(UnaryKind::Relu), &[net.last]).unwrap();
            }
            if case == 2 {
                net.last = net.graph.op("gelu", Unary(UnaryKind::Gelu { tanh: false }), &[net.last]).unwrap();
            }
            net.quantize(0.02, 100);
            net.check(0.02, 1, &format!("case {case}, form {form}"));
        }
    }
}

#[test]
fn a_residual_is_added_while_it_is_quantized_or_real() {
    for signed in [false, true] {
        let mut net = Net::new(&[1, 8, 5, 5], signed);
        let (x, w) = (net.last, net.weight(&[8, 8, 1, 1], 0, true, false));
        let a = net.graph.op("a", conv(0, 1, 1), &[x, w]).unwrap();
        let sum = net.graph.op("sum", Binary(BinaryKind::Add), &[a, x]).unwrap();
        net.last = net.graph.op("relu", Unary(UnaryKind::Relu), &[sum]).unwrap();
        net.quantize(0.01, 3);
        net.check(0.01, 1, "a quantized residual");
    }
}

#[test]
fn matrix_products() {
    for form in 0..16 {
        let (signed, each, unsigned, general) = (form & 1 == 1, form & 2 == 0, form & 4 == 4, form & 8 == 8);
        let mut net = Net::new(if general { &[5, 37] } else { &[2, 3, 37] }, signed);
        let (k, n) = (37, 21);
        let x = net.last;
        let bias = net.vector(n);
        if general {
            let w = net.weight(&[n, k], 0, each, unsigned);
            let op = Gemm { trans_b: true, ..Default::default() };
            net.last = net.graph.op("gemm", op, &[x, w, bias]).unwrap();
        } else {
            let w = net.weight(&[k, n], 1, each, unsigned);
            let product = net.graph.op("product", MatMul, &[x, w]).unwrap();
            net.last = net.graph.op("bias", Binary(BinaryKind::Add), &[product, bias]).unwrap();
        }
        net.quantize(0.01, 130);
        net.check(0.01, 1, &format!("form {form}"));
    }
}

#[test]
fn products_of_two_computed_matrices() {
    for form in 0..4 {
        let (signed, shared) = (form & 1 == 1, form & 2 == 2);
        let mut net = Net::new(&[2, 3, 5, 14], signed);
        let x = net.last;
        let turned = Transpose { perm: Some(vec![0, 1, 3, 2]) };
        net.last = net.graph.op("turned", turned, &[x]).unwrap();
        if shared {
            let axes = net.graph.constant("axes", Tensor::vector(vec![1i64])).unwrap();
            let mean = Reduce { kind: ReduceKind::Mean, keep_dims: true, noop_with_empty_axes: false };
            net.last = net.graph.op("one for all", mean, &[net.last, axes]).unwrap();
        }
        net.quantize(0.0079, 131);
        net.last = net.graph.op("product", MatMul, &[x, net.last]).unwrap();
        net.quantize(0.02, 110);
        net.check(0.02, if shared { 3 } else { 1 }, &format!("form {form}"));
    }
}

#[test]
fn sums_behind_products_are_rounded_twice() {
    for form in 0..8 {
        let (signed, image, bytes) = (form & 1 == 1, form & 2 == 2, form & 4 == 4);
        let mut net = Net::new(if image { &[2, 20, 5, 3] } else { &[2, 5, 20] }, signed);
        let x = net.last;
        net.last = if image {
            let w = net.weight(&[20, 20, 1, 1], 0, true, false);
            net.graph.op("conv", conv(0, 1, 1), &[x, w]).unwrap()
        } else {
            let w = net.weight(&[20, 20], 1, true, false);
            net.graph.op("product", MatMul, &[x, w]).unwrap()
        };
        net.quantize(0.011, 90);
        let other = if bytes || image { x } else { net.vector(20) };
        net.last = net.graph.op("sum", Binary(BinaryKind::Add), &[other, net.last]).unwrap();
        net.quantize(0.017, 140);
        net.check(0.017, 1, &format!("form {form}"));
    }
}

#[test]
fn sums_and_products_of_two() {
    for signed in [false, true] {
        for kind in [BinaryKind::Add, BinaryKind::Mul] {
            let mut net = Net::new(&[2, 6, 10], signed);
            let x = net.last;
            net.last = net.graph.op("softmax", Softmax { axis: -1 }, &[x]).unwrap();
            net.quantize(1.0 / 255.0, 0);
            let weights = net.last;
            net.last = net.graph.op("both", Binary(kind), &[weights, x]).unwrap();
            net.quantize(0.006, 110);
            net.check(0.006 * 2.0, 1, &format!("{kind:?}"));
        }
    }
}

#[test]
fn pools_and_rows() {
    for signed in [false, true] {
        let average = PoolKind::Average { count_include_pad: true };
        let padding = Padding::Explicit { begin: vec![1, 1], end: vec![1, 1] };
        let window = |kind| Pool {
            kind,
            kernel: vec![3, 3],
            strides: vec![2, 2],
            dilations: vec![],
            padding: padding.clone(),
            ceil_mode: false,
        };
        let mut net = Net::new(&[2, 5, 7, 6], signed);
        net.last = net.graph.op("pool", window(average), &[net.last]).unwrap();
        net.quantize(0.005, 120);
        net.last = net.graph.op("max", window(PoolKind::Max { storage_order: false }), &[net.last]).unwrap();
        net.quantize(0.005, 120);
        net.last = net.graph.op("global", GlobalPool { kind: GlobalPoolKind::Average }, &[net.last]).unwrap();
        net.quantize(0.004, 120);
        net.check(0.004 * 2.0, 1, "pools");

        let mut net = Net::new(&[3, 4, 40], signed);
        let (scale, shift) = (net.vector(40), net.vector(40));
        let norm = LayerNormalization { axis: -1, epsilon: 1e-5 };
        net.last = net.graph.op("norm", norm, &[net.last, scale, shift]).unwrap();
        net.quantize(0.01, 128);
        net.check(0.01, 1, "norm");
    }
}

#[test]
fn functions_of_a_byte_are_tables() {
    for signed in [false, true] {
        let mut net = Net::new(&[3, 50], signed);
        // x * (1 + erf(x / 1.41)) / 2, quantized after each step.
        let x = net.last;
        let constants: Vec<ValueId> =
            [1.41, 1.0, 0.5].map(|c| net.graph.constant("c", Tensor::scalar(c as f32)).unwrap()).to_vec();
        net.last = net.graph.op("div", Binary(BinaryKind::Div), &[x, constants[0]]).unwrap();
        net.last = net.graph.op("erf", Unary(UnaryKind::Erf), &[net.last]).unwrap();
        net.quantize(0.0078, 128);
        net.last = net.graph.op("add", Binary(BinaryKind::Add), &[net.last, constants[1]]).unwrap();
        net.quantize(0.0078, 0);
        net.last = net.graph.op("mul", Binary(BinaryKind::Mul), &[x, net.last]).unwrap();
        net.quantize(0.01, 40);
        net.last = net.graph.op("half", Binary(BinaryKind::Mul), &[net.last, constants[2]]).unwrap();
        net.quantize(0.005, 40);
        net.check(0.0, 1, "gelu");
    }
}

#[test]
fn operators_that_quantize_by_themselves() {
    for signed in [false, true] {
        let mut net = Net::new(&[1, 4, 6, 6], signed);
        let x = net.graph.producer(net.last).unwrap().1.clone();
        let (x, x_scale, x_zero) = (x.input(0).unwrap(), x.input(1).unwrap(), x.input(2).unwrap());
        let w = net.bytes(&[9, 4, 3, 3], false);
        let scales = Tensor::vector((0..9).map(|i| 0.002 + i as f32 * 1e-4).collect::<Vec<f32>>());
        let w_scale = net.graph.constant("ws", scales).unwrap();
        let w_zero = net.graph.constant("wz", Tensor::vector(vec![0i8; 9])).unwrap();
        let bias =
            net.graph.constant("b", Tensor::vector((0..9).map(|i| i * 1000 - 4000).collect::<Vec<i32>>())).unwrap();
        let y_scale = net.graph.constant("ys", Tensor::scalar(0.01f32)).unwrap();
        let y_zero = net.zero(120);
        let op = QLinearConv { conv: conv(1, 1, 1) };
        let y = net.graph.op("y", op, &[x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias]).unwrap();
        let w = net.bytes(&[6, 11], true);
        let w_scale = net.graph.constant("ws", Tensor::scalar(0.004f32)).unwrap();
        let w_zero = net.graph.constant("wz", Tensor::scalar(130u8)).unwrap();
        let z_scale = net.graph.constant("zs", Tensor::scalar(0.02f32)).unwrap();
        let z = [y, y_scale, y_zero, w, w_scale, w_zero, z_scale, y_zero];
        let z = net.graph.op("z", QLinearMatMul, &z).unwrap();
        net.last = net.graph.op("dq", DequantizeLinear::default(), &[z, z_scale, y_zero]).unwrap();
        net.check(0.02, 1, "QLinearConv and QLinearMatMul");
    }
}

#[test]
fn sums_that_are_scaled_afterwards() {
    for form in 0..4 {
        let (image, bias) = (form & 1 == 1, form & 2 == 2);
        let shape: &[usize] = if image { &[2, 3, 5, 6] } else { &[2, 4, 19] };
        let mut graph = Graph::new("dynamic");
        let x = graph.input("x", Fact::concrete(DType::F32, shape)).unwrap();
        let len: usize = shape.iter().product();
        let reals: Vec<f32> = (0..len).map(|i| number(i, 1) as f32 / 32_760.0 - 0.7).collect();
        let input = Tensor::new(shape, reals).unwrap();
        let names = [Some("q"), Some("scale"), Some("zero")];
        let made = graph.node("quantize", Arc::new(DynamicQuantizeLinear), &[Some(x)], &names).unwrap();
        let [q, scale, zero] = [0, 1, 2].map(|i: usize| made[i].unwrap());
        let sizes: &[usize] = if image { &[7, 3, 3, 3] } else { &[19, 7] };
        let count: usize = sizes.iter().product();
        let weight: Vec<i8> = (0..count).map(|i| (number(i, 3) % 255) as u8 as i8).collect();
        let weight = graph.constant("w", Tensor::new(sizes, weight).unwrap()).unwrap();
        let shaped = |values: Vec<f32>| if image { Tensor::new([7, 1, 1], values) } else { Tensor::new([7], values) };
        let scales = (0..7).map(|i| 0.002 + i as f32 * 1e-3).collect();
        let w_scale = graph.constant("ws", shaped(scales).unwrap()).unwrap();
        let sums = match image {
            true => graph.op("sums", ConvInteger { conv: conv(1, 1, 1) }, &[q, weight, zero]),
            false => graph.op("sums", MatMulInteger, &[q, weight, zero]),
        };
        let real = graph.op("real", Cast { to: DType::F32 }, &[sums.unwrap()]).unwrap();
        let factor = graph.op("factor", Binary(BinaryKind::Mul), &[scale, w_scale]).unwrap();
        let mut y = graph.op("y", Binary(BinaryKind::Mul), &[real, factor]).unwrap();
        if bias {
            let bias = graph.constant("bias", shaped((0..7).map(|i| i as f32 - 3.0).collect()).unwrap()).unwrap();
            y = graph.op("biased", Binary(BinaryKind::Add), &[y, bias]).unwrap();
        }
        graph.output(y).unwrap();
        let expected = graph.interpret(std::slice::from_ref(&input)).unwrap()[0].to_f64_vec().unwrap();
        let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
        let plan = model.plan(&[input.shape().clone()]).unwrap();
        assert!(plan.fallbacks().is_empty(), "form {form}: {:?}", plan.fallbacks());
        let got = model.run(input).unwrap().into_vec()[0].to_f64_vec().unwrap();
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "form {form}: {got}, not {expected}");
        }
    }
}

/// Bytes of either kind.
fn some_bytes(shape: &[usize], signed: bool, seed: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let bytes: Vec<u8> = (0..len).map(|i| number(i, seed) as u8).collect();
    match signed {
        true => Tensor::new(shape, bytes.into_iter().map(|byte| byte as i8).collect::<Vec<i8>>()).unwrap(),
        false => Tensor::new(shape, bytes).unwrap(),
    }
}

/// The sums of integers that a node yields, exactly, by kernels alone; operands that are not constant are inputs.
fn check_sums(op: Arc<dyn onrush::ops::Op>, operands: &[Option<(Tensor, bool)>], what: &str) {
    let (mut graph, mut inputs) = (Graph::new("sums"), Vec::new());
    let mut values: Vec<Option<ValueId>> = Vec::new();
    for (index, operand) in operands.iter().enumerate() {
        values.push(operand.as_ref().map(|(tensor, constant)| match constant {
            true => graph.constant("c", tensor.clone()).unwrap(),
            false => {
                inputs.push(tensor.clone());
                graph.input(&format!("x{index}"), Fact::concrete(tensor.dtype(), tensor.shape())).unwrap()
            }
        }));
    }
    let y = graph.node("y", op, &values, &[Some("y")]).unwrap()[0].unwrap();
    graph.output(y).unwrap();
    let expected = graph.interpret(&inputs).unwrap();
    let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape().clone()).collect();
    let plan = model.plan(&shapes).unwrap();
    assert!(plan.fallbacks().is_empty(), "{what}: {:?}", plan.fallbacks());
    assert_eq!(model.run(inputs).unwrap().into_vec()[0], expected[0], "{what}");
}

#[test]
fn sums_of_products_themselves() {
    let cases: [(&[usize], &[usize]); 5] = [
        (&[5, 19], &[19, 7]),
        (&[2, 3, 9], &[2, 9, 33]),
        (&[2, 1, 3, 8], &[3, 8, 5]),
        (&[4], &[4, 6]),
        (&[3, 4, 6], &[6, 2]),
    ];
    for (case, (a_shape, b_shape)) in cases.into_iter().enumerate() {
        for form in 0..16 {
            let (a_signed, b_signed, constant, zeros) = (form & 1 == 1, form & 2 == 2, form & 4 == 4, form & 8 == 8);
            let (a, b) = (some_bytes(a_shape, a_signed, 1), some_bytes(b_shape, b_signed, 2));
            let columns = b_shape[b_shape.len() - 1];
            let one = |tensor: Tensor| tensor.reshaped(vec![]).unwrap();
            let a_zero = match case {
                // One a row.
                0 => some_bytes(&[a_shape[0]], a_signed, 3),
                _ => one(some_bytes(&[1], a_signed, 3)),
            };
            let b_zero =
                if case % 2 == 0 { some_bytes(&[columns], b_signed, 4) } else { one(some_bytes(&[1], b_signed, 4)) };
            let mut operands = vec![Some((a, false)), Some((b, constant))];
            if zeros {
                operands.extend([Some((a_zero, false)), Some((b_zero, constant))]);
            }
            check_sums(Arc::new(MatMulInteger), &operands, &format!("case {case}, form {form}"));
        }
    }
}

#[test]
fn sums_of_convolutions_themselves() {
    let cases =
        [([8, 12, 3, 3], 1, 1, 1), ([6, 4, 3, 2], 1, 2, 3), ([12, 1, 3, 3], 1, 1, 12), ([5, 12, 1, 1], 0, 1, 1)];
    for (case, (shape, pads, stride, group)) in cases.into_iter().enumerate() {
        for form in 0..8 {
            let (x_signed, w_signed, zeros) = (form & 1 == 1, form & 2 == 2, form & 4 == 4);
            let (x, w) = (some_bytes(&[2, 12, 6, 5], x_signed, 1), some_bytes(&shape, w_signed, 2));
            let mut operands = vec![Some((x, false)), Some((w, true))];
            if zeros {
                let x_zero = some_bytes(&[1], x_signed, 3).reshaped(vec![]).unwrap();
                operands.extend([Some((x_zero, false)), Some((some_bytes(&shape[..1], w_signed, 4), true))]);
            }
            let op = Arc::new(ConvInteger { conv: conv(pads, stride, group) });
            check_sums(op, &operands, &format!("case {case}, form {form}"));
        }
    }
}

/// What `quantize_dynamic` writes for a convolutional network: nothing is laid out twice, and activations are taken in.
#[test]
fn dynamic_images_stay_channels_last() {
    let mut graph = Graph::new("dynamic");
    let x = graph.input("x", Fact::concrete(DType::F32, &[2, 3, 6, 5])).unwrap();
    let (len, mut last, mut channels) = (2 * 3 * 6 * 5, x, 3);
    for filters in [8, 8, 5] {
        let names = [Some("q"), Some("scale"), Some("zero")];
        let made = graph.node("quantize", Arc::new(DynamicQuantizeLinear), &[Some(last)], &names).unwrap();
        let [q, scale, zero] = [0, 1, 2].map(|i: usize| made[i].unwrap());
        let w = graph.constant("w", some_bytes(&[filters, channels, 3, 3], true, filters)).unwrap();
        let sums = graph.op("sums", ConvInteger { conv: conv(1, 1, 1) }, &[q, w, zero]).unwrap();
        let real = graph.op("real", Cast { to: DType::F32 }, &[sums]).unwrap();
        let w_scale = graph.constant("ws", Tensor::scalar(0.002f32)).unwrap();
        let factor = graph.op("factor", Binary(BinaryKind::Mul), &[scale, w_scale]).unwrap();
        let y = graph.op("y", Binary(BinaryKind::Mul), &[real, factor]).unwrap();
        let bias: Vec<f32> = (0..filters).map(|i| i as f32 / 10.0 - 0.2).collect();
        let bias = graph.constant("b", Tensor::new([1, filters, 1, 1], bias).unwrap()).unwrap();
        let y = graph.op("biased", Binary(BinaryKind::Add), &[y, bias]).unwrap();
        last = graph.op("relu", Unary(UnaryKind::Relu), &[y]).unwrap();
        channels = filters;
    }
    graph.output(last).unwrap();
    let reals: Vec<f32> = (0..len).map(|i| number(i, 1) as f32 / 32_760.0 - 0.7).collect();
    let input = Tensor::new([2, 3, 6, 5], reals).unwrap();
    let expected = graph.interpret(std::slice::from_ref(&input)).unwrap()[0].to_f64_vec().unwrap();
    let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
    let names: Vec<&str> = model.graph().nodes().unwrap().map(|(_, node)| node.op().name()).collect();
    let count = |name: &str| names.iter().filter(|own| **own == name).count();
    assert_eq!((count("Transpose"), count("Relu"), names.len()), (2, 0, 8), "{names:?}");
    let got = model.run(input).unwrap().into_vec()[0].to_f64_vec().unwrap();
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 0.02, "{got}, not {expected}");
    }
}
