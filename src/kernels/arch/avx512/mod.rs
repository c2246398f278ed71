//! AVX-512: F, BW, VL, DQ, VNNI, VBMI and BF16; sixteen lanes, thirty-two registers.

use super::byte_stem::ByteStem;
use super::byte_strip::ByteStrip;
use super::byte_tile::{ByteTile, ByteTileOperands};
use super::even_tile::{EvenTile, EvenWords};
use super::float_tile::FloatTile;
use super::simd::{Body, Simd};
use std::arch::x86_64::*;

mod byte_stem;
mod byte_strip;
mod byte_tile;
mod even_tile;
mod float_tile;

/// The proof that this machine has AVX-512 F/BW/VL/DQ, VNNI, VBMI, BF16 (and AVX2, FMA and F16C, which come with them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Avx512(());

impl Avx512 {
    /// The token, where the machine has the instruction set.
    #[must_use]
    pub fn detect() -> Option<Avx512> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        all.then_some(Avx512(()))
    }

    /// Runs `body` compiled for this instruction set.
    #[inline]
    pub(super) fn enter<B: Body>(self, body: B) -> B::Output {
        /// # Safety
        /// The machine has these features.
        #[target_feature(
            enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512bf16,avx2,fma,f16c,bmi1,bmi2"
        )]
        // Together, and not among those for other machines: code comes into memory in pieces of many pages.
        #[cfg_attr(target_os = "linux", unsafe(link_section = "onrush_avx512"))]
        #[inline(never)]
        fn entry<B: Body>(token: Avx512, body: B) -> B::Output {
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

impl Simd for Avx512 {
    type F32 = __m512;
    type I32 = __m512i;
    type Mask = __mmask16;
    type Dot = __m512i;
    type DotA = __m512i;
    type DotB = __m512i;

    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const LOOKS_UP: bool = true;
    const DOT_REGISTERS: usize = 1;
    const BYTE_TILE: bool = true;
    const BYTE_STRIP: bool = true;
    const BYTE_STEM: bool = true;
    const FLOAT_ROWS: usize = float_tile::ROWS;
    const EVEN_ROWS: std::ops::Range<usize> = even_tile::ROWS;

    #[inline(always)]
    fn call<B: Body>(self, body: B) -> B::Output {
        self.enter(body)
    }

    ops! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fnma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        scale2(a: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(a, n);
        round(a: __m512) -> __m512 = _mm512_roundscale_ps::<8>(a);
        floor(a: __m512) -> __m512 = _mm512_roundscale_ps::<9>(a);
        lt(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        le(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b);
        eq(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b);
        select(mask: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(mask, b, a);
        select_i32(mask: __mmask16, a: __m512i, b: __m512i) -> __m512i = _mm512_mask_blend_epi32(mask, b, a);
        sum(v: __m512) -> f32 = _mm512_reduce_add_ps(v);
        max_lane(v: __m512) -> f32 = _mm512_reduce_max_ps(v);
        min_lane(v: __m512) -> f32 = _mm512_reduce_min_ps(v);
        splat_i32(x: i32) -> __m512i = _mm512_set1_epi32(x);
        add_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        sub_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        mul_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_mullo_epi32(a, b);
        min_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_min_epi32(a, b);
        max_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_max_epi32(a, b);
        and_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        or_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        xor_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        shl_i32(a: __m512i, n: i32) -> __m512i = _mm512_sll_epi32(a, _mm_cvtsi32_si128(n));
        sar_i32(a: __m512i, n: i32) -> __m512i = _mm512_sra_epi32(a, _mm_cvtsi32_si128(n));
        shr_i32(a: __m512i, n: i32) -> __m512i = _mm512_srl_epi32(a, _mm_cvtsi32_si128(n));
        gt_i32(a: __m512i, b: __m512i) -> __mmask16 = _mm512_cmpgt_epi32_mask(a, b);
        eq_i32(a: __m512i, b: __m512i) -> __mmask16 = _mm512_cmpeq_epi32_mask(a, b);
        to_i32(a: __m512) -> __m512i = _mm512_cvtps_epi32(a);
        from_i32(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        to_bits(a: __m512) -> __m512i = _mm512_castps_si512(a);
        from_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
        dot(acc: __m512i, a: __m512i, b: __m512i) -> __m512i = _mm512_dpbusd_epi32(acc, a, b);
        dot_bf16(acc: __m512, a: __m512i, b: __m512i) -> __m512 =
            _mm512_dpbf16_ps(acc, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b));
    }

    #[inline(always)]
    fn dot_start(self, sums: __m512i) -> __m512i {
        sums
    }

    #[inline(always)]
    fn first(self, n: usize) -> __mmask16 {
        first(n)
    }

    #[inline(always)]
    fn dot_sum(self, acc: __m512i) -> __m512i {
        acc
    }

    // Interleaving within quarters of registers takes words of four to vectors in this order; packing takes it back.
    #[inline(always)]
    fn quad_channel(v: usize, lane: usize) -> usize {
        lane / 4 * 16 + v * 4 + lane % 4
    }

    #[inline(always)]
    unsafe fn float_tile(self, wide: bool, tile: &FloatTile) {
        // SAFETY: the token says that the machine has the instructions, the caller that the memory is there.
        unsafe { if wide { float_tile::wide(tile) } else { float_tile::narrow(tile) } }
    }

    #[inline(always)]
    unsafe fn even_tile(self, words: EvenWords, rows: usize, tile: &EvenTile) {
        // SAFETY: the token says that the machine has the instructions, the caller that the memory is there.
        unsafe { even_tile::run(words, rows, tile) }
    }

    #[inline(always)]
    unsafe fn byte_tile<const MR: usize>(self, state: &mut ByteTile, tile: &ByteTileOperands) {
        // SAFETY: the token says that the machine has the instructions, the caller that the memory is there.
        unsafe { byte_tile::run::<MR>(state, tile) }
    }

    #[inline(always)]
    unsafe fn byte_strip(self, strip: &ByteStrip) {
        // SAFETY: the token says that the machine has the instructions, the caller that the memory is there.
        unsafe { byte_strip::run(strip) }
    }

    #[inline(always)]
    unsafe fn byte_stem(self, stem: &ByteStem) {
        // SAFETY: the token says that the machine has the instructions, the caller that the memory is there.
        unsafe { byte_stem::run(stem) }
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch reads nothing and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) };
    }

    #[inline(always)]
    fn prefetch_to_write(self, p: *mut u8) {
        // SAFETY: a prefetch changes nothing and faults nowhere; a machine without this one passes over it.
        unsafe { std::arch::asm!("prefetchw byte ptr [{0}]", in(reg) p, options(nostack, preserves_flags, readonly)) };
    }

    memory_ops! {
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        // What is whole goes without a mask: memory is not fetched ahead of masked loads (three times slower on Zen 5).
        load_part(p: *const f32, n: usize) -> __m512 =
            if n >= Self::LANES { _mm512_loadu_ps(p) } else { _mm512_maskz_loadu_ps(first(n), p) };
        store(p: *mut f32, v: __m512) = _mm512_storeu_ps(p, v);
        store_part(p: *mut f32, n: usize, v: __m512) = _mm512_mask_storeu_ps(p, first(n), v);
        load_i32(p: *const i32) -> __m512i = _mm512_loadu_epi32(p);
        store_i32(p: *mut i32, v: __m512i) = _mm512_storeu_epi32(p, v);
        load_u8(p: *const u8) -> __m512i = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
        load_i8(p: *const i8) -> __m512i = _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()));
        load_u8_part(p: *const u8, n: usize) -> __m512i = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), p.cast()));
        load_i8_part(p: *const i8, n: usize) -> __m512i = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(n), p));
        store_u8(p: *mut u8, v: __m512i) = _mm_storeu_si128(p.cast(), to_u8(v));
        store_u8_inside(p: *mut u8, v: __m512i) = _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(v));
        store_i8(p: *mut i8, v: __m512i) = _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(v));
        store_u8_part(p: *mut u8, n: usize, v: __m512i) = _mm_mask_storeu_epi8(p.cast(), first(n), to_u8(v));
        store_i8_part(p: *mut i8, n: usize, v: __m512i) = _mm_mask_storeu_epi8(p, first(n), _mm512_cvtsepi32_epi8(v));
        load_f16(p: *const u16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        store_f16(p: *mut u16, v: __m512) = _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<8>(v));
        load_f16_part(p: *const u16, n: usize) -> __m512 = _mm512_cvtph_ps(if n >= Self::LANES {
            _mm256_loadu_si256(p.cast())
        } else {
            _mm256_maskz_loadu_epi16(first(n), p.cast())
        });
        store_f16_part(p: *mut u16, n: usize, v: __m512) =
            _mm256_mask_storeu_epi16(p.cast(), first(n), _mm512_cvtps_ph::<8>(v));
        load_u16(p: *const u16) -> __m512i = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
        store_u16(p: *mut u16, v: __m512i) = _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(v));
        dot_a(p: *const u8) -> __m512i = _mm512_set1_epi32(p.cast::<i32>().read_unaligned());
        dot_b(p: *const i8) -> __m512i = _mm512_loadu_epi8(p);
        dot_quads(acc: [__m512i; 4], taps: [*const u8; 4], w: *const i8) -> [__m512i; 4] = {
            let (x, y) = (_mm512_loadu_epi8(taps[0].cast()), _mm512_loadu_epi8(taps[1].cast()));
            let (z, t) = (_mm512_loadu_epi8(taps[2].cast()), _mm512_loadu_epi8(taps[3].cast()));
            let (low, high) = (_mm512_unpacklo_epi8(x, y), _mm512_unpackhi_epi8(x, y));
            let (more_low, more_high) = (_mm512_unpacklo_epi8(z, t), _mm512_unpackhi_epi8(z, t));
            [
                _mm512_dpbusd_epi32(acc[0], _mm512_unpacklo_epi16(low, more_low), _mm512_loadu_epi8(w)),
                _mm512_dpbusd_epi32(acc[1], _mm512_unpackhi_epi16(low, more_low), _mm512_loadu_epi8(w.add(64))),
                _mm512_dpbusd_epi32(acc[2], _mm512_unpacklo_epi16(high, more_high), _mm512_loadu_epi8(w.add(128))),
                _mm512_dpbusd_epi32(acc[3], _mm512_unpackhi_epi16(high, more_high), _mm512_loadu_epi8(w.add(192))),
            ]
        };
        store_quads(p: *mut u8, v: [__m512i; 4], signed: bool) = {
            let (low, high) = (_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
            let bytes = if signed { _mm512_packs_epi16(low, high) } else { _mm512_packus_epi16(low, high) };
            _mm512_storeu_si512(p.cast(), bytes)
        };
        look_up(table: *const u8, x: *const u8, y: *mut u8) = {
            let part = |i: usize| _mm512_loadu_epi8(table.add(64 * i).cast());
            let at = _mm512_loadu_epi8(x.cast());
            // Seven bits choose among two registers, the eighth between the halves.
            let low = _mm512_permutex2var_epi8(part(0), at, part(1));
            let high = _mm512_permutex2var_epi8(part(2), at, part(3));
            _mm512_storeu_epi8(y.cast(), _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high))
        };
        dot_taps(acc: __m512i, taps: [*const u8; 4], n: usize, w: *const i8) -> __m512i = {
            let load = |p: *const u8| {
                if n == 16 { _mm_loadu_si128(p.cast()) } else { _mm_maskz_loadu_epi8(first(n), p.cast()) }
            };
            let x = _mm512_castsi128_si512(load(taps[0]));
            let x = _mm512_inserti32x4::<1>(x, load(taps[1]));
            let x = _mm512_inserti32x4::<2>(x, load(taps[2]));
            let x = _mm512_inserti32x4::<3>(x, load(taps[3]));
            let by_lane = _mm512_permutexvar_epi8(_mm512_loadu_epi8(BY_LANE.as_ptr()), x);
            _mm512_dpbusd_epi32(acc, by_lane, _mm512_loadu_epi8(w))
        };
    }
}

/// Where four vectors of sixteen bytes lie when each lane has a byte of each.
static BY_LANE: [i8; 64] = {
    let mut order = [0; 64];
    let mut at = 0;
    while at < 64 {
        order[at] = (at % 4 * 16 + at / 4) as i8;
        at += 1;
    }
    order
};

/// The mask of the first `n <= 16` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// Saturates signed lanes to bytes.
///
/// # Safety
/// The machine has AVX-512 F.
#[inline(always)]
unsafe fn to_u8(v: __m512i) -> __m128i {
    // SAFETY: as the caller promises.
    unsafe { _mm512_cvtusepi32_epi8(_mm512_max_epi32(v, _mm512_setzero_si512())) }
}
