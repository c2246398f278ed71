//! How a CPU computes: slices in, slices out. No graph, no plan, no allocation in a warm call.
//!
//! - [`arch`] chooses the instruction set and holds the idiom by which one body runs on all of them.
//! - [`attention`] multiplies, masks, normalizes and sums attention in one pass.
//! - [`conv`] convolves channels-last images, on the same tile.
//! - [`elementwise`] maps element by element, in chains and with broadcasts.
//! - [`gemm`] multiplies by a packed matrix, with an epilogue.
//! - [`movement`] moves elements without changing them.
//! - [`norm`] normalizes rows, channels and groups.
//! - [`pool`] takes maxima and averages over windows.
//! - [`quantize`] goes between f32 and bytes.
//! - [`recurrent`] steps LSTM and GRU gates.
//! - [`reduce`] sums and compares along an axis.
//! - [`softmax`] is softmax over rows.
//! - [`stored`] takes packed forms apart for files.
//! - [`vector`] holds the functions of one vector of elements.
//!
//! ```
//! use onrush::kernels::arch::Isa;
//! use onrush::kernels::gemm::{Activation, Epilogue, Layout, PackedB, gemm};
//! use onrush::kernels::{Matrix, MatrixMut};
//!
//! let isa = Isa::chosen()?;
//! let weights = PackedB::pack(isa, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3, Layout::RowMajor { stride: 3 });
//! let mut out = [0.0; 3];
//! let epilogue = Epilogue { bias: Some(&[0.0, -100.0, 0.5]), activation: Activation::Relu, ..Epilogue::default() };
//! gemm(isa, Matrix::dense(&[1.0, 10.0], 1, 2), &weights, MatrixMut::dense(&mut out, 1, 3), &epilogue);
//! assert_eq!(out, [41.0, 0.0, 63.5]);
//! # Ok::<(), onrush::Error>(())
//! ```

pub mod arch;
pub mod attention;
pub mod conv;
pub mod elementwise;
pub mod gemm;
pub mod movement;
pub mod norm;
pub mod pool;
pub mod quantize;
pub mod recurrent;
pub mod reduce;
pub mod softmax;
pub mod stored;
pub mod vector;
mod view;

pub use view::{Matrix, MatrixMut};
