//! Rows that lie one after the other.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector::{exp_nonpositive, ln};
use super::short::{self, ShortRows};

/// Which of the two functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `e^x / sum e^x`.
    Softmax,
    /// `x - ln sum e^x`.
    LogSoftmax,
}

/// What is added to the scaled rows first: rows of its own, each for `repeat` consecutive rows, and again from the
/// first when they are used up.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// `[mask_rows, cols]`.
    pub data: &'a [f32],
    /// Consecutive rows that share a mask row; at least 1.
    pub repeat: usize,
}

/// `y = form(scale * x + mask)` for each row of `cols` elements; `row` is the number of the first row, which only the
/// mask needs.
///
/// # Panics
/// Where the lengths differ, or the mask holds no whole row.
#[allow(clippy::too_many_arguments)]
pub fn softmax(
    isa: Isa,
    form: Form,
    cols: usize,
    scale: f32,
    mask: Option<Mask<'_>>,
    row: usize,
    x: &[f32],
    y: &mut [f32],
) {
    assert_eq!(x.len(), y.len(), "softmax keeps the shape");
    run(isa, form, cols, scale, mask, row, x.as_ptr(), y);
}

/// [`softmax`] over its own input.
///
/// # Panics
/// Where the mask holds no whole row.
pub fn softmax_in_place(
    isa: Isa,
    form: Form,
    cols: usize,
    scale: f32,
    mask: Option<Mask<'_>>,
    row: usize,
    y: &mut [f32],
) {
    run(isa, form, cols, scale, mask, row, std::ptr::null(), y);
}

/// A null `x` stands for `y` itself.
#[allow(clippy::too_many_arguments)]
fn run(
    isa: Isa,
    form: Form,
    cols: usize,
    scale: f32,
    mask: Option<Mask<'_>>,
    row: usize,
    x: *const f32,
    y: &mut [f32],
) {
    if cols == 0 || y.is_empty() {
        return;
    }
    let rows = y.len() / cols;
    assert!(mask.is_none_or(|mask| mask.data.len() >= cols), "a mask has a row at least");
    let y = y.as_mut_ptr();
    let x = if x.is_null() { y.cast_const() } else { x };
    isa.dispatch(Rows { form, cols, scale, mask, row, rows, x, y });
}

/// `rows` rows at `x` and at `y`, which are the same or do not overlap.
struct Rows<'a> {
    form: Form,
    cols: usize,
    scale: f32,
    mask: Option<Mask<'a>>,
    row: usize,
    rows: usize,
    x: *const f32,
    y: *mut f32,
}

impl Body for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.mask.is_none() && short::takes::<S>(self.cols) {
            let Rows { form, cols, scale, rows, x, y, .. } = self;
            return s.call(ShortRows { form, cols, scale, rows, x, y });
        }
        for i in 0..self.rows {
            let additive = match self.mask {
                Some(Mask { data, repeat }) => {
                    let row = (self.row + i) / repeat.max(1) % (data.len() / self.cols);
                    Additive::Row(data[row * self.cols..][..self.cols].as_ptr())
                }
                None => Additive::None,
            };
            // SAFETY: row i lies within both; the mask's row has `cols` elements.
            unsafe {
                let (x, y) = (self.x.add(i * self.cols), self.y.add(i * self.cols));
                match self.form {
                    Form::Softmax => {
                        let sum = softmax_row(s, x, y, self.cols, self.scale, additive);
                        scale_row(s, y, self.cols, 1.0 / sum);
                    }
                    Form::LogSoftmax => log_softmax_row(s, x, y, self.cols, self.scale, additive),
                }
            }
        }
    }
}

/// What one row has added.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Additive {
    None,
    /// As many elements as the row.
    Row(*const f32),
}

/// The vector at element `i` of the row, scaled and masked, with minus infinity behind the end.
///
/// # Safety
/// From `i` on, the row and what is added have `left` elements each.
#[inline(always)]
unsafe fn scaled<S: Simd>(s: S, x: *const f32, i: usize, left: usize, scale: f32, additive: Additive) -> S::F32 {
    // SAFETY: the caller promises `left` elements from i on in both.
    unsafe {
        let whole = left >= S::LANES;
        let mut v = if whole { s.load(x.add(i)) } else { s.load_part(x.add(i), left) };
        v = match additive {
            Additive::None => s.mul(v, s.splat(scale)),
            Additive::Row(mask) => {
                let m = if whole { s.load(mask.add(i)) } else { s.load_part(mask.add(i), left) };
                s.fma(v, s.splat(scale), m)
            }
        };
        if whole { v } else { s.select(s.first(left), v, s.splat(f32::NEG_INFINITY)) }
    }
}

/// `y = e^(z - max z)` with `z = scale * x + additive`; returns the sum of `y`.
///
/// # Safety
/// `n` elements are readable at `x` and the additive row, writable at `y`; `x` is `y` or does not overlap it.
#[inline(always)]
pub(crate) unsafe fn softmax_row<S: Simd>(
    s: S,
    x: *const f32,
    y: *mut f32,
    n: usize,
    scale: f32,
    additive: Additive,
) -> f32 {
    // Without a mask, scaling by a positive number can wait until the largest element is known: one pass less to store.
    let plain = matches!(additive, Additive::None) && scale > 0.0;
    // SAFETY: every access is below n.
    unsafe {
        let mut top = s.splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i < n {
            let left = n - i;
            if plain {
                let v = if left >= S::LANES {
                    s.load(x.add(i))
                } else {
                    s.select(s.first(left), s.load_part(x.add(i), left), s.splat(f32::NEG_INFINITY))
                };
                top = s.max(v, top);
            } else {
                let v = scaled(s, x, i, left, scale, additive);
                top = s.max(v, top);
                put(s, y.add(i), left, v);
            }
            i += S::LANES;
        }
        let top = s.splat(s.max_lane(top));
        let (from, factor) = if plain { (x, s.splat(scale)) } else { (y.cast_const(), s.splat(1.0)) };
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < n {
            let left = n - i;
            if left >= S::LANES {
                let e = exp_nonpositive(s, s.mul(s.sub(s.load(from.add(i)), top), factor));
                s.store(y.add(i), e);
                sum = s.add(sum, e);
            } else {
                let e = exp_nonpositive(s, s.mul(s.sub(s.load_part(from.add(i), left), top), factor));
                s.store_part(y.add(i), left, e);
                sum = s.add(sum, s.select(s.first(left), e, s.splat(0.0)));
            }
            i += S::LANES;
        }
        s.sum(sum)
    }
}

/// `y *= factor`.
///
/// # Safety
/// `n` elements are writable at `y`.
#[inline(always)]
unsafe fn scale_row<S: Simd>(s: S, y: *mut f32, n: usize, factor: f32) {
    let factor = s.splat(factor);
    let mut i = 0;
    // SAFETY: every access is below n.
    unsafe {
        while i + S::LANES <= n {
            s.store(y.add(i), s.mul(s.load(y.add(i)), factor));
            i += S::LANES;
        }
        if i < n {
            s.store_part(y.add(i), n - i, s.mul(s.load_part(y.add(i), n - i), factor));
        }
    }
}

/// # Safety
/// As [`softmax_row`].
#[inline(always)]
unsafe fn log_softmax_row<S: Simd>(s: S, x: *const f32, y: *mut f32, n: usize, scale: f32, additive: Additive) {
    // SAFETY: every access is below n.
    unsafe {
        let mut top = s.splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i < n {
            let v = scaled(s, x, i, n - i, scale, additive);
            top = s.max(v, top);
            put(s, y.add(i), n - i, v);
            i += S::LANES;
        }
        let top = s.splat(s.max_lane(top));
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < n {
            let left = (n - i).min(S::LANES);
            let d = s.sub(s.load_part(y.add(i), left), top);
            s.store_part(y.add(i), left, d);
            sum = s.add(sum, s.select(s.first(left), exp_nonpositive(s, d), s.splat(0.0)));
            i += S::LANES;
        }
        let log = ln(s, s.splat(s.sum(sum)));
        let mut i = 0;
        while i < n {
            let left = (n - i).min(S::LANES);
            s.store_part(y.add(i), left, s.sub(s.load_part(y.add(i), left), log));
            i += S::LANES;
        }
    }
}

/// Stores a whole vector where `left` allows, else a part.
///
/// # Safety
/// `left` elements at `y` are writable.
#[inline(always)]
unsafe fn put<S: Simd>(s: S, y: *mut f32, left: usize, v: S::F32) {
    // SAFETY: the caller promises `left` writable elements.
    unsafe { if left >= S::LANES { s.store(y, v) } else { s.store_part(y, left, v) } }
}
