//! Matrix products over a packed B, with their epilogue fused.
//!
//! One tile ([`tile`](self)) serves every element type, every kind of row and every instruction set. What surrounds it:
//! [`PackedB`] lays B out once at load, [`Epilogue`] says as data what happens to a sum before it is stored, and
//! [`gemm`] and [`gemm_region`] run the product. The same in bytes ([`PackedBytes`], [`gemm_bytes`]) has exact integer sums
//! and an epilogue that requantizes, in bfloat16 ([`PackedBf16`], [`gemm_bf16`]) f32 sums. Batches, and what goes to which thread, are the caller's loop.

mod activation;
mod bf16;
mod computed_bytes;
mod deferred;
mod driver;
mod epilogue;
mod even_rows;
mod few_bits;
mod finish;
mod float;
mod halves;
mod integer;
mod output;
mod pack;
mod pack_bytes;
mod part;
mod pieces;
mod product;
mod short;
mod stored;
mod strips;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_integer;
#[cfg(test)]
mod tests_stores;
mod tile;

pub(in crate::kernels) use tile::each;

pub use bf16::{PackedBf16, gemm_bf16, gemm_bf16_region};
pub use computed_bytes::{ComputedBytes, gemm_computed_bytes, gemm_computed_quantized};
pub(in crate::kernels) use driver::RowPointers;
pub use epilogue::{Activation, Epilogue, Residual};
pub use few_bits::{FewBits, PackedBlocks, PackedCodes, few_bits_scratch_len, gemm_few_bits};
pub(in crate::kernels) use finish::{Finish, FinishTile, Rescale};
pub(in crate::kernels) use float::{finish, product, product_to};
pub use float::{gemm, gemm_region};
pub use halves::{HALVES_ROWS, PackedHalves, gemm_halves, halves_scratch_len};
pub use integer::{ByteEpilogue, ByteOutput, QuantizedResidual, Requantize, Through, gemm_bytes, gemm_bytes_region};
pub(in crate::kernels) use integer::{byte_strip_rows, finish_bytes, product_bytes};
pub(in crate::kernels) use output::Told;
pub use output::{Extremes, FloatOutput};
pub(in crate::kernels) use pack::panel_width;
pub use pack::{Layout, PackedB, PackedView};
pub use pack_bytes::{ByteWeights, PackedBytes};
pub(in crate::kernels) use part::{Part, Strided};
pub(in crate::kernels) use pieces::Piece;
