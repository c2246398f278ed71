//! Update, reset and hidden gates.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector::{clamp, sigmoid, tanh};

/// The reset state of the form that is not `linear_before_reset`: `y = sigmoid(x_r + h_r) * h`, which the caller
/// multiplies by the hidden gate's recurrent weights. `x` and `r` are `[batch, 3 * hidden]` in the order update, reset,
/// hidden (`W x + b` and `R h + b`); `h` and `y` are `[batch, hidden]`.
///
/// # Panics
/// Where a slice has another length.
pub fn gru_reset(isa: Isa, hidden: usize, clip: Option<f32>, x: &[f32], r: &[f32], h: &[f32], y: &mut [f32]) {
    check(hidden, x, r, h.len(), y.len());
    if !y.is_empty() {
        isa.dispatch(Reset { hidden, clip: clip.unwrap_or(f32::INFINITY), x, r, h, y });
    }
}

/// The new state into `h`, `[batch, hidden]`, from the old one in it. `x` and `r` are as in [`gru_reset`]; the hidden
/// part of `r` is that of the reset state where `reset_before` is set (the caller has put it there), and is multiplied
/// by the reset gate here otherwise (`linear_before_reset`).
///
/// # Panics
/// Where a slice has another length.
pub fn gru_step(isa: Isa, hidden: usize, clip: Option<f32>, reset_before: bool, x: &[f32], r: &[f32], h: &mut [f32]) {
    check(hidden, x, r, h.len(), h.len());
    if !h.is_empty() {
        isa.dispatch(Step { hidden, clip: clip.unwrap_or(f32::INFINITY), reset_before, x, r, h });
    }
}

fn check(hidden: usize, x: &[f32], r: &[f32], h: usize, y: usize) {
    assert!(h == y && x.len() == h.saturating_mul(3) && r.len() == x.len(), "three gates for each state");
    assert!(h == 0 || h.is_multiple_of(hidden), "the state is whole rows");
}

struct Reset<'a> {
    hidden: usize,
    clip: f32,
    x: &'a [f32],
    r: &'a [f32],
    h: &'a [f32],
    y: &'a mut [f32],
}

impl Body for Reset<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Reset { hidden, clip, x, r, h, y } = self;
        let gates = x.chunks_exact(3 * hidden).zip(r.chunks_exact(3 * hidden));
        for ((x, r), (h, y)) in gates.zip(h.chunks_exact(hidden).zip(y.chunks_exact_mut(hidden))) {
            for i in (0..hidden).step_by(S::LANES) {
                let n = (hidden - i).min(S::LANES);
                // SAFETY: n elements follow i in every gate and in the states.
                unsafe {
                    let at = hidden + i;
                    let sum = s.add(s.load_part(x.as_ptr().add(at), n), s.load_part(r.as_ptr().add(at), n));
                    let gate = sigmoid(s, clamp(s, sum, -clip, clip));
                    s.store_part(y.as_mut_ptr().add(i), n, s.mul(gate, s.load_part(h.as_ptr().add(i), n)));
                }
            }
        }
    }
}

struct Step<'a> {
    hidden: usize,
    clip: f32,
    reset_before: bool,
    x: &'a [f32],
    r: &'a [f32],
    h: &'a mut [f32],
}

impl Body for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Step { hidden, clip, reset_before, x, r, h } = self;
        let gates = x.chunks_exact(3 * hidden).zip(r.chunks_exact(3 * hidden));
        for ((x, r), h) in gates.zip(h.chunks_exact_mut(hidden)) {
            for i in (0..hidden).step_by(S::LANES) {
                let n = (hidden - i).min(S::LANES);
                // SAFETY: n elements follow i in every gate and in the state.
                unsafe {
                    let (x, r) = (x.as_ptr().add(i), r.as_ptr().add(i));
                    let update = s.add(s.load_part(x, n), s.load_part(r, n));
                    let update = sigmoid(s, clamp(s, update, -clip, clip));
                    let (x_new, r_new) = (s.load_part(x.add(2 * hidden), n), s.load_part(r.add(2 * hidden), n));
                    let sum = if reset_before {
                        s.add(x_new, r_new)
                    } else {
                        let reset = s.add(s.load_part(x.add(hidden), n), s.load_part(r.add(hidden), n));
                        s.fma(sigmoid(s, clamp(s, reset, -clip, clip)), r_new, x_new)
                    };
                    let new = tanh(s, clamp(s, sum, -clip, clip));
                    let old = s.load_part(h.as_ptr().add(i), n);
                    // (1 - update) * new + update * old.
                    s.store_part(h.as_mut_ptr().add(i), n, s.fma(update, s.sub(old, new), new));
                }
            }
        }
    }
}
