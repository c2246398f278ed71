//! What each family of operators does to the rows of a batch: the table behind the proof.
//!
//! A rule answers with the labels of the outputs, or with nothing where rows might mix. It is told the shapes at all
//! rows and at few, and the caller checks that the label it answers agrees with them.

use super::{Label, Operand, grown};
use crate::ops::attention::{Attention, RotaryEmbedding};
use crate::ops::create::Trilu;
use crate::ops::elementwise::{Binary, Cast, CastLike, Clip, Unary, Variadic, Where};
use crate::ops::fused::{ByteTable, Chain, ChannelsLast, Elementwise, Epilogue, Linear, Quantized};
use crate::ops::image::{DepthToSpace, Resize, SpaceToDepth};
use crate::ops::index::{Gather, GatherElements, Slice};
use crate::ops::layout::{Concat, Expand, Flatten, Pad, Reshape, Split, Squeeze, Tile, Transpose, Unsqueeze};
use crate::ops::matrix::{Einsum, Gemm, MatMul};
use crate::ops::nn::{
    BatchNormalization, Conv, ConvTranspose, Dropout, GlobalPool, GroupNormalization, Hardmax, InstanceNormalization,
    LayerNormalization, LogSoftmax, Lrn, Pool, RmsNormalization, SkipLayerNormalization, Softmax,
};
use crate::ops::quant::{
    ConvInteger, DequantizeLinear, MatMulInteger, MatMulNBits, QLinearConv, QLinearMatMul, QuantizeLinear,
};
use crate::ops::recurrent::{Gru, Lstm, Recurrence, Rnn};
use crate::ops::reduce::{ArgExtreme, CumSum, Reduce, TopK};
use crate::ops::{Attr, Inputs, Op};
use crate::tensor::{Fact, Shape};

/// A node, its operands at both sizes, and the shapes of its outputs at both.
pub(super) struct Step<'a> {
    pub(super) op: &'a dyn Op,
    pub(super) inputs: Vec<Option<Operand>>,
    pub(super) outputs: Vec<Option<(Shape, Shape)>>,
    pub(super) rows: (usize, usize),
}

/// The labels of the outputs, where the rows keep apart.
pub(super) fn follow(step: &Step<'_>) -> Option<Vec<Label>> {
    let count = step.outputs.len();
    let bodies = step.op.attrs().iter().any(|(_, attr)| matches!(attr, Attr::Body(_)));
    if !bodies && step.inputs.iter().flatten().all(|input| input.label == Label::Shared) {
        return Some(vec![Label::Shared; count]);
    }
    if let Some(recurrence) = recurrence(step.op) {
        return step.recurrent(recurrence);
    }
    step.one(step.op).map(|label| vec![label; count])
}

fn recurrence(op: &dyn Op) -> Option<&Recurrence> {
    let lstm = op.downcast_ref::<Lstm>().map(|op| &op.recurrence);
    lstm.or_else(|| op.downcast_ref::<Gru>().map(|op| &op.recurrence))
        .or_else(|| op.downcast_ref::<Rnn>().map(|op| &op.recurrence))
}

impl Step<'_> {
    /// The label that all outputs have.
    fn one(&self, op: &dyn Op) -> Option<Label> {
        if let Some(last) = op.downcast_ref::<ChannelsLast>() {
            // The layout moves channels only: rows in front stay in front.
            let label = match last.op.downcast_ref::<Chain>() {
                Some(chain) => {
                    let images = last.images.iter().copied().filter(|image| *image < chain.arity).collect();
                    self.chain(chain, &ChannelsLast { op: chain.first.clone(), images })
                }
                None => self.one(last.op.as_ref()),
            };
            return label.filter(|label| matches!(label, Label::Rows { axis: 0, .. }));
        }
        if let Some(epilogue) = op.downcast_ref::<Epilogue>() {
            return self.epilogue(epilogue);
        }
        if let Some(quantized) = op.downcast_ref::<Quantized>() {
            return self.of_quantized(quantized);
        }
        if let Some(chain) = op.downcast_ref::<Chain>() {
            return self.chain(chain, chain.first.as_ref());
        }
        if op.is::<Unary>() || op.is::<Cast>() || op.is::<CastLike>() || op.is::<ByteTable>() || op.is::<Dropout>() {
            let others = self.inputs.iter().skip(1).flatten().all(|input| input.label == Label::Shared);
            let still = !op.is::<Dropout>() || self.input(2).is_none();
            return (others && still).then(|| self.input(0).map(|input| input.label)).flatten();
        }
        // What lies between the steps of several in one has the shape of their output.
        let several = op.is::<Elementwise>();
        if several || op.is::<Binary>() || op.is::<Variadic>() || op.is::<Clip>() || op.is::<Where>() {
            return self.broadcast();
        }
        if op.is::<MatMul>() || op.is::<MatMulInteger>() {
            return self.product(0, 1, &[2]);
        }
        if op.is::<QLinearMatMul>() {
            return self.product(0, 3, &[1, 2, 6, 7]);
        }
        if let Some(einsum) = op.downcast_ref::<Einsum>() {
            return self.einsum(&einsum.equation);
        }
        if is_of_images(op) {
            // Indices of a pool count through the whole batch.
            let single = self.outputs.iter().skip(1).all(Option::is_none);
            return if single { self.images() } else { None };
        }
        self.along_axes(op).or_else(|| self.moved(op)).or_else(|| self.quantized(op)).or_else(|| self.attention(op))
    }

    fn input(&self, index: usize) -> Option<&Operand> {
        self.inputs.get(index)?.as_ref()
    }

    fn output(&self) -> Option<&(Shape, Shape)> {
        self.outputs.first()?.as_ref()
    }

    /// The axis and entries of the rows of input `index`.
    fn rows_of(&self, index: usize) -> Option<(usize, usize)> {
        match self.input(index)?.label {
            Label::Rows { axis, per } => Some((axis, per)),
            _ => None,
        }
    }

    /// The rows of input 0, where it alone has any.
    fn lone_rows(&self) -> Option<(usize, usize)> {
        let others = self.inputs.iter().skip(1).flatten().all(|input| input.label == Label::Shared);
        self.rows_of(0).filter(|_| others)
    }

    /// The elements of a constant input that is the same at both sizes.
    fn integers(&self, index: usize) -> Option<Vec<i64>> {
        let input = self.input(index).filter(|input| input.label == Label::Shared)?;
        input.constant.as_ref()?.to_i64_vec().ok()
    }

    fn rank(&self, index: usize) -> Option<usize> {
        Some(self.input(index)?.large.rank())
    }

    /// numpy's rule for the inputs `among`: rows meet rows of the same axis, or an operand that is spread over them.
    fn spread(&self, among: impl Iterator<Item = usize>) -> Option<Label> {
        let rank = self.output()?.0.rank();
        let among: Vec<&Operand> = among.filter_map(|index| self.input(index)).collect();
        let mut found: Option<(usize, usize)> = None;
        for input in &among {
            if let Label::Rows { axis, per } = input.label {
                let place = (axis + rank.checked_sub(input.large.rank())?, per);
                if *found.get_or_insert(place) != place {
                    return None;
                }
            }
        }
        let (axis, per) = found?;
        let constant_along = |input: &&Operand| match input.label {
            Label::Rows { .. } => true,
            Label::Lengths => false,
            Label::Shared => match (axis + input.large.rank()).checked_sub(rank) {
                Some(own) => input.large.get(own) == Some(&1),
                None => true,
            },
        };
        among.iter().all(constant_along).then_some(Label::Rows { axis, per })
    }

    fn broadcast(&self) -> Option<Label> {
        self.spread(0..self.inputs.len())
    }

    /// A product of the matrices `a` and `b`: rows among those of `a`, or in the leading axes of both. The other inputs
    /// are scales and zero points; those of `single` could be one for each row.
    fn product(&self, a: usize, b: usize, single: &[usize]) -> Option<Label> {
        let others = (0..self.inputs.len()).filter(|index| *index != a && *index != b);
        let plain = |index: usize| {
            let fits = |input: &Operand| {
                input.label == Label::Shared && (!single.contains(&index) || input.large.elements() == 1)
            };
            self.input(index).is_none_or(fits)
        };
        let (rank_a, rank_b, rank) = (self.rank(a)?, self.rank(b)?, self.output()?.0.rank());
        let (left, right) = (self.input(a)?.label, self.input(b)?.label);
        if rank_a < 2 || rank_b < 2 || !others.into_iter().all(plain) {
            return None;
        }
        let lead = |label: Label, rank: usize| match label {
            Label::Shared => Some(None),
            Label::Rows { axis, per } if axis + 2 < rank => Some(Some((axis, per))),
            _ => None,
        };
        match (left, right) {
            (Label::Rows { axis, per }, Label::Shared) if axis + 2 == rank_a => {
                Some(Label::Rows { axis: rank - 2, per })
            }
            _ => {
                lead(left, rank_a)?;
                lead(right, rank_b)?;
                self.spread([a, b].into_iter())
            }
        }
    }

    /// Rows along a letter that every operand with it has as rows, and that is not summed over.
    fn einsum(&self, equation: &str) -> Option<Label> {
        let equation: String = equation.split_whitespace().collect();
        let (terms, output) = equation.split_once("->").filter(|_| !equation.contains('.'))?;
        let terms: Vec<&str> = terms.split(',').collect();
        let letter_of = |index: usize, axis: usize| terms.get(index)?.chars().nth(axis);
        let rows = (0..self.inputs.len()).find_map(|index| self.rows_of(index).map(|rows| (index, rows)));
        let (first, (axis, per)) = rows?;
        let letter = letter_of(first, axis)?;
        let fits = |(index, term): (usize, &&str)| match term.matches(letter).count() {
            0 => self.input(index).is_some_and(|input| input.label == Label::Shared),
            1 => self.rows_of(index).is_some_and(|(axis, own)| own == per && letter_of(index, axis) == Some(letter)),
            _ => false,
        };
        let whole = terms.len() == self.inputs.len() && terms.iter().enumerate().all(fits);
        let axis = output.chars().position(|own| own == letter).filter(|_| whole)?;
        Some(Label::Rows { axis, per })
    }

    /// The step of an operator inside, with other inputs and the same outputs.
    fn inside<'a>(&self, op: &'a dyn Op, inputs: Vec<Option<Operand>>) -> Step<'a> {
        Step { op, inputs, outputs: self.outputs.clone(), rows: self.rows }
    }

    /// An operator between numbers with scales: rows need one scale for all of them.
    fn of_quantized(&self, quantized: &Quantized) -> Option<Label> {
        let shared = |index: usize| self.input(index).filter(|input| input.label == Label::Shared);
        let single = |linear: Linear| {
            let one = |index: usize| shared(index).is_some_and(|input| input.large.elements() == 1);
            one(linear.scale) && one(linear.zero_point)
        };
        for index in 0..quantized.arity {
            let (Some(linear), Some(input)) = (quantized.input(index), self.input(index)) else { continue };
            let fits = match input.label {
                Label::Shared => shared(linear.scale).is_some() && shared(linear.zero_point).is_some(),
                _ => single(linear),
            };
            fits.then_some(())?;
        }
        quantized.output.is_none_or(single).then_some(())?;
        let inputs = self.inputs.iter().take(quantized.arity).cloned().collect();
        self.inside(quantized.op.as_ref(), inputs).one(quantized.op.as_ref())
    }

    /// Two operators, one behind the other; `first` is the chain's, laid out as its inputs are.
    fn chain(&self, chain: &Chain, first: &dyn Op) -> Option<Label> {
        let own: Vec<Option<Operand>> = self.inputs.iter().take(chain.arity).cloned().collect();
        if chain.second.is::<Cast>() {
            return self.inside(first, own).one(first);
        }
        let fact = |operand: &Operand| match &operand.constant {
            Some(tensor) => Fact::constant(tensor.clone()),
            None => Fact::concrete(operand.dtype, &operand.large),
        };
        let facts: Vec<Option<Fact>> = own.iter().map(|operand| operand.as_ref().map(fact)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let made = first.infer(Inputs::new(&facts)).ok()?.into_iter().next()?;
        let large = made.concrete_shape()?;
        let mut inner = self.inside(first, own);
        // Of what lies between, the shape at few rows is not known; the label is checked by what comes of it.
        inner.outputs = vec![Some((large.clone(), large.clone()))];
        let label = inner.one(first)?;
        let between = Operand { label, dtype: made.dtype, large, constant: None };
        let mut inputs = vec![Some(between)];
        inputs.extend(self.inputs.iter().skip(chain.arity).cloned());
        self.inside(chain.second.as_ref(), inputs).one(chain.second.as_ref())
    }

    fn epilogue(&self, epilogue: &Epilogue) -> Option<Label> {
        let inner = self.inside(epilogue.op.as_ref(), self.inputs.iter().take(epilogue.arity).cloned().collect());
        let label = inner.one(inner.op)?;
        let Label::Rows { axis, .. } = label else { return None };
        if let Some(index) = epilogue.bias_index() {
            let last = axis + 1 == self.output()?.0.rank();
            (self.input(index)?.label == Label::Shared && !last).then_some(())?;
        }
        if let Some(index) = epilogue.residual_index() {
            (self.input(index)?.label == label).then_some(())?;
        }
        Some(label)
    }

    /// An operator on images, the first axis of which counts them; all other inputs are the same for every image.
    fn images(&self) -> Option<Label> {
        self.lone_rows().filter(|(axis, _)| *axis == 0).map(|(axis, per)| Label::Rows { axis, per })
    }

    /// Operators that work along named axes, and leave every other axis alone.
    fn along_axes(&self, op: &dyn Op) -> Option<Label> {
        let rank = self.rank(0)?;
        let axis_of = |axis: i64| self.input(0).and_then(|input| input.large.axis(axis).ok());
        let single = |axis: i64| axis_of(axis).map(|axis| vec![axis]);
        let list = |axes: Vec<i64>| axes.into_iter().map(axis_of).collect::<Option<Vec<usize>>>();
        let (mut keeps, mut taken) = (true, None);
        if let Some(op) = op.downcast_ref::<Softmax>() {
            taken = single(op.axis);
        } else if let Some(op) = op.downcast_ref::<LogSoftmax>() {
            taken = single(op.axis);
        } else if let Some(op) = op.downcast_ref::<Hardmax>() {
            taken = single(op.axis);
        } else if let Some(op) = op.downcast_ref::<TopK>() {
            taken = single(op.axis);
        } else if let Some(op) = op.downcast_ref::<Split>() {
            taken = single(op.axis);
        } else if op.is::<CumSum>() {
            taken = list(self.integers(1)?);
        } else if op.is::<Trilu>() {
            taken = Some((rank.saturating_sub(2)..rank).collect());
        } else if let Some(op) = op.downcast_ref::<LayerNormalization>() {
            taken = Some((axis_of(op.axis)?..rank).collect());
        } else if let Some(op) = op.downcast_ref::<RmsNormalization>() {
            taken = Some((axis_of(op.axis)?..rank).collect());
        } else if let Some(op) = op.downcast_ref::<ArgExtreme>() {
            (keeps, taken) = (op.keep_dims, single(op.axis));
        } else if let Some(op) = op.downcast_ref::<Reduce>() {
            let named = if self.input(1).is_some() { self.integers(1)? } else { Vec::new() };
            keeps = op.keep_dims;
            taken = match named.is_empty() {
                true if op.noop_with_empty_axes => Some(Vec::new()),
                true => Some((0..rank).collect()),
                false => list(named),
            };
        } else if op.is::<Slice>() {
            let starts = self.integers(1)?;
            let axes = if self.input(3).is_some() { self.integers(3)? } else { (0..starts.len() as i64).collect() };
            taken = list(axes);
        } else if op.is::<Pad>() {
            let pads = self.integers(1)?;
            let axes = if self.input(3).is_some() { self.integers(3)? } else { (0..rank as i64).collect() };
            let padded = axes.iter().enumerate().filter(|(at, _)| {
                let amounts = (pads.get(*at), pads.get(axes.len() + *at));
                amounts != (Some(&0), Some(&0))
            });
            taken = list(padded.map(|(_, axis)| *axis).collect());
        } else if op.is::<Tile>() {
            let repeats = self.integers(1)?.into_iter().enumerate();
            taken = Some(repeats.filter(|(_, times)| *times != 1).map(|(axis, _)| axis).collect());
        } else if op.is::<SkipLayerNormalization>() {
            let same = self.rows_of(0).is_some() && self.rows_of(0) == self.rows_of(1);
            let rest = self.inputs.iter().skip(2).flatten().all(|input| input.label == Label::Shared);
            let (axis, per) = self.rows_of(0).filter(|(axis, _)| same && rest && axis + 1 < rank)?;
            return Some(Label::Rows { axis, per });
        }
        let taken = taken?;
        let (axis, per) = self.lone_rows().filter(|(axis, _)| !taken.contains(axis))?;
        let before = if keeps { 0 } else { taken.iter().filter(|&&gone| gone < axis).count() };
        Some(Label::Rows { axis: axis - before, per })
    }

    /// Operators that move elements and change none.
    fn moved(&self, op: &dyn Op) -> Option<Label> {
        if op.is::<Reshape>() || op.is::<Flatten>() || op.is::<Squeeze>() || op.is::<Unsqueeze>() {
            return self.reshaped();
        }
        if op.is::<Expand>() || op.is::<Tile>() {
            return self.repeated(op.is::<Tile>());
        }
        if let Some(op) = op.downcast_ref::<Transpose>() {
            let (axis, per) = self.lone_rows()?;
            let rank = self.rank(0)?;
            let axis = match &op.perm {
                Some(perm) => perm.iter().position(|&from| from == axis)?,
                None => rank - 1 - axis,
            };
            return Some(Label::Rows { axis, per });
        }
        if let Some(op) = op.downcast_ref::<Concat>() {
            let joined = self.input(0)?.large.axis(op.axis).ok()?;
            let (axis, per) = self.rows_of(0).filter(|(axis, _)| *axis != joined)?;
            let all = self.inputs.iter().flatten().all(|input| input.label == Label::Rows { axis, per });
            return all.then_some(Label::Rows { axis, per });
        }
        if let Some(op) = op.downcast_ref::<Gather>() {
            let picked = self.input(0)?.large.axis(op.axis).ok()?;
            return match (self.input(0)?.label, self.input(1)?.label) {
                (Label::Rows { axis, per }, Label::Shared) if axis != picked => {
                    let axis = if axis < picked { axis } else { axis + self.rank(1)? - 1 };
                    Some(Label::Rows { axis, per })
                }
                (Label::Shared, Label::Rows { axis, per }) => Some(Label::Rows { axis: picked + axis, per }),
                _ => None,
            };
        }
        if let Some(op) = op.downcast_ref::<GatherElements>() {
            let picked = self.input(0)?.large.axis(op.axis).ok()?;
            let (axis, per) = self.rows_of(0).filter(|(axis, _)| *axis != picked)?;
            return (self.rows_of(1) == Some((axis, per))).then_some(Label::Rows { axis, per });
        }
        None
    }

    /// The same elements in another shape: the rows stay together where an axis begins where theirs began.
    fn reshaped(&self) -> Option<Label> {
        let (axis, _) = self.rows_of(0)?;
        self.is_told().then_some(())?;
        let before: usize = self.input(0)?.large[..axis].iter().product();
        let (large, small) = self.output()?;
        let (axis, per) = grown(large, small, self.rows)?;
        (large[..axis].iter().product::<usize>() == before).then_some(Label::Rows { axis, per })
    }

    /// Whether the lists behind the first input are known for either number of rows: what comes with a request says
    /// nothing of a part of it.
    fn is_told(&self) -> bool {
        self.inputs.iter().skip(1).flatten().all(|list| list.constant.is_some())
    }

    /// Copies along axes: of something shared, one for each row; of rows, along other axes.
    fn repeated(&self, tiles: bool) -> Option<Label> {
        let input = self.input(0).filter(|_| self.is_told())?;
        let (large, small) = self.output()?;
        let lead = large.rank().checked_sub(input.large.rank())?;
        match input.label {
            Label::Shared => {
                let (axis, per) = grown(large, small, self.rows)?;
                let own = axis.checked_sub(lead).map_or(1, |own| input.large[own]);
                let whole = if tiles { own > 0 && per.is_multiple_of(own) } else { own == 1 };
                whole.then_some(Label::Rows { axis, per })
            }
            Label::Rows { axis, per } if !tiles => Some(Label::Rows { axis: axis + lead, per }),
            _ => None,
        }
    }

    fn quantized(&self, op: &dyn Op) -> Option<Label> {
        let whole = |index: usize| self.input(index).is_none_or(|input| input.large.elements() == 1);
        let axis_of = |axis: i64| self.input(0).and_then(|input| input.large.axis(axis).ok());
        let (axis, per) = self.lone_rows()?;
        let quantized = op.downcast_ref::<QuantizeLinear>().map(|op| (op.axis, op.block_size));
        let apart = match quantized.or_else(|| op.downcast_ref::<DequantizeLinear>().map(|op| (op.axis, op.block_size)))
        {
            Some((along, block)) => (whole(1) && whole(2)) || (block == 0 && axis_of(along)? != axis),
            None if op.is::<MatMulNBits>() => axis + 1 < self.rank(0)?,
            None => {
                let gemm = op.downcast_ref::<Gemm>()?;
                let spread = self.input(2).is_none_or(|c| c.large.rank() < 2 || c.large[0] == 1);
                !gemm.trans_a && axis == 0 && spread
            }
        };
        apart.then_some(Label::Rows { axis, per })
    }

    /// Queries, keys and values with the batch in front, and what may stand beside them.
    fn attention(&self, op: &dyn Op) -> Option<Label> {
        let front = Label::Rows { axis: 0, per: 1 };
        let is_front = |index: usize| self.input(index).is_some_and(|input| input.label == front);
        let rest = |from: usize| (from..self.inputs.len()).all(|index| self.input(index).is_none());
        let rank = |index: usize| self.rank(index).unwrap_or(0);
        if op.is::<Attention>() {
            let mask = match self.input(3) {
                None => true,
                Some(mask) if mask.label == Label::Shared => rank(3) < 4 || mask.large[0] == 1,
                Some(_) => is_front(3) && rank(3) == 4,
            };
            let single = self.outputs.iter().skip(1).all(Option::is_none);
            return (is_front(0) && is_front(1) && is_front(2) && mask && rest(4) && single).then_some(front);
        }
        if op.is::<RotaryEmbedding>() {
            let caches = (1..3).all(|index| match self.input(index) {
                Some(input) => input.label == front || (input.label == Label::Shared && is_front(3)),
                None => false,
            });
            return (is_front(0) && caches && rest(4)).then_some(front);
        }
        None
    }

    /// Rows of the input, of the lengths and of the states; the outputs are the sequence and the last states.
    fn recurrent(&self, recurrence: &Recurrence) -> Option<Vec<Label>> {
        let [x, state, y] = if recurrence.batch_first { [0, 0, 0] } else { [1, 1, 2] };
        let at = |index: usize, axis: usize| {
            self.input(index).is_none_or(|input| input.label == Label::Rows { axis, per: 1 })
        };
        let shared = |index: usize| self.input(index).is_none_or(|input| input.label == Label::Shared);
        let weights = [1, 2, 3, 7].into_iter().all(shared);
        let fits = self.input(0).is_some() && at(0, x) && weights && at(4, 0) && at(5, state) && at(6, state);
        let rows = |axis: usize| Label::Rows { axis, per: 1 };
        fits.then(|| vec![rows(y), rows(state), rows(state)])
    }
}

/// Operators whose first input is a stack of images that do not meet.
fn is_of_images(op: &dyn Op) -> bool {
    let plain = op.is::<Conv>()
        || op.is::<ConvTranspose>()
        || op.is::<ConvInteger>()
        || op.is::<QLinearConv>()
        || op.is::<Pool>()
        || op.is::<GlobalPool>()
        || op.is::<InstanceNormalization>()
        || op.is::<GroupNormalization>()
        || op.is::<Lrn>()
        || op.is::<DepthToSpace>()
        || op.is::<SpaceToDepth>()
        || op.is::<Resize>();
    plain || op.downcast_ref::<BatchNormalization>().is_some_and(|norm| !norm.training)
}
