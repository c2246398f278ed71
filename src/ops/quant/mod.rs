//! Quantized tensors: to and from real numbers, and products of them.

mod contrib;
mod convolution;
pub(in crate::ops) mod dynamic;
mod linear;
mod nbits;
mod product;
mod scale;

pub use convolution::{ConvInteger, QLinearConv};
pub use dynamic::DynamicQuantizeLinear;
pub use linear::{DequantizeLinear, QuantizeLinear};
pub use nbits::MatMulNBits;
pub use product::{MatMulInteger, QLinearMatMul};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("QuantizeLinear", 21, 2..=3, QuantizeLinear::read).since(10),
    OpDef::new("DequantizeLinear", 23, 2..=3, DequantizeLinear::read).since(10),
    OpDef::new("DynamicQuantizeLinear", 11, 1..=1, DynamicQuantizeLinear::read).since(11).outputs(3..=3),
    OpDef::new("QLinearConv", 10, 8..=9, QLinearConv::read).since(10),
    OpDef::new("QLinearMatMul", 21, 8..=8, QLinearMatMul::read).since(10),
    OpDef::new("ConvInteger", 10, 2..=4, ConvInteger::read).since(10),
    OpDef::new("MatMulInteger", 10, 2..=4, MatMulInteger::read).since(10),
    OpDef::new("QuantizeLinear", 1, 2..=3, QuantizeLinear::read).domain(contrib::DOMAIN),
    OpDef::new("DequantizeLinear", 1, 2..=3, DequantizeLinear::read).domain(contrib::DOMAIN),
    OpDef::new("MatMulNBits", 1, 3..=6, MatMulNBits::read).domain(contrib::DOMAIN),
    contrib::QLINEAR_ADD,
    contrib::QLINEAR_MUL,
    contrib::QLINEAR_SIGMOID,
    contrib::QLINEAR_LEAKY_RELU,
    contrib::QLINEAR_SOFTMAX,
    contrib::QLINEAR_GLOBAL_AVERAGE_POOL,
    contrib::QLINEAR_AVERAGE_POOL,
    contrib::QLINEAR_CONCAT,
    contrib::Q_GEMM,
    contrib::DYNAMIC_QUANTIZE_MATMUL,
    contrib::MATMUL_INTEGER_TO_FLOAT,
];
