//! Input, output, forget and cell gates.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector::{clamp, sigmoid, tanh};

/// Sizes and options of an LSTM step.
#[derive(Debug, Clone, Copy)]
pub struct Lstm<'a> {
    /// Elements of the state.
    pub hidden: usize,
    /// Weights of the cell in the input, output and forget gates, `[3 * hidden]`.
    pub peepholes: Option<&'a [f32]>,
    /// Pre-activations are limited to `-clip..=clip`.
    pub clip: Option<f32>,
    /// The forget gate is one minus the input gate.
    pub input_forget: bool,
}

/// `gates` is `[batch, 4 * hidden]` in the order input, output, forget, cell; `cell`, `[batch, hidden]`, goes from the old
/// state to the new; the new output goes to `h`, `[batch, hidden]`.
///
/// # Panics
/// Where a slice has another length.
pub fn lstm_step(isa: Isa, lstm: &Lstm<'_>, gates: &[f32], cell: &mut [f32], h: &mut [f32]) {
    assert_eq!(h.len(), cell.len(), "output and cell are as long");
    assert_eq!(gates.len(), cell.len().saturating_mul(4), "four gates");
    assert!(lstm.peepholes.is_none_or(|p| p.len() == 3 * lstm.hidden), "three rows of peepholes");
    if h.is_empty() {
        return;
    }
    assert!(h.len().is_multiple_of(lstm.hidden), "the state is whole rows");
    isa.dispatch(Step { lstm, gates, cell, h });
}

struct Step<'a> {
    lstm: &'a Lstm<'a>,
    gates: &'a [f32],
    cell: &'a mut [f32],
    h: &'a mut [f32],
}

impl Body for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Step { lstm, gates, cell, h } = self;
        let hidden = lstm.hidden;
        let clip = lstm.clip.unwrap_or(f32::INFINITY);
        let zero = s.splat(0.0);
        let rows = gates.chunks_exact(4 * hidden).zip(cell.chunks_exact_mut(hidden)).zip(h.chunks_exact_mut(hidden));
        for ((gates, cell), h) in rows {
            for i in (0..hidden).step_by(S::LANES) {
                let n = (hidden - i).min(S::LANES);
                // SAFETY: n elements follow i in every gate, in the state and in the peepholes.
                unsafe {
                    let gate = gates.as_ptr().add(i);
                    let old = s.load_part(cell.as_ptr().add(i), n);
                    let (p_in, p_out, p_forget) = match lstm.peepholes {
                        Some(p) => {
                            let p = p.as_ptr().add(i);
                            (s.load_part(p, n), s.load_part(p.add(hidden), n), s.load_part(p.add(2 * hidden), n))
                        }
                        None => (zero, zero, zero),
                    };
                    let input = s.fma(p_in, old, s.load_part(gate, n));
                    let input = sigmoid(s, clamp(s, input, -clip, clip));
                    let forget = if lstm.input_forget {
                        s.sub(s.splat(1.0), input)
                    } else {
                        let forget = s.fma(p_forget, old, s.load_part(gate.add(2 * hidden), n));
                        sigmoid(s, clamp(s, forget, -clip, clip))
                    };
                    let candidate = tanh(s, clamp(s, s.load_part(gate.add(3 * hidden), n), -clip, clip));
                    let new = s.fma(forget, old, s.mul(input, candidate));
                    let output = s.fma(p_out, new, s.load_part(gate.add(hidden), n));
                    let output = sigmoid(s, clamp(s, output, -clip, clip));
                    s.store_part(cell.as_mut_ptr().add(i), n, new);
                    s.store_part(h.as_mut_ptr().add(i), n, s.mul(output, tanh(s, new)));
                }
            }
        }
    }
}
