//! The small vector vocabulary that generic kernel bodies are written in: 16, 8 or 4 lanes of 32 bits.

use super::byte_stem::ByteStem;
use super::byte_strip::ByteStrip;
use super::byte_tile::{ByteTile, ByteTileOperands};
use super::even_tile::{EvenTile, EvenWords};
use super::float_tile::FloatTile;
use std::ops::Range;

/// A kernel written once, to be compiled for each instruction set: see the [module](super) page.
pub trait Body {
    /// What the kernel returns.
    type Output;
    /// The kernel itself; mark the implementation `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Vectors of one instruction set. A value of the implementing type is the proof that the machine has it.
///
/// Pointers need no alignment. `*_part` forms touch only the first `n <= LANES` elements; loads fill the other lanes
/// with zero.
pub trait Simd: Copy + Send + Sync + 'static {
    /// `LANES` floats.
    type F32: Copy;
    /// `LANES` 32-bit integers.
    type I32: Copy;
    /// One truth value a lane.
    type Mask: Copy;
    /// Accumulators of the integer dot product of `LANES` columns; see [`Simd::dot`].
    type Dot: Copy;
    /// Four bytes of A for every lane, as the integer dot product wants them.
    type DotA: Copy;
    /// `LANES` groups of four signed bytes of B, as the integer dot product wants them.
    type DotB: Copy;

    /// 32-bit lanes of a vector.
    const LANES: usize;
    /// Vector registers; bodies size their accumulator blocks by it.
    const REGISTERS: usize;
    /// Registers that a [`Simd::Dot`] takes, and a [`Simd::DotB`].
    const DOT_REGISTERS: usize;

    /// Whether there is a [`Simd::byte_tile`].
    const BYTE_TILE: bool = false;

    /// Whether there is a [`Simd::byte_strip`].
    const BYTE_STRIP: bool = false;

    /// Whether there is a [`Simd::byte_stem`].
    const BYTE_STEM: bool = false;

    /// Rows of a [`Simd::float_tile`]; none where there is no such tile.
    const FLOAT_ROWS: usize = 0;

    /// Rows of a [`Simd::even_tile`]; none where there is no such tile.
    const EVEN_ROWS: Range<usize> = 0..0;

    /// Whether [`Simd::look_up`] is faster than a loop.
    const LOOKS_UP: bool = false;

    /// Runs `body` as a function of its own, compiled for this instruction set: where a body is large, or called from
    /// several places, or would take registers from what surrounds it.
    fn call<B: Body>(self, body: B) -> B::Output;

    /// Every lane `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// Loads `LANES` floats.
    ///
    /// # Safety
    /// `LANES` elements at `p` are readable.
    unsafe fn load(self, p: *const f32) -> Self::F32;
    /// Loads `n` floats, zero after them.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are readable.
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::F32;
    /// Stores `LANES` floats.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    unsafe fn store(self, p: *mut f32, v: Self::F32);
    /// Stores the first `n` floats.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are writable.
    unsafe fn store_part(self, p: *mut f32, n: usize, v: Self::F32);
    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once where the machine can (not by the portable set).
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `c - a * b`, rounded as [`Simd::fma`].
    fn fnma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `a < b ? a : b`, so `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a > b ? a : b`, so `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Without its sign.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// With its sign turned.
    #[inline(always)]
    fn neg(self, a: Self::F32) -> Self::F32 {
        self.from_bits(self.xor_i32(self.to_bits(a), self.splat_i32(i32::MIN)))
    }
    /// The square root, correctly rounded.
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// `a * 2^n` for integral `n` from -254 to 254, rounded once (so a denormal result is right).
    #[inline(always)]
    fn scale2(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        // In two factors, since 2^n itself may not be a normal number; the first product is exact.
        let n = self.to_i32(n);
        let half = self.sar_i32(n, 1);
        let power = |n| self.from_bits(self.shl_i32(self.add_i32(n, self.splat_i32(127)), 23));
        self.mul(self.mul(a, power(half)), power(self.sub_i32(n, half)))
    }
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;
    /// To the next integer down.
    fn floor(self, a: Self::F32) -> Self::F32;
    /// `a < b`; false where either is NaN.
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a <= b`; false where either is NaN.
    fn le(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a == b`; false where either is NaN.
    fn eq(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// True in the first `n <= LANES` lanes.
    #[inline(always)]
    fn first(self, n: usize) -> Self::Mask {
        const LANE: [i32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        // SAFETY: no instruction set has more than sixteen lanes.
        self.gt_i32(self.splat_i32(n as i32), unsafe { self.load_i32(LANE.as_ptr()) })
    }
    /// `mask ? a : b`.
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `mask ? a : b` of integers.
    #[inline(always)]
    fn select_i32(self, mask: Self::Mask, a: Self::I32, b: Self::I32) -> Self::I32 {
        self.to_bits(self.select(mask, self.from_bits(a), self.from_bits(b)))
    }
    /// The lanes of `v` summed, always in the same order (halves folded together).
    fn sum(self, v: Self::F32) -> f32;
    /// The largest lane; unspecified where one is NaN.
    fn max_lane(self, v: Self::F32) -> f32;
    /// The smallest lane; unspecified where one is NaN.
    fn min_lane(self, v: Self::F32) -> f32;

    /// Every lane `x`.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// Asks for the cache line at `p`, which need not be readable, in the second cache. Does nothing where it cannot.
    #[inline(always)]
    fn prefetch(self, _p: *const u8) {}
    /// Asks for the cache line at `p` in the first cache, soon to be written, as [`Simd::prefetch`] does.
    #[inline(always)]
    fn prefetch_to_write(self, _p: *mut u8) {}

    /// Loads `LANES` integers.
    ///
    /// # Safety
    /// `LANES` elements at `p` are readable.
    unsafe fn load_i32(self, p: *const i32) -> Self::I32;
    /// Loads `n` integers, zero after them.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are readable.
    #[inline(always)]
    unsafe fn load_i32_part(self, p: *const i32, n: usize) -> Self::I32 {
        // SAFETY: as the caller promises; the lanes are of the same size.
        self.to_bits(unsafe { self.load_part(p.cast(), n) })
    }
    /// Stores `LANES` integers.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    unsafe fn store_i32(self, p: *mut i32, v: Self::I32);
    /// Stores the first `n` integers.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are writable.
    #[inline(always)]
    unsafe fn store_i32_part(self, p: *mut i32, n: usize, v: Self::I32) {
        // SAFETY: as the caller promises; the lanes are of the same size.
        unsafe { self.store_part(p.cast(), n, self.from_bits(v)) }
    }
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`, wrapping.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a * b`, the low half.
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The smaller.
    fn min_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The larger.
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise and.
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise or.
    fn or_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise exclusive or.
    fn xor_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Shifted left by `n < 32` bits.
    fn shl_i32(self, a: Self::I32, n: i32) -> Self::I32;
    /// Shifted right by `n < 32` bits, the sign drawn in.
    fn sar_i32(self, a: Self::I32, n: i32) -> Self::I32;
    /// Shifted right by `n < 32` bits, zero drawn in.
    fn shr_i32(self, a: Self::I32, n: i32) -> Self::I32;
    /// `a > b`.
    fn gt_i32(self, a: Self::I32, b: Self::I32) -> Self::Mask;
    /// `a == b`.
    fn eq_i32(self, a: Self::I32, b: Self::I32) -> Self::Mask;

    /// The nearest integer, ties to even; `i32::MIN` for NaN and what does not fit.
    fn to_i32(self, a: Self::F32) -> Self::I32;
    /// The nearest float.
    fn from_i32(self, a: Self::I32) -> Self::F32;
    /// The same bits as integers.
    fn to_bits(self, a: Self::F32) -> Self::I32;
    /// The same bits as floats.
    fn from_bits(self, a: Self::I32) -> Self::F32;

    /// Loads `LANES` bytes, widened.
    ///
    /// # Safety
    /// `LANES` elements at `p` are readable.
    unsafe fn load_u8(self, p: *const u8) -> Self::I32;
    /// Loads `LANES` signed bytes, widened.
    ///
    /// # Safety
    /// `LANES` elements at `p` are readable.
    unsafe fn load_i8(self, p: *const i8) -> Self::I32;
    /// Stores `LANES` bytes, saturated to 0..=255.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    unsafe fn store_u8(self, p: *mut u8, v: Self::I32);
    /// Stores `LANES` bytes of integers that are in 0..=255.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    #[inline(always)]
    unsafe fn store_u8_inside(self, p: *mut u8, v: Self::I32) {
        // SAFETY: as the caller promises.
        unsafe { self.store_u8(p, v) }
    }
    /// Stores `LANES` signed bytes, saturated to -128..=127.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    unsafe fn store_i8(self, p: *mut i8, v: Self::I32);
    /// Loads `LANES` half-precision floats.
    ///
    /// # Safety
    /// `LANES` elements at `p` are readable.
    unsafe fn load_f16(self, p: *const u16) -> Self::F32;
    /// Stores `LANES` half-precision floats, ties to even.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    unsafe fn store_f16(self, p: *mut u16, v: Self::F32);

    /// Loads `LANES` 16-bit words, widened with zeros.
    ///
    /// # Safety
    /// `LANES` elements at `p` are readable.
    unsafe fn load_u16(self, p: *const u16) -> Self::I32;
    /// Stores the low 16 bits of every lane.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    unsafe fn store_u16(self, p: *mut u16, v: Self::I32);
    /// Loads `LANES` bfloat16.
    ///
    /// # Safety
    /// `LANES` elements at `p` are readable.
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::F32 {
        // SAFETY: as the caller promises.
        self.from_bits(self.shl_i32(unsafe { self.load_u16(p) }, 16))
    }
    /// Stores `LANES` bfloat16, ties to even; NaN stays NaN.
    ///
    /// # Safety
    /// `LANES` elements at `p` are writable.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::F32) {
        let bits = self.to_bits(v);
        let odd = self.and_i32(self.shr_i32(bits, 16), self.splat_i32(1));
        let rounded = self.add_i32(bits, self.add_i32(odd, self.splat_i32(0x7fff)));
        let quiet = self.or_i32(bits, self.splat_i32(0x0040_0000));
        let kept = self.select_i32(self.eq(v, v), rounded, quiet);
        // SAFETY: as the caller promises.
        unsafe { self.store_u16(p, self.shr_i32(kept, 16)) }
    }

    /// [`Simd::load_u8`] of `n` elements.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are readable.
    #[inline(always)]
    unsafe fn load_u8_part(self, p: *const u8, n: usize) -> Self::I32 {
        let mut lanes = [0u8; 16];
        // SAFETY: n <= LANES <= 16 elements are readable, as the caller promises.
        unsafe {
            copy_part(p, lanes.as_mut_ptr(), n);
            self.load_u8(lanes.as_ptr())
        }
    }
    /// [`Simd::load_i8`] of `n` elements.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are readable.
    #[inline(always)]
    unsafe fn load_i8_part(self, p: *const i8, n: usize) -> Self::I32 {
        let mut lanes = [0i8; 16];
        // SAFETY: n <= LANES <= 16 elements are readable, as the caller promises.
        unsafe {
            copy_part(p, lanes.as_mut_ptr(), n);
            self.load_i8(lanes.as_ptr())
        }
    }
    /// [`Simd::store_u8`] of `n` elements.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are writable.
    #[inline(always)]
    unsafe fn store_u8_part(self, p: *mut u8, n: usize, v: Self::I32) {
        let mut lanes = [0u8; 16];
        // SAFETY: n <= LANES <= 16 elements are writable, as the caller promises.
        unsafe {
            self.store_u8(lanes.as_mut_ptr(), v);
            copy_part(lanes.as_ptr(), p, n);
        }
    }
    /// [`Simd::store_i8`] of `n` elements.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are writable.
    #[inline(always)]
    unsafe fn store_i8_part(self, p: *mut i8, n: usize, v: Self::I32) {
        let mut lanes = [0i8; 16];
        // SAFETY: n <= LANES <= 16 elements are writable, as the caller promises.
        unsafe {
            self.store_i8(lanes.as_mut_ptr(), v);
            copy_part(lanes.as_ptr(), p, n);
        }
    }
    /// [`Simd::load_f16`] of `n` elements.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are readable.
    #[inline(always)]
    unsafe fn load_f16_part(self, p: *const u16, n: usize) -> Self::F32 {
        let mut lanes = [0u16; 16];
        // SAFETY: n <= LANES <= 16 elements are readable, as the caller promises.
        unsafe {
            copy_part(p, lanes.as_mut_ptr(), n);
            self.load_f16(lanes.as_ptr())
        }
    }
    /// [`Simd::store_f16`] of `n` elements.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are writable.
    #[inline(always)]
    unsafe fn store_f16_part(self, p: *mut u16, n: usize, v: Self::F32) {
        let mut lanes = [0u16; 16];
        // SAFETY: n <= LANES <= 16 elements are writable, as the caller promises.
        unsafe {
            self.store_f16(lanes.as_mut_ptr(), v);
            copy_part(lanes.as_ptr(), p, n);
        }
    }

    /// [`Simd::store_bf16`] of `n` elements.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are writable.
    #[inline(always)]
    unsafe fn store_bf16_part(self, p: *mut u16, n: usize, v: Self::F32) {
        let mut lanes = [0u16; 16];
        // SAFETY: n <= LANES <= 16 elements are writable, as the caller promises.
        unsafe {
            self.store_bf16(lanes.as_mut_ptr(), v);
            copy_part(lanes.as_ptr(), p, n);
        }
    }

    /// The sums to start from, one a lane.
    fn dot_start(self, sums: Self::I32) -> Self::Dot;
    /// Broadcasts four unsigned bytes of A to every lane.
    ///
    /// # Safety
    /// Four bytes at `p` are readable.
    unsafe fn dot_a(self, p: *const u8) -> Self::DotA;
    /// Loads `LANES` groups of four signed bytes of B.
    ///
    /// # Safety
    /// `4 * LANES` bytes at `p` are readable.
    unsafe fn dot_b(self, p: *const i8) -> Self::DotB;
    /// Adds to every lane the exact sum of its four byte products.
    fn dot(self, acc: Self::Dot, a: Self::DotA, b: Self::DotB) -> Self::Dot;
    /// The sums, one a lane.
    fn dot_sum(self, acc: Self::Dot) -> Self::I32;

    /// Adds to lane `i` the exact sum of the products `taps[t][i] * w[4 * i + t]` of unsigned and signed bytes, for the
    /// first `n <= LANES` lanes; the others are unspecified. `w` holds `4 * LANES` bytes.
    ///
    /// # Safety
    /// `n` bytes at each tap and `4 * LANES` at `w` are readable.
    #[inline(always)]
    unsafe fn dot_taps(self, acc: Self::I32, taps: [*const u8; 4], n: usize, w: *const i8) -> Self::I32 {
        // SAFETY: as the caller promises.
        unsafe {
            let words = self.load_i32(w.cast());
            let mut acc = acc;
            for (t, tap) in taps.into_iter().enumerate() {
                let weight = self.sar_i32(self.shl_i32(words, 24 - 8 * t as i32), 24);
                let x = if n == Self::LANES { self.load_u8(tap) } else { self.load_u8_part(tap, n) };
                acc = self.add_i32(acc, self.mul_i32(x, weight));
            }
            acc
        }
    }

    /// The place among `4 * LANES` neighbors that lane `lane` of vector `v` has in [`Simd::dot_quads`] and
    /// [`Simd::store_quads`].
    #[inline(always)]
    fn quad_channel(v: usize, lane: usize) -> usize {
        v * Self::LANES + lane
    }
    /// [`Simd::dot_taps`] of `4 * LANES` neighbors at once, whose lanes are in the order of [`Simd::quad_channel`]; so
    /// are the `16 * LANES` weights.
    ///
    /// # Safety
    /// `4 * LANES` bytes at each tap and `16 * LANES` at `w` are readable.
    #[inline(always)]
    unsafe fn dot_quads(self, acc: [Self::I32; 4], taps: [*const u8; 4], w: *const i8) -> [Self::I32; 4] {
        let [mut a, mut b, mut c, mut d] = acc;
        let n = Self::LANES;
        let [x, y, z, t] = taps;
        // SAFETY: as the caller promises.
        unsafe {
            a = self.dot_taps(a, [x, y, z, t], n, w);
            b = self.dot_taps(b, [x.add(n), y.add(n), z.add(n), t.add(n)], n, w.add(4 * n));
            c = self.dot_taps(c, [x.add(2 * n), y.add(2 * n), z.add(2 * n), t.add(2 * n)], n, w.add(8 * n));
            d = self.dot_taps(d, [x.add(3 * n), y.add(3 * n), z.add(3 * n), t.add(3 * n)], n, w.add(12 * n));
        }
        [a, b, c, d]
    }
    /// Stores `4 * LANES` integers, which are in the range of bytes, in the order of memory.
    ///
    /// # Safety
    /// `4 * LANES` bytes at `p` are writable.
    #[inline(always)]
    unsafe fn store_quads(self, p: *mut u8, v: [Self::I32; 4], signed: bool) {
        let n = Self::LANES;
        // SAFETY: as the caller promises.
        unsafe {
            if signed {
                self.store_i8(p.cast(), v[0]);
                self.store_i8(p.add(n).cast(), v[1]);
                self.store_i8(p.add(2 * n).cast(), v[2]);
                self.store_i8(p.add(3 * n).cast(), v[3]);
            } else {
                self.store_u8_inside(p, v[0]);
                self.store_u8_inside(p.add(n), v[1]);
                self.store_u8_inside(p.add(2 * n), v[2]);
                self.store_u8_inside(p.add(3 * n), v[3]);
            }
        }
    }

    /// Multiplies [`FLOAT_ROWS`](Simd::FLOAT_ROWS) rows of f32 by one vector of columns, or half of them by two where it is
    /// `wide`. Only where there are any.
    ///
    /// # Safety
    /// The pointers of the tile are good for what they are said to point to; `columns` are no more than those vectors hold.
    #[inline(always)]
    unsafe fn float_tile(self, _wide: bool, _tile: &FloatTile) {}

    /// Multiplies rows that lie evenly apart, as many as [`EVEN_ROWS`](Simd::EVEN_ROWS) says, by two vectors of columns.
    ///
    /// # Safety
    /// The pointers of the tile are good for what they are said to point to, and there is a tile of so many rows.
    #[inline(always)]
    unsafe fn even_tile(self, _words: EvenWords, _rows: usize, _tile: &EvenTile) {}

    /// Multiplies `MR <= 12` rows by panels of two vectors of columns, and narrows what the tile before each has left.
    /// Only where there is a [`Simd::BYTE_TILE`].
    ///
    /// # Safety
    /// The pointers of the tile and of the state are good for what they are said to point to.
    #[inline(always)]
    unsafe fn byte_tile<const MR: usize>(self, _state: &mut ByteTile, _tile: &ByteTileOperands) {}

    /// Narrows what the last tile has left.
    ///
    /// # Safety
    /// As of [`byte_tile`](Simd::byte_tile).
    #[inline(always)]
    unsafe fn finish_byte_tile(self, state: &mut ByteTile) {
        // SAFETY: as the caller promises.
        unsafe { state.finish(self) }
    }

    /// Convolves a strip of bytes. Only where there is a [`Simd::BYTE_STRIP`].
    ///
    /// # Safety
    /// The pointers of the strip are good for what they are said to point to.
    #[inline(always)]
    unsafe fn byte_strip(self, _strip: &ByteStrip) {}

    /// Convolves a row of a stem of bytes. Only where there is a [`Simd::BYTE_STEM`].
    ///
    /// # Safety
    /// The pointers of the row are good for what they are said to point to.
    #[inline(always)]
    unsafe fn byte_stem(self, _stem: &ByteStem) {}

    /// `y[i] = table[x[i]]` of 64 bytes, in a table of 256.
    ///
    /// # Safety
    /// 256 bytes at `table` and 64 at `x` are readable, 64 at `y` are writable.
    #[inline(always)]
    unsafe fn look_up(self, table: *const u8, x: *const u8, y: *mut u8) {
        for i in 0..64 {
            // SAFETY: as the caller promises.
            unsafe { *y.add(i) = *table.add(usize::from(*x.add(i))) };
        }
    }

    /// Adds to every lane the products of two bfloat16 pairs, the odd one first, rounding after each. `a` and `b`
    /// hold the pairs' bits.
    fn dot_bf16(self, acc: Self::F32, a: Self::I32, b: Self::I32) -> Self::F32;
}

/// Copies `n <= 16` elements; a loop, for a call of `memcpy` costs more.
///
/// # Safety
/// `n` elements at `from` are readable, as many at `to` writable.
#[inline(always)]
unsafe fn copy_part<T: Copy>(from: *const T, to: *mut T, n: usize) {
    for i in 0..n {
        // SAFETY: the caller promises n elements on both sides.
        unsafe { *to.add(i) = *from.add(i) };
    }
}
