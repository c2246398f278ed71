//! What ONNX Runtime's quantizer writes in its own domain, read as operators of ONNX: quantized activations, sums and
//! pools become dequantize, compute, quantize; dynamic products become their steps.

use super::{DequantizeLinear, DynamicQuantizeLinear, MatMulInteger, QuantizeLinear};
use crate::error::{Result, ensure};
use crate::ops::elementwise::{Binary, BinaryKind, Cast, Unary, UnaryKind};
use crate::ops::layout::Concat;
use crate::ops::matrix::Gemm;
use crate::ops::nn::{GlobalPool, GlobalPoolKind, Pool, Softmax};
use crate::ops::reader::Operand::{self, Input};
use crate::ops::sequence::{Sequence, input_if_present};
use crate::ops::{NodeReader, Op, OpDef, Reading};
use crate::tensor::{DType, Tensor};

pub(super) const DOMAIN: &str = "com.microsoft";

pub(super) const QLINEAR_ADD: OpDef = OpDef::new("QLinearAdd", 1, 7..=8, |n| binary(n, BinaryKind::Add)).domain(DOMAIN);
pub(super) const QLINEAR_MUL: OpDef = OpDef::new("QLinearMul", 1, 7..=8, |n| binary(n, BinaryKind::Mul)).domain(DOMAIN);
pub(super) const QLINEAR_SIGMOID: OpDef =
    OpDef::new("QLinearSigmoid", 1, 4..=5, |n| around(n, Unary(UnaryKind::Sigmoid))).domain(DOMAIN);
pub(super) const QLINEAR_LEAKY_RELU: OpDef = OpDef::new("QLinearLeakyRelu", 1, 4..=5, |n| {
    let alpha = n.float_or("alpha", 0.01)?;
    around(n, Unary(UnaryKind::LeakyRelu { alpha }))
})
.domain(DOMAIN);
pub(super) const QLINEAR_SOFTMAX: OpDef = OpDef::new("QLinearSoftmax", 1, 5..=5, |n| {
    let (axis, opset) = (n.int_or("axis", -1)?, n.int_or("opset", 13)?);
    let direct = opset >= 13 || axis == -1;
    ensure!(direct, Unsupported, "QLinearSoftmax over flattened axes (opset {opset}, axis {axis}) is not supported");
    around(n, Softmax { axis })
})
.domain(DOMAIN);
pub(super) const QLINEAR_GLOBAL_AVERAGE_POOL: OpDef = OpDef::new("QLinearGlobalAveragePool", 1, 5..=5, |n| {
    check_channels_first(n)?;
    around(n, GlobalPool { kind: GlobalPoolKind::Average })
})
.domain(DOMAIN);
pub(super) const QLINEAR_AVERAGE_POOL: OpDef = OpDef::new("QLinearAveragePool", 1, 4..=5, |n| {
    check_channels_first(n)?;
    let pool = Pool::read_average(n)?;
    around(n, pool)
})
.domain(DOMAIN);
pub(super) const QLINEAR_CONCAT: OpDef = OpDef::new("QLinearConcat", 1, 3..=usize::MAX, concat).domain(DOMAIN);
pub(super) const Q_GEMM: OpDef = OpDef::new("QGemm", 1, 6..=9, gemm).domain(DOMAIN);
pub(super) const DYNAMIC_QUANTIZE_MATMUL: OpDef =
    OpDef::new("DynamicQuantizeMatMul", 1, 3..=5, dynamic_matmul).domain(DOMAIN);
pub(super) const MATMUL_INTEGER_TO_FLOAT: OpDef =
    OpDef::new("MatMulIntegerToFloat", 1, 4..=7, matmul_to_float).domain(DOMAIN);

fn check_channels_first(node: &mut NodeReader) -> Result<()> {
    let last = node.flag_or("channels_last", false)?;
    ensure!(!last, Unsupported, "channels_last is not supported; convert the model with channels first");
    Ok(())
}

/// Dequantizes the operands `x`, `x + 1` (scale) and `x + 2` (zero point, where there is one).
fn dequantize(node: &NodeReader, nodes: &mut Sequence, x: usize, axis: i64) -> Operand {
    let zero = input_if_present(node, x + 2);
    nodes.push(DequantizeLinear { axis, ..Default::default() }, [Input(x), Input(x + 1)].into_iter().chain(zero))
}

/// Quantizes by inputs `scale` and `scale + 1`. Without a zero point the dtype would be that of an input, which is not
/// known while reading.
fn quantize(node: &NodeReader, mut nodes: Sequence, value: Operand, scale: usize) -> Result<Reading> {
    let zero = node.has_input(scale + 1);
    ensure!(zero, Unsupported, "{} without a zero point of its output is not supported", node.op_type());
    nodes.push(QuantizeLinear::default(), [value, Input(scale), Input(scale + 1)]);
    Ok(nodes.finish())
}

/// x, scale, zero point, scale and zero point of the output: `op` between the two.
fn around(node: &mut NodeReader, op: impl Op) -> Result<Reading> {
    let mut nodes = Sequence::default();
    let x = dequantize(node, &mut nodes, 0, 1);
    let y = nodes.push(op, [x]);
    quantize(node, nodes, y, 3)
}

/// Two operands with scale and zero point each, then scale and zero point of the output.
fn binary(node: &mut NodeReader, kind: BinaryKind) -> Result<Reading> {
    let mut nodes = Sequence::default();
    let a = dequantize(node, &mut nodes, 0, 1);
    let b = dequantize(node, &mut nodes, 3, 1);
    let c = nodes.push(Binary(kind), [a, b]);
    quantize(node, nodes, c, 6)
}

/// Scale and zero point of the output, then any number of operands with scale and zero point each.
fn concat(node: &mut NodeReader) -> Result<Reading> {
    let Some(axis) = node.int("axis")? else { crate::error::bail!(InvalidModel, "attribute axis is missing") };
    let count = node.input_count().saturating_sub(2);
    ensure!(count.is_multiple_of(3), InvalidModel, "QLinearConcat takes three inputs an operand, but has {count}");
    let mut nodes = Sequence::default();
    let parts: Vec<Operand> = (0..count / 3).map(|i| dequantize(node, &mut nodes, 2 + 3 * i, 1)).collect();
    let joined = nodes.push(Concat { axis }, parts);
    quantize(node, nodes, joined, 0)
}

/// a and b with scale and zero point each, an optional `i32` c in units of `a scale * b scale`, and, where the output
/// is quantized, its scale and zero point.
fn gemm(node: &mut NodeReader) -> Result<Reading> {
    let alpha = node.float_or("alpha", 1.0)?;
    let (trans_a, trans_b) = (node.flag_or("transA", false)?, node.flag_or("transB", false)?);
    let mut nodes = Sequence::default();
    let a = dequantize(node, &mut nodes, 0, 1);
    let b = dequantize(node, &mut nodes, 3, if trans_b { 0 } else { 1 });
    let mut operands = vec![a, b];
    if node.has_input(6) {
        let scale = nodes.push(Binary(BinaryKind::Mul), [Input(1), Input(4)]);
        operands.push(nodes.push(DequantizeLinear { axis: -1, ..Default::default() }, [Input(6), scale]));
    }
    let y = nodes.push(Gemm { alpha, beta: alpha, trans_a, trans_b }, operands);
    if node.has_input(7) { quantize(node, nodes, y, 7) } else { Ok(nodes.finish()) }
}

/// The end of a dynamic product: sums times both scales, and the bias.
fn scaled(nodes: &mut Sequence, sums: Operand, scales: [Operand; 2], bias: Option<Operand>) {
    let real = nodes.push(Cast { to: DType::F32 }, [sums]);
    let scale = nodes.push(Binary(BinaryKind::Mul), scales);
    let y = nodes.push(Binary(BinaryKind::Mul), [real, scale]);
    if let Some(bias) = bias {
        nodes.push(Binary(BinaryKind::Add), [y, bias]);
    }
}

/// Real a, quantized b, its scale, zero point and a bias: a is quantized by its own range.
fn dynamic_matmul(node: &mut NodeReader) -> Result<Reading> {
    let mut nodes = Sequence::default();
    let a = nodes.push(DynamicQuantizeLinear, [Input(0)]);
    let (scale, zero) = (nodes.output(1), nodes.output(2));
    let sums = nodes.push(MatMulInteger, [a, Input(1), zero].into_iter().chain(input_if_present(node, 3)));
    scaled(&mut nodes, sums, [scale, Input(2)], input_if_present(node, 4));
    Ok(nodes.finish())
}

/// Quantized a and b, their scales, zero points and a bias.
fn matmul_to_float(node: &mut NodeReader) -> Result<Reading> {
    let mut nodes = Sequence::default();
    let mut operands = vec![Input(0), Input(1)];
    match (node.has_input(4), node.has_input(5)) {
        (true, true) => operands.extend([Input(4), Input(5)]),
        (true, false) => operands.push(Input(4)),
        // The zero point of a stands before that of b; its value is the same whatever the dtype.
        (false, true) => operands.extend([Operand::Constant(Tensor::scalar(0u8)), Input(5)]),
        (false, false) => {}
    }
    let sums = nodes.push(MatMulInteger, operands);
    scaled(&mut nodes, sums, [Input(2), Input(3)], input_if_present(node, 6));
    Ok(nodes.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(def: &OpDef, inputs: usize) -> Vec<&'static str> {
        let mut node = NodeReader::new(def.name, 1, Default::default(), vec![true; inputs], 1, 0);
        match (def.read)(&mut node).unwrap() {
            Reading::Nodes(nodes) => nodes.iter().map(|(op, _)| op.name()).collect(),
            Reading::Op(op) => vec![op.name()],
        }
    }

    #[test]
    fn quantized_operators_become_their_steps() {
        assert_eq!(names(&QLINEAR_ADD, 8), ["DequantizeLinear", "DequantizeLinear", "Add", "QuantizeLinear"]);
        assert_eq!(names(&QLINEAR_SIGMOID, 5), ["DequantizeLinear", "Sigmoid", "QuantizeLinear"]);
        let dynamic = ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"];
        assert_eq!(names(&DYNAMIC_QUANTIZE_MATMUL, 4), dynamic);
        assert_eq!(names(&DYNAMIC_QUANTIZE_MATMUL, 5), [&dynamic[..], &["Add"]].concat());
    }
}
