//! Activations of a vector of elements, for the epilogue.

use super::super::arch::Simd;
use super::super::vector;
use super::epilogue::Activation;

/// `activation(v)` of every lane.
#[inline(always)]
pub(in crate::kernels) fn apply<S: Simd>(s: S, activation: Activation, v: S::F32) -> S::F32 {
    match activation {
        Activation::None => v,
        Activation::Relu => vector::relu(s, v),
        Activation::Clip { lo, hi } => vector::clamp(s, v, lo, hi),
        Activation::LeakyRelu { alpha } => vector::leaky_relu(s, v, alpha),
        Activation::Sigmoid => vector::sigmoid(s, v),
        Activation::Tanh => vector::tanh(s, v),
        Activation::Silu => vector::silu(s, v),
        Activation::HardSwish => vector::hard_swish(s, v),
        Activation::HardSigmoid { alpha, beta } => vector::hard_sigmoid(s, v, alpha, beta),
        Activation::Gelu => vector::gelu(s, v),
        Activation::GeluTanh => vector::gelu_tanh(s, v),
    }
}
