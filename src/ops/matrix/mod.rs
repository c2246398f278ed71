//! Matrix products and what belongs to them: matmul, gemm, einsum, determinant.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
