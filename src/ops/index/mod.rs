//! Elements by their place: slice, gather, scatter, one-hot, and what depends on the data: nonzero, unique, compress.

mod gather;
mod gather_nd;
mod nonzero;
mod one_hot;
mod reverse_sequence;
mod scatter;
mod slice;
mod tensor_scatter;
mod unique;

pub(in crate::ops) use gather::pick;
pub use gather::{Gather, GatherElements};
pub use gather_nd::GatherNd;
pub use nonzero::{Compress, NonZero};
pub use one_hot::OneHot;
pub use reverse_sequence::ReverseSequence;
pub(in crate::ops) use scatter::scatter;
pub use scatter::{ScatterElements, ScatterNd, ScatterReduction};
pub use slice::Slice;
pub use tensor_scatter::TensorScatter;
pub use unique::Unique;

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Slice", 13, 1..=5, Slice::read),
    OpDef::new("Gather", 13, 2..=2, Gather::read),
    OpDef::new("GatherElements", 13, 2..=2, GatherElements::read).since(11),
    OpDef::new("GatherND", 13, 2..=2, GatherNd::read).since(11),
    // The same operator under its old name.
    OpDef::new("Scatter", 9, 3..=3, ScatterElements::read).since(9),
    OpDef::new("ScatterElements", 18, 3..=3, ScatterElements::read).since(11),
    OpDef::new("ScatterND", 18, 3..=3, ScatterNd::read).since(11),
    OpDef::new("TensorScatter", 24, 2..=3, TensorScatter::read).since(24),
    OpDef::new("NonZero", 13, 1..=1, NonZero::read).since(9),
    OpDef::new("Compress", 11, 2..=2, Compress::read).since(9),
    OpDef::new("OneHot", 11, 3..=3, OneHot::read).since(9),
    OpDef::new("Unique", 11, 1..=1, Unique::read).since(11).outputs(1..=4),
    OpDef::new("ReverseSequence", 10, 2..=2, ReverseSequence::read).since(10),
];
