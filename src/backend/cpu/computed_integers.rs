//! Products of two matrices of bytes that are both computed: the sums themselves of `MatMulInteger` (whose zero points may
//! be computed as well), and quantized values that are quantized again.

use super::arena::Io;
use super::integer::{flip_signs, known};
use super::kernel::{Context, Division, Kernel, Spec};
use super::product::{Geometry, geometry};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::gemm::{ComputedBytes, Requantize, gemm_computed_bytes, gemm_computed_quantized};
use crate::kernels::quantize::Byte;
use crate::kernels::{Matrix, MatrixMut};
use crate::ops::fused::Quantized;
use crate::ops::matrix::MatMul;
use crate::ops::quant::MatMulInteger;
use crate::tensor::DType;
use bytemuck::{AnyBitPattern, NoUninit};

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
            a_zeros.iter_mut().for_each(|zero| *zero += 128);
            a = flip_signs(a, flipped);
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

/// `batch` products of `[m, k]` by `[k, n]` between quantized values.
#[derive(Debug)]
pub(super) struct ComputedProduct {
    isa: Isa,
    g: Geometry,
    signed: [bool; 2],
    zeros: [i32; 2],
    requantize: Requantize,
    to_signed: bool,
}

impl ComputedProduct {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        Ok(Self::of(spec, isa))
    }

    fn of(spec: &Spec<'_>, isa: Isa) -> Option<Self> {
        let quantized = spec.op::<Quantized>()?;
        if !quantized.op.is::<MatMul>() || quantized.arity != 2 || spec.constant(1).is_some() {
            return None;
        }
        let g = geometry(spec.shape(0)?, spec.shape(1)?, spec.output_shape(0)?)?;
        let [a, b] = [known(spec, quantized.input(0)?)?, known(spec, quantized.input(1)?)?];
        let (scale, zero) = known(spec, quantized.output?)?;
        let factor = (f64::from(a.0) * f64::from(b.0) / f64::from(scale)) as f32;
        let signed = [0, 1].map(|index| spec.input(index).is_some_and(|slot| slot.dtype == DType::I8));
        Some(ComputedProduct {
            isa,
            g,
            signed,
            zeros: [a.1 + if signed[0] { 128 } else { 0 }, b.1],
            requantize: Requantize { factor, zero_point: zero },
            to_signed: spec.output(0)?.dtype == DType::I8,
        })
    }

    /// Bytes of a flipped left-hand matrix.
    fn flipped(&self) -> usize {
        if self.signed[0] { (self.g.m * self.g.k).next_multiple_of(64) } else { 0 }
    }

    fn products<T: Byte + AnyBitPattern + NoUninit>(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (a, b): (&[u8], &[u8]) = (io.input(0)?, io.input(1)?);
        let (flipped, sums) = context.workspace.split_at_mut(self.flipped());
        let Geometry { m, k, n, left, right } = &self.g;
        let (m, k, n) = (*m, *k, *n);
        let sums: &mut [i32] = &mut bytemuck::cast_slice_mut(sums)[..m * n];
        let out: &mut [T] = io.output(0)?;
        if out.is_empty() {
            return Ok(());
        }
        for (index, out) in io.share().zip(out.chunks_exact_mut(m * n)) {
            let mut own = &a[left[index] * m * k..][..m * k];
            if self.signed[0] {
                own = flip_signs(own, flipped);
            }
            let data = &b[right[index] * k * n..][..k * n];
            let b = ComputedBytes { data, signed: self.signed[1], zero_points: &self.zeros[1..] };
            let own = Matrix::dense(own, m, k);
            gemm_computed_quantized(self.isa, own, self.zeros[0], b, self.requantize, sums, out);
        }
        Ok(())
    }
}

impl Kernel for ComputedProduct {
    fn name(&self) -> String {
        let Geometry { m, k, n, left, .. } = &self.g;
        format!("integer gemm computed {}x{m}x{k}x{n}", left.len())
    }

    fn workspace(&self) -> usize {
        self.flipped() + self.g.m * self.g.n * 4
    }

    fn division(&self) -> Division {
        Division::units(self.g.left.len(), 1)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        if self.to_signed { self.products::<i8>(io, context) } else { self.products::<u8>(io, context) }
    }
}
