//! Every function on every instruction set, against f64.

use super::super::arch::{Body, Isa, Simd};
use super::*;

/// A lane function as a type, since a generic function is no value.
trait Lane {
    fn lane<S: Simd>(s: S, x: S::F32) -> S::F32;
}

macro_rules! lanes {
    ($($name:ident => |$s:ident, $x:ident| $body:expr;)*) => { $(
        struct $name;
        impl Lane for $name {
            #[inline(always)]
            fn lane<S: Simd>($s: S, $x: S::F32) -> S::F32 { $body }
        }
    )* };
}

lanes! {
    Exp => |s, x| exp(s, x);
    ExpNonpositive => |s, x| exp_nonpositive(s, x);
    Ln => |s, x| ln(s, x);
    Ln1p => |s, x| ln_1p(s, x);
    Tanh => |s, x| tanh(s, x);
    Sigmoid => |s, x| sigmoid(s, x);
    Silu => |s, x| silu(s, x);
    Softplus => |s, x| softplus(s, x);
    Mish => |s, x| mish(s, x);
    Erf => |s, x| erf(s, x);
    Gelu => |s, x| gelu(s, x);
    GeluTanh => |s, x| gelu_tanh(s, x);
    Sin => |s, x| sin(s, x);
    Cos => |s, x| cos(s, x);
    Elu => |s, x| elu(s, x, 1.5);
    Celu => |s, x| celu(s, x, 2.0);
    Selu => |s, x| selu(s, x, 1.5, 2.0);
    HardSigmoid => |s, x| hard_sigmoid(s, x, 0.2, 0.5);
    HardSwish => |s, x| hard_swish(s, x);
    Relu => |s, x| relu(s, x);
    Leaky => |s, x| leaky_relu(s, x, 0.1);
    Sign => |s, x| sign(s, x);
    Softsign => |s, x| softsign(s, x);
    Thresholded => |s, x| thresholded_relu(s, x, 1.0);
}

struct Over<'a, L>(&'a [f32], std::marker::PhantomData<L>);

impl<L: Lane> Body for Over<'_, L> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        let mut out = vec![0f32; self.0.len() + 16];
        for i in (0..self.0.len()).step_by(S::LANES) {
            let n = S::LANES.min(self.0.len() - i);
            // SAFETY: n elements are left of the input, and the output is longer by a vector.
            unsafe { s.store(out.as_mut_ptr().add(i), L::lane(s, s.load_part(self.0.as_ptr().add(i), n))) };
        }
        out.truncate(self.0.len());
        out
    }
}

/// Evenly spread over `[from, to]`, with both ends.
fn spread(from: f32, to: f32) -> Vec<f32> {
    let n = 8_011;
    (0..=n)
        .map(|i| (f64::from(from) + (f64::from(to) - f64::from(from)) * f64::from(i) / f64::from(n)) as f32)
        .collect()
}

/// The largest error of `L` over `xs`: what remains over `absolute`, in units of the last place.
fn check<L: Lane>(name: &str, xs: &[f32], absolute: f64, ulps: f64, reference: impl Fn(f64) -> f64) {
    for isa in Isa::available() {
        let ys = isa.dispatch(Over::<L>(xs, std::marker::PhantomData));
        for (&x, &y) in xs.iter().zip(&ys) {
            let expected = reference(f64::from(x));
            let rounded = expected as f32;
            if expected.is_nan() || rounded.is_infinite() {
                let close = rounded.to_bits() == y.to_bits() || y.is_nan() && expected.is_nan() || y == f32::MAX;
                assert!(close, "{name}({x}) = {y}, not {expected} on {}", isa.name());
                continue;
            }
            let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
            let error = (f64::from(y) - expected).abs();
            assert!(
                error <= absolute || error <= ulps * ulp,
                "{name}({x:e}) = {y:e}, not {expected:e}: {:.2} ulp, {error:e} on {}",
                error / ulp,
                isa.name()
            );
        }
    }
}

fn normal_cdf_times(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x / 2f64.sqrt())
}

#[test]
fn exponentials_are_accurate() {
    check::<Exp>("exp", &spread(-104.0, 89.0), 0.0, 2.0, f64::exp);
    check::<Exp>("exp", &spread(-1.0, 1.0), 0.0, 2.0, f64::exp);
    check::<ExpNonpositive>("exp_nonpositive", &spread(-120.0, 0.0), 1.3e-38, 2.0, f64::exp);
    check::<Sigmoid>("sigmoid", &spread(-100.0, 100.0), 1e-37, 4.0, |x| 1.0 / (1.0 + (-x).exp()));
    check::<Silu>("silu", &spread(-80.0, 80.0), 1e-35, 5.0, |x| x / (1.0 + (-x).exp()));
    check::<Tanh>("tanh", &spread(-12.0, 12.0), 4e-7, 5.0, f64::tanh);
    check::<Tanh>("tanh", &spread(-0.01, 0.01), 0.0, 5.0, f64::tanh);
    check::<Softplus>("softplus", &spread(-80.0, 120.0), 1e-38, 5.0, |x| x.exp().ln_1p());
    check::<Mish>("mish", &spread(-80.0, 80.0), 1e-33, 6.0, |x| x * x.exp().ln_1p().tanh());
    check::<Elu>("elu", &spread(-100.0, 5.0), 2e-7, 4.0, |x| if x < 0.0 { 1.5 * x.exp_m1() } else { x });
    check::<Celu>("celu", &spread(-100.0, 5.0), 3e-7, 4.0, |x| if x < 0.0 { 2.0 * (x / 2.0).exp_m1() } else { x });
    check::<Selu>("selu", &spread(-9.0, 5.0), 4e-7, 4.0, |x| 2.0 * if x < 0.0 { 1.5 * x.exp_m1() } else { x });
}

#[test]
fn logarithms_are_accurate() {
    let mut xs = spread(1e-4, 4.0);
    xs.extend((1..2000).map(|i| f32::from_bits(i * 1_060_000)));
    check::<Ln>("ln", &xs, 0.0, 2.0, f64::ln);
    check::<Ln1p>("ln_1p", &spread(-0.9, 10.0), 0.0, 4.0, f64::ln_1p);
    check::<Ln1p>("ln_1p", &spread(-1e-5, 1e-5), 0.0, 4.0, f64::ln_1p);
}

#[test]
fn error_functions_are_accurate() {
    check::<Erf>("erf", &spread(-6.0, 6.0), 5e-7, 0.0, libm::erf);
    check::<Gelu>("gelu", &spread(-12.0, 12.0), 1.5e-6, 8.0, normal_cdf_times);
    check::<GeluTanh>("gelu_tanh", &spread(-12.0, 12.0), 1.5e-6, 8.0, |x| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    });
}

#[test]
fn sines_are_accurate() {
    for range in [3.2, 1000.0, 1e7] {
        check::<Sin>("sin", &spread(-range, range), 3e-7, 2.0, f64::sin);
        check::<Cos>("cos", &spread(-range, range), 3e-7, 2.0, f64::cos);
    }
}

#[test]
fn lines_are_exact() {
    let xs = spread(-8.0, 8.0);
    check::<Relu>("relu", &xs, 0.0, 0.0, |x| x.max(0.0));
    check::<Sign>("sign", &xs, 0.0, 0.0, |x| if x == 0.0 { 0.0 } else { x.signum() });
    check::<Thresholded>("thresholded", &xs, 0.0, 0.0, |x| if x > 1.0 { x } else { 0.0 });
    check::<Leaky>("leaky", &xs, 0.0, 1.0, |x| if x < 0.0 { f64::from(0.1f32) * x } else { x });
    check::<Softsign>("softsign", &xs, 0.0, 2.0, |x| x / (1.0 + x.abs()));
    check::<HardSigmoid>("hard_sigmoid", &xs, 1e-7, 2.0, |x| (0.2 * x + 0.5).clamp(0.0, 1.0));
    check::<HardSwish>("hard_swish", &xs, 1e-6, 4.0, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
}

#[test]
fn extremes_come_out_as_they_should() {
    let (inf, low, nan) = (f32::INFINITY, f32::NEG_INFINITY, f32::NAN);
    let extremes = [inf, low, nan];
    check::<Exp>("exp", &extremes, 0.0, 0.0, f64::exp);
    check::<ExpNonpositive>("exp_nonpositive", &[low, nan, -1e30], 0.0, 0.0, f64::exp);
    check::<Ln>("ln", &[inf, low, nan, -1.0, 0.0, -0.0], 0.0, 0.0, f64::ln);
    check::<Sigmoid>("sigmoid", &extremes, 0.0, 0.0, |x| 1.0 / (1.0 + (-x).exp()));
    let saturated = [inf, low, nan, 1e20, -1e20, 100.0, -100.0, 9.1, -9.1];
    check::<Tanh>("tanh", &saturated, 0.0, 0.0, |x| f64::from(f64::tanh(x) as f32));
    check::<Erf>("erf", &saturated, 0.0, 0.0, |x| f64::from(libm::erf(x) as f32));
    check::<Sin>("sin", &extremes, 0.0, 0.0, f64::sin);
    check::<Relu>("relu", &extremes, 0.0, 0.0, |x| if x < 0.0 { 0.0 } else { x });
    check::<Softplus>("softplus", &extremes, 0.0, 0.0, |x| if x > 0.0 { x } else { x.exp().ln_1p() });
    let gate = |x: f64| if x == f64::NEG_INFINITY { 0.0 } else { x };
    check::<Silu>("silu", &extremes, 0.0, 0.0, gate);
    check::<Gelu>("gelu", &extremes, 0.0, 0.0, gate);
    check::<GeluTanh>("gelu_tanh", &extremes, 0.0, 0.0, gate);
    check::<HardSwish>("hard_swish", &extremes, 0.0, 0.0, gate);
    check::<Mish>("mish", &extremes, 0.0, 0.0, gate);
}
