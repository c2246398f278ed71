//! One step of LSTM and GRU, from gate pre-activations to the new state in one pass.
//!
//! The products are [`gemm`](super::gemm)'s: the caller has `W x + R h + b` of all gates, `[batch, gates * hidden]`, in
//! ONNX's order of gates, and calls a step for each position. Activations are the default ones.

mod gru;
mod lstm;
#[cfg(test)]
mod tests;

pub use gru::{gru_reset, gru_step};
pub use lstm::{Lstm, lstm_step};
