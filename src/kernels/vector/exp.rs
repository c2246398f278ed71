//! The exponential and the activations built on it.

use super::{Simd, ln, polynomial};

/// High part of ln 2: few enough bits that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `(e^r, n)` with `x = n ln 2 + r`, `|r| <= ln 2 / 2`; coefficients of Cephes' `expf`.
#[inline(always)]
fn reduced<S: Simd>(s: S, x: S::F32) -> (S::F32, S::F32) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fnma(n, s.splat(LN2_HIGH), x);
    let r = s.fnma(n, s.splat(LN2_LOW), r);
    let p = polynomial(s, r, [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1]);
    let tail = s.fma(p, s.mul(r, r), r);
    (s.add(tail, s.splat(1.0)), n)
}

/// `e^x` within 2 ulp, denormal results included; infinity from 88.73 up, zero below -104.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let x = s.min(s.splat(89.0), s.max(s.splat(-105.0), x));
    let (p, n) = reduced(s, x);
    s.scale2(p, n)
}

/// `e^x` for `x <= 0` within 2 ulp, results below 1.3e-38 possibly taken as zero: what softmax needs.
#[inline(always)]
pub fn exp_nonpositive<S: Simd>(s: S, x: S::F32) -> S::F32 {
    if S::LANES == 16 {
        // One instruction scales there, denormal results included.
        let (p, n) = reduced(s, s.max(s.splat(-105.0), x));
        return s.scale2(p, n);
    }
    let lowest = s.splat(-87.3);
    let (p, n) = reduced(s, s.max(lowest, x));
    // n >= -126, so 2^n is a normal number whose bits are its exponent.
    let power = s.from_bits(s.shl_i32(s.add_i32(s.to_i32(n), s.splat_i32(127)), 23));
    let power = s.select(s.lt(x, lowest), s.splat(0.0), power);
    s.mul(p, power)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.neg(x))))
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    swish(s, x, 1.0)
}

/// `x * sigmoid(alpha x)`; zero, not NaN, at minus infinity for a positive `alpha`.
#[inline(always)]
pub fn swish<S: Simd>(s: S, x: S::F32, alpha: f32) -> S::F32 {
    let e = exp(s, s.mul(x, s.splat(-alpha)));
    let y = s.div(x, s.add(s.splat(1.0), e));
    let vanished = s.eq(e, s.splat(f32::INFINITY));
    s.select(vanished, s.splat(0.0), y)
}

/// `tanh(x)` within 5 ulp, or 4e-7 absolute, and exactly 1 past 8.2: an odd rational function, as in Eigen.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Here the quotient is 1, whether products are rounded before they are added or not.
    let limit = 8.100_039_5;
    let c = s.min(s.splat(limit), s.max(s.splat(-limit), x));
    let z = s.mul(c, c);
    let p = polynomial(
        s,
        z,
        [-2.760_768_5e-16, 2.000_188e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619_3e-4, 4.893_524_6e-3],
    );
    let q = polynomial(s, z, [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3]);
    let y = s.div(s.mul(c, p), q);
    s.select(s.lt(s.abs(x), s.splat(4e-4)), x, y)
}

/// `ln(1 + e^x)`, without overflow.
#[inline(always)]
pub fn softplus<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let u = exp(s, s.neg(s.abs(x)));
    // u <= 1: ln(w) * u / (w - 1) with w = 1 + u rounded gives back what the rounding took.
    let one = s.splat(1.0);
    let w = s.add(one, u);
    let d = s.sub(w, one);
    let tail = s.select(s.eq(d, s.splat(0.0)), u, s.mul(ln(s, w), s.div(u, d)));
    s.add(s.max(s.splat(0.0), x), tail)
}

/// `x * tanh(softplus(x))`.
#[inline(always)]
pub fn mish<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // With e = e^x, tanh(ln(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2); past 20 it is 1 in f32.
    let e = exp(s, s.min(s.splat(20.0), x));
    let n = s.mul(e, s.add(e, s.splat(2.0)));
    let y = s.mul(x, s.div(n, s.add(n, s.splat(2.0))));
    s.select(s.lt(x, s.splat(-105.0)), s.splat(-0.0), y)
}
