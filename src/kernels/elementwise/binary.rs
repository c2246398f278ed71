//! Maps of two f32 operands.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector as v;
use super::broadcast::Operand;

/// What to do with each pair of elements.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a b`.
    Mul,
    /// `a / b`.
    Div,
    /// NaN where either is.
    Min,
    /// NaN where either is.
    Max,
    /// `a` where it is not negative, else `a b`.
    PRelu,
    /// `a^b`; whole and half powers that are the same for all go by products and roots.
    Pow,
    /// 1 where `a = b`, else 0.
    Equal,
    /// 1 where `a < b`, else 0.
    Less,
    /// 1 where `a <= b`, else 0.
    LessOrEqual,
    /// Any other function, element by element.
    Scalar(fn(f32, f32) -> f32),
}

/// `y[i] = op(a[start + i], b[start + i])`, with `a` and `b` spread over the whole output.
///
/// # Panics
/// Where an operand is too short for its broadcast.
pub fn binary(isa: Isa, op: Binary, a: Operand<'_, f32>, b: Operand<'_, f32>, start: usize, y: &mut [f32]) {
    isa.dispatch(Zip { op, a, b, start, y });
}

struct Zip<'a> {
    op: Binary,
    a: Operand<'a, f32>,
    b: Operand<'a, f32>,
    start: usize,
    y: &'a mut [f32],
}

impl Body for Zip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let target = self.y.as_mut_ptr();
        let (mut a, mut b) = (self.a.blocks(target), self.b.blocks(target));
        let mut at = 0;
        while at < self.y.len() {
            let index = self.start + at;
            let n = (self.y.len() - at).min(a.reach(index)).min(b.reach(index));
            let (lane_a, lane_b) = (a.lane(index, at, n), b.lane(index, at, n));
            // SAFETY: each lane gives n elements to read, and `at + n` stays within the target.
            unsafe { zip(s, self.op, lane_a, lane_b, target.add(at), n) };
            at += n;
        }
    }
}

/// Where an operand's elements of one block lie: one after the other, or (`step` 0) the same sixteen again and again.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Lane<T> {
    pub(in crate::kernels) from: *const T,
    pub(in crate::kernels) step: usize,
}

/// One loop, in steps of the operands, four vectors at a time while there are as many; the tail runs the same lanes.
macro_rules! zip_loop {
    ($s:ident, $a:ident, $b:ident, $y:ident, $n:ident, |$u:ident, $w:ident| $body:expr) => {{
        let (mut pa, mut pb) = ($a.from, $b.from);
        let (step_a, step_b) = ($a.step * S::LANES, $b.step * S::LANES);
        let mut i = 0;
        while i + 4 * S::LANES <= $n {
            let mut v = 0;
            while v < 4 {
                let ($u, $w) = ($s.load(pa.add(v * step_a)), $s.load(pb.add(v * step_b)));
                $s.store($y.add(i + v * S::LANES), $body);
                v += 1;
            }
            (pa, pb) = (pa.add(4 * step_a), pb.add(4 * step_b));
            i += 4 * S::LANES;
        }
        while i + S::LANES <= $n {
            let ($u, $w) = ($s.load(pa), $s.load(pb));
            $s.store($y.add(i), $body);
            (pa, pb) = (pa.add(step_a), pb.add(step_b));
            i += S::LANES;
        }
        if i < $n {
            let ($u, $w) = ($s.load_part(pa, $n - i), $s.load_part(pb, $n - i));
            $s.store_part($y.add(i), $n - i, $body);
        }
    }};
}

/// `n` elements of `op(a, b)` to `y`, by a function that all callers share.
///
/// # Safety
/// As of [`loops`].
#[inline(always)]
pub(super) unsafe fn zip<S: Simd>(s: S, op: Binary, a: Lane<f32>, b: Lane<f32>, y: *mut f32, n: usize) {
    s.call(Lanes { op, a, b, y, n });
}

struct Lanes {
    op: Binary,
    a: Lane<f32>,
    b: Lane<f32>,
    y: *mut f32,
    n: usize,
}

impl Body for Lanes {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: as whoever made it promised.
        unsafe { loops(s, self.op, self.a, self.b, self.y, self.n) }
    }
}

/// `n` elements of `op(a, b)` to `y`.
///
/// # Safety
/// `n` elements (sixteen where the step is 0) are readable at each operand, `n` writable at `y`; an operand's memory is
/// `y`'s or does not overlap it.
#[inline(always)]
unsafe fn loops<S: Simd>(s: S, op: Binary, a: Lane<f32>, b: Lane<f32>, y: *mut f32, n: usize) {
    // SAFETY: every access is below n, or below sixteen where the operand does not move.
    unsafe {
        match op {
            Binary::Add => zip_loop!(s, a, b, y, n, |u, w| s.add(u, w)),
            Binary::Sub => zip_loop!(s, a, b, y, n, |u, w| s.sub(u, w)),
            Binary::Mul => zip_loop!(s, a, b, y, n, |u, w| s.mul(u, w)),
            Binary::Div => zip_loop!(s, a, b, y, n, |u, w| s.div(u, w)),
            Binary::Min => zip_loop!(s, a, b, y, n, |u, w| v::min_nan(s, u, w)),
            Binary::Max => zip_loop!(s, a, b, y, n, |u, w| v::max_nan(s, u, w)),
            Binary::PRelu => zip_loop!(s, a, b, y, n, |u, w| s.select(s.lt(u, s.splat(0.0)), s.mul(u, w), u)),
            Binary::Pow if b.step == 0 && *b.from == 2.0 => zip_loop!(s, a, b, y, n, |u, _w| s.mul(u, u)),
            Binary::Pow if b.step == 0 && *b.from == 3.0 => zip_loop!(s, a, b, y, n, |u, _w| s.mul(s.mul(u, u), u)),
            Binary::Pow if b.step == 0 && *b.from == 0.5 => zip_loop!(s, a, b, y, n, |u, _w| root(s, u)),
            Binary::Pow => each(a, b, y, n, f32::powf),
            Binary::Equal => zip_loop!(s, a, b, y, n, |u, w| s.select(s.eq(u, w), s.splat(1.0), s.splat(0.0))),
            Binary::Less => zip_loop!(s, a, b, y, n, |u, w| s.select(s.lt(u, w), s.splat(1.0), s.splat(0.0))),
            Binary::LessOrEqual => zip_loop!(s, a, b, y, n, |u, w| s.select(s.le(u, w), s.splat(1.0), s.splat(0.0))),
            Binary::Scalar(f) => each(a, b, y, n, f),
        }
    }
}

/// `u^0.5`: as the root but for minus infinity (infinity) and minus zero (zero).
#[inline(always)]
fn root<S: Simd>(s: S, u: S::F32) -> S::F32 {
    let up = s.select(s.eq(u, s.splat(f32::NEG_INFINITY)), s.splat(f32::INFINITY), u);
    s.sqrt(s.add(up, s.splat(0.0)))
}

/// # Safety
/// As [`zip`].
unsafe fn each(a: Lane<f32>, b: Lane<f32>, y: *mut f32, n: usize, f: fn(f32, f32) -> f32) {
    for i in 0..n {
        // SAFETY: as the caller promises.
        unsafe { *y.add(i) = f(*a.from.add(i * a.step), *b.from.add(i * b.step)) };
    }
}
