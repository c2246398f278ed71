//! AVX2 with FMA and F16C: eight lanes, sixteen registers.

use super::simd::{Body, Simd};
use std::arch::x86_64::*;

/// The proof that this machine has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Avx2(());

impl Avx2 {
    /// The token, where the machine has the instruction set.
    #[must_use]
    pub fn detect() -> Option<Avx2> {
        let all =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        all.then_some(Avx2(()))
    }

    /// Runs `body` compiled for this instruction set.
    #[inline]
    pub(super) fn enter<B: Body>(self, body: B) -> B::Output {
        /// # Safety
        /// The machine has these features.
        #[target_feature(enable = "avx2,fma,f16c")]
        // Together, and not among those for other machines: code comes into memory in pieces of many pages.
        #[cfg_attr(target_os = "linux", unsafe(link_section = "onrush_avx2"))]
        #[inline(never)]
        fn entry<B: Body>(token: Avx2, body: B) -> B::Output {
            body.run(token)
        }
        // SAFETY: the token says that the machine has these features.
        unsafe { entry(self, body) }
    }
}

/// Methods whose body is intrinsics that the token allows.
macro_rules! ops {
    ($($name:ident($($a:ident: $t:ty),*) -> $r:ty = $body:expr;)*) => { $(
        #[inline(always)]
        fn $name(self, $($a: $t),*) -> $r {
            // SAFETY: the token says that the machine has the instructions.
            unsafe { $body }
        }
    )* };
}

/// The same of methods that take pointers.
macro_rules! memory_ops {
    ($($name:ident($($a:ident: $t:ty),*) $(-> $r:ty)? = $body:expr;)*) => { $(
        #[inline(always)]
        unsafe fn $name(self, $($a: $t),*) $(-> $r)? {
            // SAFETY: the token says that the machine has the instructions, the caller that the memory is there.
            unsafe { $body }
        }
    )* };
}

impl Simd for Avx2 {
    type F32 = __m256;
    type I32 = __m256i;
    type Mask = __m256;
    /// Columns 0..4 and 4..8, each as two neighboring partial sums.
    type Dot = [__m256i; 2];
    /// Four bytes widened to 16 bits, repeated.
    type DotA = __m256i;
    /// Columns 0..4 and 4..8 widened to 16 bits.
    type DotB = [__m256i; 2];

    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const DOT_REGISTERS: usize = 2;

    #[inline(always)]
    fn call<B: Body>(self, body: B) -> B::Output {
        self.enter(body)
    }

    ops! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fnma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        abs(a: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        round(a: __m256) -> __m256 = _mm256_round_ps::<8>(a);
        floor(a: __m256) -> __m256 = _mm256_round_ps::<9>(a);
        lt(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        le(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LE_OQ>(a, b);
        eq(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b);
        select(mask: __m256, a: __m256, b: __m256) -> __m256 = _mm256_blendv_ps(b, a, mask);
        splat_i32(x: i32) -> __m256i = _mm256_set1_epi32(x);
        add_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        sub_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        mul_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi32(a, b);
        min_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_min_epi32(a, b);
        max_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_max_epi32(a, b);
        and_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        or_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        xor_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
        shl_i32(a: __m256i, n: i32) -> __m256i = _mm256_sll_epi32(a, _mm_cvtsi32_si128(n));
        sar_i32(a: __m256i, n: i32) -> __m256i = _mm256_sra_epi32(a, _mm_cvtsi32_si128(n));
        shr_i32(a: __m256i, n: i32) -> __m256i = _mm256_srl_epi32(a, _mm_cvtsi32_si128(n));
        gt_i32(a: __m256i, b: __m256i) -> __m256 = _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b));
        eq_i32(a: __m256i, b: __m256i) -> __m256 = _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b));
        to_i32(a: __m256) -> __m256i = _mm256_cvtps_epi32(a);
        from_i32(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        to_bits(a: __m256) -> __m256i = _mm256_castps_si256(a);
        from_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
        sum(v: __m256) -> f32 = {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        };
        max_lane(v: __m256) -> f32 = {
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        };
        min_lane(v: __m256) -> f32 = {
            let four = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)))
        };
        dot_start(sums: __m256i) -> [__m256i; 2] = [
            _mm256_cvtepu32_epi64(_mm256_castsi256_si128(sums)),
            _mm256_cvtepu32_epi64(_mm256_extracti128_si256::<1>(sums)),
        ];
        dot(acc: [__m256i; 2], a: __m256i, b: [__m256i; 2]) -> [__m256i; 2] = [
            _mm256_add_epi32(acc[0], _mm256_madd_epi16(a, b[0])),
            _mm256_add_epi32(acc[1], _mm256_madd_epi16(a, b[1])),
        ];
        dot_sum(acc: [__m256i; 2]) -> __m256i =
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(acc[0], acc[1]));
    }

    #[inline(always)]
    fn dot_bf16(self, acc: __m256, a: __m256i, b: __m256i) -> __m256 {
        let high = self.splat_i32(0xffff_0000u32 as i32);
        let odd = |v| self.from_bits(self.and_i32(v, high));
        let even = |v| self.from_bits(self.shl_i32(v, 16));
        self.fma(even(a), even(b), self.fma(odd(a), odd(b), acc))
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch reads nothing and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) };
    }

    memory_ops! {
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        load_part(p: *const f32, n: usize) -> __m256 =
            if n >= Self::LANES { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, first(n)) };
        store(p: *mut f32, v: __m256) = _mm256_storeu_ps(p, v);
        store_part(p: *mut f32, n: usize, v: __m256) = {
            if n >= Self::LANES {
                return _mm256_storeu_ps(p, v);
            }
            // Masked stores are slow on several machines: through the stack.
            let mut lanes = [0f32; 8];
            _mm256_storeu_ps(lanes.as_mut_ptr(), v);
            for i in 0..n {
                *p.add(i) = *lanes.as_ptr().add(i);
            }
        };
        load_i32(p: *const i32) -> __m256i = _mm256_loadu_si256(p.cast());
        store_i32(p: *mut i32, v: __m256i) = _mm256_storeu_si256(p.cast(), v);
        load_u8(p: *const u8) -> __m256i = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
        load_i8(p: *const i8) -> __m256i = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()));
        store_u8(p: *mut u8, v: __m256i) = {
            let words = pack_i16(v);
            _mm_storel_epi64(p.cast(), _mm_packus_epi16(words, words))
        };
        store_i8(p: *mut i8, v: __m256i) = {
            let words = pack_i16(v);
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(words, words))
        };
        load_f16(p: *const u16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
        store_f16(p: *mut u16, v: __m256) = _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<0>(v));
        load_u16(p: *const u16) -> __m256i = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
        store_u16(p: *mut u16, v: __m256i) = {
            let low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
            let words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
            _mm_storeu_si128(p.cast(), words)
        };
        dot_a(p: *const u8) -> __m256i = _mm256_cvtepu8_epi16(_mm_set1_epi32(p.cast::<i32>().read_unaligned()));
        dot_b(p: *const i8) -> [__m256i; 2] = [
            _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(p.add(16).cast())),
        ];
    }
}

/// All bits set in the first `n <= 8` lanes.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

/// Saturates eight lanes to 16 bits.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn pack_i16(v: __m256i) -> __m128i {
    // SAFETY: as the caller promises.
    unsafe { _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)) }
}
