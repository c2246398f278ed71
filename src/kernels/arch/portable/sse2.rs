//! SSE2, which every x86-64 has: four lanes, sixteen registers.

use super::super::simd::{Body, Simd};
use super::{narrow_f16, widen_f16};
use std::arch::x86_64::*;

/// The token of an instruction set that is part of the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sse2;

/// Methods whose body is intrinsics.
macro_rules! ops {
    ($($name:ident($($a:ident: $t:ty),*) -> $r:ty = $body:expr;)*) => { $(
        #[inline(always)]
        fn $name(self, $($a: $t),*) -> $r {
            // SAFETY: every machine of this architecture has the instructions.
            unsafe { $body }
        }
    )* };
}

/// The same of methods that take pointers.
macro_rules! memory_ops {
    ($($name:ident($($a:ident: $t:ty),*) $(-> $r:ty)? = $body:expr;)*) => { $(
        #[inline(always)]
        unsafe fn $name(self, $($a: $t),*) $(-> $r)? {
            // SAFETY: the caller promises that the memory is there.
            unsafe { $body }
        }
    )* };
}

impl Simd for Sse2 {
    type F32 = __m128;
    type I32 = __m128i;
    type Mask = __m128;
    /// Columns 0..2 and 2..4, each as two neighboring partial sums.
    type Dot = [__m128i; 2];
    /// Four bytes widened to 16 bits, repeated.
    type DotA = __m128i;
    /// Columns 0..2 and 2..4 widened to 16 bits.
    type DotB = [__m128i; 2];

    const LANES: usize = 4;
    // Of sixteen, as a multiply-add is two instructions with a product between them.
    const REGISTERS: usize = 12;
    const DOT_REGISTERS: usize = 2;

    fn call<B: Body>(self, body: B) -> B::Output {
        // Together, and not among those for other machines: code comes into memory in pieces of many pages.
        #[cfg_attr(target_os = "linux", unsafe(link_section = "onrush_portable"))]
        #[inline(never)]
        fn entry<B: Body>(token: Sse2, body: B) -> B::Output {
            body.run(token)
        }
        entry(self, body)
    }

    ops! {
        splat(x: f32) -> __m128 = _mm_set1_ps(x);
        add(a: __m128, b: __m128) -> __m128 = _mm_add_ps(a, b);
        sub(a: __m128, b: __m128) -> __m128 = _mm_sub_ps(a, b);
        mul(a: __m128, b: __m128) -> __m128 = _mm_mul_ps(a, b);
        div(a: __m128, b: __m128) -> __m128 = _mm_div_ps(a, b);
        fma(a: __m128, b: __m128, c: __m128) -> __m128 = _mm_add_ps(_mm_mul_ps(a, b), c);
        fnma(a: __m128, b: __m128, c: __m128) -> __m128 = _mm_sub_ps(c, _mm_mul_ps(a, b));
        min(a: __m128, b: __m128) -> __m128 = _mm_min_ps(a, b);
        max(a: __m128, b: __m128) -> __m128 = _mm_max_ps(a, b);
        abs(a: __m128) -> __m128 = _mm_andnot_ps(_mm_set1_ps(-0.0), a);
        sqrt(a: __m128) -> __m128 = _mm_sqrt_ps(a);
        floor(a: __m128) -> __m128 = {
            let near = round(a);
            _mm_sub_ps(near, _mm_and_ps(_mm_cmpgt_ps(near, a), _mm_set1_ps(1.0)))
        };
        lt(a: __m128, b: __m128) -> __m128 = _mm_cmplt_ps(a, b);
        le(a: __m128, b: __m128) -> __m128 = _mm_cmple_ps(a, b);
        eq(a: __m128, b: __m128) -> __m128 = _mm_cmpeq_ps(a, b);
        sum(v: __m128) -> f32 = {
            let two = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        };
        max_lane(v: __m128) -> f32 = {
            let two = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        };
        min_lane(v: __m128) -> f32 = {
            let two = _mm_min_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps::<1>(two, two)))
        };
        splat_i32(x: i32) -> __m128i = _mm_set1_epi32(x);
        add_i32(a: __m128i, b: __m128i) -> __m128i = _mm_add_epi32(a, b);
        sub_i32(a: __m128i, b: __m128i) -> __m128i = _mm_sub_epi32(a, b);
        mul_i32(a: __m128i, b: __m128i) -> __m128i = {
            let even = _mm_mul_epu32(a, b);
            let odd = _mm_mul_epu32(_mm_srli_epi64::<32>(a), _mm_srli_epi64::<32>(b));
            let low = |v| _mm_shuffle_epi32::<0b10_00>(v);
            _mm_unpacklo_epi32(low(even), low(odd))
        };
        min_i32(a: __m128i, b: __m128i) -> __m128i = choose_i32(_mm_cmpgt_epi32(b, a), a, b);
        max_i32(a: __m128i, b: __m128i) -> __m128i = choose_i32(_mm_cmpgt_epi32(a, b), a, b);
        and_i32(a: __m128i, b: __m128i) -> __m128i = _mm_and_si128(a, b);
        or_i32(a: __m128i, b: __m128i) -> __m128i = _mm_or_si128(a, b);
        xor_i32(a: __m128i, b: __m128i) -> __m128i = _mm_xor_si128(a, b);
        shl_i32(a: __m128i, n: i32) -> __m128i = _mm_sll_epi32(a, _mm_cvtsi32_si128(n));
        sar_i32(a: __m128i, n: i32) -> __m128i = _mm_sra_epi32(a, _mm_cvtsi32_si128(n));
        shr_i32(a: __m128i, n: i32) -> __m128i = _mm_srl_epi32(a, _mm_cvtsi32_si128(n));
        gt_i32(a: __m128i, b: __m128i) -> __m128 = _mm_castsi128_ps(_mm_cmpgt_epi32(a, b));
        eq_i32(a: __m128i, b: __m128i) -> __m128 = _mm_castsi128_ps(_mm_cmpeq_epi32(a, b));
        to_i32(a: __m128) -> __m128i = _mm_cvtps_epi32(a);
        from_i32(a: __m128i) -> __m128 = _mm_cvtepi32_ps(a);
        to_bits(a: __m128) -> __m128i = _mm_castps_si128(a);
        from_bits(a: __m128i) -> __m128 = _mm_castsi128_ps(a);
        dot_start(sums: __m128i) -> [__m128i; 2] =
            [_mm_unpacklo_epi32(sums, _mm_setzero_si128()), _mm_unpackhi_epi32(sums, _mm_setzero_si128())];
        dot(acc: [__m128i; 2], a: __m128i, b: [__m128i; 2]) -> [__m128i; 2] = [
            _mm_add_epi32(acc[0], _mm_madd_epi16(a, b[0])),
            _mm_add_epi32(acc[1], _mm_madd_epi16(a, b[1])),
        ];
        dot_sum(acc: [__m128i; 2]) -> __m128i = {
            let (low, high) = (_mm_castsi128_ps(acc[0]), _mm_castsi128_ps(acc[1]));
            let even = _mm_castps_si128(_mm_shuffle_ps::<0b10_00_10_00>(low, high));
            let odd = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(low, high));
            _mm_add_epi32(even, odd)
        };
    }

    #[inline(always)]
    fn round(self, a: __m128) -> __m128 {
        round(a)
    }

    #[inline(always)]
    fn select(self, mask: __m128, a: __m128, b: __m128) -> __m128 {
        choose(mask, a, b)
    }

    #[inline(always)]
    fn dot_bf16(self, acc: __m128, a: __m128i, b: __m128i) -> __m128 {
        let high = self.splat_i32(0xffff_0000u32 as i32);
        let odd = |v| self.from_bits(self.and_i32(v, high));
        let even = |v| self.from_bits(self.shl_i32(v, 16));
        self.fma(even(a), even(b), self.fma(odd(a), odd(b), acc))
    }

    memory_ops! {
        load(p: *const f32) -> __m128 = _mm_loadu_ps(p);
        load_part(p: *const f32, n: usize) -> __m128 = {
            let mut lanes = [0f32; 4];
            for i in 0..n.min(4) {
                *lanes.as_mut_ptr().add(i) = *p.add(i);
            }
            _mm_loadu_ps(lanes.as_ptr())
        };
        store(p: *mut f32, v: __m128) = _mm_storeu_ps(p, v);
        store_part(p: *mut f32, n: usize, v: __m128) = {
            let mut lanes = [0f32; 4];
            _mm_storeu_ps(lanes.as_mut_ptr(), v);
            for i in 0..n.min(4) {
                *p.add(i) = *lanes.as_ptr().add(i);
            }
        };
        load_i32(p: *const i32) -> __m128i = _mm_loadu_si128(p.cast());
        store_i32(p: *mut i32, v: __m128i) = _mm_storeu_si128(p.cast(), v);
        load_u8(p: *const u8) -> __m128i = {
            let zero = _mm_setzero_si128();
            _mm_unpacklo_epi16(_mm_unpacklo_epi8(four_bytes(p), zero), zero)
        };
        load_i8(p: *const i8) -> __m128i = {
            let bytes = four_bytes(p.cast());
            let words = _mm_unpacklo_epi8(bytes, bytes);
            _mm_srai_epi32::<24>(_mm_unpacklo_epi16(words, words))
        };
        store_u8(p: *mut u8, v: __m128i) = {
            let words = _mm_packs_epi32(v, v);
            p.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)))
        };
        store_i8(p: *mut i8, v: __m128i) = {
            let words = _mm_packs_epi32(v, v);
            p.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packs_epi16(words, words)))
        };
        load_f16(p: *const u16) -> __m128 = {
            let [a, b, c, d] = p.cast::<[u16; 4]>().read_unaligned();
            _mm_setr_ps(widen_f16(a), widen_f16(b), widen_f16(c), widen_f16(d))
        };
        store_f16(p: *mut u16, v: __m128) = {
            let mut lanes = [0f32; 4];
            _mm_storeu_ps(lanes.as_mut_ptr(), v);
            let [a, b, c, d] = lanes;
            p.cast::<[u16; 4]>().write_unaligned([narrow_f16(a), narrow_f16(b), narrow_f16(c), narrow_f16(d)])
        };
        load_u16(p: *const u16) -> __m128i = _mm_unpacklo_epi16(_mm_loadl_epi64(p.cast()), _mm_setzero_si128());
        store_u16(p: *mut u16, v: __m128i) = {
            // With their sign spread, the lower halves pass the packing as they are.
            let low = _mm_srai_epi32::<16>(_mm_slli_epi32::<16>(v));
            _mm_storel_epi64(p.cast(), _mm_packs_epi32(low, low))
        };
        dot_a(p: *const u8) -> __m128i =
            _mm_unpacklo_epi8(_mm_set1_epi32(p.cast::<i32>().read_unaligned()), _mm_setzero_si128());
        dot_b(p: *const i8) -> [__m128i; 2] = {
            let bytes = _mm_loadu_si128(p.cast());
            [
                _mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes)),
                _mm_srai_epi16::<8>(_mm_unpackhi_epi8(bytes, bytes)),
            ]
        };
    }
}

/// `a` where the mask is set, else `b`.
#[inline(always)]
fn choose(mask: __m128, a: __m128, b: __m128) -> __m128 {
    // SAFETY: every machine of this architecture has the instructions.
    unsafe { _mm_or_ps(_mm_and_ps(mask, a), _mm_andnot_ps(mask, b)) }
}

/// The same of integers.
#[inline(always)]
fn choose_i32(mask: __m128i, a: __m128i, b: __m128i) -> __m128i {
    // SAFETY: every machine of this architecture has the instructions.
    unsafe { _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b)) }
}

/// To the nearest integer, ties to even: adding 1.5 * 2^23 leaves no room for a fraction, and what is larger has none.
#[inline(always)]
fn round(a: __m128) -> __m128 {
    // SAFETY: every machine of this architecture has the instructions.
    unsafe {
        let (sign, shift) = (_mm_set1_ps(-0.0), _mm_set1_ps(12_582_912.0));
        let whole = _mm_sub_ps(_mm_add_ps(a, shift), shift);
        let whole = _mm_or_ps(_mm_andnot_ps(sign, whole), _mm_and_ps(sign, a));
        let fits = _mm_cmplt_ps(_mm_andnot_ps(sign, a), _mm_set1_ps(4_194_304.0));
        choose(fits, whole, a)
    }
}

/// Four bytes in the lowest lane.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn four_bytes(p: *const u8) -> __m128i {
    // SAFETY: as the caller promises.
    unsafe { _mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()) }
}
