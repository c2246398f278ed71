//! Products of two matrices of bytes that are both computed: B is packed as it comes, and all zero points are taken off.
//!
//! ```text
//! sum over k of (a - za) * (b - zb)  =  [sum a * b - za * sum b]  -  zb * [sum a - k * za]
//! ```
//! The first bracket is the tile's, the second one number a row. Unsigned B is taken as signed, 128 down, zero points
//! and all: so B always fits.

use super::super::arch::{Body, Isa, Simd};
use super::super::quantize::{Byte, to_steps};
use super::super::view::{Matrix, MatrixMut};
use super::integer::{ByteEpilogue, ByteOutput, Requantize, gemm_bytes};
use super::pack_bytes::{PackedBytes, panel_width};
use crate::tensor::Buffer;
use std::cell::RefCell;

/// A matrix B of bytes of `[k, n]` in row-major order.
#[derive(Debug, Clone, Copy)]
pub struct ComputedBytes<'a> {
    /// The bytes; what they mean is said by `signed`.
    pub data: &'a [u8],
    /// Whether they are signed.
    pub signed: bool,
    /// The zero point, or one a column.
    pub zero_points: &'a [i32],
}

thread_local! {
    /// B packed: kept by each thread, so that a warm call allocates nothing.
    static PACKED: RefCell<PackedBytes> = RefCell::new(PackedBytes {
        data: Buffer::zeroed(0),
        sums: Vec::new(),
        n: 0,
        panel: 0,
        segments: 1,
        segment: 0,
        summands: 1,
    });
}

/// `out = (a - a_zeros) x (b - its zero points)`, exactly (modulo 2^32); `a` is `[m, k]`, unsigned, `out` `[m, n]`. There
/// is one zero point of `a`, or one a row.
///
/// # Panics
/// If the sizes do not fit together.
#[track_caller]
pub fn gemm_computed_bytes(
    isa: Isa,
    a: Matrix<'_, u8>,
    a_zeros: &[i32],
    b: ComputedBytes<'_>,
    mut out: MatrixMut<'_, i32>,
) {
    let (m, k, n) = (a.rows(), a.cols(), out.cols());
    assert!(k.checked_mul(n) == Some(b.data.len()), "B of {k} x {n} in {} bytes", b.data.len());
    assert!([1, m].contains(&a_zeros.len()) && [1, n].contains(&b.zero_points.len()), "zero points");
    if m == 0 || n == 0 {
        return;
    }
    let zero = if let [zero] = a_zeros { *zero } else { 0 };
    packed_product(isa, a, zero, b, out.reborrow(), |offset, sums, out| {
        if a_zeros.len() > 1 || b.zero_points.iter().any(|&zero| zero != offset) {
            isa.dispatch(Center { a, a_zeros, offset, b_zeros: b.zero_points, sums, out });
        }
    });
}

/// The same, quantized at once: one zero point of `a`, one of `b`, and `out` of `[m, n]` in row-major order. The factor is that
/// of the sums: both scales over the output's. `sums` has as many elements, with any content.
///
/// # Panics
/// If the sizes do not fit together.
#[track_caller]
pub fn gemm_computed_quantized<T: Byte>(
    isa: Isa,
    a: Matrix<'_, u8>,
    a_zero: i32,
    b: ComputedBytes<'_>,
    requantize: Requantize,
    sums: &mut [i32],
    out: &mut [T],
) {
    let (m, k) = (a.rows(), a.cols());
    let Some(n) = out.len().checked_div(m) else { return };
    assert!(k.checked_mul(n) == Some(b.data.len()), "B of {k} x {n} in {} bytes", b.data.len());
    let &[b_zero] = b.zero_points else { panic!("{} zero points of B", b.zero_points.len()) };
    if n > 0 {
        packed_product(isa, a, a_zero, b, MatrixMut::dense(sums, m, n), |offset, _, sums| {
            isa.dispatch(Round { a, a_zero, taken: b_zero - offset, sums, requantize, out });
        });
    }
}

/// Packs B, multiplies, and hands what B's zero points are less by, the sums of its columns and the product to `last`.
fn packed_product<'o>(
    isa: Isa,
    a: Matrix<'_, u8>,
    zero_point: i32,
    b: ComputedBytes<'_>,
    mut out: MatrixMut<'o, i32>,
    last: impl FnOnce(i32, &[i32], MatrixMut<'o, i32>),
) {
    let (k, n) = (a.cols(), out.cols());
    let flip: u8 = if b.signed { 0 } else { 0x80 };
    PACKED.with_borrow_mut(|packed| {
        let panel = panel_width(isa);
        let len = n.div_ceil(panel) * panel * k.div_ceil(4) * 4;
        if packed.data.as_slice().len() < len {
            packed.data = Buffer::zeroed(len);
        }
        packed.sums.clear();
        packed.sums.resize(n, 0);
        (packed.n, packed.panel, packed.segment) = (n, panel, k);
        let words: &mut [u32] = packed.data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        isa.dispatch(Pack { b: b.data, k, n, panel, flip, words, sums: &mut packed.sums });
        let epilogue = ByteEpilogue { zero_point, ..ByteEpilogue::default() };
        gemm_bytes(isa, a, packed, ByteOutput::I32(out.reborrow()), &epilogue);
        last(i32::from(flip), &packed.sums, out);
    });
}

/// Packs B as signed bytes, with the sums of its columns.
struct Pack<'a> {
    b: &'a [u8],
    k: usize,
    n: usize,
    panel: usize,
    flip: u8,
    words: &'a mut [u32],
    sums: &'a mut [i32],
}

impl Body for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Pack { b, k, n, panel, flip, words, sums } = self;
        let flips = u32::from_le_bytes([flip; 4]);
        let height = k.div_ceil(4);
        let offset = s.splat_i32(i32::from(flip));
        for (part, sums) in sums.chunks_mut(S::LANES).enumerate() {
            let mut sum = s.splat_i32(0);
            for row in 0..k {
                let row = &b[row * n + part * S::LANES..][..sums.len()];
                // SAFETY: the row has as many bytes as there are sums.
                let bytes = unsafe {
                    match flip {
                        0 => s.load_i8_part(row.as_ptr().cast(), row.len()),
                        _ => s.sub_i32(s.load_u8_part(row.as_ptr(), row.len()), offset),
                    }
                };
                sum = s.add_i32(sum, bytes);
            }
            // SAFETY: so many sums are written as there are.
            unsafe { s.store_i32_part(sums.as_mut_ptr(), sums.len(), sum) };
        }
        for first in (0..n).step_by(panel) {
            let columns = panel.min(n - first);
            for word in 0..height {
                let to = &mut words[first * height + word * panel..][..panel];
                if word * 4 + 4 <= k {
                    let row = |i: usize| &b[(word * 4 + i) * n + first..][..columns];
                    let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
                    for c in 0..columns {
                        to[c] = u32::from_le_bytes([r0[c], r1[c], r2[c], r3[c]]) ^ flips;
                    }
                } else {
                    to.fill(0);
                    for row in word * 4..k {
                        let from = &b[row * n + first..][..columns];
                        for c in 0..columns {
                            to[c] |= u32::from(from[c] ^ flip) << (row % 4 * 8);
                        }
                    }
                }
                to[columns..].fill(0);
            }
        }
    }
}

/// Takes the zero points off that the tile has not.
struct Center<'a> {
    a: Matrix<'a, u8>,
    a_zeros: &'a [i32],
    /// What B's zero points are less by in packed bytes.
    offset: i32,
    b_zeros: &'a [i32],
    sums: &'a [i32],
    out: MatrixMut<'a, i32>,
}

impl Body for Center<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _s: S) {
        let (k, n) = (self.a.cols(), self.out.cols());
        let (from, stride, to, to_stride) =
            (self.a.as_ptr(), self.a.stride(), self.out.as_mut_ptr(), self.out.stride());
        for r in 0..self.out.rows() {
            // SAFETY: the row is one of A, whose rows are as many as the output's, and one of the output.
            let (row, out) = unsafe {
                let row = std::slice::from_raw_parts(from.wrapping_add(r * stride), k);
                (row, std::slice::from_raw_parts_mut(to.wrapping_add(r * to_stride), n))
            };
            let mut sum = 0i32;
            for &byte in row {
                sum = sum.wrapping_add(i32::from(byte));
            }
            let each = self.a_zeros.len() > 1;
            let zero = self.a_zeros[if each { r } else { 0 }];
            let sum = sum.wrapping_sub(zero.wrapping_mul(k as i32));
            if let [b_zero] = self.b_zeros {
                let taken = (b_zero - self.offset).wrapping_mul(sum);
                for out in out.iter_mut() {
                    *out = out.wrapping_sub(taken);
                }
            } else {
                for (out, zero) in out.iter_mut().zip(self.b_zeros) {
                    *out = out.wrapping_sub((zero - self.offset).wrapping_mul(sum));
                }
            }
            if each {
                for (out, of_column) in out.iter_mut().zip(self.sums) {
                    *out = out.wrapping_sub(zero.wrapping_mul(*of_column));
                }
            }
        }
    }
}

/// Lanes of the widest instruction set.
const MOST_LANES: usize = 16;

/// Takes B's zero point off, of which the tile has taken all but `taken`, and quantizes.
struct Round<'a, T> {
    a: Matrix<'a, u8>,
    a_zero: i32,
    taken: i32,
    sums: MatrixMut<'a, i32>,
    requantize: Requantize,
    out: &'a mut [T],
}

impl<T: Byte> Body for Round<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (k, n) = (self.a.cols(), self.sums.cols());
        let (from, stride) = (self.a.as_ptr(), self.a.stride());
        let (sums, sums_stride) = (self.sums.as_mut_ptr(), self.sums.stride());
        let Requantize { factor, zero_point } = self.requantize;
        let factor = s.splat(factor);
        for (r, out) in self.out.chunks_exact_mut(n).enumerate() {
            let mut sum = 0i32;
            if self.taken != 0 {
                let row = from.wrapping_add(r * stride);
                let mut lanes = s.splat_i32(0);
                for i in (0..k).step_by(S::LANES) {
                    // SAFETY: the row is one of A, whose rows are as many as the output's.
                    lanes = s.add_i32(lanes, unsafe { s.load_u8_part(row.add(i), (k - i).min(S::LANES)) });
                }
                let mut each = [0i32; MOST_LANES];
                // SAFETY: no vector has more lanes.
                unsafe { s.store_i32(each.as_mut_ptr(), lanes) };
                for lane in &each {
                    sum = sum.wrapping_add(*lane);
                }
                sum = sum.wrapping_sub(self.a_zero.wrapping_mul(k as i32)).wrapping_mul(self.taken);
            }
            let (sum, row) = (s.splat_i32(sum), sums.wrapping_add(r * sums_stride));
            for c in (0..n).step_by(S::LANES) {
                let count = (n - c).min(S::LANES);
                // SAFETY: both rows have `count` elements from `c` on.
                unsafe {
                    let whole = s.sub_i32(s.load_i32_part(row.add(c), count), sum);
                    let steps = to_steps(s, s.mul(s.from_i32(whole), factor), zero_point);
                    T::store_part(s, out.as_mut_ptr().add(c), count, steps);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_by_the_definition() {
        let mut random = fastrand::Rng::with_seed(7);
        let sizes = [(1, 1, 1), (3, 5, 7), (13, 4, 33), (5, 63, 16), (2, 64, 70), (14, 9, 1), (4, 0, 3)];
        for (case, (m, k, n)) in sizes.into_iter().enumerate() {
            for (signed, each_a, each_b) in
                [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
            {
                let mut bytes = |len: usize| (0..len).map(|_| random.u8(..)).collect::<Vec<u8>>();
                let (a, b) = (bytes(m * k), bytes(k * n));
                let (a_zeros, b_zeros) = (bytes(if each_a { m } else { 1 }), bytes(if each_b { n } else { 1 }));
                let of_b = |byte: u8| if signed { i32::from(byte as i8) } else { i32::from(byte) };
                let a_zeros: Vec<i32> = a_zeros.into_iter().map(i32::from).collect();
                let b_zeros: Vec<i32> = b_zeros.into_iter().map(of_b).collect();
                let element = |at: usize| -> i32 {
                    let (r, c) = (at / n, at % n);
                    let (za, zb) = (a_zeros[r % a_zeros.len()], b_zeros[c % b_zeros.len()]);
                    (0..k).map(|i| (i32::from(a[r * k + i]) - za) * (of_b(b[i * n + c]) - zb)).sum()
                };
                let expected: Vec<i32> = (0..m * n).map(element).collect();
                for isa in Isa::available() {
                    let b = ComputedBytes { data: &b, signed, zero_points: &b_zeros };
                    let mut out = vec![i32::MIN; m * n];
                    gemm_computed_bytes(isa, Matrix::dense(&a, m, k), &a_zeros, b, MatrixMut::dense(&mut out, m, n));
                    assert_eq!(out, expected, "{} case {case}, signed {signed}", isa.name());
                    let ([a_zero], [_]) = (&a_zeros[..], &b_zeros[..]) else { continue };
                    let to = Requantize { factor: 1.0 / 700.0, zero_point: 90 };
                    let quantized =
                        |sum: &i32| ((*sum as f32 * to.factor).round_ties_even() as i32 + 90).clamp(0, 255) as u8;
                    let mut out = vec![1u8; m * n];
                    let mut sums = vec![i32::MIN; m * n];
                    gemm_computed_quantized(isa, Matrix::dense(&a, m, k), *a_zero, b, to, &mut sums, &mut out);
                    let expected: Vec<u8> = expected.iter().map(quantized).collect();
                    assert_eq!(out, expected, "{} case {case}, signed {signed}, quantized", isa.name());
                }
            }
        }
    }
}
