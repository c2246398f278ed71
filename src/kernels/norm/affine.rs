//! One scale and one shift a channel: batch normalization once its statistics are folded.

use super::super::arch::{Body, Isa, Simd};

/// `y = x * scale[c] + shift[c]`, the channel of element `start + i` being `(start + i) / inner % channels`: `inner` is
/// 1 for channels last and the pixels of a plane for NCHW.
///
/// # Panics
/// Where `x` and `y`, or `scale` and `shift`, differ in length, or there is no channel.
#[allow(clippy::too_many_arguments)]
pub fn scale_shift(isa: Isa, scale: &[f32], shift: &[f32], inner: usize, start: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "a map keeps the length");
    run(isa, scale, shift, inner, start, x.as_ptr(), y.as_mut_ptr(), y.len());
}

/// [`scale_shift`] over its own input.
///
/// # Panics
/// As [`scale_shift`].
pub fn scale_shift_in_place(isa: Isa, scale: &[f32], shift: &[f32], inner: usize, start: usize, y: &mut [f32]) {
    let (n, y) = (y.len(), y.as_mut_ptr());
    run(isa, scale, shift, inner, start, y, y, n);
}

#[allow(clippy::too_many_arguments)]
fn run(isa: Isa, scale: &[f32], shift: &[f32], inner: usize, start: usize, x: *const f32, y: *mut f32, n: usize) {
    if n == 0 {
        return;
    }
    assert!(scale.len() == shift.len() && !scale.is_empty() && inner > 0, "a scale and a shift for each channel");
    isa.dispatch(Affine { scale, shift, inner, start, x, y, n });
}

/// `n` elements at `x` and `y`, which are the same or do not overlap.
struct Affine<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    inner: usize,
    start: usize,
    x: *const f32,
    y: *mut f32,
    n: usize,
}

impl Body for Affine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Affine { scale, shift, inner, start, x, y, n } = self;
        let channels = scale.len();
        let mut at = 0;
        while at < n {
            let index = start + at;
            let c = index / inner % channels;
            // SAFETY: a run ends at n, and where channels run along it, with the last channel.
            unsafe {
                let (x, y) = (x.add(at), y.add(at));
                if inner == 1 {
                    let run = (channels - c).min(n - at);
                    let (a, b) = (scale.as_ptr().add(c), shift.as_ptr().add(c));
                    let mut i = 0;
                    while i + S::LANES <= run {
                        s.store(y.add(i), s.fma(s.load(x.add(i)), s.load(a.add(i)), s.load(b.add(i))));
                        i += S::LANES;
                    }
                    if i < run {
                        let left = run - i;
                        let (a, b) = (s.load_part(a.add(i), left), s.load_part(b.add(i), left));
                        s.store_part(y.add(i), left, s.fma(s.load_part(x.add(i), left), a, b));
                    }
                    at += run;
                } else {
                    let run = (inner - index % inner).min(n - at);
                    let (a, b) = (s.splat(scale[c]), s.splat(shift[c]));
                    let mut i = 0;
                    while i + S::LANES <= run {
                        s.store(y.add(i), s.fma(s.load(x.add(i)), a, b));
                        i += S::LANES;
                    }
                    if i < run {
                        s.store_part(y.add(i), run - i, s.fma(s.load_part(x.add(i), run - i), a, b));
                    }
                    at += run;
                }
            }
        }
    }
}
