//! Matrix products, Einstein sums, determinants.

mod det;
mod einsum;
mod fused;
mod gemm;
mod matmul;
pub(crate) mod product;

pub use det::Det;
pub use einsum::Einsum;
pub use fused::FusedMatMul;
pub use gemm::Gemm;
pub use matmul::MatMul;
pub(crate) use matmul::{batched_product, infer_product};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("MatMul", 13, 2..=2, MatMul::read),
    OpDef::new("Gemm", 13, 2..=3, Gemm::read),
    OpDef::new("Einsum", 12, 1..=usize::MAX, Einsum::read).since(12),
    OpDef::new("Det", 11, 1..=1, Det::read).since(11),
    OpDef::new("FusedMatMul", 1, 2..=2, FusedMatMul::read).domain("com.microsoft"),
];
