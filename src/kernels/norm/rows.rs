//! LayerNorm and RMSNorm over rows, with what is added before in the same pass.

use super::super::arch::{Body, Isa, Simd};
use super::super::gemm::{Extremes, Told};

/// Whether the mean is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Center {
    /// LayerNorm: `(x - mean) / sqrt(var + epsilon)`.
    Mean,
    /// RMSNorm: `x / sqrt(mean(x^2) + epsilon)`.
    Zero,
}

/// What to normalize with; `scale` and `shift` have `cols` elements.
#[derive(Debug, Clone, Copy)]
pub struct RowNorm<'a> {
    /// LayerNorm or RMSNorm.
    pub center: Center,
    /// Elements of a row.
    pub cols: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Multiplied onto the normalized row.
    pub scale: Option<&'a [f32]>,
    /// Added at last.
    pub shift: Option<&'a [f32]>,
}

/// The rows that go in, `[rows, cols]` each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rows<'a> {
    /// The input; `None` where it is what the output slice holds before.
    pub x: Option<&'a [f32]>,
    /// Added to the input first.
    pub residual: Option<&'a [f32]>,
    /// `[cols]`, added to every row first.
    pub bias: Option<&'a [f32]>,
}

/// Normalizes every row of `x + residual + bias` into `y`; writes the sum itself to `sum` where that is wanted.
///
/// # Panics
/// Where the lengths are not those that the arguments' pages give.
pub fn row_norm(isa: Isa, norm: &RowNorm<'_>, rows: Rows<'_>, sum: Option<&mut [f32]>, y: &mut [f32]) {
    row_norm_telling(isa, norm, rows, sum, y, None);
}

/// The same; what is written to `y` is told.
///
/// # Panics
/// As [`row_norm`].
pub fn row_norm_telling(
    isa: Isa,
    norm: &RowNorm<'_>,
    rows: Rows<'_>,
    sum: Option<&mut [f32]>,
    y: &mut [f32],
    extremes: Option<&Extremes>,
) {
    let (len, cols) = (y.len(), norm.cols);
    if len == 0 || cols == 0 {
        return;
    }
    assert_eq!(len % cols, 0, "the output is whole rows");
    assert!(rows.x.is_none_or(|x| x.len() == len), "the input is as long as the output");
    assert!(rows.residual.is_none_or(|r| r.len() == len), "the residual is as long as the output");
    assert!(sum.as_ref().is_none_or(|s| s.len() == len), "the sum is as long as the output");
    let vectors = [norm.scale, norm.shift, rows.bias];
    assert!(vectors.into_iter().flatten().all(|v| v.len() == cols), "scale, shift and bias are one row");
    isa.dispatch(RowsBody { norm, rows, sum: sum.map(<[f32]>::as_mut_ptr), len, y: y.as_mut_ptr(), extremes });
}

struct RowsBody<'a> {
    norm: &'a RowNorm<'a>,
    rows: Rows<'a>,
    sum: Option<*mut f32>,
    len: usize,
    y: *mut f32,
    extremes: Option<&'a Extremes>,
}

impl Body for RowsBody<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.norm.cols;
        let mut told = self.extremes.map(|extremes| Told::new(s, extremes));
        for at in (0..self.len).step_by(cols) {
            // SAFETY: `row_norm` compared the lengths; a row ends within them.
            unsafe {
                let y = self.y.add(at);
                let x = self.rows.x.map_or(y.cast_const(), |x| x.as_ptr().add(at));
                let residual = self.rows.residual.map(|r| r.as_ptr().add(at));
                // Where something is added, the sum stands in `h`, to be read again; `y` serves where it is not wanted.
                let h = self.sum.map(|sum| sum.add(at));
                let added = residual.is_some() || self.rows.bias.is_some() || h.is_some();
                let x = if added {
                    let h = h.unwrap_or(y);
                    add(s, x, residual, self.rows.bias.map(<[f32]>::as_ptr), h, cols);
                    h.cast_const()
                } else {
                    x
                };
                let (mean, factor) = moments(s, x, cols, self.norm.center, self.norm.epsilon);
                let scale = self.norm.scale.map(<[f32]>::as_ptr);
                let shift = self.norm.shift.map(<[f32]>::as_ptr);
                apply(s, x, y, cols, mean, factor, scale, shift, &mut told);
            }
        }
        if let (Some(told), Some(extremes)) = (told, self.extremes) {
            told.tell(s, extremes);
        }
    }
}

/// `h = x + residual + bias`.
///
/// # Safety
/// All of them have `n` elements; those of `h` are writable.
#[inline(always)]
unsafe fn add<S: Simd>(
    s: S,
    x: *const f32,
    residual: Option<*const f32>,
    bias: Option<*const f32>,
    h: *mut f32,
    n: usize,
) {
    let mut i = 0;
    while i < n {
        let left = (n - i).min(S::LANES);
        // SAFETY: the caller promises n elements everywhere.
        unsafe {
            let get = |p: *const f32| if left == S::LANES { s.load(p.add(i)) } else { s.load_part(p.add(i), left) };
            let mut v = get(x);
            if let Some(residual) = residual {
                v = s.add(v, get(residual));
            }
            if let Some(bias) = bias {
                v = s.add(v, get(bias));
            }
            if left == S::LANES { s.store(h.add(i), v) } else { s.store_part(h.add(i), left, v) }
        }
        i += S::LANES;
    }
}

/// The mean (or zero) and `1 / sqrt(var + epsilon)` of `n` elements.
///
/// # Safety
/// `n` elements are readable at `x`.
#[inline(always)]
pub(super) unsafe fn moments<S: Simd>(s: S, x: *const f32, n: usize, center: Center, epsilon: f32) -> (f32, f32) {
    let count = n as f32;
    // SAFETY: as the caller promises.
    unsafe {
        let mean = match center {
            Center::Mean => sum_of(s, x, n, s.splat(0.0), false) / count,
            Center::Zero => 0.0,
        };
        let variance = sum_of(s, x, n, s.splat(mean), true) / count;
        (mean, 1.0 / (variance + epsilon).sqrt())
    }
}

/// The sum of `x - center`, or of its squares, in four accumulators.
///
/// # Safety
/// `n` elements at `x` are readable.
#[inline(always)]
unsafe fn sum_of<S: Simd>(s: S, x: *const f32, n: usize, center: S::F32, squared: bool) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let mut i = 0;
    // SAFETY: the caller promises n elements.
    unsafe {
        while i + 4 * S::LANES <= n {
            for (k, sum) in sums.iter_mut().enumerate() {
                let d = s.sub(s.load(x.add(i + k * S::LANES)), center);
                *sum = if squared { s.fma(d, d, *sum) } else { s.add(*sum, d) };
            }
            i += 4 * S::LANES;
        }
        let mut k = 0;
        while i < n {
            let left = (n - i).min(S::LANES);
            let d = s.sub(s.load_part(x.add(i), left), center);
            let d = s.select(s.first(left), d, s.splat(0.0));
            sums[k & 3] = if squared { s.fma(d, d, sums[k & 3]) } else { s.add(sums[k & 3], d) };
            k += 1;
            i += S::LANES;
        }
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// `y = (x - mean) * factor * scale + shift`.
///
/// # Safety
/// All of them have `n` elements; those of `y` are writable. `x` may be `y`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn apply<S: Simd>(
    s: S,
    x: *const f32,
    y: *mut f32,
    n: usize,
    mean: f32,
    factor: f32,
    scale: Option<*const f32>,
    shift: Option<*const f32>,
    told: &mut Option<Told<S>>,
) {
    let (mean, factor) = (s.splat(mean), s.splat(factor));
    let mut i = 0;
    while i < n {
        let left = (n - i).min(S::LANES);
        // SAFETY: the caller promises n elements everywhere.
        unsafe {
            let get = |p: *const f32| if left == S::LANES { s.load(p.add(i)) } else { s.load_part(p.add(i), left) };
            let v = s.mul(s.sub(get(x), mean), factor);
            let v = match (scale, shift) {
                (Some(scale), Some(shift)) => s.fma(v, get(scale), get(shift)),
                (Some(scale), None) => s.mul(v, get(scale)),
                (None, Some(shift)) => s.add(v, get(shift)),
                (None, None) => v,
            };
            if left == S::LANES {
                s.store(y.add(i), v)
            } else {
                s.store_part(y.add(i), left, v)
            }
            if let Some(told) = told {
                told.see(s, v, left);
            }
        }
        i += S::LANES;
    }
}
