//! Every registered operator against random attributes and tensors.
//!
//! `ONRUSH_WILD_CASES` sets how many cases each operator meets.

mod planned;
mod pool;
mod wild;
