//! Rows of a stem of bytes in the sixteen lanes of AVX-512.

use super::super::byte_stem::ByteStem;
use super::byte_tile::BY_VECTOR;
use std::arch::x86_64::*;

/// Words of a pixel.
const WORDS: usize = 9;

/// # Safety
/// The machine has AVX-512 F, BW, VL and VNNI; `stem` points to what it says.
#[inline(always)]
pub(super) unsafe fn run(t: &ByteStem) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut weights = [_mm512_setzero_si512(); 2 * WORDS];
        let mut at = 0;
        while at < 2 * WORDS {
            weights[at] = _mm512_loadu_epi8(t.weights.add(64 * at));
            at += 1;
        }
        let begin = [_mm512_loadu_epi32(t.begin), _mm512_loadu_epi32(t.begin.add(16))];
        let scale = [_mm512_loadu_ps(t.scale), _mm512_loadu_ps(t.scale.add(16))];
        let zero_point = _mm512_set1_epi16(t.bounds.zero_point);
        let (least, most) = (_mm512_set1_epi8(t.bounds.least), _mm512_set1_epi8(t.bounds.most));
        let flip = _mm512_set1_epi8(t.bounds.flip as i8);
        let by_pixel = _mm512_loadu_epi32(BY_VECTOR.as_ptr());
        let stored = u32::MAX >> (32 - t.filters);
        let ([mut x, mut y, mut z], mut out) = (t.rows, t.out);
        for _ in 0..t.pairs {
            // Two vectors of filters of either pixel.
            let ([mut a, mut b], [mut c, mut d]) = (begin, begin);
            macro_rules! word {
                ($row:ident, $word:literal, $at:literal) => {{
                    let from = $row.wrapping_add(4 * $word);
                    let first = _mm512_set1_epi32(from.cast::<i32>().read_unaligned());
                    let second = _mm512_set1_epi32(from.wrapping_add(t.step).cast::<i32>().read_unaligned());
                    a = _mm512_dpbusd_epi32(a, first, weights[2 * $at]);
                    b = _mm512_dpbusd_epi32(b, first, weights[2 * $at + 1]);
                    c = _mm512_dpbusd_epi32(c, second, weights[2 * $at]);
                    d = _mm512_dpbusd_epi32(d, second, weights[2 * $at + 1]);
                }};
            }
            word!(x, 0, 0);
            word!(x, 1, 1);
            word!(x, 2, 2);
            word!(y, 0, 3);
            word!(y, 1, 4);
            word!(y, 2, 5);
            word!(z, 0, 6);
            word!(z, 1, 7);
            word!(z, 2, 8);
            macro_rules! narrowed {
                ($sums:ident, $v:literal) => {
                    _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps($sums), scale[$v]))
                };
            }
            let low = _mm512_adds_epi16(_mm512_packs_epi32(narrowed!(a, 0), narrowed!(b, 1)), zero_point);
            let high = _mm512_adds_epi16(_mm512_packs_epi32(narrowed!(c, 0), narrowed!(d, 1)), zero_point);
            let bytes = _mm512_min_epi8(most, _mm512_max_epi8(least, _mm512_packs_epi16(low, high)));
            let bytes = _mm512_permutexvar_epi32(by_pixel, _mm512_xor_si512(bytes, flip));
            let (first, second) = (_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes));
            let next = out.wrapping_add(t.out_step);
            if stored == u32::MAX {
                _mm256_storeu_epi8(out.cast(), first);
                _mm256_storeu_epi8(next.cast(), second);
            } else {
                _mm256_mask_storeu_epi8(out.cast(), stored, first);
                _mm256_mask_storeu_epi8(next.cast(), stored, second);
            }
            out = next.wrapping_add(t.out_step);
            x = x.wrapping_add(2 * t.step);
            y = y.wrapping_add(2 * t.step);
            z = z.wrapping_add(2 * t.step);
        }
    }
}
