//! Scaled dot-product attention without materialized scores.
