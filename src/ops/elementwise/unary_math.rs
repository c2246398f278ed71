//! The formulas of the unary operators on one float: the measure of kernels and the text of fused epilogues.

use super::UnaryKind;
use super::real::Real;

impl UnaryKind {
    /// The function at `x` in double precision. `Not` and the tests `IsNaN` and `IsInf` yield 0 or 1; `BitwiseNot`
    /// takes an integral `x`.
    #[must_use]
    pub fn apply(self, x: f64) -> f64 {
        apply(self, x)
    }

    /// The function at `x` in single precision throughout.
    #[must_use]
    pub fn apply_f32(self, x: f32) -> f32 {
        apply(self, x)
    }
}

/// `min(max(x, low), high)` that lets a NaN through.
fn clamp<R: Real>(x: R, low: R, high: R) -> R {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// Never forms `e^|x|`, which would overflow.
fn sigmoid<R: Real>(x: R) -> R {
    let one = R::of(1.0);
    if x < R::of(0.0) {
        let e = x.exp();
        e / (one + e)
    } else {
        one / (one + (-x).exp())
    }
}

/// Never forms `e^|x|`, which would overflow.
fn softplus<R: Real>(x: R) -> R {
    let tail = (-x.abs()).exp().ln_1p();
    if x > R::of(0.0) { x + tail } else { tail }
}

fn gelu_tanh<R: Real>(x: R) -> R {
    let root = R::constant((2.0 / std::f64::consts::PI).sqrt());
    let inner = root * (x + R::constant(0.044715) * x * x * x);
    R::of(0.5) * x * (R::of(1.0) + inner.tanh())
}

/// By the complementary error function, which keeps its digits where `1 + erf` loses them.
fn gelu<R: Real>(x: R) -> R {
    R::of(0.5) * x * (-x * R::constant(std::f64::consts::FRAC_1_SQRT_2)).erfc()
}

/// Whether a gate is shut by an infinite `x`: what comes of it is the limit, zero, and not NaN.
fn vanishes<R: Real>(kind: UnaryKind, x: R) -> bool {
    match kind {
        UnaryKind::Gelu { .. } | UnaryKind::HardSwish | UnaryKind::Mish => x == R::of(f32::NEG_INFINITY),
        UnaryKind::Swish { alpha } => x.abs() == R::of(f32::INFINITY) && R::of(alpha) * x < R::of(0.0),
        _ => false,
    }
}

fn apply<R: Real>(kind: UnaryKind, x: R) -> R {
    let zero = R::of(0.0);
    let one = R::of(1.0);
    let flag = |condition: bool| if condition { one } else { zero };
    if vanishes(kind, x) {
        return zero;
    }
    match kind {
        UnaryKind::Identity => x,
        UnaryKind::Abs => x.abs(),
        UnaryKind::Neg => -x,
        UnaryKind::Sign if x.is_nan() => x,
        UnaryKind::Sign => flag(x > zero) - flag(x < zero),
        UnaryKind::Ceil => x.ceil(),
        UnaryKind::Floor => x.floor(),
        UnaryKind::Round => x.round(),
        UnaryKind::Reciprocal => one / x,
        UnaryKind::Sqrt => x.sqrt(),
        UnaryKind::Exp => x.exp(),
        UnaryKind::Log => x.ln(),
        UnaryKind::Erf => x.erf(),
        UnaryKind::Sin => x.sin(),
        UnaryKind::Cos => x.cos(),
        UnaryKind::Tan => x.tan(),
        UnaryKind::Asin => x.asin(),
        UnaryKind::Acos => x.acos(),
        UnaryKind::Atan => x.atan(),
        UnaryKind::Sinh => x.sinh(),
        UnaryKind::Cosh => x.cosh(),
        UnaryKind::Tanh => x.tanh(),
        UnaryKind::Asinh => x.asinh(),
        // Some implementations yield numbers far below the domain.
        UnaryKind::Acosh if x < one => R::of(f32::NAN),
        UnaryKind::Acosh => x.acosh(),
        UnaryKind::Atanh => x.atanh(),
        UnaryKind::Relu => {
            if x < zero {
                zero
            } else {
                x
            }
        }
        UnaryKind::Sigmoid => sigmoid(x),
        UnaryKind::Softplus => softplus(x),
        UnaryKind::Softsign => x / (one + x.abs()),
        UnaryKind::Not => flag(x == zero),
        UnaryKind::BitwiseNot => -x - one,
        UnaryKind::LeakyRelu { alpha } => {
            if x < zero {
                R::of(alpha) * x
            } else {
                x
            }
        }
        UnaryKind::Elu { alpha } => {
            if x < zero {
                R::of(alpha) * x.exp_m1()
            } else {
                x
            }
        }
        UnaryKind::Selu { alpha, gamma } => {
            let inner = if x > zero { x } else { R::of(alpha) * x.exp_m1() };
            R::of(gamma) * inner
        }
        UnaryKind::Celu { alpha } => {
            let alpha = R::of(alpha);
            if x < zero { alpha * (x / alpha).exp_m1() } else { x }
        }
        UnaryKind::HardSigmoid { alpha, beta } => clamp(R::of(alpha) * x + R::of(beta), zero, one),
        UnaryKind::ThresholdedRelu { alpha } => {
            if x > R::of(alpha) {
                x
            } else {
                zero
            }
        }
        UnaryKind::Gelu { tanh: true } => gelu_tanh(x),
        UnaryKind::Gelu { tanh: false } => gelu(x),
        UnaryKind::Swish { alpha } => x * sigmoid(R::of(alpha) * x),
        UnaryKind::HardSwish => x * clamp(x / R::of(6.0) + R::of(0.5), zero, one),
        UnaryKind::Mish => x * softplus(x).tanh(),
        UnaryKind::Shrink { bias, lambd } => {
            if x < R::of(-lambd) {
                x + R::of(bias)
            } else if x > R::of(lambd) {
                x - R::of(bias)
            } else {
                zero
            }
        }
        UnaryKind::IsNaN => flag(x.is_nan()),
        UnaryKind::IsInf { detect_negative, detect_positive } => {
            flag(x.is_infinite() && if x < zero { detect_negative } else { detect_positive })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use UnaryKind::*;

    #[test]
    fn extreme_arguments_neither_overflow_nor_turn_into_nan() {
        for (kind, x, expected) in [
            (Sigmoid, -1e4, 0.0),
            (Sigmoid, 1e4, 1.0),
            (Softplus, 1e4, 1e4),
            (Softplus, -1e4, 0.0),
            (Mish, 1e4, 1e4),
            (Swish { alpha: 1.0 }, -1e4, 0.0),
            (Elu { alpha: 1.0 }, -1e4, -1.0),
            (Gelu { tanh: false }, -40.0, 0.0),
            (HardSwish, 3.0, 3.0),
            (Round, 2.5, 2.0),
            (Round, -1.5, -2.0),
            (Sign, -0.0, 0.0),
        ] {
            assert_eq!(kind.apply(x), expected, "{kind:?} at {x}");
            assert_eq!(f64::from(kind.apply_f32(x as f32)), expected, "{kind:?} at {x}");
        }
    }

    #[test]
    fn values_agree_with_published_ones() {
        for (kind, x, expected) in [
            (Erf, 0.5, 0.520_499_877_813_046_5),
            (Gelu { tanh: false }, 1.0, 0.841_344_746_068_542_9),
            (Gelu { tanh: true }, 1.0, 0.841_191_990_608_302_1),
            (Mish, 1.0, 0.865_098_388_267_388_4),
            (Swish { alpha: 1.0 }, 1.0, 0.731_058_578_630_004_9),
            (Softsign, -3.0, -0.75),
            (Celu { alpha: 2.0 }, -2.0, -1.264_241_117_657_115_3),
            (Shrink { bias: 0.5, lambd: 1.0 }, -2.0, -1.5),
            (Atanh, 0.5, 0.549_306_144_334_054_8),
        ] {
            let error = (kind.apply(x) - expected).abs();
            assert!(error < 1e-12, "{kind:?} at {x}: off by {error}");
            let single = (f64::from(kind.apply_f32(x as f32)) - expected).abs();
            assert!(single < 1e-6, "{kind:?} at {x}: off by {single} in single precision");
        }
    }

    #[test]
    fn outside_its_domain_a_function_is_not_a_number() {
        for (kind, outside) in [
            (Acosh, [0.5f32, -0.5, -1.0, -1.5, -3.0, -1e4, -1e10, f32::MIN, f32::NEG_INFINITY].as_slice()),
            (Atanh, &[1.5, -1.5, 1e10, f32::MIN, f32::INFINITY, f32::NEG_INFINITY]),
            (Asin, &[1.5, -1.5, 1e10, f32::INFINITY, f32::NEG_INFINITY]),
            (Acos, &[1.5, -1.5, 1e10, f32::INFINITY, f32::NEG_INFINITY]),
            (Log, &[-1.0, f32::MIN, f32::NEG_INFINITY]),
        ] {
            for &x in outside {
                assert!(kind.apply_f32(x).is_nan(), "{kind:?} of {x} is {}", kind.apply_f32(x));
                assert!(kind.apply(f64::from(x)).is_nan(), "{kind:?} of {x} is {}", kind.apply(f64::from(x)));
            }
        }
    }

    #[test]
    fn activations_let_nan_through() {
        for kind in [
            Relu,
            Sigmoid,
            Softplus,
            HardSwish,
            Mish,
            Sign,
            LeakyRelu { alpha: 0.1 },
            HardSigmoid { alpha: 0.2, beta: 0.5 },
            Gelu { tanh: true },
        ] {
            assert!(kind.apply(f64::NAN).is_nan(), "{kind:?}");
        }
    }

    #[test]
    fn tests_for_infinity_look_at_the_sign() {
        let negative = IsInf { detect_negative: true, detect_positive: false };
        assert_eq!(negative.apply(f64::NEG_INFINITY), 1.0);
        assert_eq!(negative.apply(f64::INFINITY), 0.0);
        assert_eq!(IsNaN.apply(f64::NAN), 1.0);
    }

    #[test]
    fn single_precision_follows_double() {
        let smooth = [
            Exp,
            Erf,
            Sin,
            Cos,
            Atan,
            Sinh,
            Tanh,
            Asinh,
            Sigmoid,
            Softplus,
            Softsign,
            HardSwish,
            Mish,
            Elu { alpha: 0.7 },
            Selu { alpha: 1.6, gamma: 1.05 },
            Celu { alpha: 0.5 },
            Gelu { tanh: true },
            Gelu { tanh: false },
            Swish { alpha: 1.7 },
            HardSigmoid { alpha: 0.2, beta: 0.5 },
            LeakyRelu { alpha: 0.1 },
        ];
        for kind in smooth {
            for step in -400..=400 {
                let x = step as f32 / 50.0;
                let (single, double) = (f64::from(kind.apply_f32(x)), kind.apply(f64::from(x)));
                let error = (single - double).abs();
                assert!(error <= 2e-6 * double.abs().max(0.2), "{kind:?} at {x}: {single} is not {double}");
            }
        }
    }
}
