//! Sine and cosine.

use super::{Simd, polynomial};

/// Past this the reduction below loses digits, and the lane goes through the scalar function.
const REDUCED: f32 = 20_000.0;

/// `sin(x)` to 2e-7 absolute.
#[inline(always)]
pub fn sin<S: Simd>(s: S, x: S::F32) -> S::F32 {
    quarter_turns(s, x, 0, f32::sin)
}

/// `cos(x)` to 2e-7 absolute.
#[inline(always)]
pub fn cos<S: Simd>(s: S, x: S::F32) -> S::F32 {
    quarter_turns(s, x, 1, f32::cos)
}

/// `sin(x + ahead pi / 2)`: reduced by quarter turns in three parts (Cody and Waite), polynomials of Cephes' `sinf`.
#[inline(always)]
fn quarter_turns<S: Simd>(s: S, x: S::F32, ahead: i32, scalar: fn(f32) -> f32) -> S::F32 {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::FRAC_2_PI)));
    // The first two parts have so few bits that their products with n are exact.
    let r = s.fnma(n, s.splat(1.570_312_5), x);
    let r = s.fnma(n, s.splat(4.837_513e-4), r);
    let r = s.fnma(n, s.splat(7.549_79e-8), r);
    let z = s.mul(r, r);
    let sine = s.fma(s.mul(polynomial(s, z, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]), z), r, r);
    let cosine = s.fma(
        s.mul(polynomial(s, z, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]), z),
        z,
        s.fma(z, s.splat(-0.5), s.splat(1.0)),
    );
    let quarter = s.add_i32(s.to_i32(n), s.splat_i32(ahead));
    let odd = s.eq_i32(s.and_i32(quarter, s.splat_i32(1)), s.splat_i32(1));
    let turned = s.shl_i32(s.and_i32(quarter, s.splat_i32(2)), 30);
    let y = s.from_bits(s.xor_i32(s.to_bits(s.select(odd, cosine, sine)), turned));

    let (mut lanes, mut arguments) = ([0f32; 16], [0f32; 16]);
    // SAFETY: the arrays hold as many elements as the widest vector.
    unsafe { s.store(arguments.as_mut_ptr(), s.abs(x)) };
    if arguments[..S::LANES].iter().all(|&a| a <= REDUCED) {
        return y;
    }
    // SAFETY: as above.
    unsafe {
        s.store(arguments.as_mut_ptr(), x);
        s.store(lanes.as_mut_ptr(), y);
    }
    for (lane, &a) in lanes.iter_mut().zip(&arguments[..S::LANES]) {
        if a.is_nan() || a.abs() > REDUCED {
            *lane = scalar(a);
        }
    }
    // SAFETY: as above.
    unsafe { s.load(lanes.as_ptr()) }
}
