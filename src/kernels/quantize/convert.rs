//! QuantizeLinear and DequantizeLinear with one scale; a caller with a scale a channel calls them channel by channel.

use super::super::arch::{Body, Isa, Simd};
use super::byte::Byte;

/// Rounds `x` half to even and adds the zero point; what lies far out saturates, NaN as minus infinity.
#[inline(always)]
pub(in crate::kernels) fn to_steps<S: Simd>(s: S, x: S::F32, zero: i32) -> S::I32 {
    // The limit keeps the conversion in range, and is past every byte whatever the zero point.
    let limited = s.min(s.max(x, s.splat(-65_536.0)), s.splat(65_536.0));
    s.add_i32(s.to_i32(limited), s.splat_i32(zero))
}

macro_rules! convert {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident<$t:ident: $bound:path>($($p:ident: $pt:ty),*), $from:ty => $to:ty,
     |$s:ident, $x:ident, $y:ident, $n:ident| $body:expr) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// Where the lengths differ.
        $visibility fn $name<$t: $bound>(isa: Isa, x: &[$from], $($p: $pt,)* y: &mut [$to]) {
            struct Convert<'a, $t: $bound> {
                x: &'a [$from],
                y: &'a mut [$to],
                $($p: $pt,)*
                element: std::marker::PhantomData<$t>,
            }
            impl<$t: $bound> Body for Convert<'_, $t> {
                type Output = ();
                #[inline(always)]
                fn run<S: Simd>(self, $s: S) {
                    $(let $p = self.$p;)*
                    let len = self.y.len();
                    for i in (0..len).step_by(S::LANES) {
                        let $n = (len - i).min(S::LANES);
                        // SAFETY: both slices have n elements from i on.
                        unsafe {
                            let ($x, $y) = (self.x.as_ptr().add(i), self.y.as_mut_ptr().add(i));
                            $body;
                        }
                    }
                }
            }
            assert_eq!(x.len(), y.len(), "a conversion keeps the length");
            isa.dispatch(Convert::<$t> { x, y, $($p,)* element: std::marker::PhantomData });
        }
    };
}

convert! {
    /// By division.
    fn quantize_divided<T: Byte>(scale: f32, zero: i32), f32 => T,
    |s, x, y, n| T::store_part(s, y, n, to_steps(s, s.div(s.load_part(x, n), s.splat(scale)), zero))
}

convert! {
    /// By two multiply-adds, which take the reciprocal's quotient to the correctly rounded one where neither the scale
    /// nor the quotient is extreme (Markstein's theorem); a quotient that would be is out of range anyway.
    fn quantize_multiplied<T: Byte>(scale: f32, reciprocal: f32, zero: i32), f32 => T,
    |s, x, y, n| {
        let (x, scale, reciprocal) = (s.load_part(x, n), s.splat(scale), s.splat(reciprocal));
        let near = s.min(s.max(s.mul(x, reciprocal), s.splat(-65_536.0)), s.splat(65_536.0));
        let inside = s.lt(s.abs(near), s.splat(65_536.0));
        let exact = s.fma(s.fnma(near, scale, x), reciprocal, near);
        T::store_part(s, y, n, s.add_i32(s.to_i32(s.select(inside, exact, near)), s.splat_i32(zero)))
    }
}

/// `y = saturate(round(x / scale) + zero)`, ties to even.
///
/// # Panics
/// Where the lengths differ.
pub fn quantize<T: Byte>(isa: Isa, x: &[f32], scale: f32, zero: i32, y: &mut [T]) {
    if isa.is_fused() && (1e-20..1e20).contains(&scale) {
        quantize_multiplied(isa, x, scale, 1.0 / scale, zero, y);
    } else {
        quantize_divided(isa, x, scale, zero, y);
    }
}

convert! {
    /// `y = (x - zero) * scale`.
    pub fn dequantize<T: Byte>(scale: f32, zero: i32), T => f32,
    |s, x, y, n| {
        let steps = s.from_i32(s.sub_i32(T::load_part(s, x, n), s.splat_i32(zero)));
        s.store_part(y, n, s.mul(steps, s.splat(scale)))
    }
}

convert! {
    /// From one scale and zero point to others: `y = saturate(round((x - zero) * scale / to_scale) + to_zero)`.
    pub fn requantize<T: Byte>(scale: f32, zero: i32, to_scale: f32, to_zero: i32), T => T,
    |s, x, y, n| {
        let steps = s.from_i32(s.sub_i32(T::load_part(s, x, n), s.splat_i32(zero)));
        let real = s.mul(steps, s.splat(scale));
        T::store_part(s, y, n, to_steps(s, s.div(real, s.splat(to_scale)), to_zero))
    }
}

/// `y = x * scale` of 32-bit sums.
///
/// # Panics
/// Where the lengths differ.
pub fn dequantize_i32(isa: Isa, x: &[i32], scale: f32, y: &mut [f32]) {
    struct Convert<'a>(&'a [i32], f32, &'a mut [f32]);
    impl Body for Convert<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let len = self.2.len();
            for i in (0..len).step_by(S::LANES) {
                let n = (len - i).min(S::LANES);
                // SAFETY: both slices have n elements from i on.
                unsafe {
                    let v = s.from_i32(s.load_i32_part(self.0.as_ptr().add(i), n));
                    s.store_part(self.2.as_mut_ptr().add(i), n, s.mul(v, s.splat(self.1)));
                }
            }
        }
    }
    assert_eq!(x.len(), y.len(), "a conversion keeps the length");
    isa.dispatch(Convert(x, scale, y));
}
