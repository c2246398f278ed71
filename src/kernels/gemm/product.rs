//! The element types that the one tile multiplies: all of them "broadcast a 32-bit word of A, load a vector of words of
//! B, multiply and accumulate".

use super::super::arch::{EvenWords, Simd};

/// A pair of element types that can be multiplied.
pub(super) trait Element {
    /// How, on each instruction set.
    type On<S: Simd>: Product<S>;
}

/// How words of A and B are multiplied on an instruction set.
pub(super) trait Product<S: Simd> {
    /// Vectors of a panel of B.
    const PANEL: usize;
    /// Sums are integers.
    const INTEGER: bool;
    /// What [`Simd::byte_tile`] computes.
    const DEFERS: bool = false;
    /// What [`Simd::even_tile`] multiplies of it.
    const EVEN: Option<EvenWords> = None;
    /// Elements of a word.
    const GROUP: usize;
    /// Rows of the tallest tile: each height is compiled for itself.
    const TALLEST: usize = 12;
    /// Registers that the sums of `LANES` columns take, and as many words of B.
    const REGISTERS: usize;
    /// The sums of `LANES` columns.
    type Acc: Copy;
    /// A word of A for every lane.
    type A: Copy;
    /// `LANES` words of B.
    type B: Copy;

    /// Sums that start from one word a lane (a bias, a zero-point correction).
    fn start(s: S, words: S::I32) -> Self::Acc;
    /// Broadcasts a word of A.
    ///
    /// # Safety
    /// Four bytes are readable.
    unsafe fn a(s: S, p: *const u8) -> Self::A;
    /// Loads `LANES` words of B.
    ///
    /// # Safety
    /// `4 * LANES` bytes are readable.
    unsafe fn b(s: S, p: *const u8) -> Self::B;
    /// Adds the products.
    fn mac(s: S, acc: Self::Acc, a: Self::A, b: Self::B) -> Self::Acc;
    /// The sums as words.
    fn words(s: S, acc: Self::Acc) -> S::I32;
    /// The sums as floats, where they are.
    fn floats(s: S, acc: Self::Acc) -> S::F32;
    /// Sums of floats.
    fn of_floats(s: S, floats: S::F32) -> Self::Acc;
}

/// What products share whose sums are vectors of floats.
macro_rules! sums_are_floats {
    () => {
        #[inline(always)]
        fn start(s: S, words: S::I32) -> S::F32 {
            s.from_bits(words)
        }

        #[inline(always)]
        fn words(s: S, acc: S::F32) -> S::I32 {
            s.to_bits(acc)
        }

        #[inline(always)]
        fn floats(_: S, acc: S::F32) -> S::F32 {
            acc
        }

        #[inline(always)]
        fn of_floats(_: S, floats: S::F32) -> S::F32 {
            floats
        }
    };
}

/// f32 times f32.
pub(super) struct Float;

impl Element for Float {
    type On<S: Simd> = Float;
}

impl<S: Simd> Product<S> for Float {
    const PANEL: usize = 2;
    const INTEGER: bool = false;
    const EVEN: Option<EvenWords> = Some(EvenWords::F32);
    const GROUP: usize = 1;
    const REGISTERS: usize = 1;
    type Acc = S::F32;
    type A = S::F32;
    type B = S::F32;

    #[inline(always)]
    unsafe fn a(s: S, p: *const u8) -> S::F32 {
        // SAFETY: as the caller promises.
        s.splat(unsafe { p.cast::<f32>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn b(s: S, p: *const u8) -> S::F32 {
        // SAFETY: as the caller promises.
        unsafe { s.load(p.cast()) }
    }

    #[inline(always)]
    fn mac(s: S, acc: S::F32, a: S::F32, b: S::F32) -> S::F32 {
        s.fma(a, b, acc)
    }

    sums_are_floats!();
}

/// Unsigned bytes times signed bytes, exactly.
pub(super) struct Bytes;

impl Element for Bytes {
    type On<S: Simd> = Bytes;
}

impl<S: Simd> Product<S> for Bytes {
    const PANEL: usize = 2 / S::DOT_REGISTERS;
    const INTEGER: bool = true;
    const DEFERS: bool = <Self as Product<S>>::PANEL == 2;
    const GROUP: usize = 4;
    const REGISTERS: usize = S::DOT_REGISTERS;
    type Acc = S::Dot;
    type A = S::DotA;
    type B = S::DotB;

    #[inline(always)]
    fn start(s: S, words: S::I32) -> S::Dot {
        s.dot_start(words)
    }

    #[inline(always)]
    unsafe fn a(s: S, p: *const u8) -> S::DotA {
        // SAFETY: as the caller promises.
        unsafe { s.dot_a(p) }
    }

    #[inline(always)]
    unsafe fn b(s: S, p: *const u8) -> S::DotB {
        // SAFETY: as the caller promises.
        unsafe { s.dot_b(p.cast()) }
    }

    #[inline(always)]
    fn mac(s: S, acc: S::Dot, a: S::DotA, b: S::DotB) -> S::Dot {
        s.dot(acc, a, b)
    }

    #[inline(always)]
    fn words(s: S, acc: S::Dot) -> S::I32 {
        s.dot_sum(acc)
    }

    #[inline(always)]
    fn floats(s: S, acc: S::Dot) -> S::F32 {
        s.from_bits(s.dot_sum(acc))
    }

    #[inline(always)]
    fn of_floats(s: S, floats: S::F32) -> S::Dot {
        s.dot_start(s.to_bits(floats))
    }
}

/// bfloat16 times bfloat16, summed in f32: the odd element of a pair first, rounding after each.
pub(super) struct Brain;

impl Element for Brain {
    type On<S: Simd> = Brain;
}

impl<S: Simd> Product<S> for Brain {
    const PANEL: usize = 2;
    // Six rows by four vectors keep as many sums as twelve by two. Without an instruction for it, the work is in taking the
    // words of B apart, and two rows by four vectors keep the units busy.
    const TALLEST: usize = if S::LANES == 16 { 6 } else { 2 };
    const INTEGER: bool = false;
    const EVEN: Option<EvenWords> = Some(EvenWords::Bf16);
    const GROUP: usize = 2;
    const REGISTERS: usize = 1;
    type Acc = S::F32;
    type A = S::I32;
    type B = S::I32;

    #[inline(always)]
    unsafe fn a(s: S, p: *const u8) -> S::I32 {
        // SAFETY: as the caller promises.
        s.splat_i32(unsafe { p.cast::<i32>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn b(s: S, p: *const u8) -> S::I32 {
        // SAFETY: as the caller promises.
        unsafe { s.load_i32(p.cast()) }
    }

    #[inline(always)]
    fn mac(s: S, acc: S::F32, a: S::I32, b: S::I32) -> S::F32 {
        s.dot_bf16(acc, a, b)
    }

    sums_are_floats!();
}
