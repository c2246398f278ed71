//! The epilogue of a tile, out of its accumulators: the general form, through a small buffer in the first cache.
//!
//! Bounds and an f32 residual ([`Direct`]), and what takes integers to bytes by a factor alone ([`Rescale`]), are applied
//! by the tile itself while the sums are in registers, where it is full; all else comes here, where code size and
//! registers are not the tile's. What is common has short loops of its own.

use super::super::arch::{Body, Simd};
use super::activation;
use super::epilogue::Activation;
use super::output::{Extremes, Told};
use std::marker::PhantomData;
use std::ops::Range;

/// Words of the largest tile: 12 rows by 2 vectors, or 6 by 4, or 3 by 8, of 16 lanes.
pub(in crate::kernels) const TILE_WORDS: usize = 24 * 16;

/// The epilogue with its pointers, in the coordinates of the output: row 0 and column 0 are its first.
#[derive(Clone)]
pub(in crate::kernels) struct Finish<'a> {
    /// The sums start from what the f32 output holds.
    pub(in crate::kernels) resume: bool,
    /// One word a column that the sums start from: bits of the bias, or of the integer correction.
    pub(in crate::kernels) start: Option<*const i32>,
    /// Where it is no more than this, and f32 is stored: the tile does that itself.
    pub(in crate::kernels) direct: Option<Direct>,
    /// The same, where more is done to what is stored than a tile does.
    pub(in crate::kernels) simple: Option<Direct>,
    /// Where it is no more than this.
    pub(in crate::kernels) rescale: Option<Rescale>,
    /// Sums are integers.
    pub(in crate::kernels) integer: bool,
    /// The zero point of A, whose product with these sums of B's columns is taken off.
    pub(in crate::kernels) zero_point: i32,
    pub(in crate::kernels) column_sums: Option<*const i32>,
    pub(in crate::kernels) column_scale: Option<*const f32>,
    pub(in crate::kernels) row_scale: Option<*const f32>,
    /// Added after the scales.
    pub(in crate::kernels) shift: Option<*const f32>,
    pub(in crate::kernels) residual: Option<*const f32>,
    pub(in crate::kernels) residual_stride: usize,
    pub(in crate::kernels) residual_after: bool,
    /// Bytes to be scaled and added before the activation, `residual_stride` apart.
    pub(in crate::kernels) byte_residual: Option<ByteResidual>,
    /// What is done between a first rounding and the store.
    pub(in crate::kernels) through: Option<FinishThrough>,
    pub(in crate::kernels) activation: Activation,
    pub(in crate::kernels) store: Store,
    /// Told what is stored, where that is f32.
    pub(in crate::kernels) extremes: Option<&'a Extremes>,
    pub(in crate::kernels) out: *mut u8,
    /// Elements from row to row of the output.
    pub(in crate::kernels) stride: usize,
    /// What the last rows fetch.
    pub(in crate::kernels) next: &'a [u8],
    /// Whether rows are copied together, where that is not left to the driver.
    pub(in crate::kernels) pack_rows: Option<bool>,
    pub(in crate::kernels) lifetime: PhantomData<&'a [f32]>,
}

impl<'a> Finish<'a> {
    /// The epilogue of every `every`th row from `row` on, and of the columns from `column` on, of an output of floats.
    pub(in crate::kernels) fn at(&self, row: usize, column: usize, every: usize) -> Finish<'a> {
        debug_assert!(!self.integer && self.row_scale.is_none() && self.byte_residual.is_none());
        let residual = |from: *const f32, stride: usize| from.wrapping_add(row * stride + column);
        let direct = |direct: Direct| Direct {
            residual: direct.residual.map(|from| residual(from, direct.residual_stride)),
            residual_stride: direct.residual_stride * every,
            ..direct
        };
        Finish {
            start: self.start.map(|start| start.wrapping_add(column)),
            direct: self.direct.map(direct),
            simple: self.simple.map(direct),
            column_scale: self.column_scale.map(|scale| scale.wrapping_add(column)),
            shift: self.shift.map(|shift| shift.wrapping_add(column)),
            residual: self.residual.map(|from| residual(from, self.residual_stride)),
            residual_stride: self.residual_stride * every,
            out: self.out.wrapping_add((row * self.stride + column) * self.store.size()),
            stride: self.stride * every,
            ..self.clone()
        }
    }

    /// Whether floats are stored as the activation leaves them, and nothing else is done to them.
    #[inline(always)]
    fn activates_alone(&self) -> bool {
        let scaled = self.column_scale.is_some() || self.row_scale.is_some() || self.shift.is_some();
        let added = self.residual.is_some() || self.byte_residual.is_some() || self.through.is_some();
        !(self.integer || scaled || added)
    }

    /// Whether integers are scaled and shifted by column before that, and nothing else is done to them.
    #[inline(always)]
    fn scales_columns(&self) -> bool {
        let added = self.residual.is_some() || self.byte_residual.is_some() || self.through.is_some();
        let real = matches!(self.store, Store::F32 | Store::F16 | Store::Bf16);
        self.integer && self.column_scale.is_some() && self.row_scale.is_none() && !added && real
    }

    /// What is done to integers that become bytes by it alone, and whether these are signed.
    #[inline(always)]
    pub(in crate::kernels) fn narrow(&self) -> Option<(&Rescale, bool)> {
        self.bytes().filter(|_| self.through.is_none())
    }

    /// The same, where there may be a rounding in between.
    #[inline(always)]
    pub(in crate::kernels) fn bytes(&self) -> Option<(&Rescale, bool)> {
        let signed = match self.store {
            Store::U8 { .. } => false,
            Store::I8 { .. } => true,
            _ => return None,
        };
        let alone = self.shift.is_none() && self.byte_residual.is_none();
        self.rescale.as_ref().filter(|_| alone).map(|rescale| (rescale, signed))
    }
}

/// An epilogue that consists of an f32 residual and bounds at most.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Direct {
    pub(in crate::kernels) residual: Option<*const f32>,
    pub(in crate::kernels) residual_stride: usize,
    pub(in crate::kernels) bounded: bool,
    pub(in crate::kernels) lo: f32,
    pub(in crate::kernels) hi: f32,
}

impl Direct {
    /// Stores the sums.
    pub(in crate::kernels) const NOTHING: Direct =
        Direct { residual: None, residual_stride: 0, bounded: false, lo: 0.0, hi: 0.0 };
}

/// An epilogue of integers that consists of column scales, a shift, a byte residual, bounds, a rounding in between and a
/// store whose factor the scales hold.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Rescale {
    pub(in crate::kernels) scale: *const f32,
    /// The activation's bounds, those of the rounding in between, and those of the output.
    pub(in crate::kernels) lo: f32,
    pub(in crate::kernels) hi: f32,
    /// Of the output, where it is bytes: its zero point, and its least and greatest value less that.
    pub(in crate::kernels) zero_point: i32,
    pub(in crate::kernels) least: i32,
    pub(in crate::kernels) most: f32,
}

/// Rounds to integers, which are scaled and added to.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct FinishThrough {
    pub(in crate::kernels) factor: f32,
    pub(in crate::kernels) lo: f32,
    pub(in crate::kernels) hi: f32,
    pub(in crate::kernels) scale: f32,
    pub(in crate::kernels) shift: Option<*const f32>,
    pub(in crate::kernels) residual: Option<ByteResidual>,
}

/// Quantized summands.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct ByteResidual {
    pub(in crate::kernels) data: *const u8,
    pub(in crate::kernels) stride: usize,
    pub(in crate::kernels) scale: f32,
    pub(in crate::kernels) zero_point: i32,
}

/// What is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::kernels) enum Store {
    /// The f32 itself.
    F32,
    /// The nearest half-precision number, ties to even.
    F16,
    /// The nearest bfloat16, ties to even.
    Bf16,
    /// The integer sum itself, before all scales.
    I32,
    /// `saturate(round(v * factor) + zero_point)`.
    U8 { factor: f32, zero_point: i32 },
    /// `saturate(round(v * factor) + zero_point)`.
    I8 { factor: f32, zero_point: i32 },
}

impl Store {
    /// Bytes of an element.
    fn size(self) -> usize {
        match self {
            Store::F32 | Store::I32 => 4,
            Store::F16 | Store::Bf16 => 2,
            Store::U8 { .. } | Store::I8 { .. } => 1,
        }
    }
}

/// The epilogue of one tile.
pub(in crate::kernels) struct FinishTile<'a> {
    pub(in crate::kernels) finish: &'a Finish<'a>,
    /// The sums, row by row; they may be overwritten.
    pub(in crate::kernels) words: *mut i32,
    /// Words from row to row of the sums.
    pub(in crate::kernels) pitch: usize,
    pub(in crate::kernels) rows: Range<usize>,
    pub(in crate::kernels) columns: Range<usize>,
}

impl Body for FinishTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut told = self.finish.extremes.map(|extremes| Told::new(s, extremes));
        self.store(s, &mut told);
        if let (Some(told), Some(extremes)) = (told, self.finish.extremes) {
            told.tell(s, extremes);
        }
    }
}

impl FinishTile<'_> {
    #[inline(always)]
    fn store<S: Simd>(&self, s: S, told: &mut Option<Told<S>>) {
        let f = self.finish;
        // SAFETY: the tile's maker saw to it that its rows and columns lie in the output and the operands.
        unsafe {
            match (f.direct.as_ref().or(f.simple.as_ref()), &f.rescale, f.store) {
                (Some(direct), _, Store::F16) => {
                    return self.direct(s, direct, |to, n, v| store_f16(s, f.out.cast::<u16>().add(to), n, v));
                }
                (Some(direct), _, Store::Bf16) => {
                    return self.direct(s, direct, |to, n, v| store_bf16(s, f.out.cast::<u16>().add(to), n, v));
                }
                (Some(direct), _, _) => {
                    return self.direct(s, direct, |to, n, v| store_f32(s, f.out.cast::<f32>().add(to), n, v, told));
                }
                (_, Some(rescale), Store::F32) => {
                    return self.rescale(s, rescale, |to, n, v| store_f32(s, f.out.cast::<f32>().add(to), n, v, told));
                }
                (_, Some(rescale), Store::U8 { .. }) => {
                    return self.requantize(s, rescale, |to, n, v| {
                        let to = f.out.add(to);
                        if n == S::LANES { s.store_u8_inside(to, v) } else { s.store_u8_part(to, n, v) }
                    });
                }
                (_, Some(rescale), Store::I8 { .. }) => {
                    return self.requantize(s, rescale, |to, n, v| {
                        let to = f.out.cast::<i8>().add(to);
                        if n == S::LANES { s.store_i8(to, v) } else { s.store_i8_part(to, n, v) }
                    });
                }
                _ => {}
            }
        }
        // An activation alone is common, and asked for once; so is one of scaled integers.
        let plain = f.activates_alone()
            || f.scales_columns() && {
                // SAFETY: as above.
                unsafe { self.scale(s) };
                true
            };
        for (i, row) in self.rows.clone().enumerate() {
            // SAFETY: the tile's maker saw to it that its rows and columns lie in the output and the operands.
            unsafe {
                let row_scale = s.splat(f.row_scale.map_or(1.0, |scale| *scale.add(row)));
                let mut column = self.columns.start;
                while column < self.columns.end {
                    let n = S::LANES.min(self.columns.end - column);
                    let at = self.words.add(i * self.pitch + column - self.columns.start);
                    let to = row * f.stride + column;
                    let sums = s.load_i32(at);
                    if plain {
                        let v = activation::apply(s, f.activation, s.from_bits(sums));
                        match f.store {
                            Store::F16 => store_f16(s, f.out.cast::<u16>().add(to), n, v),
                            Store::Bf16 => store_bf16(s, f.out.cast::<u16>().add(to), n, v),
                            _ => store_f32(s, f.out.cast::<f32>().add(to), n, v, told),
                        }
                        column += S::LANES;
                        continue;
                    }
                    if f.store == Store::I32 {
                        s.store_i32_part(f.out.cast::<i32>().add(to), n, sums);
                        column += S::LANES;
                        continue;
                    }
                    let mut v = if f.integer { s.from_i32(sums) } else { s.from_bits(sums) };
                    if let Some(scale) = f.column_scale {
                        v = s.mul(v, s.load_part(scale.add(column), n));
                    }
                    if f.row_scale.is_some() {
                        v = s.mul(v, row_scale);
                    }
                    if let Some(shift) = f.shift {
                        v = s.add(v, s.load_part(shift.add(column), n));
                    }
                    let residual = f.residual.map(|r| s.load_part(r.add(row * f.residual_stride + column), n));
                    if let (Some(residual), false) = (residual, f.residual_after) {
                        v = s.add(v, residual);
                    }
                    if let Some(r) = f.byte_residual {
                        v = s.add(v, r.load(s, row, column, n));
                    }
                    v = activation::apply(s, f.activation, v);
                    if let (Some(residual), true) = (residual, f.residual_after) {
                        v = s.add(v, residual);
                    }
                    if let Some(through) = &f.through {
                        let steps = s.mul(v, s.splat(through.factor));
                        let steps = s.min(s.splat(through.hi), s.max(s.splat(through.lo), steps));
                        v = through.apply(s, s.to_i32(steps), row, column, n);
                    }
                    match f.store {
                        Store::F32 | Store::I32 => store_f32(s, f.out.cast::<f32>().add(to), n, v, told),
                        Store::F16 => store_f16(s, f.out.cast::<u16>().add(to), n, v),
                        Store::Bf16 => store_bf16(s, f.out.cast::<u16>().add(to), n, v),
                        Store::U8 { factor, zero_point } => {
                            let v = quantize(s, v, factor, zero_point, 0, 255);
                            s.store_u8_part(f.out.add(to), n, v);
                        }
                        Store::I8 { factor, zero_point } => {
                            let v = quantize(s, v, factor, zero_point, -128, 127);
                            s.store_i8_part(f.out.cast::<i8>().add(to), n, v);
                        }
                    }
                    column += S::LANES;
                }
            }
        }
    }
}

impl FinishTile<'_> {
    /// Makes real numbers of the sums, where they are.
    ///
    /// # Safety
    /// The tile's columns lie in the operands.
    #[inline(always)]
    unsafe fn scale<S: Simd>(&self, s: S) {
        let f = self.finish;
        let mut column = self.columns.start;
        while column < self.columns.end {
            let n = S::LANES.min(self.columns.end - column);
            // SAFETY: as the caller promises; the sums are the tile's own, to be overwritten.
            unsafe {
                let scale = f.column_scale.map_or(s.splat(1.0), |scale| s.load_part(scale.add(column), n));
                let shift = f.shift.map(|shift| s.load_part(shift.add(column), n));
                for i in 0..self.rows.len() {
                    let at = self.words.add(i * self.pitch + column - self.columns.start);
                    let mut v = s.mul(s.from_i32(s.load_i32(at)), scale);
                    if let Some(shift) = shift {
                        v = s.add(v, shift);
                    }
                    // What is behind the last column may be the next row's.
                    let v = s.to_bits(v);
                    if n == S::LANES { s.store_i32(at, v) } else { s.store_i32_part(at, n, v) }
                }
            }
            column += S::LANES;
        }
    }

    /// Floats; `store(to, n, v)` stores the first `n` lanes at element `to`.
    ///
    /// # Safety
    /// The tile's rows and columns lie in the output and the operands.
    #[inline(always)]
    unsafe fn direct<S: Simd>(&self, s: S, direct: &Direct, mut store: impl FnMut(usize, usize, S::F32)) {
        let (lo, hi) = (s.splat(direct.lo), s.splat(direct.hi));
        let mut column = self.columns.start;
        while column < self.columns.end {
            let n = S::LANES.min(self.columns.end - column);
            for (i, row) in self.rows.clone().enumerate() {
                // SAFETY: as the caller promises.
                unsafe {
                    let mut v = s.load(self.words.add(i * self.pitch + column - self.columns.start).cast());
                    if let Some(residual) = direct.residual {
                        v = s.add(v, s.load_part(residual.add(row * direct.residual_stride + column), n));
                    }
                    if direct.bounded {
                        v = s.min(hi, s.max(lo, v));
                    }
                    store(row * self.finish.stride + column, n, v);
                }
            }
            column += S::LANES;
        }
    }

    /// Real numbers; `store(to, n, v)` stores the first `n` lanes at element `to`.
    ///
    /// # Safety
    /// The tile's rows and columns lie in the output and the operands.
    #[inline(always)]
    unsafe fn rescale<S: Simd>(&self, s: S, r: &Rescale, mut store: impl FnMut(usize, usize, S::F32)) {
        let f = self.finish;
        let (lo, hi) = (s.splat(r.lo), s.splat(r.hi));
        let mut column = self.columns.start;
        while column < self.columns.end {
            let n = S::LANES.min(self.columns.end - column);
            // SAFETY: as the caller promises.
            unsafe {
                let scale = s.load_part(r.scale.add(column), n);
                let shift = f.shift.map(|shift| s.load_part(shift.add(column), n));
                for (i, row) in self.rows.clone().enumerate() {
                    let sums = s.load_i32(self.words.add(i * self.pitch + column - self.columns.start));
                    let mut v = s.mul(s.from_i32(sums), scale);
                    if let Some(shift) = shift {
                        v = s.add(v, shift);
                    }
                    if let Some(r) = f.byte_residual {
                        v = s.add(v, r.load(s, row, column, n));
                    }
                    store(row * f.stride + column, n, s.min(hi, s.max(lo, v)));
                }
            }
            column += S::LANES;
        }
    }

    /// Bytes; the integers that `store` gets are within their limits.
    ///
    /// # Safety
    /// The tile's rows and columns lie in the output and the operands.
    #[inline(always)]
    unsafe fn requantize<S: Simd>(&self, s: S, r: &Rescale, store: impl Fn(usize, usize, S::I32)) {
        let f = self.finish;
        let plain = f.narrow().is_some();
        let (lo, hi, most) = (s.splat(r.lo), s.splat(r.hi), s.splat(r.most));
        let (least, zero_point) = (s.splat_i32(r.least), s.splat_i32(r.zero_point));
        // An integer far below the least stays below it when it is converted; one far above would not stay above.
        let finished = |v: S::F32| s.add_i32(s.max_i32(s.to_i32(s.min(most, v)), least), zero_point);
        let mut column = self.columns.start;
        while column < self.columns.end {
            let n = S::LANES.min(self.columns.end - column);
            // SAFETY: as the caller promises.
            unsafe {
                let scale = s.load_part(r.scale.add(column), n);
                let words = self.words.add(column - self.columns.start);
                if plain {
                    for (i, row) in self.rows.clone().enumerate() {
                        let v = s.mul(s.from_i32(s.load_i32(words.add(i * self.pitch))), scale);
                        store(row * f.stride + column, n, finished(v));
                    }
                } else {
                    let shift = f.shift.map_or(s.splat(0.0), |shift| s.load_part(shift.add(column), n));
                    for (i, row) in self.rows.clone().enumerate() {
                        let mut v = s.add(s.mul(s.from_i32(s.load_i32(words.add(i * self.pitch))), scale), shift);
                        if let Some(r) = f.byte_residual {
                            v = s.add(v, r.load(s, row, column, n));
                        }
                        if let Some(through) = &f.through {
                            let steps = s.to_i32(s.min(hi, s.max(lo, v)));
                            v = through.apply(s, steps, row, column, n);
                        }
                        store(row * f.stride + column, n, finished(v));
                    }
                }
            }
            column += S::LANES;
        }
    }
}

impl ByteResidual {
    /// The real numbers at a place, of which the first `n` are there.
    ///
    /// # Safety
    /// They lie in the operand.
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, s: S, row: usize, column: usize, n: usize) -> S::F32 {
        // SAFETY: as the caller promises.
        let bytes = unsafe {
            let from = self.data.add(row * self.stride + column);
            if n == S::LANES { s.load_u8(from) } else { s.load_u8_part(from, n) }
        };
        s.mul(s.from_i32(s.sub_i32(bytes, s.splat_i32(self.zero_point))), s.splat(self.scale))
    }
}

impl FinishThrough {
    /// What becomes of the integers at a place.
    ///
    /// # Safety
    /// The place lies in the operands.
    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, s: S, steps: S::I32, row: usize, column: usize, n: usize) -> S::F32 {
        let mut v = s.mul(s.from_i32(steps), s.splat(self.scale));
        // SAFETY: as the caller promises.
        unsafe {
            if let Some(shift) = self.shift {
                v = s.add(v, s.load_part(shift.add(column), n));
            }
            if let Some(residual) = &self.residual {
                v = s.add(v, residual.load(s, row, column, n));
            }
        }
        v
    }
}

/// Stores the first `n` lanes, and remembers them where that is wanted.
///
/// # Safety
/// `n` elements at `to` are writable.
#[inline(always)]
unsafe fn store_f32<S: Simd>(s: S, to: *mut f32, n: usize, v: S::F32, told: &mut Option<Told<S>>) {
    // SAFETY: as the caller promises.
    unsafe { s.store_part(to, n, v) };
    if let Some(told) = told {
        told.see(s, v, n);
    }
}

/// Stores the first `n` lanes as half-precision numbers.
///
/// # Safety
/// `n` elements at `to` are writable.
#[inline(always)]
unsafe fn store_f16<S: Simd>(s: S, to: *mut u16, n: usize, v: S::F32) {
    // SAFETY: as the caller promises.
    unsafe { if n == S::LANES { s.store_f16(to, v) } else { s.store_f16_part(to, n, v) } }
}

/// Stores the first `n` lanes as bfloat16.
///
/// # Safety
/// `n` elements at `to` are writable.
#[inline(always)]
unsafe fn store_bf16<S: Simd>(s: S, to: *mut u16, n: usize, v: S::F32) {
    // SAFETY: as the caller promises.
    unsafe { if n == S::LANES { s.store_bf16(to, v) } else { s.store_bf16_part(to, n, v) } }
}

/// `round(v * factor) + zero_point`, ties to even, kept in `lo..=hi` so that no conversion overflows.
#[inline(always)]
fn quantize<S: Simd>(s: S, v: S::F32, factor: f32, zero_point: i32, lo: i32, hi: i32) -> S::I32 {
    let v = s.mul(v, s.splat(factor));
    let (lo, hi) = (s.splat((lo - zero_point) as f32), s.splat((hi - zero_point) as f32));
    s.add_i32(s.to_i32(s.min(hi, s.max(lo, v))), s.splat_i32(zero_point))
}
