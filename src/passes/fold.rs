//! Computes what depends on constants alone, where that does not make the model much larger.

use super::pattern::constant;
use super::qdq;
use crate::error::Result;
use crate::graph::{Graph, Node, Patch, ValueId};
use crate::ops::elementwise::Cast;
use crate::ops::fused::{ChannelsLast, Epilogue};
use crate::ops::layout::Transpose;
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::nn::{Conv, ConvTranspose};
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::ops::{Budget, Inputs, Op};
use crate::tensor::{DType, Fact, Spare, Tensor};
use std::collections::{BTreeMap, HashMap};

/// A folded value may have this many bytes whatever it came from; past that, no more than twice its inputs.
const ALWAYS: usize = 1 << 20;

pub(super) fn fold_constants(graph: &mut Graph, budget: &Budget) -> Result<usize> {
    fold(graph, budget, false)
}

/// Dequantizes the constants that no product took as integers.
pub(super) fn fold_unquantized(graph: &mut Graph, budget: &Budget) -> Result<usize> {
    fold(graph, budget, true)
}

fn fold(graph: &mut Graph, budget: &Budget, unquantized: bool) -> Result<usize> {
    let mut folding = Folding {
        unquantized,
        made: BTreeMap::new(),
        uses: graph.order()?.iter().flat_map(|id| graph.get(*id)).fold(HashMap::new(), count_uses),
        budget,
    };
    graph.outputs().iter().for_each(|id| *folding.uses.entry(*id).or_default() += 1);
    let mut folded = 0;
    for (_, node) in graph.nodes()? {
        folded += usize::from(folding.node(graph, node));
    }
    let mut patch = Patch::new();
    for (id, value) in folding.made {
        let constant = patch.constant(graph.value(id).name(), value);
        patch.replace(id, constant);
    }
    if folded > 0 {
        graph.apply(patch)?;
    }
    Ok(folded)
}

fn count_uses(mut uses: HashMap<ValueId, usize>, node: &Node) -> HashMap<ValueId, usize> {
    node.inputs().iter().flatten().for_each(|id| *uses.entry(*id).or_default() += 1);
    uses
}

/// What one walk over the graph has computed. All of it goes into one patch, since each patch looks at every node.
struct Folding<'b> {
    /// Only the conversions of constants are computed, which may then grow.
    unquantized: bool,
    /// Values that something which is not folded takes.
    made: BTreeMap<ValueId, Tensor>,
    uses: HashMap<ValueId, usize>,
    budget: &'b Budget,
}

impl Folding<'_> {
    /// Computes the outputs of a node whose inputs are constants; false where that cannot or should not be.
    fn node(&mut self, graph: &Graph, node: &Node) -> bool {
        let Some(values) = self.values(graph, node) else { return false };
        for (output, value) in node.outputs().iter().zip(values) {
            if let Some(output) = output
                && self.uses.contains_key(output)
            {
                self.budget.keep(&value);
                self.made.insert(*output, value);
            }
        }
        for input in node.inputs().iter().flatten() {
            if let Some(uses) = self.uses.get_mut(input) {
                *uses -= 1;
                if *uses == 0
                    && let Some(value) = self.made.remove(input)
                {
                    self.budget.release(&value);
                }
            }
        }
        true
    }

    /// The outputs of a node. One that fails is left to fail when it runs, since it may stand in a branch that never
    /// does.
    fn values(&self, graph: &Graph, node: &Node) -> Option<Vec<Tensor>> {
        let op = node.op();
        let converts = op.is::<DequantizeLinear>();
        let later = if self.unquantized { !converts } else { converts && stays_quantized(graph, node) };
        if !op.is_pure() || later {
            return None;
        }
        if let Some(told) = told(graph, node) {
            return Some(told);
        }
        let known = |id: ValueId| self.made.get(&id).or_else(|| graph.constant_of(id));
        let inputs: Vec<Option<&Tensor>> =
            node.inputs().iter().map(|v| v.map_or(Some(None), |v| known(v).map(Some))).collect::<Option<_>>()?;
        let facts: Vec<Option<Fact>> = inputs.iter().map(|v| v.map(|v| Fact::constant(v.clone()))).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let given: usize = inputs.iter().flatten().map(|v| v.len() * v.dtype().size()).sum();
        let mut made = 0usize;
        let outputs = op.infer(Inputs::new(&facts)).ok()?;
        for fact in &outputs {
            made = made.saturating_add(fact.bytes()?);
        }
        let growth = if self.unquantized { 4 } else { 2 };
        if made > ALWAYS.max(given.saturating_mul(growth)) {
            return None;
        }
        self.budget.admit_bytes(made).ok()?;
        self.budget.step().ok()?;
        self.budget.spend_on(op.as_ref(), Inputs::new(&inputs), &outputs).ok()?;
        if let Some(deferred) = deferred(op.as_ref(), inputs.first().copied().flatten()?) {
            return Some(vec![deferred]);
        }
        let mut spare = Spare::default();
        let read: Vec<Option<Tensor>> = inputs.iter().map(|v| v.map(|v| v.for_one_reading(&mut spare))).collect();
        let read: Vec<Option<&Tensor>> = read.iter().map(Option::as_ref).collect();
        let values = op.eval(Inputs::new(&read), self.budget).ok()?;
        (values.len() >= node.outputs().len()).then_some(values)
    }
}

/// What is made of a constant when it is read, where that is known how.
fn deferred(op: &dyn Op, x: &Tensor) -> Option<Tensor> {
    if let Some(transpose) = op.downcast_ref::<Transpose>() {
        return (transpose.permutation(x.rank()).ok()? == [1, 0]).then(|| x.turned().ok())?;
    }
    let widens = op.downcast_ref::<Cast>()?.to == DType::F32 && matches!(x.dtype(), DType::F16 | DType::BF16);
    widens.then(|| x.widened().ok())?
}

/// True where a product takes the dequantized constant, which wants its weights as integers, or a node that moves
/// elements, behind which the conversion can go.
fn stays_quantized(graph: &Graph, node: &Node) -> bool {
    let wants = |op: &dyn Op| {
        op.is::<Conv>()
            || op.is::<ConvTranspose>()
            || op.is::<MatMul>()
            || op.is::<Gemm>()
            || op.is::<Epilogue>()
            || op.is::<ChannelsLast>()
            || op.is::<QuantizeLinear>()
            || qdq::moves_elements(op)
    };
    if node.input(0).is_some_and(|bytes| graph.fact(bytes).dtype == DType::I32) {
        // A bias.
        return false;
    }
    let users = node.output(0).map_or(&[][..], |value| graph.value(value).users());
    users.iter().filter_map(|user| graph.get(*user)).any(|user| wants(user.op().as_ref()))
}

/// The outputs where inference tells them, as it does for `Shape` of a known shape, whose input is no constant.
fn told(graph: &Graph, node: &Node) -> Option<Vec<Tensor>> {
    node.outputs().iter().map(|output| constant(graph, (*output)?).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::ops::elementwise::{Binary, BinaryKind, CastLike};
    use crate::ops::layout::ShapeOf;

    fn fold(graph: &mut Graph) -> Result<usize> {
        fold_constants(graph, &Budget::generous())
    }

    #[test]
    fn what_stays_unquantized_is_dequantized_in_the_end() {
        let (mut graph, x) = graph_of(&[2, 2]);
        let q = graph.constant("q", Tensor::new([2, 2], vec![1i8, -2, 3, 4]).unwrap()).unwrap();
        let scale = graph.constant("scale", Tensor::scalar(0.5f32)).unwrap();
        let w = graph.op("w", DequantizeLinear::default(), &[q, scale]).unwrap();
        let y = graph.op("y", MatMul, &[x, w]).unwrap();
        graph.output(y).unwrap();
        let late = |graph: &mut Graph| fold_unquantized(graph, &Budget::generous());
        check(&mut graph, late, &[ramp(&[2, 2])], 1);
    }

    #[test]
    fn what_inference_tells_is_folded() {
        let (mut graph, x) = graph_of(&[2, 3]);
        let two = graph.constant("two", Tensor::scalar(2i32)).unwrap();
        let like = graph.op("like", CastLike, &[two, x]).unwrap();
        let shape = graph.op("shape", ShapeOf { start: 1, end: None }, &[x]).unwrap();
        let length = graph.op("length", Cast { to: DType::F32 }, &[shape]).unwrap();
        let scaled = graph.op("scaled", Binary(BinaryKind::Mul), &[x, like]).unwrap();
        let y = graph.op("y", Binary(BinaryKind::Add), &[scaled, length]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, fold, &[ramp(&[2, 3])], 2);
    }

    #[test]
    fn a_dequantized_constant_stays_for_a_product_alone() {
        for (product, nodes) in [(true, 2), (false, 1)] {
            let (mut graph, x) = graph_of(&[2, 2]);
            let q = graph.constant("q", Tensor::new([2, 2], vec![1i8, -2, 3, 4]).unwrap()).unwrap();
            let scale = graph.constant("scale", Tensor::scalar(0.5f32)).unwrap();
            let w = graph.op("w", DequantizeLinear::default(), &[q, scale]).unwrap();
            let y = match product {
                true => graph.op("y", MatMul, &[x, w]),
                false => graph.op("y", Binary(BinaryKind::Mul), &[x, w]),
            };
            graph.output(y.unwrap()).unwrap();
            check(&mut graph, fold, &[ramp(&[2, 2])], nodes);
        }
    }
}
