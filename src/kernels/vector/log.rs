//! The natural logarithm.

use super::{Simd, polynomial};

/// `ln(x)` within 2 ulp: minus infinity at zero, NaN below it. Coefficients of Cephes' `logf`.
#[inline(always)]
pub fn ln<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Denormal numbers are brought up by 2^23.
    let tiny = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let scaled = s.select(tiny, s.mul(x, s.splat(8_388_608.0)), x);
    let shift = s.select(tiny, s.splat(-23.0), s.splat(0.0));

    // The mantissa m in [sqrt(1/2), sqrt(2)), the exponent beside it.
    let bits = s.to_bits(scaled);
    let offset = s.sub_i32(bits, s.splat_i32(0x3f35_04f3));
    let exponent = s.sar_i32(offset, 23);
    let m = s.from_bits(s.sub_i32(bits, s.shl_i32(exponent, 23)));
    let e = s.add(s.from_i32(exponent), shift);

    let f = s.sub(m, s.splat(1.0));
    let z = s.mul(f, f);
    let p = polynomial(
        s,
        f,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_7e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let y = s.mul(s.mul(f, z), p);
    let y = s.fma(e, s.splat(-2.121_944_4e-4), y);
    let y = s.fnma(z, s.splat(0.5), y);
    let y = s.fma(e, s.splat(0.693_359_4), s.add(f, y));

    let y = s.select(s.eq(x, s.splat(0.0)), s.splat(f32::NEG_INFINITY), y);
    let y = s.select(s.eq(x, s.splat(f32::INFINITY)), x, y);
    // Both a NaN and a negative number fail 0 <= x.
    s.select(s.le(s.splat(0.0), x), y, s.splat(f32::NAN))
}

/// `ln(1 + x)`, exact to 3 ulp near zero too.
#[inline(always)]
pub fn ln_1p<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let w = s.add(one, x);
    let d = s.sub(w, one);
    let corrected = s.mul(ln(s, w), s.div(x, d));
    let y = s.select(s.eq(d, s.splat(0.0)), x, corrected);
    s.select(s.eq(x, s.splat(f32::INFINITY)), x, y)
}
