//! Between f32 and bytes with a scale and a zero point, and the arithmetic that stays in bytes.
//!
//! Formulas are ONNX's, operation by operation (a division by the scale is a division), without fused multiply-adds: the
//! bytes are the same on every instruction set, and the same as the graph of single operators gives.

mod arithmetic;
mod byte;
mod convert;
mod dynamic;
mod table;
#[cfg(test)]
mod tests;

pub use arithmetic::{ByteOp, Quantized, byte_binary};
pub use byte::Byte;
pub(in crate::kernels) use convert::to_steps;
pub use convert::{dequantize, dequantize_i32, quantize, requantize};
pub use dynamic::{dynamic_parameters, min_max};
pub use table::{Table, map_table, table_of};
