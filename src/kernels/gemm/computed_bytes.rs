//! Products of two matrices of bytes that are both computed: B is packed as it comes, and all zero points are taken off.
//!
//! ```text
//! sum over k of (a - za) * (b - zb)  =  [sum a * b - za * sum b]  -  zb * [sum a - k * za]
//! ```
//! The first bracket is the tile's, the second one number a row. Unsigned B is taken as signed, 128 down, zero points
//! and all: so B always fits.

use super::super::arch::{Body, Isa, Simd};
use super::super::view::{Matrix, MatrixMut};
use super::integer::{ByteEpilogue, ByteOutput, gemm_bytes};
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
        let epilogue =
            ByteEpilogue { zero_point: if let [zero] = a_zeros { *zero } else { 0 }, ..ByteEpilogue::default() };
        gemm_bytes(isa, a, packed, ByteOutput::I32(out.reborrow()), &epilogue);
        let offset = i32::from(flip);
        if a_zeros.len() > 1 || b.zero_points.iter().any(|&zero| zero != offset) {
            isa.dispatch(Center { a, a_zeros, offset, b_zeros: b.zero_points, sums: &packed.sums, out });
        }
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
    fn run<S: Simd>(self, _s: S) {
        let Pack { b, k, n, panel, flip, words, sums } = self;
        let flips = u32::from_le_bytes([flip; 4]);
        let height = k.div_ceil(4);
        for row in 0..k {
            let row = &b[row * n..][..n];
            for c in 0..n {
                sums[c] += i32::from((row[c] ^ flip) as i8);
            }
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
                }
            }
        }
    }
}
