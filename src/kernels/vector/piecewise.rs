//! Activations made of comparisons and a line or two. NaN goes through each but the thresholded one.

use super::{Simd, exp, with_sign_of};

/// The smaller of two, NaN where either is.
#[inline(always)]
pub fn min_nan<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::F32 {
    s.select(s.eq(a, a), s.min(a, b), a)
}

/// The larger of two, NaN where either is.
#[inline(always)]
pub fn max_nan<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::F32 {
    s.select(s.eq(a, a), s.max(a, b), a)
}

/// `min(max(x, low), high)`, so `high` where `low > high`.
#[inline(always)]
pub fn clamp<S: Simd>(s: S, x: S::F32, low: f32, high: f32) -> S::F32 {
    s.min(s.splat(high), s.max(s.splat(low), x))
}

/// `max(x, 0)`.
#[inline(always)]
pub fn relu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    s.max(s.splat(0.0), x)
}

/// `x` where it is not negative, else `alpha x`.
#[inline(always)]
pub fn leaky_relu<S: Simd>(s: S, x: S::F32, alpha: f32) -> S::F32 {
    s.select(s.lt(x, s.splat(0.0)), s.mul(x, s.splat(alpha)), x)
}

/// `x` where it is above `alpha`, else zero, of NaN too.
#[inline(always)]
pub fn thresholded_relu<S: Simd>(s: S, x: S::F32, alpha: f32) -> S::F32 {
    s.select(s.lt(s.splat(alpha), x), x, s.splat(0.0))
}

/// `x` where it is not negative, else `alpha (e^x - 1)`.
#[inline(always)]
pub fn elu<S: Simd>(s: S, x: S::F32, alpha: f32) -> S::F32 {
    s.select(s.lt(x, s.splat(0.0)), s.mul(s.splat(alpha), exp_m1_negative(s, x)), x)
}

/// `gamma x` where `x` is positive, else `gamma alpha (e^x - 1)`.
#[inline(always)]
pub fn selu<S: Simd>(s: S, x: S::F32, alpha: f32, gamma: f32) -> S::F32 {
    s.mul(s.splat(gamma), elu(s, x, alpha))
}

/// `max(0, x) + min(0, alpha (e^(x / alpha) - 1))`.
#[inline(always)]
pub fn celu<S: Simd>(s: S, x: S::F32, alpha: f32) -> S::F32 {
    let scaled = s.mul(x, s.splat(1.0 / alpha));
    let tail = s.mul(s.splat(alpha), exp_m1_negative(s, scaled));
    s.select(s.lt(x, s.splat(0.0)), tail, x)
}

/// `e^x - 1` for `x <= 0`: near zero by its series, where the difference would lose the digits.
#[inline(always)]
fn exp_m1_negative<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let series = super::polynomial(s, x, [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0]);
    let far = s.sub(exp(s, x), s.splat(1.0));
    s.select(s.lt(s.splat(-0.1), x), s.mul(series, x), far)
}

/// `clamp(alpha x + beta, 0, 1)`.
#[inline(always)]
pub fn hard_sigmoid<S: Simd>(s: S, x: S::F32, alpha: f32, beta: f32) -> S::F32 {
    clamp(s, s.fma(x, s.splat(alpha), s.splat(beta)), 0.0, 1.0)
}

/// `x * clamp(x / 6 + 1 / 2, 0, 1)`; zero, not NaN, at minus infinity.
#[inline(always)]
pub fn hard_swish<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let y = s.mul(x, hard_sigmoid(s, x, 1.0 / 6.0, 0.5));
    s.select(s.le(x, s.splat(-3.0)), s.splat(-0.0), y)
}

/// `x / (1 + |x|)`.
#[inline(always)]
pub fn softsign<S: Simd>(s: S, x: S::F32) -> S::F32 {
    s.div(x, s.add(s.splat(1.0), s.abs(x)))
}

/// -1, 0 or 1; NaN of NaN.
#[inline(always)]
pub fn sign<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = with_sign_of(s, s.splat(1.0), x);
    s.select(s.lt(s.splat(0.0), s.abs(x)), one, x)
}
