//! The element types of tensors, and the bridge between them and Rust's types.

use bytemuck::{CheckedBitPattern, NoUninit};
use half::{bf16, f16};
use std::fmt;

/// An element type, with ONNX's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F16,
    BF16,
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

impl DType {
    /// Every dtype, in the order of their declaration.
    pub const ALL: [DType; 13] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::F64,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::Bool,
    ];

    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F64 | DType::I64 | DType::U64 => 8,
        }
    }

    /// True for `f32`, `f16`, `bf16` and `f64`.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
    }

    /// True for the eight integer types; false for `bool`.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool)
    }

    /// True for `i8`, `i16`, `i32` and `i64`.
    #[must_use]
    pub const fn is_signed_integer(self) -> bool {
        matches!(self, DType::I8 | DType::I16 | DType::I32 | DType::I64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I64 => "i64",
            DType::U64 => "u64",
            DType::Bool => "bool",
        })
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a tensor can hold. Sealed: the list is [`DType`]'s.
///
/// The conversions through `f64` and `i64` follow Rust's `as`: saturating from float to integer, wrapping between
/// integers, rounding to nearest even into a narrower float.
pub trait Element:
    sealed::Sealed + NoUninit + CheckedBitPattern + Send + Sync + PartialEq + fmt::Debug + 'static
{
    /// The dtype of this Rust type.
    const DTYPE: DType;
    /// Zero, or `false`.
    const ZERO: Self;
    /// The value as `f64`: exact for all but 64-bit integers past 2^53.
    fn to_f64(self) -> f64;
    /// The nearest value to `v`.
    fn from_f64(v: f64) -> Self;
    /// The value as `i64`: `u64` past `i64::MAX` wraps, floats saturate.
    fn to_i64(self) -> i64;
    /// The value of `v`, wrapped to the width of `Self`.
    fn from_i64(v: i64) -> Self;
}

macro_rules! elements {
    ($($t:ty, $dtype:ident, $zero:expr, |$v:ident| $to_f64:expr, $from_f64:expr, $to_i64:expr, $from_i64:expr;)*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = $zero;
            #[inline]
            fn to_f64(self) -> f64 { let $v = self; $to_f64 }
            #[inline]
            fn from_f64($v: f64) -> Self { $from_f64 }
            #[inline]
            fn to_i64(self) -> i64 { let $v = self; $to_i64 }
            #[inline]
            fn from_i64($v: i64) -> Self { $from_i64 }
        }
    )*};
}

elements! {
    f32, F32, 0.0, |v| f64::from(v), v as f32, v as i64, v as f32;
    f16, F16, f16::ZERO, |v| widen_f16(v), narrow_f16(round_to_odd(v)), widen_f16(v) as i64, narrow_f16(v as f32);
    bf16, BF16, bf16::ZERO, |v| f64::from(v.to_f32()), bf16::from_f32(round_to_odd(v)), v.to_f32() as i64, bf16::from_f32(round_to_odd(v as f64));
    f64, F64, 0.0, |v| v, v, v as i64, v as f64;
    i8, I8, 0, |v| f64::from(v), v as i8, i64::from(v), v as i8;
    u8, U8, 0, |v| f64::from(v), v as u8, i64::from(v), v as u8;
    i16, I16, 0, |v| f64::from(v), v as i16, i64::from(v), v as i16;
    u16, U16, 0, |v| f64::from(v), v as u16, i64::from(v), v as u16;
    i32, I32, 0, |v| f64::from(v), v as i32, i64::from(v), v as i32;
    u32, U32, 0, |v| f64::from(v), v as u32, i64::from(v), v as u32;
    i64, I64, 0, |v| v as f64, v as i64, v, v;
    u64, U64, 0, |v| v as f64, v as u64, v as i64, v as u64;
    bool, Bool, false, |v| f64::from(u8::from(v)), v != 0.0, i64::from(v), v != 0;
}

// Out of line: each holds a conversion in integers and one by an instruction that a processor may have.
#[inline(never)]
fn widen_f16(v: f16) -> f64 {
    f64::from(v.to_f32())
}

#[inline(never)]
fn narrow_f16(v: f32) -> f16 {
    f16::from_f32(v)
}

/// `v` as `f32`, rounded so that rounding once more to 16 bits gives what rounding `v` at once would: an inexact
/// result has an odd last bit and so is never taken for a tie. (`half` drops the low half of an `f64` instead.)
#[inline(never)]
fn round_to_odd(v: f64) -> f32 {
    let nearest = v as f32;
    let back = f64::from(nearest);
    if back == v || !nearest.is_finite() || nearest == 0.0 {
        return nearest;
    }
    let towards_zero = if back.abs() > v.abs() { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f32::from_bits(towards_zero | 1)
}

/// `with_dtype!(dtype, T => expr)`: evaluates `expr` with the type alias `T` bound to the Rust type of `dtype`.
macro_rules! with_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::DType::F16 => {
                type $t = half::f16;
                $body
            }
            $crate::tensor::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::tensor::DType::I8 => {
                type $t = i8;
                $body
            }
            $crate::tensor::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::tensor::DType::I16 => {
                type $t = i16;
                $body
            }
            $crate::tensor::DType::U16 => {
                type $t = u16;
                $body
            }
            $crate::tensor::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::tensor::DType::U32 => {
                type $t = u32;
                $body
            }
            $crate::tensor::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::tensor::DType::U64 => {
                type $t = u64;
                $body
            }
            $crate::tensor::DType::Bool => {
                type $t = bool;
                $body
            }
        }
    };
}

/// `with_bits!(size, T => expr)`: binds `T` to `u8`, `u16`, `u32` or `u64` by element size, for operators that move
/// elements without reading them; pair it with [`Tensor::bits`](crate::tensor::Tensor).
macro_rules! with_bits {
    ($size:expr, $t:ident => $body:expr) => {
        match $size {
            1 => {
                type $t = u8;
                $body
            }
            2 => {
                type $t = u16;
                $body
            }
            4 => {
                type $t = u32;
                $body
            }
            _ => {
                type $t = u64;
                $body
            }
        }
    };
}

pub(crate) use {with_bits, with_dtype};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_round_once() {
        let tie = 1.0 + f64::powi(2.0, -11);
        let above = tie + f64::powi(2.0, -40);
        assert_eq!(<f16 as Element>::from_f64(tie), f16::ONE);
        assert_eq!(<f16 as Element>::from_f64(above).to_bits(), f16::ONE.to_bits() + 1);
        assert_eq!(<f16 as Element>::from_f64(-above).to_bits(), f16::NEG_ONE.to_bits() + 1);
        let above = 1.0 + f64::powi(2.0, -8) + f64::powi(2.0, -23);
        assert_eq!(<bf16 as Element>::from_f64(above).to_bits(), bf16::ONE.to_bits() + 1);
        assert_eq!(<f16 as Element>::from_f64(1e300), f16::INFINITY);
        assert_eq!(<f16 as Element>::from_f64(1e-300), f16::ZERO);
        assert!(<bf16 as Element>::from_f64(f64::NAN).is_nan());
        assert_eq!(<bf16 as Element>::from_f64(3.4e38).to_bits(), bf16::from_f32(3.4e38).to_bits());
    }
}
