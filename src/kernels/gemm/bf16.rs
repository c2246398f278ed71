//! Products of bfloat16, summed in f32: half the bytes and up to twice the speed, at eight bits of precision.

use super::super::arch::Isa;
use super::super::view::Matrix;
use super::epilogue::Epilogue;
use super::float::finish_as;
use super::output::FloatOutput;
use super::pack::{Layout, panel_width};
use super::part::{Operand, Part, Strided, drive};
use super::product::Brain;
use crate::tensor::Buffer;
use half::bf16;
use std::ops::Range;

/// A B of `[k, n]` rounded to bfloat16 and packed, two elements of a column to a word.
#[derive(Debug, Clone)]
pub struct PackedBf16 {
    pub(super) data: Buffer,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panel: usize,
}

impl PackedBf16 {
    /// Rounds and packs `b` of `[k, n]` for `isa`.
    ///
    /// # Panics
    /// If `b` is too short for its layout.
    #[must_use]
    #[track_caller]
    pub fn pack(isa: Isa, b: &[f32], k: usize, n: usize, layout: Layout) -> Self {
        let panel = panel_width(isa);
        let words = k.div_ceil(2);
        let mut data = Buffer::zeroed_to_stay(n.div_ceil(panel) * panel * words * 4);
        let packed: &mut [u16] = data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        for row in 0..k {
            for column in 0..n {
                let element = match layout {
                    Layout::RowMajor { stride } => b[row * stride + column],
                    Layout::Transposed { stride } => b[column * stride + row],
                };
                let word = (column / panel * words + row / 2) * panel + column % panel;
                packed[word * 2 + row % 2] = bf16::from_f32(element).to_bits();
            }
        }
        PackedBf16 { data, k, n, panel }
    }

    /// Rows.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of a panel; ranges of columns start at multiples of it.
    #[must_use]
    pub fn panel(&self) -> usize {
        self.panel
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.data.as_slice().len()
    }
}

/// `out = epilogue(a x b)` as [`gemm`](super::gemm), of bfloat16 with f32 sums.
///
/// The same on every instruction set but for numbers below the smallest normal one, which some take as zero.
///
/// # Panics
/// If the sizes do not fit together, or `b` was packed for another instruction set.
#[track_caller]
pub fn gemm_bf16<'o>(
    isa: Isa,
    a: Matrix<'_, bf16>,
    b: &PackedBf16,
    out: impl Into<FloatOutput<'o>>,
    epilogue: &Epilogue<'_>,
) {
    gemm_bf16_region(isa, a, b, 0..a.rows(), 0..b.n, out, epilogue);
}

/// The part of [`gemm_bf16`] that lies in `rows` of `a` and `columns` of `b`; see
/// [`gemm_region`](super::gemm_region).
///
/// # Panics
/// As [`gemm_bf16`], or if `columns` does not start with a panel of `b`.
#[track_caller]
pub fn gemm_bf16_region<'o>(
    isa: Isa,
    a: Matrix<'_, bf16>,
    b: &PackedBf16,
    rows: Range<usize>,
    columns: Range<usize>,
    out: impl Into<FloatOutput<'o>>,
    epilogue: &Epilogue<'_>,
) {
    let mut out = out.into();
    assert!(a.cols() == b.k, "A has {} columns, B {} rows", a.cols(), b.k);
    assert!(rows.start <= rows.end && rows.end <= a.rows(), "rows {rows:?} of {}", a.rows());
    assert!(b.panel == panel_width(isa), "B is packed in panels of {}, not for {}", b.panel, isa.name());
    let part = Part { whole: (a.rows(), b.n), rows, columns, first_column: 0 };
    let finish = finish_as(epilogue, &part, &mut out);
    let strided = Strided { data: a.as_ptr().cast(), stride_bytes: a.stride() * 2 };
    let operand = Operand {
        data: b.data.as_slice().as_ptr(),
        n: b.n,
        panel: b.panel,
        panel_bytes: b.k.div_ceil(2) * b.panel * 4,
        words: b.k / 2,
        tail: b.k % 2 * 2,
    };
    // SAFETY: the rows of A are in its slice, and each of them is k elements long.
    unsafe { drive::<Brain>(isa, &strided, operand, &part, &finish, false) }
}

#[cfg(test)]
mod tests {
    use super::super::super::view::MatrixMut;
    use super::*;

    #[test]
    fn every_size_of_a_few_tiles() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut numbers = |len: usize| (0..len).map(|_| random.f32() * 2.0 - 1.0).collect::<Vec<_>>();
        let sizes = (1..=14).flat_map(|m| [1, 16, 33, 70].map(|n| (m, 9, n)));
        for (m, k, n) in sizes.chain((0..12).map(|k| (5, k, 40))) {
            let b = numbers(k * n);
            let a: Vec<bf16> = numbers((m - 1) * (k + 3) + k).into_iter().map(bf16::from_f32).collect();
            let bias = numbers(n);
            let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let packed = PackedBf16::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
                let mut out = vec![0.0; m * n];
                let rows = Matrix::new(&a, m, k, k + 3);
                gemm_bf16(isa, rows, &packed, MatrixMut::dense(&mut out, m, n), &epilogue);
                for (at, &x) in out.iter().enumerate() {
                    let (row, column) = (at / n, at % n);
                    let product =
                        |k: usize, x: f32| a[row * (packed.k() + 3) + k].to_f64() * bf16::from_f32(x).to_f64();
                    let sum: f64 = (0..k).map(|k| product(k, b[k * n + column])).sum();
                    let expected = sum + f64::from(bias[column]);
                    assert!((f64::from(x) - expected).abs() < 1e-5, "{} {m}x{k}x{n}: {x}, not {expected}", isa.name());
                }
                // No number here is small enough for the instruction sets to differ.
                assert_eq!(first.get_or_insert_with(|| out.clone()), &out, "{} {m}x{k}x{n}", isa.name());
            }
        }
    }

    #[test]
    fn rows_evenly_apart_have_the_same_bits() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut numbers = |len: usize| (0..len).map(|_| random.f32() * 2.0 - 1.0).collect::<Vec<_>>();
        for isa in Isa::available() {
            for (m, k, n) in [(8, 128, 96), (13, 128, 96), (26, 134, 33), (50, 1282, 70), (61, 129, 64)] {
                let (b, bias) = (numbers(k * n), numbers(n));
                let a: Vec<bf16> = numbers(m * k).into_iter().map(bf16::from_f32).collect();
                let packed = PackedBf16::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
                let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                let mut whole = vec![f32::NAN; m * n];
                gemm_bf16(isa, Matrix::dense(&a, m, k), &packed, MatrixMut::dense(&mut whole, m, n), &epilogue);
                for row in 0..m {
                    let mut one = vec![0.0; n];
                    let a = Matrix::dense(&a[row * k..], 1, k);
                    gemm_bf16(isa, a, &packed, MatrixMut::dense(&mut one, 1, n), &epilogue);
                    assert_eq!(one, whole[row * n..][..n], "{} row {row} of {m}x{k}x{n}", isa.name());
                }
            }
        }
    }
}
