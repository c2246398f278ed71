//! An `If` whose condition is known becomes the nodes of the branch that is taken.

use super::pattern::{constant, each};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::control::If;
use crate::ops::elementwise::{Unary, UnaryKind};
use std::any::Any;
use std::collections::HashMap;

pub(super) fn inline_branches(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| inlined(graph, node))
}

fn inlined(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<If>()?;
    let taken: bool = constant(graph, node.input(0)?)?.to_scalar().ok()?;
    let branch = if taken { &op.then_branch } else { &op.else_branch };
    let branch = (branch.as_ref() as &dyn Any).downcast_ref::<Graph>()?;
    let captures = node.inputs().get(node.inputs().len().checked_sub(op.captures)?..)?;
    let mut patch = Patch::new();
    let mut inside: HashMap<ValueId, Operand> = HashMap::new();
    for (inner, outer) in branch.inputs().iter().zip(captures) {
        inside.insert(*inner, (*outer)?.into());
    }
    for (_, inner) in branch.nodes().ok()? {
        let mut inputs: Vec<Option<Operand>> = Vec::with_capacity(inner.inputs().len());
        for input in inner.inputs() {
            inputs.push(match input {
                Some(input) => Some(operand(branch, &mut patch, &mut inside, *input)?),
                None => None,
            });
        }
        let made = patch.node(inner.name(), inner.op().clone(), &inputs, inner.outputs().len());
        for (output, made) in inner.outputs().iter().zip(made) {
            inside.extend(output.map(|output| (output, made)));
        }
    }
    for (outer, inner) in node.outputs().iter().zip(branch.outputs()) {
        let Some(outer) = outer else { continue };
        // Each output is a value of its own, whatever the branch hands through or yields twice.
        let value = operand(branch, &mut patch, &mut inside, *inner)?;
        let value = patch.op(node.name(), Unary(UnaryKind::Identity), &[value]);
        patch.replace(*outer, value);
    }
    Some(patch)
}

/// What stands outside for a value of the branch.
fn operand(
    branch: &Graph,
    patch: &mut Patch,
    inside: &mut HashMap<ValueId, Operand>,
    value: ValueId,
) -> Option<Operand> {
    if let Some(operand) = inside.get(&value) {
        return Some(*operand);
    }
    let constant = patch.constant(branch.value(value).name(), branch.constant_of(value)?.clone());
    inside.insert(value, constant);
    Some(constant)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;
    use crate::tensor::{DType, Fact, Tensor};
    use std::sync::Arc;

    /// `y = condition ? -x : x` and the sum of it with itself.
    fn chosen(condition: Option<bool>) -> Graph {
        let branch = |negated: bool| {
            let mut body = Graph::new("branch");
            let x = body.input("x", Fact::concrete(DType::F32, &[2, 3])).unwrap();
            let y = if negated { body.op("neg", Unary(UnaryKind::Neg), &[x]).unwrap() } else { x };
            body.output(y).unwrap();
            Arc::new(body)
        };
        let (mut graph, x) = graph_of(&[2, 3]);
        let condition = match condition {
            Some(known) => graph.constant("known", Tensor::scalar(known)).unwrap(),
            None => graph.input("asked", Fact::concrete(DType::Bool, &[])).unwrap(),
        };
        let op = If { then_branch: branch(true), else_branch: branch(false), captures: 1 };
        let y = graph.op("if", op, &[condition, x]).unwrap();
        graph.output(y).unwrap();
        graph
    }

    #[test]
    fn a_known_condition_leaves_one_branch() {
        check(&mut chosen(Some(true)), inline_branches, &[ramp(&[2, 3])], 2);
        check(&mut chosen(Some(false)), inline_branches, &[ramp(&[2, 3])], 1);
    }

    #[test]
    fn an_unknown_condition_leaves_both() {
        for asked in [true, false] {
            check(&mut chosen(None), inline_branches, &[ramp(&[2, 3]), Tensor::scalar(asked)], 1);
        }
    }
}
