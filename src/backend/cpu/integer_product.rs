//! Products of a quantized matrix with constant quantized weights.

use super::arena::Io;
use super::integer::{Parts, Tail, variant, weight_scales};
use super::integer_convolution::{byte_weights, flipped};
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, ensure};
use crate::kernels::arch::Isa;
use crate::kernels::gemm::{ByteEpilogue, ByteOutput, PackedBytes, gemm_bytes, gemm_bytes_region};
use crate::kernels::{Matrix, MatrixMut};
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::quant::MatMulInteger;
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct IntegerProduct {
    isa: Isa,
    m: usize,
    weights: Arc<PackedBytes>,
    tail: Tail,
}

/// Checks that packed weights, which may come from a file, are of `[k, n]`.
fn check(weights: &PackedBytes, k: usize, n: usize) -> Result<()> {
    let fits = (weights.k(), weights.n(), weights.is_plain()) == (k, n, true);
    ensure!(fits, Malformed, "the packed weights are those of another product; compile the model again");
    Ok(())
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
        if depth != k || output.elements() != m * n {
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
        let weights = spec.weights.get_or_pack(weight, variant(&[usize::from(transposed)], &zeros), pack)?;
        check(&weights, k, n)?;
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

    fn weights(&self, part: usize, of: usize) -> &[u8] {
        self.weights.bytes_from(self.division().first_column(part, of))
    }

    fn tells_extremes(&self) -> bool {
        true
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (rows, columns) = self.division().region(io.share(), self.m, self.weights.n());
        self.tail.run(io, context, self.m, |x, output, epilogue| {
            let a = Matrix::dense(x, self.m, self.weights.k());
            gemm_bytes_region(self.isa, a, &self.weights, rows, columns, output, epilogue);
        })
    }
}

/// `MatMulInteger` with constant weights: the sums themselves.
#[derive(Debug)]
pub(super) struct IntegerSums {
    isa: Isa,
    m: usize,
    signed: bool,
    zero: bool,
    weights: Arc<PackedBytes>,
}

impl IntegerSums {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(_), Some(a), Some(weight)) = (spec.op::<MatMulInteger>(), spec.shape(0), spec.constant(1)) else {
            return Ok(None);
        };
        let (Some(&depth), &[k, n]) = (a.last(), &weight.shape()[..]) else { return Ok(None) };
        let zeros: Vec<i32> = match (spec.input(3), spec.constant(3)) {
            (None, _) => Vec::new(),
            (_, Some(zeros)) => zeros.to_i64_vec()?.into_iter().map(|zero| zero as i32).collect(),
            _ => return Ok(None),
        };
        let single = spec.input(2).is_none() || spec.shape(2).is_some_and(|shape| shape.elements() == 1);
        let fits = depth == k && single && [0, 1, n].contains(&zeros.len()) && spec.output_shape(0).is_some();
        if !fits {
            return Ok(None);
        }
        let pack = |w: &Tensor| Ok(PackedBytes::pack(isa, byte_weights(w)?, k, n, &zeros));
        let weights = spec.weights.get_or_pack(weight, variant(&[0], &zeros), pack)?;
        check(&weights, k, n)?;
        let signed = spec.input(0).is_some_and(|slot| slot.dtype == DType::I8);
        let m = a[..a.rank() - 1].iter().product();
        Ok(Some(IntegerSums { isa, m, signed, zero: spec.input(2).is_some(), weights }))
    }
}

impl Kernel for IntegerSums {
    fn name(&self) -> String {
        format!("integer sums {}x{}x{}", self.m, self.weights.k(), self.weights.n())
    }

    fn workspace(&self) -> usize {
        if self.signed { self.m * self.weights.k() } else { 0 }
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let zero: &[u8] = if self.zero { io.input(2)? } else { &[0] };
        let zero = zero.first().copied().unwrap_or(0);
        let (a, zero_point) = flipped(self.signed, io.input(0)?, zero, context.workspace);
        let (m, n) = (self.m, self.weights.n());
        let out: &mut [i32] = io.output(0)?;
        if !out.is_empty() {
            let epilogue = ByteEpilogue { zero_point, ..ByteEpilogue::default() };
            let out = ByteOutput::I32(MatrixMut::dense(out, m, n));
            gemm_bytes(self.isa, Matrix::dense(a, m, self.weights.k()), &self.weights, out, &epilogue);
        }
        Ok(())
    }
}
