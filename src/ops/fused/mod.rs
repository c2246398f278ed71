//! Operators of this crate alone, which passes make out of several of ONNX.
//!
//! They wrap an operator of ONNX and take their meaning from it, so there is no second definition of convolution here.
//! They are not written to files: export the graph as it was imported.

mod chain;
mod channels_last;
mod epilogue;
mod quantized;

use super::OpDef;

pub use chain::Chain;
pub use channels_last::{ChannelsLast, to_first, to_last};
pub use epilogue::{Activation, Epilogue};
pub use quantized::{ByteTable, Linear, Quantized};

pub(super) const OPS: &[OpDef] = &[];
