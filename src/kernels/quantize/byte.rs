//! What u8 and i8 have in common.

use super::super::arch::Simd;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for i8 {}
}

/// A quantized element: `u8` or `i8`.
pub trait Byte: Copy + PartialOrd + sealed::Sealed + 'static {
    /// The smallest value.
    const LOWEST: Self;
    /// The value as an integer.
    fn widen(self) -> i32;
    /// The nearest value.
    fn saturate(v: i32) -> Self;
    /// Loads `n` elements, widened.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are readable.
    unsafe fn load_part<S: Simd>(s: S, p: *const Self, n: usize) -> S::I32;
    /// Stores `n` elements, saturated.
    ///
    /// # Safety
    /// `n <= LANES` elements at `p` are writable.
    unsafe fn store_part<S: Simd>(s: S, p: *mut Self, n: usize, v: S::I32);
}

macro_rules! byte {
    ($t:ty, $load:ident, $load_part:ident, $store:ident, $store_part:ident) => {
        impl Byte for $t {
            const LOWEST: Self = <$t>::MIN;

            #[inline(always)]
            fn widen(self) -> i32 {
                i32::from(self)
            }

            #[inline(always)]
            fn saturate(v: i32) -> Self {
                v.clamp(i32::from(<$t>::MIN), i32::from(<$t>::MAX)) as $t
            }

            #[inline(always)]
            unsafe fn load_part<S: Simd>(s: S, p: *const Self, n: usize) -> S::I32 {
                // SAFETY: as the caller promises.
                unsafe { if n == S::LANES { s.$load(p) } else { s.$load_part(p, n) } }
            }

            #[inline(always)]
            unsafe fn store_part<S: Simd>(s: S, p: *mut Self, n: usize, v: S::I32) {
                // SAFETY: as the caller promises.
                unsafe { if n == S::LANES { s.$store(p, v) } else { s.$store_part(p, n, v) } }
            }
        }
    };
}

byte!(u8, load_u8, load_u8_part, store_u8, store_u8_part);
byte!(i8, load_i8, load_i8_part, store_i8, store_i8_part);
