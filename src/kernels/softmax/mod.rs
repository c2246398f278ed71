//! Softmax and its logarithm over rows, with scale and mask.
