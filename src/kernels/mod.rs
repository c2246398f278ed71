//! How a CPU computes: slices in, slices out. No graph, no plan, no allocation in a warm call.
//!
//! [`arch`] chooses the instruction set and holds the idiom by which one body runs on all of them.

pub mod arch;
pub mod vector;
