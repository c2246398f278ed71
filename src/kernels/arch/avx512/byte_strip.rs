//! Strips of a depthwise convolution of bytes in the sixteen lanes of AVX-512.
//!
//! Weights are read from memory at each use: words of three input columns and what the sums start from take the registers.

use super::super::byte_strip::ByteStrip;
use std::arch::x86_64::*;

/// Bytes of the weights of one output row, and of those of one column.
const ROW: usize = 3 * COLUMN;
const COLUMN: usize = 256;

/// # Safety
/// The machine has AVX-512 F, BW and VNNI; `strip` points to what it says.
#[inline(always)]
pub(super) unsafe fn run(strip: &ByteStrip) {
    // SAFETY: as the caller promises.
    unsafe {
        match (strip.stride, strip.pair, strip.bounds.is_plain()) {
            (1, true, true) => columns::<1, true, true>(strip),
            (1, true, false) => columns::<1, true, false>(strip),
            (1, false, _) => columns::<1, false, false>(strip),
            (_, _, true) => columns::<2, false, true>(strip),
            _ => columns::<2, false, false>(strip),
        }
    }
}

/// Where the bounds are `PLAIN`, packing does what they say.
///
/// # Safety
/// As of [`run`].
#[inline(always)]
unsafe fn columns<const STRIDE: usize, const PAIR: bool, const PLAIN: bool>(t: &ByteStrip) {
    // SAFETY: as the caller promises.
    unsafe {
        let padding = _mm512_set1_epi8(t.padding as i8);
        let zero_point = _mm512_set1_epi16(t.bounds.zero_point);
        let (least, most) = (_mm512_set1_epi8(t.bounds.least), _mm512_set1_epi8(t.bounds.most));
        let flip = _mm512_set1_epi8(t.bounds.flip as i8);
        let begin = [
            _mm512_loadu_epi32(t.begin),
            _mm512_loadu_epi32(t.begin.add(16)),
            _mm512_loadu_epi32(t.begin.add(32)),
            _mm512_loadu_epi32(t.begin.add(48)),
        ];
        let scale = [
            _mm512_loadu_ps(t.scale),
            _mm512_loadu_ps(t.scale.add(16)),
            _mm512_loadu_ps(t.scale.add(32)),
            _mm512_loadu_ps(t.scale.add(48)),
        ];
        let [mut x, mut y, mut z, mut u] = t.rows;
        // Columns before the first wrap round to ones behind the last.
        let mut at = 0usize.wrapping_sub(t.lead);
        // The words of the next input column.
        macro_rules! column {
            () => {{
                let words = if at < t.width {
                    let (a, b) = (_mm512_loadu_epi8(x.cast()), _mm512_loadu_epi8(y.cast()));
                    let c = _mm512_loadu_epi8(z.cast());
                    // What one row does not see is multiplied by zero.
                    let d = if PAIR { _mm512_loadu_epi8(u.cast()) } else { c };
                    x = x.wrapping_add(t.steps[0]);
                    y = y.wrapping_add(t.steps[1]);
                    z = z.wrapping_add(t.steps[2]);
                    u = u.wrapping_add(t.steps[3]);
                    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
                    let (more_low, more_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
                    [
                        _mm512_unpacklo_epi16(low, more_low),
                        _mm512_unpackhi_epi16(low, more_low),
                        _mm512_unpacklo_epi16(high, more_high),
                        _mm512_unpackhi_epi16(high, more_high),
                    ]
                } else {
                    [padding; 4]
                };
                at = at.wrapping_add(1);
                words
            }};
        }
        // One vector of an output pixel's sums, out of the words of three columns.
        macro_rules! sums {
            ($v:literal, $p:ident, $q:ident, $r:ident, $weights:expr) => {{
                let w = $weights.add(64 * $v);
                let acc = _mm512_dpbusd_epi32(begin[$v], $p[$v], _mm512_loadu_epi8(w));
                let acc = _mm512_dpbusd_epi32(acc, $q[$v], _mm512_loadu_epi8(w.add(COLUMN)));
                _mm512_dpbusd_epi32(acc, $r[$v], _mm512_loadu_epi8(w.add(2 * COLUMN)))
            }};
        }
        macro_rules! narrowed {
            ($v:literal, $($rest:tt)*) => {
                _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sums!($v, $($rest)*)), scale[$v]))
            };
        }
        macro_rules! pixel {
            ($p:ident, $q:ident, $r:ident, $weights:expr, $out:expr) => {{
                let weights: *const i8 = $weights;
                let low = _mm512_packs_epi32(narrowed!(0, $p, $q, $r, weights), narrowed!(1, $p, $q, $r, weights));
                let high = _mm512_packs_epi32(narrowed!(2, $p, $q, $r, weights), narrowed!(3, $p, $q, $r, weights));
                let bytes = if PLAIN {
                    _mm512_packus_epi16(low, high)
                } else {
                    let (low, high) = (_mm512_adds_epi16(low, zero_point), _mm512_adds_epi16(high, zero_point));
                    let bytes = _mm512_min_epi8(most, _mm512_max_epi8(least, _mm512_packs_epi16(low, high)));
                    _mm512_xor_si512(bytes, flip)
                };
                let out: *mut u8 = $out;
                if t.parts == 1 {
                    _mm512_storeu_epi8(out.cast(), bytes);
                } else if t.parts == 2 {
                    _mm256_storeu_epi8(out.cast(), _mm512_castsi512_si256(bytes));
                    _mm256_storeu_epi8(out.add(t.part_at[1]).cast(), _mm512_extracti64x4_epi64::<1>(bytes));
                } else {
                    _mm_storeu_epi8(out.cast(), _mm512_castsi512_si128(bytes));
                    _mm_storeu_epi8(out.add(t.part_at[1]).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                    _mm_storeu_epi8(out.add(t.part_at[2]).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                    _mm_storeu_epi8(out.add(t.part_at[3]).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
                }
            }};
        }
        let mut out = t.out;
        let mut p = column!();
        let mut q = if STRIDE == 1 { column!() } else { p };
        for j in 0..t.columns {
            if STRIDE == 2 {
                q = column!();
            }
            let r = column!();
            if !PAIR && !t.sums.is_null() {
                let to = t.sums.add(64 * j);
                _mm512_storeu_epi32(to, sums!(0, p, q, r, t.weights));
                _mm512_storeu_epi32(to.add(16), sums!(1, p, q, r, t.weights));
                _mm512_storeu_epi32(to.add(32), sums!(2, p, q, r, t.weights));
                _mm512_storeu_epi32(to.add(48), sums!(3, p, q, r, t.weights));
            } else {
                pixel!(p, q, r, t.weights, out);
                if PAIR {
                    pixel!(p, q, r, t.weights.add(ROW), out.add(t.out_row));
                }
            }
            (p, q) = if STRIDE == 1 { (q, r) } else { (r, q) };
            out = out.wrapping_add(t.out_step);
        }
    }
}
