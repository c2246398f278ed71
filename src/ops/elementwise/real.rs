//! The arithmetic that scalar functions are written in once, for `f32` and `f64` alike.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A binary float with the functions that ONNX's elementwise operators need, each as accurate as the platform's.
pub(super) trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// The value of an attribute.
    fn of(v: f32) -> Self;
    /// A constant, rounded once.
    fn constant(v: f64) -> Self;
    fn is_nan(self) -> bool;
    fn is_infinite(self) -> bool;
    fn abs(self) -> Self;
    fn ceil(self) -> Self;
    fn floor(self) -> Self;
    /// To the nearest integer, ties to the even one.
    fn round(self) -> Self;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn exp_m1(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn erf(self) -> Self;
    fn erfc(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn cosh(self) -> Self;
    fn tanh(self) -> Self;
    fn asinh(self) -> Self;
    fn acosh(self) -> Self;
    fn atanh(self) -> Self;
    fn pow(self, exponent: Self) -> Self;
    /// The remainder of truncated division, as C's `fmod`.
    fn fmod(self, divisor: Self) -> Self;
}

macro_rules! real {
    ($t:ty, $erf:path, $erfc:path, $asinh:path, $acosh:path, $atanh:path) => {
        impl Real for $t {
            real!(@std $t: is_nan -> bool, is_infinite -> bool, abs -> $t, ceil -> $t, floor -> $t, sqrt -> $t,
                exp -> $t, exp_m1 -> $t, ln -> $t, ln_1p -> $t, sin -> $t, cos -> $t, tan -> $t, asin -> $t,
                acos -> $t, atan -> $t, sinh -> $t, cosh -> $t, tanh -> $t);
            fn of(v: f32) -> $t { <$t>::from(v) }
            fn constant(v: f64) -> $t { v as $t }
            fn round(self) -> $t { self.round_ties_even() }
            fn erf(self) -> $t { $erf(self) }
            fn erfc(self) -> $t { $erfc(self) }
            fn asinh(self) -> $t { $asinh(self) }
            fn acosh(self) -> $t { $acosh(self) }
            fn atanh(self) -> $t { $atanh(self) }
            fn pow(self, exponent: $t) -> $t { self.powf(exponent) }
            fn fmod(self, divisor: $t) -> $t { self % divisor }
        }
    };
    (@std $t:ty: $($name:ident -> $out:ty),*) => {
        $(fn $name(self) -> $out { <$t>::$name(self) })*
    };
}

real!(f32, libm::erff, libm::erfcf, libm::asinhf, libm::acoshf, libm::atanhf);
real!(f64, libm::erf, libm::erfc, libm::asinh, libm::acosh, libm::atanh);
