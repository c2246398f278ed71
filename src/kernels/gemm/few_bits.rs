//! Products with weights of two, four or eight bits, scaled by blocks of K: memory delivers an eighth of the bytes.
//!
//! ```text
//! for each panel of columns:
//!     for each chunk of K: unpack (code - zero) * scale into the cache, and multiply it as f32
//! ```
//! The unpacked chunk goes through the tile of f32 products, so the sums are theirs. For few rows of A most chunks are
//! multiplied while they are unpacked: the same products, added in the same order, so that a row's bits are the same in
//! every batch.

use super::super::arch::{Body, Isa, Simd};
use super::super::view::{Matrix, MatrixMut};
use super::epilogue::{Epilogue, Residual};
use super::float::finish;
use super::pack::panel_width;
use super::part::{Part, drive_unpacked};
use crate::tensor::Buffer;
use std::ops::Range;

/// Rows of B that are unpacked together: a multiple of the codes in a byte.
const CHUNK: usize = 256;

/// The same, where the rest is streamed.
const SHORT_CHUNK: usize = 64;

/// Rows of A that are too few to unpack B for: each weight goes from its code into the sums at once.
const STREAMED_ROWS: usize = 8;

/// The codes of a B of `[k, n]`, in panels: `[panels][k / each][panel]` bytes of `each` codes, the lowest bits first.
#[derive(Debug, Clone)]
pub struct PackedCodes {
    pub(super) data: Buffer,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) bits: usize,
    pub(super) panel: usize,
}

impl PackedCodes {
    /// Packs codes that lie column by column, each column in bytes of its own, the lowest bits first.
    ///
    /// # Panics
    /// If `bits` is none of 2, 4 and 8, or `columns` is not `n` times as long as the bytes of a column, or those are
    /// fewer than `k` codes need.
    #[must_use]
    #[track_caller]
    pub fn pack(isa: Isa, columns: &[u8], k: usize, n: usize, bits: usize) -> Self {
        assert!(matches!(bits, 2 | 4 | 8), "codes of {bits} bits");
        let (each, panel) = (8 / bits, panel_width(isa));
        let column_bytes = columns.len().checked_div(n).unwrap_or(0);
        let rows = k.div_ceil(each);
        assert!(columns.len() == n * column_bytes && rows <= column_bytes, "{} bytes of codes", columns.len());
        let mut data = Buffer::zeroed_to_stay(n.div_ceil(panel) * rows * panel);
        let packed = data.as_mut_slice().unwrap_or_default();
        for column in 0..n {
            let to = &mut packed[column / panel * rows * panel + column % panel..];
            for (row, &byte) in columns[column * column_bytes..][..rows].iter().enumerate() {
                to[row * panel] = byte;
            }
        }
        PackedCodes { data, k, n, bits, panel }
    }

    /// Rows of B.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of B.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Bits of a code.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.bits
    }
}

/// A number for each block of each column, in panels: `[panels][blocks][panel]`.
#[derive(Debug, Clone)]
pub struct PackedBlocks {
    pub(super) data: Vec<f32>,
    pub(super) blocks: usize,
    pub(super) n: usize,
    pub(super) panel: usize,
}

impl PackedBlocks {
    /// Packs `[n, blocks]` numbers.
    ///
    /// # Panics
    /// If there are not `n * blocks`.
    #[must_use]
    #[track_caller]
    pub fn pack(isa: Isa, numbers: &[f32], blocks: usize, n: usize) -> Self {
        assert!(numbers.len() == n * blocks, "{} numbers for {n} columns of {blocks} blocks", numbers.len());
        let panel = panel_width(isa);
        let mut data = vec![0.0; n.div_ceil(panel) * blocks * panel];
        for column in 0..n {
            for block in 0..blocks {
                data[(column / panel * blocks + block) * panel + column % panel] = numbers[column * blocks + block];
            }
        }
        PackedBlocks { data, blocks, n, panel }
    }

    /// Blocks of a column.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Columns.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }
}

/// A B whose element in row `k` of column `n` is `(code - zero) * scale`, the zero and the scale of its block.
#[derive(Debug, Clone, Copy)]
pub struct FewBits<'a> {
    /// The codes.
    pub codes: &'a PackedCodes,
    /// Rows of a block: a multiple of four.
    pub block: usize,
    /// The scale of each block.
    pub scales: &'a PackedBlocks,
    /// The zero of each block; without, half the range of a code.
    pub zeros: Option<&'a PackedBlocks>,
}

/// Elements of scratch that [`gemm_few_bits`] needs.
#[must_use]
pub fn few_bits_scratch_len(isa: Isa, k: usize) -> usize {
    k.min(CHUNK).next_multiple_of(4) * panel_width(isa)
}

/// The part `rows`, `columns` of `out = epilogue(a x b)`; `a` is `[m, k]`, and `out` holds the part only. An element's bits do not depend on the division.
///
/// # Panics
/// If the sizes do not fit together, `columns` does not start with a panel, `scratch` is shorter than
/// [`few_bits_scratch_len`], or the residual is the output's own content.
#[track_caller]
pub fn gemm_few_bits(
    isa: Isa,
    a: Matrix<'_, f32>,
    b: FewBits<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    mut out: MatrixMut<'_, f32>,
    epilogue: &Epilogue<'_>,
    scratch: &mut [f32],
) {
    let FewBits { codes, block, scales, .. } = b;
    let (k, n, panel) = (codes.k, codes.n, codes.panel);
    assert!(a.cols() == k, "A has {} columns, B {k} rows", a.cols());
    assert!(rows.start <= rows.end && rows.end <= a.rows(), "rows {rows:?} of {}", a.rows());
    assert!(panel == panel_width(isa), "B is packed in panels of {panel}, not for {}", isa.name());
    assert!(block > 0 && block.is_multiple_of(4), "blocks of {block} rows");
    for blocks in [Some(scales), b.zeros].into_iter().flatten() {
        let fits = blocks.n == n && blocks.panel == panel && blocks.blocks == k.div_ceil(block);
        assert!(fits, "{} blocks of {} columns", blocks.blocks, blocks.n);
    }
    assert!(scratch.len() >= few_bits_scratch_len(isa, k), "{} elements of scratch", scratch.len());
    assert!(columns.start.is_multiple_of(panel) && columns.end <= n, "columns {columns:?} of {n}");
    let part = Part { whole: (a.rows(), n), rows: rows.clone(), columns: columns.clone(), first_column: 0 };
    part.check_output(out.rows(), out.cols());
    let own = matches!(epilogue.residual, Some(Residual::OutputBefore | Residual::OutputAfter));
    assert!(!own, "the output holds sums while a residual waits");
    // What the tile does with the first and the last rows of B, its start and its epilogue, stays with it.
    let streamed = rows.len() <= STREAMED_ROWS;
    let chunk = if streamed { SHORT_CHUNK } else { CHUNK };
    for first in columns.clone().step_by(panel) {
        let here = first..columns.end.min(first + panel);
        let part = Part { whole: part.whole, rows: rows.clone(), columns: here.clone(), first_column: first };
        // SAFETY: the columns lie in `out`, which is borrowed for as long.
        let mut out = unsafe {
            let start = out.as_mut_ptr().add(here.start - columns.start);
            MatrixMut::from_raw(start, out.rows(), here.len(), out.stride())
        };
        let mut finish = finish(epilogue, &part, &mut out);
        let mut start = 0;
        loop {
            let end = k.min(start + chunk);
            isa.dispatch(Unpack { b, panel: first / panel, rows: start..end, to: scratch });
            // SAFETY: the scratch holds the panel's rows, and the epilogue's operands were checked against the part.
            unsafe { drive_unpacked(isa, a, scratch, panel, start..end, &part, &mut finish) };
            if end == k {
                break;
            }
            start = end;
            if streamed && k - start > chunk {
                let middle = start..start + (k - start - 1) / chunk * chunk;
                start = middle.end;
                isa.dispatch(Stream { b, panel: first / panel, middle, a, rows: rows.clone(), out: &mut out });
            }
        }
    }
}

/// Rows of one panel as f32.
struct Unpack<'a> {
    b: FewBits<'a>,
    panel: usize,
    rows: Range<usize>,
    to: &'a mut [f32],
}

impl Body for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.b.codes.bits {
            2 => self.unpack::<S, 2>(s),
            4 => self.unpack::<S, 4>(s),
            _ => self.unpack::<S, 8>(s),
        }
    }
}

impl Unpack<'_> {
    #[inline(always)]
    fn unpack<S: Simd, const BITS: usize>(self, s: S) {
        let Unpack { b: FewBits { codes, block, scales, zeros }, panel, rows, to } = self;
        let (each, width) = (8 / BITS, codes.panel);
        let mask = s.splat_i32((1 << BITS) - 1);
        let half = s.splat((1u32 << (BITS - 1)) as f32);
        let bytes = &codes.data.as_slice()[panel * codes.k.div_ceil(each) * width..];
        let mut row = rows.start;
        while row < rows.end {
            let end = rows.end.min((row / block + 1) * block);
            let at = (panel * scales.blocks + row / block) * width;
            for lane in (0..width).step_by(S::LANES) {
                let of = |blocks: &super::PackedBlocks| {
                    let numbers = &blocks.data[at + lane..][..S::LANES];
                    // SAFETY: as many as lanes.
                    unsafe { s.load(numbers.as_ptr()) }
                };
                let (scale, zero) = (of(scales), zeros.map_or(half, of));
                let (count, at) = ((end - row).div_ceil(each), (row - rows.start) * width + lane);
                let from = bytes[row / each * width + lane..][..(count - 1) * width + S::LANES].as_ptr();
                let to = to[at..][..(count * each - 1) * width + S::LANES].as_mut_ptr();
                for byte in 0..count {
                    // SAFETY: both lie within the slices above.
                    unsafe {
                        let word = s.load_u8(from.add(byte * width));
                        for e in 0..each {
                            let code = s.and_i32(s.shr_i32(word, (e * BITS) as i32), mask);
                            let real = s.mul(s.sub(s.from_i32(code), zero), scale);
                            s.store(to.add((byte * each + e) * width), real);
                        }
                    }
                }
            }
            row = end;
        }
    }
}

/// Adds to the sums in `out` what rows of B between its first and its last yield.
struct Stream<'a, 'o> {
    b: FewBits<'a>,
    panel: usize,
    /// Rows of B, which begin and end with a byte of codes.
    middle: Range<usize>,
    a: Matrix<'a, f32>,
    rows: Range<usize>,
    out: &'a mut MatrixMut<'o, f32>,
}

impl Body for Stream<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut done = 0;
        while done < self.rows.len() {
            let rows = if self.rows.len() - done < 4 { 1 } else { 4 };
            // SAFETY: rows of A are as long as B is high, rows of the output lie one stride apart, and the caller has
            // checked all sizes of B.
            unsafe {
                match (rows, self.b.codes.bits) {
                    (1, 2) => self.stream::<S, 2, 1>(s, done),
                    (1, 4) => self.stream::<S, 4, 1>(s, done),
                    (1, _) => self.stream::<S, 8, 1>(s, done),
                    (_, 2) => self.stream::<S, 2, 4>(s, done),
                    (_, 4) => self.stream::<S, 4, 4>(s, done),
                    (_, _) => self.stream::<S, 8, 4>(s, done),
                }
            }
            done += rows;
        }
    }
}

impl Stream<'_, '_> {
    /// # Safety
    /// There are `M` rows from `first` on, and B's parts have the sizes that its codes say.
    #[inline(always)]
    unsafe fn stream<S: Simd, const BITS: usize, const M: usize>(&mut self, s: S, first: usize) {
        let FewBits { codes, block, scales, zeros } = self.b;
        let (each, width) = (8 / BITS, 2 * S::LANES);
        let mask = s.splat_i32((1 << BITS) - 1);
        let half = s.splat((1u32 << (BITS - 1)) as f32);
        let columns = self.out.cols();
        let parts = [columns.min(S::LANES), columns.saturating_sub(S::LANES)];
        // SAFETY: as the caller promises; the last panel is filled up, the output is not.
        unsafe {
            let bytes = codes.data.as_slice().as_ptr().add(self.panel * codes.k.div_ceil(each) * width);
            let out = self.out.as_mut_ptr().add(first * self.out.stride());
            let a = self.a.as_ptr().add((self.rows.start + first) * self.a.stride());
            let mut sums = [[s.splat(0.0); 2]; M];
            for (m, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = s.load_part(out.add(m * self.out.stride() + v * S::LANES), parts[v]);
                }
            }
            let mut row = self.middle.start;
            while row < self.middle.end {
                let end = self.middle.end.min((row / block + 1) * block);
                let at = (self.panel * scales.blocks + row / block) * width;
                let of = |blocks: &PackedBlocks, v: usize| s.load(blocks.data.as_ptr().add(at + v * S::LANES));
                let scale = [of(scales, 0), of(scales, 1)];
                let zero = match zeros {
                    Some(zeros) => [of(zeros, 0), of(zeros, 1)],
                    None => [half; 2],
                };
                while row < end {
                    let from = bytes.add(row / each * width);
                    let words = [s.load_u8(from), s.load_u8(from.add(S::LANES))];
                    for e in 0..each {
                        let mut real = [half; 2];
                        for (v, real) in real.iter_mut().enumerate() {
                            let code = s.and_i32(s.shr_i32(words[v], (e * BITS) as i32), mask);
                            *real = s.mul(s.sub(s.from_i32(code), zero[v]), scale[v]);
                        }
                        for (m, sums) in sums.iter_mut().enumerate() {
                            let a = s.splat(*a.add(m * self.a.stride() + row + e));
                            for (v, sum) in sums.iter_mut().enumerate() {
                                *sum = s.fma(a, real[v], *sum);
                            }
                        }
                    }
                    row += each;
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    s.store_part(out.add(m * self.out.stride() + v * S::LANES), parts[v], *sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn against_the_definition_on_every_instruction_set() {
        let mut random = fastrand::Rng::with_seed(7);
        let sizes: [[usize; 4]; 5] =
            [[1, 16, 1, 16], [1, 300, 70, 32], [5, 600, 33, 64], [14, 37, 40, 16], [3, 513, 64, 1024]];
        for (bits, [m, k, n, block]) in [2usize, 4, 8].into_iter().flat_map(|bits| sizes.map(|size| (bits, size))) {
            let (each, blocks) = (8 / bits, k.div_ceil(block));
            let column_bytes = blocks * block / each;
            let bytes: Vec<u8> = (0..n * column_bytes).map(|_| random.u8(..)).collect();
            let mut numbers = |len: usize, lo: f32| (0..len).map(|_| random.f32() + lo).collect::<Vec<f32>>();
            let (scales, zeros, bias) = (numbers(n * blocks, 0.5), numbers(n * blocks, 1.0), numbers(n, -0.5));
            let (a, depth) = (numbers(m * k, -0.5), k);
            for zeros in [None, Some(&zeros)] {
                let real = |row: usize, column: usize| {
                    let byte = bytes[column * column_bytes + row / each];
                    let code = f32::from(byte >> (row % each * bits) & ((1u16 << bits) - 1) as u8);
                    let at = column * blocks + row / block;
                    (code - zeros.map_or((1 << (bits - 1)) as f32, |zeros| zeros[at])) * scales[at]
                };
                for isa in Isa::available() {
                    let codes = PackedCodes::pack(isa, &bytes, k, n, bits);
                    let packed = PackedBlocks::pack(isa, &scales, blocks, n);
                    let zeros = zeros.map(|zeros| PackedBlocks::pack(isa, zeros, blocks, n));
                    let b = FewBits { codes: &codes, block, scales: &packed, zeros: zeros.as_ref() };
                    let mut scratch = vec![f32::NAN; few_bits_scratch_len(isa, k)];
                    let mut run = |rows: Range<usize>, columns: Range<usize>| {
                        let mut out = vec![f32::NAN; rows.len() * columns.len()];
                        let view = MatrixMut::dense(&mut out, rows.len(), columns.len());
                        let a = Matrix::dense(&a, m, k);
                        let epilogue = Epilogue { bias: Some(&bias), ..Default::default() };
                        gemm_few_bits(isa, a, b, rows, columns, view, &epilogue, &mut scratch);
                        out
                    };
                    let out = run(0..m, 0..n);
                    for (i, &y) in out.iter().enumerate() {
                        let (row, column) = (i / n, i % n);
                        let terms = (0..k).map(|k| f64::from(a[row * depth + k]) * f64::from(real(k, column)));
                        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                        let wanted = sum + f64::from(bias[column]);
                        let error = (f64::from(y) - wanted).abs();
                        assert!(error <= 1e-6 * (size + 1.0), "{bits} bits, {m}x{k}x{n}, {}: {y} {wanted}", isa.name());
                    }
                    let solo: Vec<f32> = (0..m).flat_map(|row| run(row..row + 1, 0..n)).collect();
                    assert_eq!(solo, out, "a row's bits depend on its batch");
                    let panel = panel_width(isa);
                    if n > panel {
                        let right = run(0..m, panel..n);
                        assert_eq!(right[0], out[panel]);
                    }
                }
            }
        }
    }
}
