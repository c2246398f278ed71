//! Which instruction set the kernels run on, and how a body that is written once comes to run on each of them.
//!
//! # The idiom
//! `#[inline(always)]` does not mix with `#[target_feature]`, so a kernel is a *body*, generic over [`Simd`] and marked
//! `#[inline(always)]` all the way down, and [`Isa::dispatch`] inlines it into one `#[target_feature]` entry point per
//! instruction set:
//!
//! ```
//! use onrush::kernels::arch::{Body, Isa, Simd};
//!
//! /// `x[i] *= factor`.
//! struct Scale<'a> { x: &'a mut [f32], factor: f32 }
//!
//! impl Body for Scale<'_> {
//!     type Output = ();
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) {
//!         let factor = s.splat(self.factor);
//!         let mut blocks = self.x.chunks_exact_mut(S::LANES);
//!         for block in &mut blocks {
//!             // SAFETY: the block holds LANES elements.
//!             unsafe { s.store(block.as_mut_ptr(), s.mul(s.load(block.as_ptr()), factor)) };
//!         }
//!         for x in blocks.into_remainder() {
//!             *x *= self.factor;
//!         }
//!     }
//! }
//!
//! let mut x = vec![1.0; 37];
//! for isa in Isa::available() {
//!     isa.dispatch(Scale { x: &mut x, factor: 2.0 });
//! }
//! assert_eq!(x[36], 2f32.powi(Isa::available().len() as i32));
//! ```
//!
//! What is called inside a body must be `#[inline(always)]` too, closures included: a function that is not inlined is
//! compiled without the instruction set, and every intrinsic in it becomes a call. Of the library, `Iterator::zip`,
//! `array::map` and `array::from_fn` are such functions wherever link-time optimization is off: an inner loop indexes
//! instead. Dispatch once per kernel call, not once per row.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
mod byte_stem;
mod byte_strip;
mod byte_tile;
mod even_tile;
mod float_tile;
pub mod portable;
mod simd;
#[cfg(test)]
mod tests;

pub use byte_stem::ByteStem;
pub use byte_strip::{ByteBounds, ByteStrip};
pub use byte_tile::{ByteTile, ByteTileOperands, Narrow, Segment};
pub use even_tile::{EvenTile, EvenWords};
pub use float_tile::FloatTile;
pub use simd::{Body, Simd};

use crate::error::{Result, bail};
use std::sync::LazyLock;

/// An instruction set that this machine is known to have: each variant holds the token that detection gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// AVX-512 F/BW/VL/DQ with VNNI, VBMI and BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// What every machine has.
    Portable(portable::Portable),
}

/// Name of the environment variable that forces an instruction set downward.
pub const ISA_VARIABLE: &str = "ONRUSH_ISA";

static CHOSEN: LazyLock<std::result::Result<Isa, String>> = LazyLock::new(|| {
    let available = Isa::available();
    let Some(wanted) = std::env::var_os(ISA_VARIABLE) else { return Ok(available[0]) };
    available.iter().copied().find(|isa| wanted == *isa.name()).ok_or_else(|| {
        let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
        format!("{ISA_VARIABLE}={} is not available here; choose one of {}", wanted.display(), names.join(", "))
    })
});

impl Isa {
    /// The instruction set of this process: the best that the machine has, unless the environment variable
    /// `ONRUSH_ISA` (`avx512`, `avx2`, `portable`) names a lower one. Detected once.
    ///
    /// # Errors
    /// `Unsupported` where the variable names one that this machine lacks, or that does not exist.
    pub fn chosen() -> Result<Isa> {
        match &*CHOSEN {
            Ok(isa) => Ok(*isa),
            Err(message) => bail!(Unsupported, "{message}"),
        }
    }

    /// Every instruction set that this machine has, best first; the last is always the portable one.
    #[must_use]
    pub fn available() -> Vec<Isa> {
        [
            #[cfg(target_arch = "x86_64")]
            avx512::Avx512::detect().map(Isa::Avx512),
            #[cfg(target_arch = "x86_64")]
            avx2::Avx2::detect().map(Isa::Avx2),
            Some(Isa::Portable(portable::Portable)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Its name as `ONRUSH_ISA` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            Isa::Portable(_) => "portable",
        }
    }

    /// What a processor needs for it, as its makers name them.
    #[must_use]
    pub fn features(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512f avx512bw avx512vl avx512dq avx512vnni avx512vbmi avx512bf16 avx2 fma f16c",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2 fma f16c",
            Isa::Portable(_) => "",
        }
    }

    /// 32-bit lanes of one vector.
    #[must_use]
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => avx512::Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => avx2::Avx2::LANES,
            Isa::Portable(_) => portable::Portable::LANES,
        }
    }

    /// Whether its multiply-adds are rounded once.
    #[must_use]
    pub fn is_fused(self) -> bool {
        !matches!(self, Isa::Portable(_))
    }

    /// Runs `body` compiled for this instruction set.
    #[inline]
    pub fn dispatch<B: Body>(self, body: B) -> B::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) => token.enter(body),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => token.enter(body),
            Isa::Portable(token) => token.call(body),
        }
    }
}
