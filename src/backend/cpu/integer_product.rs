//! Products of a quantized matrix with constant quantized weights.

use super::arena::Io;
use super::integer::{Parts, Tail, variant, weight_scales};
use super::integer_convolution::byte_weights;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::Matrix;
use crate::kernels::arch::Isa;
use crate::kernels::gemm::{PackedBytes, gemm_bytes_region};
use crate::ops::matrix::{Gemm, MatMul};
use crate::tensor::Tensor;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct IntegerProduct {
    isa: Isa,
    m: usize,
    weights: Arc<PackedBytes>,
    tail: Tail,
}

impl IntegerProduct {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(parts) = Parts::of(&spec.instruction.op).filter(|parts| !parts.last) else { return Ok(None) };
        let transposed = match (parts.op.downcast_ref::<Gemm>(), parts.op.is::<MatMul>()) {
            (Some(gemm), _) if gemm.alpha == 1.0 && gemm.beta == 1.0 && !gemm.trans_a => gemm.trans_b,
            (None, true) => false,
            _ => return Ok(None),
        };
        let (Some(a), Some(weight), Some(output)) = (spec.shape(0), spec.constant(1), spec.output_shape(0)) else {
            return Ok(None);
        };
        let (Some(&k), &[rows, columns]) = (a.last(), &weight.shape()[..]) else { return Ok(None) };
        let (depth, n) = if transposed { (columns, rows) } else { (rows, columns) };
        let m = a[..a.rank() - 1].iter().product();
        if depth != k || output.len() != m * n {
            return Ok(None);
        }
        let Some(tail) = Tail::new(spec, &parts, n) else { return Ok(None) };
        let Some((_, zeros)) = parts.quantized.input(1).and_then(|linear| weight_scales(spec, linear)) else {
            return Ok(None);
        };
        let pack = |w: &Tensor| {
            let bytes = byte_weights(w)?;
            Ok(match transposed {
                true => PackedBytes::pack_transposed(isa, bytes, k, n, &zeros),
                false => PackedBytes::pack(isa, bytes, k, n, &zeros),
            })
        };
        let weights = spec.weights.get_or_pack(weight, variant(transposed as usize, &zeros), pack)?;
        Ok(Some(IntegerProduct { isa, m, weights, tail }))
    }
}

impl Kernel for IntegerProduct {
    fn name(&self) -> String {
        format!("integer gemm {}x{}x{}", self.m, self.weights.k(), self.weights.n())
    }

    fn workspace(&self) -> usize {
        self.tail.workspace()
    }

    fn division(&self) -> Division {
        let (k, n) = (self.weights.k(), self.weights.n());
        Division::of_product(self.m, k, n, k * n, 1)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (rows, columns) = match self.division() {
            Division::Columns { .. } => (0..self.m, io.share()),
            _ => (io.share(), 0..self.weights.n()),
        };
        self.tail.run(io, context, self.m, |x, output, epilogue| {
            let a = Matrix::dense(x, self.m, self.weights.k());
            gemm_bytes_region(self.isa, a, &self.weights, rows, columns, output, epilogue);
        })
    }
}
