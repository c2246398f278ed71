//! Sums and products of bytes with scales of their own.

use super::super::arch::{Body, Isa, Simd};
use super::super::elementwise::Operand;
use super::byte::Byte;
use super::convert::to_steps;

/// What to do with each pair of real values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOp {
    /// `a + b`.
    Add,
    /// `a b`.
    Mul,
}

/// A byte operand with its scale and zero point.
#[derive(Debug, Clone, Copy)]
pub struct Quantized<'a, T> {
    /// The bytes, spread over the output.
    pub data: Operand<'a, T>,
    /// Real value of one step.
    pub scale: f32,
    /// The byte that stands for 0.
    pub zero: i32,
}

/// `y = saturate(round(op(a, b) / scale) + zero)` at `start + i`, with `a` and `b` taken as the real values of their
/// bytes. Limits such as those of a ReLU are those of `low..=high`.
///
/// # Panics
/// Where an operand is too short for its broadcast.
#[allow(clippy::too_many_arguments)]
pub fn byte_binary<T: Byte>(
    isa: Isa,
    op: ByteOp,
    a: Quantized<'_, T>,
    b: Quantized<'_, T>,
    scale: f32,
    zero: i32,
    limits: (i32, i32),
    start: usize,
    y: &mut [T],
) {
    isa.dispatch(Zip { op, a, b, scale, zero, limits, start, y });
}

struct Zip<'a, T> {
    op: ByteOp,
    a: Quantized<'a, T>,
    b: Quantized<'a, T>,
    scale: f32,
    zero: i32,
    limits: (i32, i32),
    start: usize,
    y: &'a mut [T],
}

impl<T: Byte> Body for Zip<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Zip { op, a, b, scale, zero, limits, start, y } = self;
        let target = y.as_mut_ptr();
        let (mut blocks_a, mut blocks_b) = (a.data.blocks(target), b.data.blocks(target));
        let (low, high) = (s.splat_i32(limits.0), s.splat_i32(limits.1));
        let mut at = 0;
        while at < y.len() {
            let index = start + at;
            let n = (y.len() - at).min(blocks_a.reach(index)).min(blocks_b.reach(index));
            let (lane_a, lane_b) = (blocks_a.lane(index, at, n), blocks_b.lane(index, at, n));
            for i in (0..n).step_by(S::LANES) {
                let m = (n - i).min(S::LANES);
                // SAFETY: each lane gives n elements to read (sixteen where it does not move); at + n is within `y`.
                unsafe {
                    let u = T::load_part(s, lane_a.from.add(i * lane_a.step), m);
                    let w = T::load_part(s, lane_b.from.add(i * lane_b.step), m);
                    let u = s.mul(s.from_i32(s.sub_i32(u, s.splat_i32(a.zero))), s.splat(a.scale));
                    let w = s.mul(s.from_i32(s.sub_i32(w, s.splat_i32(b.zero))), s.splat(b.scale));
                    let real = if op == ByteOp::Add { s.add(u, w) } else { s.mul(u, w) };
                    let steps = to_steps(s, s.div(real, s.splat(scale)), zero);
                    let steps = s.min_i32(s.max_i32(steps, low), high);
                    T::store_part(s, target.add(at + i), m, steps);
                }
            }
            at += n;
        }
    }
}
