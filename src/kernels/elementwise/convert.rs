//! Casts that stand in hot places: half precision and small integers to and from f32.

use super::super::arch::{Body, Isa, Simd};
use half::{bf16, f16};

macro_rules! conversions {
    ($($(#[$doc:meta])* $name:ident: $from:ty => $to:ty,
        |$s:ident, $x:ident, $y:ident| $whole:expr, |$n:ident| $part:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Panics
        /// Where the lengths differ.
        pub fn $name(isa: Isa, x: &[$from], y: &mut [$to]) {
            struct Convert<'a>(&'a [$from], &'a mut [$to]);
            impl Body for Convert<'_> {
                type Output = ();
                #[inline(always)]
                fn run<S: Simd>(self, $s: S) {
                    let len = self.1.len();
                    let mut i = 0;
                    // SAFETY: both slices have `len` elements; whole vectors and the part end there.
                    unsafe {
                        while i + S::LANES <= len {
                            let ($x, $y) = (self.0.as_ptr().add(i), self.1.as_mut_ptr().add(i));
                            $whole;
                            i += S::LANES;
                        }
                        if i < len {
                            let ($x, $y, $n) = (self.0.as_ptr().add(i), self.1.as_mut_ptr().add(i), len - i);
                            $part;
                        }
                    }
                }
            }
            assert_eq!(x.len(), y.len(), "a cast keeps the length");
            isa.dispatch(Convert(x, y));
        }
    )* };
}

conversions! {
    /// Half precision to f32, exactly.
    f16_to_f32: f16 => f32,
        |s, x, y| s.store(y, s.load_f16(x.cast())), |n| s.store_part(y, n, s.load_f16_part(x.cast(), n));
    /// f32 to the nearest half-precision number, ties to even.
    f16_from_f32: f32 => f16,
        |s, x, y| s.store_f16(y.cast(), s.load(x)), |n| s.store_f16_part(y.cast(), n, s.load_part(x, n));
    /// bfloat16 to f32, exactly.
    bf16_to_f32: bf16 => f32,
        |s, x, y| s.store(y, s.load_bf16(x.cast())), |n| {
            let mut words = [0u16; 16];
            std::ptr::copy_nonoverlapping(x.cast(), words.as_mut_ptr(), n);
            s.store_part(y, n, s.load_bf16(words.as_ptr()));
        };
    /// f32 to the nearest bfloat16, ties to even.
    bf16_from_f32: f32 => bf16,
        |s, x, y| s.store_bf16(y.cast(), s.load(x)), |n| {
            let mut words = [0u16; 16];
            s.store_bf16(words.as_mut_ptr(), s.load_part(x, n));
            std::ptr::copy_nonoverlapping(words.as_ptr(), y.cast(), n);
        };
    /// Bytes to f32.
    f32_from_u8: u8 => f32,
        |s, x, y| s.store(y, s.from_i32(s.load_u8(x))), |n| s.store_part(y, n, s.from_i32(s.load_u8_part(x, n)));
    /// Signed bytes to f32.
    f32_from_i8: i8 => f32,
        |s, x, y| s.store(y, s.from_i32(s.load_i8(x))), |n| s.store_part(y, n, s.from_i32(s.load_i8_part(x, n)));
    /// 32-bit integers to the nearest f32.
    f32_from_i32: i32 => f32,
        |s, x, y| s.store(y, s.from_i32(s.load_i32(x))), |n| s.store_part(y, n, s.from_i32(s.load_i32_part(x, n)));
}
