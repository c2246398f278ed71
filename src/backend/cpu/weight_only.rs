//! `MatMulNBits`: f32 rows times constant weights of a few bits, unpacked on the way.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, ensure};
use crate::kernels::Matrix;
use crate::kernels::arch::Isa;
use crate::kernels::gemm::{FewBits, PackedBlocks, PackedCodes, few_bits_scratch_len, gemm_few_bits};
use crate::ops::quant::MatMulNBits;
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

/// `[m, k]` by `[k, n]`.
#[derive(Debug)]
pub(super) struct WeightOnly {
    isa: Isa,
    m: usize,
    block: usize,
    codes: Arc<PackedCodes>,
    scales: Arc<PackedBlocks>,
    zeros: Option<Arc<PackedBlocks>>,
    bias: Option<usize>,
}

impl WeightOnly {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<MatMulNBits>() else { return Ok(None) };
        let (Some(out), Some(codes), Some(scales)) = (spec.output_shape(0), spec.constant(1), spec.constant(2)) else {
            return Ok(None);
        };
        let zeros = spec.constant(3);
        let given = |index: usize| spec.instruction.inputs.get(index).is_some_and(Option::is_some);
        let plain = [spec.input(0), spec.output(0), spec.input(5)].into_iter().flatten().all(|s| s.dtype == DType::F32);
        // Blocks by an index of their own, and zeros that are computed, are for the reference.
        if !plain
            || given(4)
            || given(3) != zeros.is_some()
            || op.k == 0
            || op.n == 0
            || !op.block_size.is_multiple_of(4)
        {
            return Ok(None);
        }
        let (k, n, blocks) = (op.k, op.n, op.blocks());
        let pack_codes = |codes: &Tensor| Ok(PackedCodes::pack(isa, codes.as_slice()?, k, n, op.bits));
        let pack_scales = |scales: &Tensor| Ok(PackedBlocks::pack(isa, &scales.to_f32_vec()?, blocks, n));
        let pack_zeros = |zeros: &Tensor| {
            let zeros: Vec<f32> = op.zeros(Some(zeros))?.into_iter().map(|zero| zero as f32).collect();
            Ok(PackedBlocks::pack(isa, &zeros, blocks, n))
        };
        let codes = spec.weights.get_or_pack(codes, op.bits as u64, pack_codes)?;
        let scales = spec.weights.get_or_pack(scales, 0, pack_scales)?;
        let zeros = zeros.map(|zeros| spec.weights.get_or_pack(zeros, op.bits as u64, pack_zeros)).transpose()?;
        let fits = (codes.k(), codes.n(), codes.bits()) == (k, n, op.bits)
            && [Some(&scales), zeros.as_ref()].into_iter().flatten().all(|b| (b.blocks(), b.n()) == (blocks, n));
        ensure!(fits, Malformed, "the packed weights are those of another product; compile the model again");
        let bias = given(5).then_some(5);
        Ok(Some(WeightOnly { isa, m: out.len() / n, block: op.block_size, codes, scales, zeros, bias }))
    }
}

impl Kernel for WeightOnly {
    fn name(&self) -> String {
        format!("gemm of {} bits {}x{}x{}", self.codes.bits(), self.m, self.codes.k(), self.codes.n())
    }

    fn workspace(&self) -> usize {
        few_bits_scratch_len(self.isa, self.codes.k()) * 4
    }

    fn division(&self) -> Division {
        let (k, n) = (self.codes.k(), self.codes.n());
        Division::of_product(self.m, k, n, k * n * 4, 4)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (m, k, n) = (self.m, self.codes.k(), self.codes.n());
        let a: &[f32] = io.input(0)?;
        let bias: Option<&[f32]> = self.bias.map(|index| io.input(index)).transpose()?;
        let share = io.share();
        let out = io.output_matrix::<f32>(0, n)?;
        let (rows, columns) = match self.division() {
            Division::Columns { .. } => (0..m, share),
            _ => (share, 0..n),
        };
        if !rows.is_empty() && !columns.is_empty() {
            let b =
                FewBits { codes: &self.codes, block: self.block, scales: &self.scales, zeros: self.zeros.as_deref() };
            let scratch = bytemuck::cast_slice_mut(context.workspace);
            gemm_few_bits(self.isa, Matrix::dense(a, m, k), b, rows, columns, out, bias, scratch);
        }
        Ok(())
    }
}
