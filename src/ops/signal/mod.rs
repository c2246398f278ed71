//! Signals: Fourier transforms, windows and mel weights.

mod dft;
mod fourier;
mod mel;
mod stft;
mod window;

pub use dft::Dft;
pub use mel::MelWeightMatrix;
pub use stft::Stft;
pub use window::{Window, WindowKind};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("DFT", 20, 1..=3, Dft::read).since(17),
    OpDef::new("STFT", 17, 2..=4, Stft::read).since(17),
    OpDef::new("HannWindow", 17, 1..=1, Window::read).since(17),
    OpDef::new("HammingWindow", 17, 1..=1, Window::read).since(17),
    OpDef::new("BlackmanWindow", 17, 1..=1, Window::read).since(17),
    OpDef::new("MelWeightMatrix", 17, 5..=5, MelWeightMatrix::read).since(17),
];
