//! `MatMulNBits`: f32 rows times constant weights of a few bits, unpacked on the way.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use super::product::activation;
use crate::error::{Result, ensure};
use crate::kernels::Matrix;
use crate::kernels::arch::Isa;
use crate::kernels::gemm::{self, Activation, FewBits, PackedBlocks, PackedCodes, few_bits_scratch_len, gemm_few_bits};
use crate::ops::fused::Epilogue;
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
    residual: Option<usize>,
    activation: Activation,
}

impl WeightOnly {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let epilogue = spec.op::<Epilogue>();
        let op = epilogue.map_or(&spec.instruction.op, |e| &e.op);
        let Some(op) = op.downcast_ref::<MatMulNBits>() else { return Ok(None) };
        let Some(activation) = activation(epilogue.and_then(|e| e.activation)) else { return Ok(None) };
        let own = epilogue.map_or(spec.instruction.inputs.len(), |e| e.arity);
        let (Some(out), Some(codes), Some(scales)) = (spec.output_shape(0), spec.constant(1), spec.constant(2)) else {
            return Ok(None);
        };
        let given = |index: usize| index < own && spec.input(index).is_some();
        let zeros = spec.constant(3).filter(|_| given(3));
        let bias = match (given(5), epilogue.and_then(Epilogue::bias_index)) {
            (true, Some(_)) => return Ok(None),
            (true, None) => Some(5),
            (false, bias) => bias,
        };
        let residual = epilogue.and_then(Epilogue::residual_index);
        let operands = [bias, residual].map(|index| spec.input(index?));
        let plain =
            [spec.input(0), spec.output(0)].into_iter().chain(operands).flatten().all(|s| s.dtype == DType::F32);
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
        Ok(Some(WeightOnly {
            isa,
            m: out.elements() / n,
            block: op.block_size,
            codes,
            scales,
            zeros,
            bias,
            residual,
            activation,
        }))
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
        let residual: Option<&[f32]> = self.residual.map(|index| io.input(index)).transpose()?;
        let residual = residual.map(|residual| gemm::Residual::Before(Matrix::dense(residual, m, n)));
        let epilogue = gemm::Epilogue { bias, residual, activation: self.activation, ..Default::default() };
        let out = io.output_matrix::<f32>(0, n)?;
        let (rows, columns) = self.division().region(io.share(), m, n);
        if !rows.is_empty() && !columns.is_empty() {
            let b =
                FewBits { codes: &self.codes, block: self.block, scales: &self.scales, zeros: self.zeros.as_deref() };
            let scratch = bytemuck::cast_slice_mut(context.workspace);
            gemm_few_bits(self.isa, Matrix::dense(a, m, k), b, rows, columns, out, &epilogue, scratch);
        }
        Ok(())
    }
}
