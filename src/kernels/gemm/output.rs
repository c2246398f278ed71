//! Where the results of a float product go, and what is learned of them on the way.

use super::super::arch::Simd;
use super::super::view::MatrixMut;
use super::finish::Store;
use half::{bf16, f16};
use std::cell::Cell;
use std::ops::Range;

/// Where the results go, and as what: halves are rounded to nearest, ties to even, as a cast of the f32 result would be.
#[derive(Debug)]
#[non_exhaustive]
pub enum FloatOutput<'a> {
    /// The f32 itself.
    F32(MatrixMut<'a, f32>),
    /// Half precision.
    F16(MatrixMut<'a, f16>),
    /// bfloat16.
    Bf16(MatrixMut<'a, bf16>),
}

impl FloatOutput<'_> {
    /// Rows and columns.
    #[must_use]
    #[inline]
    pub fn size(&self) -> (usize, usize) {
        match self {
            FloatOutput::F32(out) => (out.rows(), out.cols()),
            FloatOutput::F16(out) => (out.rows(), out.cols()),
            FloatOutput::Bf16(out) => (out.rows(), out.cols()),
        }
    }

    /// The same output for a shorter time, its rows of `range` alone.
    pub fn part(&mut self, range: Range<usize>) -> FloatOutput<'_> {
        match self {
            FloatOutput::F32(out) => out.reborrow().split_rows(range.end).0.split_rows(range.start).1.into(),
            FloatOutput::F16(out) => out.reborrow().split_rows(range.end).0.split_rows(range.start).1.into(),
            FloatOutput::Bf16(out) => out.reborrow().split_rows(range.end).0.split_rows(range.start).1.into(),
        }
    }

    /// Pointer, elements from row to row, and what is stored.
    #[inline]
    pub(super) fn parts(&mut self) -> (*mut u8, usize, Store) {
        match self {
            FloatOutput::F32(out) => (out.as_mut_ptr().cast(), out.stride(), Store::F32),
            FloatOutput::F16(out) => (out.as_mut_ptr().cast(), out.stride(), Store::F16),
            FloatOutput::Bf16(out) => (out.as_mut_ptr().cast(), out.stride(), Store::Bf16),
        }
    }
}

impl<'a> From<MatrixMut<'a, f32>> for FloatOutput<'a> {
    fn from(out: MatrixMut<'a, f32>) -> Self {
        FloatOutput::F32(out)
    }
}

impl<'a> From<MatrixMut<'a, f16>> for FloatOutput<'a> {
    fn from(out: MatrixMut<'a, f16>) -> Self {
        FloatOutput::F16(out)
    }
}

impl<'a> From<MatrixMut<'a, bf16>> for FloatOutput<'a> {
    fn from(out: MatrixMut<'a, bf16>) -> Self {
        FloatOutput::Bf16(out)
    }
}

/// The least and the greatest number that f32 products have written; NaN is left out.
///
/// Which product wrote what, in how many parts and in which order, does not show in it.
#[derive(Debug)]
pub struct Extremes {
    /// Of each lane of the vectors that were written.
    least: Cell<[f32; 16]>,
    greatest: Cell<[f32; 16]>,
}

impl Default for Extremes {
    fn default() -> Self {
        Extremes { least: Cell::new([f32::INFINITY; 16]), greatest: Cell::new([f32::NEG_INFINITY; 16]) }
    }
}

impl Extremes {
    /// Least and greatest; `(inf, -inf)` where nothing was written.
    #[must_use]
    pub fn get(&self) -> (f32, f32) {
        let (mut least, mut greatest) = (self.least.get(), self.greatest.get());
        // There is no NaN here: a comparison is all, of as many lanes together as there are.
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                least[i] = if least[i + half] < least[i] { least[i + half] } else { least[i] };
                greatest[i] = if greatest[i + half] > greatest[i] { greatest[i + half] } else { greatest[i] };
            }
        }
        (least[0], greatest[0])
    }
}

/// The same in registers, while a kernel writes.
pub(in crate::kernels) struct Told<S: Simd> {
    least: S::F32,
    greatest: S::F32,
}

impl<S: Simd> Told<S> {
    /// What was written before.
    #[inline(always)]
    pub(in crate::kernels) fn new(s: S, extremes: &Extremes) -> Self {
        let (least, greatest) = (extremes.least.as_ptr(), extremes.greatest.as_ptr());
        // SAFETY: a vector has no more than sixteen lanes, and nobody else sees the cells meanwhile.
        unsafe { Told { least: s.load(least.cast()), greatest: s.load(greatest.cast()) } }
    }

    /// Takes in the first `n` lanes.
    #[inline(always)]
    pub(in crate::kernels) fn see(&mut self, s: S, v: S::F32, n: usize) {
        let (mut low, mut high) = (v, v);
        if n < S::LANES {
            // A number that there is not is the one that there was.
            let there = s.first(n);
            (low, high) = (s.select(there, v, self.least), s.select(there, v, self.greatest));
        }
        (self.least, self.greatest) = (s.min(low, self.least), s.max(high, self.greatest));
    }

    /// Says so.
    #[inline(always)]
    pub(in crate::kernels) fn tell(self, s: S, extremes: &Extremes) {
        let (least, greatest) = (extremes.least.as_ptr(), extremes.greatest.as_ptr());
        // SAFETY: as in `new`.
        unsafe {
            s.store(least.cast(), self.least);
            s.store(greatest.cast(), self.greatest);
        }
    }
}
