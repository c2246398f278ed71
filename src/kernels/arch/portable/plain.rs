//! Plain Rust over arrays of four lanes, which compilers turn into the vectors that their target always has.

use super::super::simd::{Body, Simd};
use super::{narrow_f16, widen_f16};

/// The token of plain Rust, which every machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plain;

/// Four lanes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct Lanes<T>([T; 4]);

impl<T: Copy> Lanes<T> {
    #[inline(always)]
    fn map<R>(self, f: impl Fn(T) -> R) -> Lanes<R> {
        let [a, b, c, d] = self.0;
        Lanes([f(a), f(b), f(c), f(d)])
    }

    #[inline(always)]
    fn zip<U: Copy, R>(self, other: Lanes<U>, f: impl Fn(T, U) -> R) -> Lanes<R> {
        let [a, b, c, d] = self.0;
        let [e, g, h, i] = other.0;
        Lanes([f(a, e), f(b, g), f(c, h), f(d, i)])
    }
}

/// Methods in terms of one lane.
macro_rules! lane_ops {
    ($($name:ident($($a:ident: $t:ty),*) -> $r:ty = $body:expr;)*) => { $(
        #[inline(always)]
        fn $name(self, $($a: $t),*) -> $r {
            $body
        }
    )* };
}

/// Methods that take pointers.
macro_rules! memory_ops {
    ($($name:ident($($a:ident: $t:ty),*) $(-> $r:ty)? = $body:expr;)*) => { $(
        #[inline(always)]
        unsafe fn $name(self, $($a: $t),*) $(-> $r)? {
            // SAFETY: the caller promises that the memory is there.
            unsafe { $body }
        }
    )* };
}

type F = Lanes<f32>;
type I = Lanes<i32>;

impl Simd for Plain {
    type F32 = Lanes<f32>;
    type I32 = Lanes<i32>;
    type Mask = Lanes<bool>;
    type Dot = Lanes<i32>;
    type DotA = Lanes<u8>;
    type DotB = Lanes<[i8; 4]>;

    const LANES: usize = 4;
    // Of sixteen, as a multiply-add is two instructions with a product between them.
    const REGISTERS: usize = 12;
    const DOT_REGISTERS: usize = 1;

    fn call<B: Body>(self, body: B) -> B::Output {
        // Together, and not among those for other machines: code comes into memory in pieces of many pages.
        #[cfg_attr(target_os = "linux", unsafe(link_section = "onrush_portable"))]
        #[inline(never)]
        fn entry<B: Body>(token: Plain, body: B) -> B::Output {
            body.run(token)
        }
        entry(self, body)
    }

    lane_ops! {
        splat(x: f32) -> F = Lanes([x; 4]);
        add(a: F, b: F) -> F = a.zip(b, |a, b| a + b);
        sub(a: F, b: F) -> F = a.zip(b, |a, b| a - b);
        mul(a: F, b: F) -> F = a.zip(b, |a, b| a * b);
        div(a: F, b: F) -> F = a.zip(b, |a, b| a / b);
        fma(a: F, b: F, c: F) -> F = a.zip(b, |a, b| a * b).zip(c, |ab, c| ab + c);
        fnma(a: F, b: F, c: F) -> F = a.zip(b, |a, b| a * b).zip(c, |ab, c| c - ab);
        min(a: F, b: F) -> F = a.zip(b, |a, b| if a < b { a } else { b });
        max(a: F, b: F) -> F = a.zip(b, |a, b| if a > b { a } else { b });
        abs(a: F) -> F = a.map(f32::abs);
        sqrt(a: F) -> F = a.map(f32::sqrt);
        round(a: F) -> F = a.map(round);
        floor(a: F) -> F = a.map(f32::floor);
        lt(a: F, b: F) -> Lanes<bool> = a.zip(b, |a, b| a < b);
        le(a: F, b: F) -> Lanes<bool> = a.zip(b, |a, b| a <= b);
        eq(a: F, b: F) -> Lanes<bool> = a.zip(b, |a, b| a == b);
        select(mask: Lanes<bool>, a: F, b: F) -> F = mask.zip(a.zip(b, |a, b| (a, b)), |m, (a, b)| if m { a } else { b });
        sum(v: F) -> f32 = (v.0[0] + v.0[2]) + (v.0[1] + v.0[3]);
        max_lane(v: F) -> f32 = v.0[0].max(v.0[1]).max(v.0[2].max(v.0[3]));
        min_lane(v: F) -> f32 = v.0[0].min(v.0[1]).min(v.0[2].min(v.0[3]));
        splat_i32(x: i32) -> I = Lanes([x; 4]);
        add_i32(a: I, b: I) -> I = a.zip(b, i32::wrapping_add);
        sub_i32(a: I, b: I) -> I = a.zip(b, i32::wrapping_sub);
        mul_i32(a: I, b: I) -> I = a.zip(b, i32::wrapping_mul);
        min_i32(a: I, b: I) -> I = a.zip(b, i32::min);
        max_i32(a: I, b: I) -> I = a.zip(b, i32::max);
        and_i32(a: I, b: I) -> I = a.zip(b, |a, b| a & b);
        or_i32(a: I, b: I) -> I = a.zip(b, |a, b| a | b);
        xor_i32(a: I, b: I) -> I = a.zip(b, |a, b| a ^ b);
        shl_i32(a: I, n: i32) -> I = a.map(|a| a << n);
        sar_i32(a: I, n: i32) -> I = a.map(|a| a >> n);
        shr_i32(a: I, n: i32) -> I = a.map(|a| (a as u32 >> n) as i32);
        gt_i32(a: I, b: I) -> Lanes<bool> = a.zip(b, |a, b| a > b);
        eq_i32(a: I, b: I) -> Lanes<bool> = a.zip(b, |a, b| a == b);
        to_i32(a: F) -> I = a.map(|a| if (-2_147_483_648.0..2_147_483_648.0).contains(&a) { round(a) as i32 } else { i32::MIN });
        from_i32(a: I) -> F = a.map(|a| a as f32);
        to_bits(a: F) -> I = a.map(|a| a.to_bits() as i32);
        from_bits(a: I) -> F = a.map(|a| f32::from_bits(a as u32));
        dot_start(sums: I) -> I = sums;
        dot(acc: I, a: Lanes<u8>, b: Lanes<[i8; 4]>) -> I = acc.zip(b, |acc, b| {
            let product = |i: usize| i32::from(a.0[i]) * i32::from(b[i]);
            acc.wrapping_add(product(0) + product(1) + product(2) + product(3))
        });
        dot_sum(acc: I) -> I = acc;
    }

    #[inline(always)]
    fn dot_bf16(self, acc: F, a: I, b: I) -> F {
        let odd = |v: I| v.map(|v| f32::from_bits(v as u32 & 0xffff_0000));
        let even = |v: I| v.map(|v| f32::from_bits((v as u32) << 16));
        self.fma(even(a), even(b), self.fma(odd(a), odd(b), acc))
    }

    memory_ops! {
        load(p: *const f32) -> F = Lanes(p.cast::<[f32; 4]>().read_unaligned());
        load_part(p: *const f32, n: usize) -> F = {
            let mut lanes = [0.0; 4];
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                *lane = *p.add(i);
            }
            Lanes(lanes)
        };
        store(p: *mut f32, v: F) = p.cast::<[f32; 4]>().write_unaligned(v.0);
        store_part(p: *mut f32, n: usize, v: F) = {
            for (i, lane) in v.0.iter().enumerate().take(n) {
                *p.add(i) = *lane;
            }
        };
        load_i32(p: *const i32) -> I = Lanes(p.cast::<[i32; 4]>().read_unaligned());
        store_i32(p: *mut i32, v: I) = p.cast::<[i32; 4]>().write_unaligned(v.0);
        load_u8(p: *const u8) -> I = Lanes(*p.cast::<[u8; 4]>()).map(i32::from);
        load_i8(p: *const i8) -> I = Lanes(*p.cast::<[i8; 4]>()).map(i32::from);
        store_u8(p: *mut u8, v: I) = *p.cast::<[u8; 4]>() = v.map(|v| v.clamp(0, 255) as u8).0;
        store_i8(p: *mut i8, v: I) = *p.cast::<[i8; 4]>() = v.map(|v| v.clamp(-128, 127) as i8).0;
        load_f16(p: *const u16) -> F =
            Lanes(p.cast::<[u16; 4]>().read_unaligned()).map(widen_f16);
        store_f16(p: *mut u16, v: F) =
            p.cast::<[u16; 4]>().write_unaligned(v.map(narrow_f16).0);
        load_u16(p: *const u16) -> I = Lanes(p.cast::<[u16; 4]>().read_unaligned()).map(i32::from);
        store_u16(p: *mut u16, v: I) = p.cast::<[u16; 4]>().write_unaligned(v.map(|v| v as u16).0);
        dot_a(p: *const u8) -> Lanes<u8> = Lanes(*p.cast::<[u8; 4]>());
        dot_b(p: *const i8) -> Lanes<[i8; 4]> = Lanes(*p.cast::<[[i8; 4]; 4]>());
    }
}

/// To the nearest integer, ties to even, without the call that a target lacking the instruction would make.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves no room for a fraction
    if x.abs() < 4_194_304.0 { ((x + SHIFT) - SHIFT).copysign(x) } else { x }
}
