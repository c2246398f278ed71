//! Maps of one f32 operand.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector as v;

/// What to do with each element. The meaning is ONNX's of the same name.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Unary {
    /// `|x|`.
    Abs,
    /// `-x`.
    Neg,
    /// -1, 0 or 1.
    Sign,
    /// The next integer not below.
    Ceil,
    /// The next integer not above.
    Floor,
    /// Ties to even.
    Round,
    /// `1 / x`.
    Reciprocal,
    /// `x x`.
    Square,
    /// The square root.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `exp(x)`.
    Exp,
    /// The natural logarithm.
    Ln,
    /// The error function.
    Erf,
    /// The sine of radians.
    Sin,
    /// The cosine of radians.
    Cos,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x tanh(softplus(x))`.
    Mish,
    /// `x` times its hard sigmoid with alpha 1/6 and beta 1/2.
    HardSwish,
    /// `x` times the normal distribution function.
    Gelu,
    /// The same, by its approximation with tanh.
    GeluTanh,
    /// `x * sigmoid(alpha x)`; SiLU with `alpha` 1.
    Swish {
        /// `alpha` of the formula.
        alpha: f32,
    },
    /// `x` above zero, `alpha x` below.
    LeakyRelu {
        /// `alpha` of the formula.
        alpha: f32,
    },
    /// `x` above zero, `alpha (exp(x) - 1)` below.
    Elu {
        /// `alpha` of the formula.
        alpha: f32,
    },
    /// `gamma` times what [`Elu`](Unary::Elu) is.
    Selu {
        /// `alpha` of the formula.
        alpha: f32,
        /// `gamma` of the formula.
        gamma: f32,
    },
    /// `x` above zero, `alpha (exp(x / alpha) - 1)` below; `alpha` above zero.
    Celu {
        /// `alpha` of the formula.
        alpha: f32,
    },
    /// `alpha x + beta`, clipped to `0..=1`.
    HardSigmoid {
        /// `alpha` of the formula.
        alpha: f32,
        /// `beta` of the formula.
        beta: f32,
    },
    /// `x` above `alpha`, else zero.
    ThresholdedRelu {
        /// `alpha` of the formula.
        alpha: f32,
    },
    /// `x`, but not below `low` and not above `high`.
    Clip {
        /// The lower bound.
        low: f32,
        /// The upper bound.
        high: f32,
    },
    /// `scale x + shift`.
    Affine {
        /// The factor.
        scale: f32,
        /// What is added.
        shift: f32,
    },
    /// Any other function, element by element.
    Scalar(fn(f32) -> f32),
}

/// `y[i] = op(x[i])`.
///
/// # Panics
/// Where the lengths differ.
pub fn unary(isa: Isa, op: Unary, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "a map keeps the length");
    isa.dispatch(Whole(Map { op, x: x.as_ptr(), y: y.as_mut_ptr(), n: y.len() }));
}

/// `y[i] = op(y[i])`.
pub fn unary_in_place(isa: Isa, op: Unary, y: &mut [f32]) {
    isa.dispatch(Whole(Map { op, x: y.as_ptr(), y: y.as_mut_ptr(), n: y.len() }));
}

/// `n` elements from `x` to `y`, which may be the same memory but not overlap otherwise.
struct Map {
    op: Unary,
    x: *const f32,
    y: *mut f32,
    n: usize,
}

impl Body for Map {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: whoever made it promised n elements on both sides.
        unsafe { loops(s, self.op, self.x, self.y, self.n) }
    }
}

/// A map of a whole tensor.
struct Whole(Map);

impl Body for Whole {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        s.call(self.0);
    }
}

/// `n` elements of `op(x)` to `y`, by a function that all callers share: the loops of all functions are long.
///
/// # Safety
/// `n` elements are readable at `x` and writable at `y`, which are the same memory or do not overlap.
#[inline(always)]
pub(super) unsafe fn map<S: Simd>(s: S, op: Unary, x: *const f32, y: *mut f32, n: usize) {
    s.call(Map { op, x, y, n });
}

/// The loop around a short body, which is written out for four vectors where they are wide, for one and for a part.
macro_rules! light {
    ($s:ident, $x:ident, $y:ident, $n:ident, |$v:ident| $body:expr) => {{
        let mut i = 0;
        while S::LANES >= 8 && i + 4 * S::LANES <= $n {
            let mut v = 0;
            while v < 4 {
                let $v = $s.load($x.add(i + v * S::LANES));
                $s.store($y.add(i + v * S::LANES), $body);
                v += 1;
            }
            i += 4 * S::LANES;
        }
        while i + S::LANES <= $n {
            let $v = $s.load($x.add(i));
            $s.store($y.add(i), $body);
            i += S::LANES;
        }
        if i < $n {
            let $v = $s.load_part($x.add(i), $n - i);
            $s.store_part($y.add(i), $n - i, $body);
        }
    }};
}

/// The loop around a long body, which is there once.
macro_rules! heavy {
    ($s:ident, $x:ident, $y:ident, $n:ident, |$v:ident| $body:expr) => {{
        let mut i = 0;
        while i < $n {
            let left = $n - i;
            let $v = if left >= S::LANES { $s.load($x.add(i)) } else { $s.load_part($x.add(i), left) };
            let result = $body;
            if left >= S::LANES {
                $s.store($y.add(i), result);
            } else {
                $s.store_part($y.add(i), left, result);
            }
            i += S::LANES;
        }
    }};
}

/// `n` elements from `x` to `y`.
///
/// # Safety
/// `n` elements are readable at `x` and writable at `y`; the two are the same or do not overlap.
#[inline(always)]
unsafe fn loops<S: Simd>(s: S, op: Unary, x: *const f32, y: *mut f32, n: usize) {
    // SAFETY: every access is below n.
    unsafe {
        match op {
            Unary::Abs => light!(s, x, y, n, |a| s.abs(a)),
            Unary::Neg => light!(s, x, y, n, |a| s.neg(a)),
            Unary::Sign => light!(s, x, y, n, |a| v::sign(s, a)),
            Unary::Ceil => light!(s, x, y, n, |a| s.neg(s.floor(s.neg(a)))),
            Unary::Floor => light!(s, x, y, n, |a| s.floor(a)),
            Unary::Round => light!(s, x, y, n, |a| s.round(a)),
            Unary::Reciprocal => light!(s, x, y, n, |a| s.div(s.splat(1.0), a)),
            Unary::Square => light!(s, x, y, n, |a| s.mul(a, a)),
            Unary::Sqrt => light!(s, x, y, n, |a| s.sqrt(a)),
            Unary::Rsqrt => light!(s, x, y, n, |a| s.div(s.splat(1.0), s.sqrt(a))),
            Unary::Relu => light!(s, x, y, n, |a| v::relu(s, a)),
            Unary::Softsign => light!(s, x, y, n, |a| v::softsign(s, a)),
            Unary::HardSwish => light!(s, x, y, n, |a| v::hard_swish(s, a)),
            Unary::LeakyRelu { alpha } => light!(s, x, y, n, |a| v::leaky_relu(s, a, alpha)),
            Unary::HardSigmoid { alpha, beta } => light!(s, x, y, n, |a| v::hard_sigmoid(s, a, alpha, beta)),
            Unary::ThresholdedRelu { alpha } => light!(s, x, y, n, |a| v::thresholded_relu(s, a, alpha)),
            Unary::Clip { low, high } => light!(s, x, y, n, |a| v::clamp(s, a, low, high)),
            Unary::Affine { scale, shift } => light!(s, x, y, n, |a| s.fma(a, s.splat(scale), s.splat(shift))),
            Unary::Exp => heavy!(s, x, y, n, |a| v::exp(s, a)),
            Unary::Ln => heavy!(s, x, y, n, |a| v::ln(s, a)),
            Unary::Erf => heavy!(s, x, y, n, |a| v::erf(s, a)),
            Unary::Sin => heavy!(s, x, y, n, |a| v::sin(s, a)),
            Unary::Cos => heavy!(s, x, y, n, |a| v::cos(s, a)),
            Unary::Sigmoid => heavy!(s, x, y, n, |a| v::sigmoid(s, a)),
            Unary::Tanh => heavy!(s, x, y, n, |a| v::tanh(s, a)),
            Unary::Softplus => heavy!(s, x, y, n, |a| v::softplus(s, a)),
            Unary::Mish => heavy!(s, x, y, n, |a| v::mish(s, a)),
            Unary::Gelu => heavy!(s, x, y, n, |a| v::gelu(s, a)),
            Unary::GeluTanh => heavy!(s, x, y, n, |a| v::gelu_tanh(s, a)),
            Unary::Swish { alpha } => heavy!(s, x, y, n, |a| v::swish(s, a, alpha)),
            Unary::Elu { alpha } => heavy!(s, x, y, n, |a| v::elu(s, a, alpha)),
            Unary::Selu { alpha, gamma } => heavy!(s, x, y, n, |a| v::selu(s, a, alpha, gamma)),
            Unary::Celu { alpha } => heavy!(s, x, y, n, |a| v::celu(s, a, alpha)),
            Unary::Scalar(f) => (0..n).for_each(|i| *y.add(i) = f(*x.add(i))),
        }
    }
}
