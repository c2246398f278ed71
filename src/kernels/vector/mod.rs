//! Mathematical functions on the lanes of one vector, generic over the instruction set.
//!
//! Each is `#[inline(always)]` and takes the [`Simd`] token first, so that a kernel body (a map over a slice, a softmax,
//! the epilogue of a product) computes them in registers. A lane's result depends on nothing but its own argument, and
//! NaN comes out as NaN. Loops over slices are `elementwise`'s.

mod erf;
mod exp;
mod log;
mod piecewise;
#[cfg(test)]
mod tests;
mod trigonometric;

pub use erf::{erf, gelu, gelu_tanh};
pub use exp::{exp, exp_nonpositive, mish, sigmoid, silu, softplus, swish, tanh};
pub use log::{ln, ln_1p};
pub use piecewise::{
    celu, clamp, elu, hard_sigmoid, hard_swish, leaky_relu, max_nan, min_nan, relu, selu, sign, softsign,
    thresholded_relu,
};
pub use trigonometric::{cos, sin};

use super::arch::Simd;

/// `coefficients[0] * x^(n-1) + ... + coefficients[n-1]`, by Horner's rule.
#[inline(always)]
pub fn polynomial<S: Simd, const N: usize>(s: S, x: S::F32, coefficients: [f32; N]) -> S::F32 {
    let mut sum = s.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = s.fma(sum, x, s.splat(c));
    }
    sum
}

/// `magnitude` with the sign of `sign`; the magnitude must not be negative.
#[inline(always)]
pub(crate) fn with_sign_of<S: Simd>(s: S, magnitude: S::F32, sign: S::F32) -> S::F32 {
    let bit = s.and_i32(s.to_bits(sign), s.splat_i32(i32::MIN));
    s.from_bits(s.or_i32(s.to_bits(magnitude), bit))
}
