//! Matrix products, Einstein sums, determinants.

mod gemm;
mod matmul;
pub(crate) mod product;

pub use gemm::Gemm;
pub use matmul::MatMul;
pub(crate) use matmul::{batched_product, infer_product};

use super::OpDef;

pub(super) const OPS: &[OpDef] =
    &[OpDef::new("MatMul", 13, 2..=2, MatMul::read), OpDef::new("Gemm", 13, 2..=3, Gemm::read)];
