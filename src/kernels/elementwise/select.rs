//! Choice and limits.

use super::super::arch::{Body, Isa, Simd};
use super::broadcast::Operand;
use super::unary::{Unary, unary};

/// `y[i] = min(max(x[i], low), high)`; NaN stays NaN.
///
/// # Panics
/// Where the lengths differ.
pub fn clip(isa: Isa, x: &[f32], low: f32, high: f32, y: &mut [f32]) {
    unary(isa, Unary::Clip { low, high }, x, y);
}

/// `y[i] = condition ? a : b` at `start + i`, each spread over the whole output, for any element of plain bits. The
/// condition holds where its byte is not zero.
///
/// # Panics
/// Where an operand is too short for its broadcast, or the condition is [`Operand::Target`].
pub fn select<T: Copy>(
    isa: Isa,
    condition: Operand<'_, u8>,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    start: usize,
    y: &mut [T],
) {
    assert!(!matches!(condition, Operand::Target), "the target holds values, no condition");
    isa.dispatch(Select { condition, a, b, start, y });
}

struct Select<'a, T> {
    condition: Operand<'a, u8>,
    a: Operand<'a, T>,
    b: Operand<'a, T>,
    start: usize,
    y: &'a mut [T],
}

impl<T: Copy> Body for Select<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let target = self.y.as_mut_ptr();
        let mut condition = self.condition.blocks(std::ptr::null());
        let (mut a, mut b) = (self.a.blocks(target), self.b.blocks(target));
        let mut at = 0;
        while at < self.y.len() {
            let index = self.start + at;
            let n = (self.y.len() - at).min(condition.reach(index)).min(a.reach(index)).min(b.reach(index));
            let (c, u, w) = (condition.lane(index, at, n), a.lane(index, at, n), b.lane(index, at, n));
            // SAFETY: each lane gives n elements to read, and `at + n` stays within the target.
            unsafe {
                let to = target.add(at);
                match (c.step, u.step, w.step) {
                    // The common forms with their steps known, so that the compiler makes vectors of them.
                    (1, 1, 1) => {
                        for i in 0..n {
                            let (x, z) = (*u.from.add(i), *w.from.add(i));
                            *to.add(i) = if *c.from.add(i) != 0 { x } else { z };
                        }
                    }
                    (1, 0, 1) => {
                        let x = *u.from;
                        for i in 0..n {
                            let z = *w.from.add(i);
                            *to.add(i) = if *c.from.add(i) != 0 { x } else { z };
                        }
                    }
                    (1, 1, 0) => {
                        let z = *w.from;
                        for i in 0..n {
                            let x = *u.from.add(i);
                            *to.add(i) = if *c.from.add(i) != 0 { x } else { z };
                        }
                    }
                    _ => {
                        for i in 0..n {
                            let (x, z) = (*u.from.add(i * u.step), *w.from.add(i * w.step));
                            *to.add(i) = if *c.from.add(i * c.step) != 0 { x } else { z };
                        }
                    }
                }
            }
            at += n;
        }
    }
}
