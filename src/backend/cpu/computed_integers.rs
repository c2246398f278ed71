//! `MatMulInteger` of two matrices that are both computed, or whose zero points are: the sums themselves.

use super::arena::Io;
use super::kernel::{Context, Kernel, Spec};
use super::product::{Geometry, geometry};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::gemm::{ComputedBytes, gemm_computed_bytes};
use crate::kernels::{Matrix, MatrixMut};
use crate::ops::quant::MatMulInteger;
use crate::tensor::DType;

/// `batch` products of `[m, k]` by `[k, n]`.
#[derive(Debug)]
pub(super) struct ComputedIntegers {
    isa: Isa,
    g: Geometry,
    /// Elements of A.
    a_len: usize,
    signed: [bool; 2],
    /// How many zero points A and B have; none where they are left out.
    zeros: [usize; 2],
}

impl ComputedIntegers {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(_), Some(a), Some(b), Some(out)) =
            (spec.op::<MatMulInteger>(), spec.shape(0), spec.shape(1), spec.output_shape(0))
        else {
            return Ok(None);
        };
        let Some(g) = geometry(a, b, out) else { return Ok(None) };
        let mut zeros = [0; 2];
        for (side, most) in [g.m, g.n].into_iter().enumerate() {
            let index = side + 2;
            let Some(slot) = spec.input(index) else { continue };
            let Some(shape) = &slot.shape else { return Ok(None) };
            // One for each row or column of every product.
            let listed = shape.rank() == 1 && shape.elements() == most;
            if shape.elements() != 1 && !listed {
                return Ok(None);
            }
            zeros[side] = shape.elements();
        }
        let signed = [0, 1].map(|index| spec.input(index).is_some_and(|slot| slot.dtype == DType::I8));
        Ok(Some(ComputedIntegers { isa, a_len: a.elements(), g, signed, zeros }))
    }

    /// Bytes of the flipped A.
    fn flipped(&self) -> usize {
        if self.signed[0] { self.a_len.next_multiple_of(64) } else { 0 }
    }
}

impl Kernel for ComputedIntegers {
    fn name(&self) -> String {
        let Geometry { m, k, n, left, .. } = &self.g;
        format!("integer sums {} of {m}x{k}x{n}", left.len())
    }

    fn workspace(&self) -> usize {
        self.flipped() + (self.zeros[0].max(1) + self.zeros[1].max(1)) * 4
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (a, b): (&[u8], &[u8]) = (io.input(0)?, io.input(1)?);
        let (flipped, zeros) = context.workspace.split_at_mut(self.flipped());
        let (a_zeros, rest) = zeros.split_at_mut(self.zeros[0].max(1) * 4);
        let (a_zeros, b_zeros): (&mut [i32], &mut [i32]) =
            (bytemuck::cast_slice_mut(a_zeros), bytemuck::cast_slice_mut(&mut rest[..self.zeros[1].max(1) * 4]));
        for (side, zeros) in [&mut *a_zeros, &mut *b_zeros].into_iter().enumerate() {
            zeros.fill(0);
            if self.zeros[side] > 0 {
                let bytes: &[u8] = io.input(side + 2)?;
                for (zero, &byte) in zeros.iter_mut().zip(bytes) {
                    *zero = if self.signed[side] { i32::from(byte as i8) } else { i32::from(byte) };
                }
            }
        }
        let mut a = a;
        if self.signed[0] {
            for (to, &from) in flipped.iter_mut().zip(a) {
                *to = from ^ 0x80;
            }
            a_zeros.iter_mut().for_each(|zero| *zero += 128);
            a = &flipped[..self.a_len];
        }
        let Geometry { m, k, n, left, right } = &self.g;
        let (m, k, n) = (*m, *k, *n);
        let out: &mut [i32] = io.output(0)?;
        if out.is_empty() {
            return Ok(());
        }
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            let own = Matrix::dense(&a[left[index] * m * k..], m, k);
            let data = &b[right[index] * k * n..][..k * n];
            let b = ComputedBytes { data, signed: self.signed[1], zero_points: b_zeros };
            gemm_computed_bytes(self.isa, own, a_zeros, b, MatrixMut::dense(out, m, n));
        }
        Ok(())
    }
}
