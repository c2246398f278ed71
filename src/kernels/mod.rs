//! How a CPU computes: slices in, slices out. No graph, no plan, no allocation in a warm call.
//!
//! - [`arch`] chooses the instruction set and holds the idiom by which one body runs on all of them.
//! - [`conv`] convolves channels-last images, on the same tile.
//! - [`gemm`] multiplies by a packed matrix, with an epilogue.
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
pub mod conv;
pub mod gemm;
pub mod vector;
mod view;

pub use view::{Matrix, MatrixMut};
