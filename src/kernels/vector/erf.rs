//! The error function and both forms of GELU.

use super::{Simd, polynomial, tanh};

/// `erf(x)` to 5e-7 absolute, and exactly 1 from 4 on: an odd rational function on [-4, 4], as in Eigen.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Here the quotient is 1, whether products are rounded before they are added or not.
    let limit = 3.999_999_3;
    let c = s.min(s.splat(limit), s.max(s.splat(-limit), x));
    let z = s.mul(c, c);
    let p = polynomial(
        s,
        z,
        [
            -2.726_142_3e-10,
            2.770_681_4e-8,
            -2.101_024e-6,
            -5.692_506_4e-5,
            -7.349_906_3e-4,
            -2.954_6e-3,
            -1.609_603_4e-2,
        ],
    );
    let q = polynomial(s, z, [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2]);
    s.div(s.mul(c, p), q)
}

/// `x / 2 * (1 + erf(x / sqrt 2))`; zero, not NaN, at minus infinity.
#[inline(always)]
pub fn gelu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let e = erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
    half_of(s, x, e)
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`; zero, not NaN, at minus infinity.
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let inner = s.fma(s.mul(x, x), s.splat(0.044_715 * 0.797_884_6), s.splat(0.797_884_6));
    half_of(s, x, tanh(s, s.mul(inner, x)))
}

/// `x / 2 * (1 + gate)`, zero where `x` is so low that the gate has closed.
#[inline(always)]
fn half_of<S: Simd>(s: S, x: S::F32, gate: S::F32) -> S::F32 {
    let half = s.mul(x, s.splat(0.5));
    s.select(s.lt(x, s.splat(-10.0)), s.splat(-0.0), s.fma(half, gate, half))
}
