//! The range of a tensor, and the parameters that DynamicQuantizeLinear makes of it.

use super::super::arch::{Body, Isa, Simd};

/// The smallest and the largest element, NaN left out; `(inf, -inf)` of nothing.
#[must_use]
pub fn min_max(isa: Isa, x: &[f32]) -> (f32, f32) {
    isa.dispatch(MinMax(x))
}

struct MinMax<'a>(&'a [f32]);

impl Body for MinMax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let x = self.0;
        let (inf, low) = (s.splat(f32::INFINITY), s.splat(f32::NEG_INFINITY));
        let (mut smallest, mut largest) = ([inf; 2], [low; 2]);
        let mut i = 0;
        // SAFETY: every access is below the length.
        unsafe {
            while i + 2 * S::LANES <= x.len() {
                for k in 0..2 {
                    let v = s.load(x.as_ptr().add(i + k * S::LANES));
                    (smallest[k], largest[k]) = (s.min(v, smallest[k]), s.max(v, largest[k]));
                }
                i += 2 * S::LANES;
            }
            while i < x.len() {
                let n = (x.len() - i).min(S::LANES);
                let v = s.load_part(x.as_ptr().add(i), n);
                smallest[0] = s.min(s.select(s.first(n), v, inf), smallest[0]);
                largest[0] = s.max(s.select(s.first(n), v, low), largest[0]);
                i += n;
            }
        }
        (s.min_lane(s.min(smallest[0], smallest[1])), s.max_lane(s.max(largest[0], largest[1])))
    }
}

/// `(scale, zero point)` of u8 for a range, by ONNX's formula: the range is made to hold 0, the scale is its length over
/// 255 (1 where that is 0), the zero point `round(-min / scale)`, saturated.
#[must_use]
pub fn dynamic_parameters(min: f32, max: f32) -> (f32, u8) {
    let (min, max) = (min.min(0.0), max.max(0.0));
    let scale = (max - min) / 255.0;
    let scale = if scale == 0.0 { 1.0 } else { scale };
    (scale, (-min / scale).round_ties_even().clamp(0.0, 255.0) as u8)
}
