//! The one-dimensional transforms: what a convolution by three taps is at six points, or at four.
//!
//! Four outputs `y = d * g` of six inputs and three taps are the coefficients of a product of polynomials, which is known
//! by its values at six points: 0, ±A, ±B and infinity. With `A = 5/8` and `B = 3/2` all factors of the inputs are exact in
//! f32 and the rounding errors are a third of those of the customary 1 and 2: on normally distributed data, in units of the
//! output's standard deviation, 1e-6 in the mean square and 6e-6 at most (the direct sum: 3e-7 and 1e-6).
//! Two outputs of four inputs take the points 0, ±1 and infinity, and their errors are smaller.
//! Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.

use super::super::super::arch::Simd;

/// Outputs, and inputs and points, of one dimension at most. Transforms of fewer outputs leave the last of each alone.
pub(super) const OUTPUT: usize = 4;
pub(super) const INPUT: usize = 6;
/// Points of a tile at most.
pub(super) const POINTS: usize = INPUT * INPUT;

/// Points of a tile of so many outputs a side.
pub(super) const fn points(outputs: usize) -> usize {
    (outputs + 2) * (outputs + 2)
}

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// The inputs at the points.
#[inline(always)]
pub(super) fn input<S: Simd, const O: usize>(s: S, d: [S::F32; INPUT]) -> [S::F32; INPUT] {
    if const { O == 2 } {
        return [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3]), d[4], d[5]];
    }
    let even_a = s.fnma(s.splat(B2), d[2], d[4]);
    let odd_a = s.fnma(s.splat(B2), d[1], d[3]);
    let even_b = s.fnma(s.splat(A2), d[2], d[4]);
    let odd_b = s.fnma(s.splat(A2), d[1], d[3]);
    [
        ends(s, d[0], d[2], d[4]),
        s.fma(s.splat(A), odd_a, even_a),
        s.fnma(s.splat(A), odd_a, even_a),
        s.fma(s.splat(B), odd_b, even_b),
        s.fnma(s.splat(B), odd_b, even_b),
        ends(s, d[1], d[3], d[5]),
    ]
}

/// `x A^2 B^2 - y (A^2 + B^2) + z`.
#[inline(always)]
fn ends<S: Simd>(s: S, x: S::F32, y: S::F32, z: S::F32) -> S::F32 {
    s.fma(s.splat(A2 * B2), x, s.fnma(s.splat(A2 + B2), y, z))
}

/// The taps at the points, with the weights of the interpolation.
#[inline(always)]
pub(super) fn filter<S: Simd, const O: usize>(s: S, g: [S::F32; 3]) -> [S::F32; INPUT] {
    if const { O == 2 } {
        let [one, minus_one] = pair(s, g, 1.0, 2.0);
        return [g[0], one, minus_one, g[2], g[2], g[2]];
    }
    let [a, minus_a] = pair(s, g, A, 2.0 * A2 * (A2 - B2));
    let [b, minus_b] = pair(s, g, B, 2.0 * B2 * (B2 - A2));
    [s.mul(s.splat(1.0 / (A2 * B2)), g[0]), a, minus_a, b, minus_b, g[2]]
}

/// The taps at `x` and `-x`, over `weight`.
#[inline(always)]
fn pair<S: Simd>(s: S, g: [S::F32; 3], x: f32, weight: f32) -> [S::F32; 2] {
    let even = s.mul(s.splat(1.0 / weight), s.fma(s.splat(x * x), g[2], g[0]));
    let odd = s.mul(s.splat(x / weight), g[1]);
    [s.add(even, odd), s.sub(even, odd)]
}

/// The outputs from the products at the points.
#[inline(always)]
pub(super) fn output<S: Simd, const O: usize>(s: S, m: [S::F32; INPUT]) -> [S::F32; OUTPUT] {
    if const { O == 2 } {
        return [s.add(m[0], s.add(m[1], m[2])), s.sub(s.sub(m[1], m[2]), m[3]), m[4], m[5]];
    }
    let (even_a, odd_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (even_b, odd_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(s.add(m[0], even_a), even_b),
        s.fma(s.splat(A), odd_a, s.mul(s.splat(B), odd_b)),
        s.fma(s.splat(A2), even_a, s.mul(s.splat(B2), even_b)),
        s.fma(s.splat(A * A2), odd_a, s.fma(s.splat(B * B2), odd_b, m[5])),
    ]
}
