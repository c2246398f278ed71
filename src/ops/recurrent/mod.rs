//! RNN, GRU and LSTM.

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[];
