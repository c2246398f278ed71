//! What a backend is given: steps in order, over slots whose shapes and places are settled.

use crate::ops::Op;
use crate::tensor::{DType, Shape, Tensor};
use std::sync::Arc;

/// Names a slot of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub(crate) u32);

impl SlotId {
    /// A dense index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where the bytes of a slot are.
#[derive(Debug, Clone)]
pub enum Place {
    /// Known at compile time.
    Constant(Tensor),
    /// Input `n` of the program, owned by the caller of a run.
    Input(usize),
    /// Output `n` of the program, owned by the caller of a run.
    Output(usize),
    /// At this byte of the arena, a multiple of 64.
    Arena(usize),
    /// Entry `n` of the values whose shapes are known only when they are made.
    Dynamic(usize),
}

/// A value of a program.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The element type.
    pub dtype: DType,
    /// The shape; `None` where it depends on data.
    pub shape: Option<Shape>,
    /// Where its bytes are.
    pub place: Place,
}

impl Slot {
    /// The tensor, for a constant.
    #[must_use]
    pub fn constant(&self) -> Option<&Tensor> {
        match &self.place {
            Place::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Bytes of the value, zero where the shape depends on data.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shape.as_ref().map_or(0, |s| s.elements().saturating_mul(self.dtype.size()))
    }
}

/// One operator over slots.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// The node's name.
    pub name: String,
    /// The operator.
    pub op: Arc<dyn Op>,
    /// The inputs in order.
    pub inputs: Vec<Option<SlotId>>,
    /// The outputs in order.
    pub outputs: Vec<Option<SlotId>>,
    /// The operator's subgraphs at concrete shapes, in the order of its attributes, where they could be lowered; their
    /// inputs are the formal ones, then the captures. `None` is one that cannot run at these shapes. Where the backend has
    /// [joined](super::Backend::joins) steps, the one body is what they were.
    pub bodies: Vec<Option<Program>>,
}

/// Steps over one memory arena, at concrete shapes.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Every value.
    pub slots: Vec<Slot>,
    /// The steps in the order in which they run.
    pub steps: Vec<Instruction>,
    /// The slots of the inputs.
    pub inputs: Vec<SlotId>,
    /// The slots of the outputs; each has the place [`Place::Output`] or [`Place::Dynamic`].
    pub outputs: Vec<SlotId>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// How many values have a shape that depends on data.
    pub dynamics: usize,
}

impl Program {
    /// The slot of this id.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.index()]
    }
}
