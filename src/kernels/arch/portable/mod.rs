//! What every machine has: SSE2 where that is part of the architecture, plain Rust elsewhere. Both have four lanes and do the
//! same to each. Plain Rust would do on x86-64 as well, but compilers take twice as long to make vectors of its lanes, and do
//! not always succeed.

#[cfg(any(test, not(target_arch = "x86_64")))]
pub mod plain;
#[cfg(target_arch = "x86_64")]
pub mod sse2;

#[cfg(not(target_arch = "x86_64"))]
pub use plain::Plain as Portable;
#[cfg(target_arch = "x86_64")]
pub use sse2::Sse2 as Portable;

// Out of line: each holds a conversion in integers and one by an instruction that a processor may have.
#[inline(never)]
fn widen_f16(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

#[inline(never)]
fn narrow_f16(v: f32) -> u16 {
    half::f16::from_f32(v).to_bits()
}
