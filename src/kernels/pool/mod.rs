//! Maxima and averages over windows and planes.
