//! Sums, extremes and norms along an axis, and their places.
