//! The gates of LSTM and GRU steps.
