//! What a step of the CPU is, and what it is made from.

use super::arena::Io;
use crate::backend::{Instruction, Program, Slot, State, Weights};
use crate::error::Result;
use crate::kernels::gemm::Extremes;
use crate::ops::{Budget, Op};
use crate::tensor::{DType, Shape, Tensor};
use std::fmt::Debug;
use std::ops::Range;

/// One step, bound to its shapes and constants.
pub(crate) trait Kernel: Debug + Send + Sync {
    /// The name in a profile.
    fn name(&self) -> String;

    /// Bytes of workspace that a run needs beside its inputs and outputs.
    fn workspace(&self) -> usize {
        0
    }

    /// How the outputs can be divided between threads. [`run`](Kernel::run) then computes the part that
    /// [`Io::share`](super::arena::Io::share) names, the same bits as without division, with a workspace of its own and
    /// without a state.
    fn division(&self) -> Division {
        Division::Whole
    }

    /// What a worker keeps for this step from run to run.
    fn state(&self) -> Result<Option<State>> {
        Ok(None)
    }

    /// Bytes of that, where they are worth counting.
    fn state_bytes(&self) -> usize {
        0
    }

    /// The weights that a run reads, first ones first, where the step before may fetch them: those of part `part` of `of`.
    fn weights(&self, _part: usize, _of: usize) -> &[u8] {
        &[]
    }

    /// Whether [`run`](Kernel::run) tells [`Context::extremes`] what it writes.
    fn tells_extremes(&self) -> bool {
        false
    }

    /// The reference evaluations inside, as `name (operator)`.
    fn fallbacks(&self, _name: &str, _operator: &str) -> Vec<String> {
        Vec::new()
    }

    /// Computes the outputs, or a part of them, from the inputs.
    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()>;
}

/// How the outputs of a step are divided into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Division {
    /// Not at all.
    Whole,
    /// Every output is `units` runs of as many elements; a part has consecutive ones, `grain` at a time.
    Units { units: usize, grain: usize },
    /// The one output is a matrix of so many columns; a part has consecutive ones, `grain` at a time.
    Columns { columns: usize, grain: usize },
}

impl Division {
    /// Equal runs, `grain` of them at a time.
    pub(crate) fn units(units: usize, grain: usize) -> Self {
        Division::Units { units, grain }
    }

    /// Single elements.
    pub(crate) fn elements(shape: Option<&Shape>) -> Self {
        Division::units(shape.map_or(0, Shape::elements), ELEMENTS)
    }

    /// The parts of a matrix product with `rows` rows of `depth` elements: the smaller operand is the one that every
    /// part reads whole.
    pub(crate) fn of_product(rows: usize, depth: usize, columns: usize, weight_bytes: usize, element: usize) -> Self {
        if weight_bytes > rows.saturating_mul(depth).saturating_mul(element) && columns >= 4 * COLUMNS {
            Division::Columns { columns, grain: COLUMNS }
        } else {
            Division::units(rows, 1)
        }
    }

    /// The same, where it is by columns; else so many rows, `grain` at a time.
    pub(crate) fn or_units(self, rows: usize, grain: usize) -> Self {
        if matches!(self, Division::Columns { .. }) { self } else { Division::units(rows, grain) }
    }

    /// At most so many parts.
    pub(super) fn most_parts(self) -> usize {
        match self {
            Division::Whole => 1,
            Division::Units { units: count, grain } | Division::Columns { columns: count, grain } => {
                count.div_ceil(grain.max(1))
            }
        }
    }

    /// The rows and columns of a product that a share of it consists of.
    pub(super) fn region(self, share: Range<usize>, rows: usize, columns: usize) -> (Range<usize>, Range<usize>) {
        if matches!(self, Division::Columns { .. }) { (0..rows, share) } else { (share, 0..columns) }
    }

    /// The first column of part `part` of `of`.
    pub(super) fn first_column(self, part: usize, of: usize) -> usize {
        if matches!(self, Division::Columns { .. }) { self.share(part, of).start } else { 0 }
    }

    /// The units or columns of part `part` of `of`: consecutive, and none is left out or in two parts.
    pub(super) fn share(self, part: usize, of: usize) -> Range<usize> {
        let (count, grain) = match self {
            Division::Whole => (0, 1),
            Division::Units { units: count, grain } | Division::Columns { columns: count, grain } => {
                (count, grain.max(1))
            }
        };
        let pieces = count.div_ceil(grain);
        let start = |part: usize| {
            let pieces = pieces / of.max(1) * part + part.min(pieces % of.max(1));
            pieces.saturating_mul(grain).min(count)
        };
        start(part)..start(part + 1)
    }
}

/// Elements of a map that stay together.
const ELEMENTS: usize = 1024;

/// Columns of a product that stay together: a multiple of every panel's.
const COLUMNS: usize = 32;

/// What a step may use while it runs.
pub(crate) struct Context<'a> {
    /// At least [`Kernel::workspace`] bytes, aligned to 64, with any content.
    pub(crate) workspace: &'a mut [u8],
    /// What [`Kernel::state`] made.
    pub(crate) state: &'a mut Option<State>,
    /// The limits of this run.
    pub(crate) budget: &'a Budget,
    /// The weights that the next product reads.
    pub(crate) next: &'a [u8],
    /// Whether products copy rows together; see [`Weights::with_pack_rows`].
    pub(crate) pack_rows: Option<bool>,
    /// Told what is written, where a kernel [says](Kernel::tells_extremes) that it does.
    pub(crate) extremes: Option<&'a Extremes>,
}

impl Context<'_> {
    /// The same, to tell what is written.
    pub(super) fn telling<'a>(&'a mut self, extremes: &'a Extremes) -> Context<'a> {
        let Context { workspace, state, budget, next, pack_rows, .. } = self;
        Context { workspace, state, budget, next, pack_rows: *pack_rows, extremes: Some(extremes) }
    }
}

/// One instruction of a program, as a kernel's constructor wants to see it.
pub(crate) struct Spec<'a> {
    pub(crate) instruction: &'a Instruction,
    pub(crate) weights: &'a Weights,
    program: &'a Program,
}

impl<'a> Spec<'a> {
    pub(crate) fn new(instruction: &'a Instruction, program: &'a Program, weights: &'a Weights) -> Self {
        Spec { instruction, weights, program }
    }

    /// Another instruction of the same program.
    pub(super) fn of<'b>(&'b self, instruction: &'b Instruction) -> Spec<'b> {
        Spec { instruction, weights: self.weights, program: self.program }
    }

    /// The operator as a `T`, where it is one.
    pub(crate) fn op<T: Op>(&self) -> Option<&'a T> {
        self.instruction.op.downcast_ref::<T>()
    }

    pub(crate) fn input(&self, index: usize) -> Option<&'a Slot> {
        self.instruction.inputs.get(index).copied().flatten().map(|id| self.program.slot(id))
    }

    pub(crate) fn output(&self, index: usize) -> Option<&'a Slot> {
        self.instruction.outputs.get(index).copied().flatten().map(|id| self.program.slot(id))
    }

    /// The shape of input `index`, where it is present and static.
    pub(crate) fn shape(&self, index: usize) -> Option<&'a Shape> {
        self.input(index)?.shape.as_ref()
    }

    /// The shape of output `index`, where it is present and static.
    pub(crate) fn output_shape(&self, index: usize) -> Option<&'a Shape> {
        self.output(index)?.shape.as_ref()
    }

    /// The tensor of input `index`, where it is a constant.
    pub(crate) fn constant(&self, index: usize) -> Option<&'a Tensor> {
        self.input(index)?.constant()
    }

    /// True where every present input and output is of this dtype and of static shape.
    pub(crate) fn all(&self, dtype: DType) -> bool {
        let fits = |slot: &Slot| slot.dtype == dtype && slot.shape.is_some();
        let ids = self.instruction.inputs.iter().chain(&self.instruction.outputs);
        ids.flatten().all(|id| fits(self.program.slot(*id)))
    }

    /// True where every present input and output has a static shape.
    pub(crate) fn is_static(&self) -> bool {
        let ids = self.instruction.inputs.iter().chain(&self.instruction.outputs);
        ids.flatten().all(|id| self.program.slot(*id).shape.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_units_once_and_nearly_equal() {
        for units in [0, 1, 5, 64, 1000, 1001] {
            for grain in [1, 3, 64] {
                for of in 1..=7 {
                    let division = Division::Units { units, grain };
                    let shares: Vec<Range<usize>> = (0..of).map(|part| division.share(part, of)).collect();
                    assert_eq!((shares[0].start, shares[of - 1].end), (0, units));
                    assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                    let pieces = shares.iter().map(|share| share.len().div_ceil(grain));
                    assert!(pieces.clone().max().unwrap() - pieces.min().unwrap() <= 1, "{units} {grain} {of}");
                }
            }
        }
    }
}
