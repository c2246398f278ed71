//! Products with weights kept in float16: memory delivers half the bytes, and few rows wait for nothing else.
//!
//! Only a B that float16 holds exactly is packed, so the products are those of f32, added in the same order: an element
//! has the bits that [`gemm`](super::gemm) gives it.
//!
//! ```text
//! for some panels of columns together:
//!     the first rows of B: widen into the cache, and multiply as f32 (the tile brings the bias)
//!     the rows between: each weight goes from memory into the sums at once
//!     the last rows: as the first (the tile ends with the epilogue)
//! ```

use super::super::arch::{Body, Isa, Simd};
use super::super::view::{Matrix, MatrixMut};
use super::epilogue::{Epilogue, Residual};
use super::float::finish;
use super::pack::{Layout, panel_width};
use super::part::{Part, drive_unpacked};
use super::tile::each;
use crate::tensor::Buffer;
use half::f16;
use std::ops::Range;

/// Rows of B that are widened together.
const CHUNK: usize = 16;

/// Panels that are gone through together: enough sums of one row that none waits for the one before it, and enough streams
/// from memory.
const TOGETHER: usize = 4;

/// Rows of A up to which [`gemm_halves`] is worth it.
pub const HALVES_ROWS: usize = 4;

/// A B of `[k, n]` in float16, packed: `[panels][k][panel]`; empty where float16 does not hold it.
#[derive(Debug, Clone)]
pub struct PackedHalves {
    pub(super) data: Buffer,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panel: usize,
    pub(super) exact: bool,
}

impl PackedHalves {
    /// True where float16 holds every element exactly.
    #[must_use]
    pub fn holds(b: &[f32]) -> bool {
        b.iter().all(|&element| f16::from_f32(element).to_f32() == element)
    }

    /// Packs `b` of `[k, n]` for `isa`, if float16 holds it.
    ///
    /// # Panics
    /// If `b` is too short for its layout.
    #[must_use]
    #[track_caller]
    pub fn pack(isa: Isa, b: &[f32], k: usize, n: usize, layout: Layout) -> Self {
        let (panel, exact) = (panel_width(isa), Self::holds(b));
        if !exact {
            return PackedHalves { data: Buffer::zeroed(0), k, n, panel, exact };
        }
        let mut data = Buffer::zeroed_to_stay(n.div_ceil(panel) * panel * k * 2);
        let packed: &mut [u16] = data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        for row in 0..k {
            for column in 0..n {
                let element = match layout {
                    Layout::RowMajor { stride } => b[row * stride + column],
                    Layout::Transposed { stride } => b[column * stride + row],
                };
                packed[(column / panel * k + row) * panel + column % panel] = f16::from_f32(element).to_bits();
            }
        }
        PackedHalves { data, k, n, panel, exact }
    }

    /// Whether float16 holds B, so that it can be multiplied by.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact
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
}

/// Elements of scratch that [`gemm_halves`] needs for so many rows of A.
#[must_use]
pub fn halves_scratch_len(isa: Isa, rows: usize) -> usize {
    TOGETHER * panel_width(isa) * (CHUNK + rows)
}

/// The part `rows`, `columns` of `out = epilogue(a x b)`; `a` is `[m, k]`, and `out` holds the part only. An element's
/// bits do not depend on the division.
///
/// # Panics
/// If the sizes do not fit together, `b` is not exact, `columns` does not start with a panel, or `scratch` is shorter than
/// [`halves_scratch_len`].
#[track_caller]
pub fn gemm_halves(
    isa: Isa,
    a: Matrix<'_, f32>,
    b: &PackedHalves,
    rows: Range<usize>,
    columns: Range<usize>,
    mut out: MatrixMut<'_, f32>,
    epilogue: &Epilogue<'_>,
    scratch: &mut [f32],
) {
    let (k, n, panel) = (b.k, b.n, b.panel);
    assert!(a.cols() == k, "A has {} columns, B {k} rows", a.cols());
    assert!(rows.start <= rows.end && rows.end <= a.rows(), "rows {rows:?} of {}", a.rows());
    assert!(panel == panel_width(isa), "B is packed in panels of {panel}, not for {}", isa.name());
    assert!(b.exact, "B is none of float16");
    assert!(scratch.len() >= halves_scratch_len(isa, rows.len()), "{} elements of scratch", scratch.len());
    let (scratch, kept) = scratch.split_at_mut(halves_scratch_len(isa, 0));
    assert!(columns.start.is_multiple_of(panel) && columns.end <= n, "columns {columns:?} of {n}");
    let whole = Part { whole: (a.rows(), n), rows: rows.clone(), columns: columns.clone(), first_column: 0 };
    whole.check_output(out.rows(), out.cols());
    let own = matches!(epilogue.residual, Some(Residual::OutputBefore | Residual::OutputAfter));
    for first in columns.clone().step_by(TOGETHER * panel) {
        let here = first..columns.end.min(first + TOGETHER * panel);
        let part = Part { whole: whole.whole, rows: rows.clone(), columns: here.clone(), first_column: first };
        // SAFETY: the columns lie in `out`, which is borrowed for as long.
        let mut out = unsafe {
            let start = out.as_mut_ptr().add(here.start - columns.start);
            MatrixMut::from_raw(start, out.rows(), here.len(), out.stride())
        };
        let mut finish = finish(epilogue, &part, &mut out);
        if own {
            // The output holds sums while its residual waits.
            for row in 0..rows.len() {
                // SAFETY: the row's columns lie in `out`.
                let from = unsafe { std::slice::from_raw_parts(out.as_mut_ptr().add(row * out.stride()), here.len()) };
                kept[row * here.len()..][..here.len()].copy_from_slice(from);
            }
            (finish.residual, finish.residual_stride) = (Some(kept.as_ptr()), here.len());
            for direct in [&mut finish.direct, &mut finish.simple].into_iter().flatten() {
                if direct.residual.is_some() {
                    (direct.residual, direct.residual_stride) = (finish.residual, finish.residual_stride);
                }
            }
        }
        let panels = first / panel..here.end.div_ceil(panel);
        let mut start = 0;
        loop {
            let end = k.min(start + CHUNK);
            isa.dispatch(Widen { b, panels: panels.clone(), rows: start..end, to: scratch });
            // SAFETY: the scratch holds the panels' rows, and the epilogue's operands were checked against the part.
            unsafe { drive_unpacked(isa, a, scratch, panel, start..end, &part, &mut finish) };
            if end == k {
                break;
            }
            start = end;
            if k - start > CHUNK {
                let middle = start..k - CHUNK;
                start = middle.end;
                isa.dispatch(Stream { b, panels: panels.clone(), middle, a, rows: rows.clone(), out: &mut out });
            }
        }
    }
}

/// Rows of some panels as f32.
struct Widen<'a> {
    b: &'a PackedHalves,
    panels: Range<usize>,
    rows: Range<usize>,
    to: &'a mut [f32],
}

impl Body for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Widen { b, panels, rows, to } = self;
        let halves: &[u16] = bytemuck::cast_slice(b.data.as_slice());
        let count = rows.len() * b.panel;
        let mut done = 0;
        while done < panels.len() {
            let from = &halves[((panels.start + done) * b.k + rows.start) * b.panel..][..count];
            let to = &mut to[done * count..][..count];
            let mut i = 0;
            while i < count {
                // SAFETY: a panel is some vectors wide, so that whole ones lie within both.
                unsafe { s.store(to.as_mut_ptr().add(i), s.load_f16(from.as_ptr().add(i))) };
                i += S::LANES;
            }
            done += 1;
        }
    }
}

/// Adds to the sums in `out` what rows of B between its first and its last yield.
struct Stream<'a, 'o> {
    b: &'a PackedHalves,
    panels: Range<usize>,
    middle: Range<usize>,
    a: Matrix<'a, f32>,
    rows: Range<usize>,
    out: &'a mut MatrixMut<'o, f32>,
}

impl Body for Stream<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (rows, panels) = (self.rows.len(), self.panels.len());
        let mut done = 0;
        while done < rows {
            let high = match rows - done {
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            let mut panel = 0;
            while panel < panels {
                // SAFETY: rows of A are as long as B is high, and the output's columns are those of the panels.
                panel += unsafe {
                    match (high, panels - panel) {
                        (1, 4..) => self.stream::<S, 1, 4>(s, done, panel),
                        (2, 4..) => self.stream::<S, 2, 4>(s, done, panel),
                        (4, 2..) => self.stream::<S, 4, 2>(s, done, panel),
                        // The last panels of a number that is no multiple.
                        (4, _) => self.stream::<S, 4, 1>(s, done, panel),
                        (2, _) => self.stream::<S, 2, 1>(s, done, panel),
                        _ => self.stream::<S, 1, 1>(s, done, panel),
                    }
                };
            }
            done += high;
        }
    }
}

/// Bytes of a panel that are asked for ahead of their use.
const AHEAD: usize = 1024;

impl Stream<'_, '_> {
    /// `M` rows from `first` on by `P` panels from `panel` on; yields how many panels that were.
    ///
    /// # Safety
    /// There are as many, and the output has at most the columns of all panels.
    #[inline(always)]
    unsafe fn stream<S: Simd, const M: usize, const P: usize>(&mut self, s: S, first: usize, panel: usize) -> usize {
        let width = 2 * S::LANES;
        let (columns, stride, pitch) = (self.out.cols(), self.out.stride(), self.a.stride());
        let (column, panel_len) = (panel * width, self.b.k * width);
        let part = |v: usize| columns.saturating_sub(column + v * S::LANES).min(S::LANES);
        // SAFETY: as the caller promises; the last panel is filled up, the output is not.
        unsafe {
            let halves = self.b.data.as_slice().as_ptr().cast::<u16>();
            let mut from = halves.add((self.panels.start + panel) * panel_len + self.middle.start * width);
            let out = self.out.as_mut_ptr().add(first * stride + column);
            let mut a = self.a.as_ptr().add((self.rows.start + first) * pitch + self.middle.start);
            let mut sums = [[[s.splat(0.0); 2]; P]; M];
            each!(M, m => {
                each!(2 * P, v => {
                    sums[m][v / 2][v % 2] = s.load_part(out.wrapping_add(m * stride + v * S::LANES), part(v));
                });
            });
            for _ in self.middle.clone() {
                each!(P, p => {
                    let from = from.add(p * panel_len);
                    s.prefetch(from.cast::<u8>().wrapping_add(AHEAD));
                    let (left, right) = (s.load_f16(from), s.load_f16(from.add(S::LANES)));
                    each!(M, m => {
                        let a = s.splat(*a.add(m * pitch));
                        sums[m][p][0] = s.fma(a, left, sums[m][p][0]);
                        sums[m][p][1] = s.fma(a, right, sums[m][p][1]);
                    });
                });
                (from, a) = (from.add(width), a.add(1));
            }
            each!(M, m => {
                each!(2 * P, v => {
                    s.store_part(out.wrapping_add(m * stride + v * S::LANES), part(v), sums[m][v / 2][v % 2]);
                });
            });
        }
        P
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Activation, PackedB, gemm};
    use super::*;

    #[test]
    fn the_bits_of_f32_on_every_instruction_set() {
        let mut random = fastrand::Rng::with_seed(7);
        let sizes = [[1, 1, 1], [1, 300, 70], [4, 600, 33], [14, 37, 40], [3, 513, 64], [8, 48, 129], [2, 33, 16]];
        for [m, k, n] in sizes {
            let mut numbers = |len: usize| (0..len).map(|_| random.f32() - 0.5).collect::<Vec<f32>>();
            let (a, bias, residual) = (numbers(m * k), numbers(n), numbers(m * n));
            let weights: Vec<f32> = numbers(k * n).into_iter().map(|w| f16::from_f32(w).to_f32()).collect();
            assert!(PackedHalves::holds(&weights) && !PackedHalves::holds(&a));
            for isa in Isa::available() {
                let (rows, layout) = (Matrix::dense(&a, m, k), Layout::RowMajor { stride: n });
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    residual: Some(Residual::Before(Matrix::dense(&residual, m, n))),
                    activation: Activation::Relu,
                    ..Default::default()
                };
                let mut expected = vec![f32::NAN; m * n];
                let wide = PackedB::pack(isa, &weights, k, n, layout);
                gemm(isa, rows, &wide, MatrixMut::dense(&mut expected, m, n), &epilogue);
                let packed = PackedHalves::pack(isa, &weights, k, n, layout);
                assert_eq!((packed.k(), packed.n(), packed.is_exact()), (k, n, true));
                let mut scratch = vec![f32::NAN; halves_scratch_len(isa, m)];
                let mut run = |rows_of: Range<usize>, columns: Range<usize>| {
                    let mut out = vec![f32::NAN; rows_of.len() * columns.len()];
                    let view = MatrixMut::dense(&mut out, rows_of.len(), columns.len());
                    gemm_halves(isa, rows, &packed, rows_of, columns, view, &epilogue, &mut scratch);
                    out
                };
                assert_eq!(run(0..m, 0..n), expected, "{m}x{k}x{n} on {}", isa.name());
                let mut own = residual.clone();
                let epilogue_of_own = Epilogue { residual: Some(Residual::OutputBefore), ..epilogue };
                let (view, mut room) = (MatrixMut::dense(&mut own, m, n), vec![f32::NAN; halves_scratch_len(isa, m)]);
                gemm_halves(isa, rows, &packed, 0..m, 0..n, view, &epilogue_of_own, &mut room);
                assert_eq!(own, expected, "over its residual");
                let solo: Vec<f32> = (0..m).flat_map(|row| run(row..row + 1, 0..n)).collect();
                assert_eq!(solo, expected, "a row's bits depend on its batch");
                let panel = panel_width(isa);
                if n > panel {
                    assert_eq!(run(0..m, panel..n)[0], expected[panel], "and on its columns");
                }
            }
        }
    }
}
