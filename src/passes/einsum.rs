//! `Einsum` of one or two operands spelled out in transpositions, sums and one matrix product.

use super::pattern::each;
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::layout::{Reshape, Transpose, Unsqueeze};
use crate::ops::matrix::{Einsum, MatMul};
use crate::ops::reduce::{Reduce, ReduceKind};
use crate::tensor::{Dim, Tensor};

pub(super) fn spell_einsum(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| spelled(graph, node))
}

/// An operand on its way: its value, and the letter and length of each of its axes.
struct Term {
    value: Operand,
    axes: Vec<(u8, Dim)>,
}

impl Term {
    fn has(&self, label: u8) -> bool {
        self.axes.iter().any(|(own, _)| *own == label)
    }

    fn length(&self, label: u8) -> Option<&Dim> {
        self.axes.iter().find(|(own, _)| *own == label).map(|(_, dim)| dim)
    }

    /// The labels that `keep` names, in the order in which the axes lie.
    fn labels(&self, keep: impl Fn(u8) -> bool) -> Vec<u8> {
        self.axes.iter().map(|(label, _)| *label).filter(|label| keep(*label)).collect()
    }

    /// With its axes in this order.
    fn ordered(&mut self, patch: &mut Patch, order: &[u8]) -> Option<()> {
        let place = |label: &u8| self.axes.iter().position(|(own, _)| own == label);
        let perm: Vec<usize> = order.iter().map(place).collect::<Option<_>>()?;
        if !perm.iter().copied().eq(0..self.axes.len()) {
            self.axes = perm.iter().map(|&axis| self.axes[axis].clone()).collect();
            self.value = patch.op("ordered", Transpose { perm: Some(perm) }, &[self.value]);
        }
        Some(())
    }

    /// Without the axes that nothing else names: they are summed.
    fn summed(&mut self, patch: &mut Patch, keep: impl Fn(u8) -> bool) {
        let gone: Vec<i64> = (0..).zip(&self.axes).filter(|(_, (label, _))| !keep(*label)).map(|(at, _)| at).collect();
        if !gone.is_empty() {
            let axes = patch.constant("axes", Tensor::vector(gone));
            let sum = Reduce { kind: ReduceKind::Sum, keep_dims: false, noop_with_empty_axes: false };
            self.value = patch.op("summed", sum, &[self.value, axes]);
            self.axes.retain(|(label, _)| keep(*label));
        }
    }
}

/// A letter for each axis, each once; an ellipsis and diagonals are left to the operator.
fn letters(text: &str) -> Option<Vec<u8>> {
    let letters = text.as_bytes().to_vec();
    let once = letters.iter().enumerate().all(|(at, label)| !letters[..at].contains(label));
    (once && letters.iter().all(u8::is_ascii_alphabetic)).then_some(letters)
}

fn spelled(graph: &Graph, node: &Node) -> Option<Patch> {
    let equation: String =
        node.op().downcast_ref::<Einsum>()?.equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = equation.split_once("->")?;
    let result = letters(result)?;
    let mut terms: Vec<Term> = Vec::new();
    for (text, value) in operands.split(',').zip(node.inputs()) {
        let value: ValueId = (*value)?;
        let fact = graph.fact(value);
        let (labels, dims) = (letters(text)?, fact.dims().filter(|_| fact.dtype.is_float())?);
        if labels.len() != dims.len() || dims.contains(&Dim::Unknown) {
            return None;
        }
        terms.push(Term { value: value.into(), axes: labels.into_iter().zip(dims.iter().cloned()).collect() });
    }
    let mut patch = Patch::new();
    let mut terms = terms.into_iter();
    let mut y = match (terms.next(), terms.next(), terms.next()) {
        (Some(mut one), None, None) => {
            one.summed(&mut patch, |label| result.contains(&label));
            one
        }
        (Some(a), Some(b), None) => product(&mut patch, a, b, &result)?,
        _ => return None,
    };
    if y.axes.len() != result.len() {
        return None;
    }
    y.ordered(&mut patch, &result)?;
    match y.value {
        Operand::Existing(_) => None,
        made => {
            patch.replace(node.output(0)?, made);
            Some(patch)
        }
    }
}

fn product(patch: &mut Patch, mut a: Term, mut b: Term, result: &[u8]) -> Option<Term> {
    // A label of both operands has one length: broadcasting is left to the operator.
    if a.axes.iter().any(|(label, dim)| b.length(*label).is_some_and(|other| other != dim)) {
        return None;
    }
    let in_b = b.labels(|_| true);
    a.summed(patch, |label| result.contains(&label) || in_b.contains(&label));
    let in_a = a.labels(|_| true);
    b.summed(patch, |label| result.contains(&label) || in_a.contains(&label));
    let batch = a.labels(|label| b.has(label) && result.contains(&label));
    let contracted = b.labels(|label| a.has(label) && !result.contains(&label));
    let (free_a, free_b) = (a.labels(|label| !b.has(label)), b.labels(|label| !a.has(label)));
    if contracted.is_empty() {
        return elementwise(patch, a, b, &batch, [&free_a, &free_b]);
    }
    a.ordered(patch, &[&batch[..], &free_a, &contracted].concat())?;
    b.ordered(patch, &[&batch[..], &contracted, &free_b].concat())?;
    let axes: Vec<(u8, Dim)> = {
        let of = |term: &Term, labels: &[u8]| -> Option<Vec<(u8, Dim)>> {
            labels.iter().map(|label| Some((*label, term.length(*label)?.clone()))).collect()
        };
        [of(&a, &batch)?, of(&a, &free_a)?, of(&b, &free_b)?].concat()
    };
    // Several axes become one; without a batch the rows may keep theirs.
    let rows = if batch.is_empty() { vec![1; free_a.len()] } else { vec![free_a.len()] };
    let before = vec![1; batch.len()];
    let x = merged(patch, &a, &[&before[..], &rows, &[contracted.len()]].concat())?;
    let w = merged(patch, &b, &[&before[..], &[contracted.len(), free_b.len()]].concat())?;
    let value = patch.op("product", MatMul, &[x, w]);
    let kept = rows.iter().all(|n| *n == 1) && (free_b.len() == 1);
    let value = if kept {
        value
    } else {
        reshaped(patch, value, &axes.iter().map(|(_, d)| vec![d.clone()]).collect::<Vec<_>>())?
    };
    Some(Term { value, axes })
}

/// Nothing is summed over both: each operand gets the axes that the other alone has, of length 1.
fn elementwise(patch: &mut Patch, mut a: Term, mut b: Term, batch: &[u8], free: [&[u8]; 2]) -> Option<Term> {
    a.ordered(patch, &[batch, free[0]].concat())?;
    b.ordered(patch, &[batch, free[1]].concat())?;
    let mut widened = |value: Operand, first: usize, count: usize| {
        if count == 0 {
            return value;
        }
        let axes: Vec<i64> = (first..first + count).filter_map(|axis| i64::try_from(axis).ok()).collect();
        let axes = patch.constant("axes", Tensor::vector(axes));
        patch.op("widened", Unsqueeze, &[value, axes])
    };
    let x = widened(a.value, a.axes.len(), free[1].len());
    let w = widened(b.value, batch.len(), free[0].len());
    let axes = [&a.axes[..], &b.axes[batch.len()..]].concat();
    Some(Term { value: patch.op("product", Binary(BinaryKind::Mul), &[x, w]), axes })
}

/// The axes of a term joined in groups of so many.
fn merged(patch: &mut Patch, term: &Term, groups: &[usize]) -> Option<Operand> {
    if groups.iter().all(|n| *n == 1) {
        return Some(term.value);
    }
    let mut left = term.axes.iter().map(|(_, dim)| dim.clone());
    let groups: Vec<Vec<Dim>> = groups.iter().map(|n| left.by_ref().take(*n).collect()).collect();
    reshaped(patch, term.value, &groups)
}

/// In the lengths that the products of these are; at most one of them may not be known yet.
fn reshaped(patch: &mut Patch, value: Operand, groups: &[Vec<Dim>]) -> Option<Operand> {
    let length = |group: &Vec<Dim>| -> i64 {
        let product = group.iter().try_fold(1usize, |n, dim| n.checked_mul(dim.known()?));
        product.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1)
    };
    let target: Vec<i64> = groups.iter().map(length).collect();
    if target.iter().filter(|n| **n < 0).count() > 1 || (target.contains(&0)) {
        return None;
    }
    let target = patch.constant("shape", Tensor::vector(target));
    Some(patch.op("joined", Reshape::default(), &[value, target]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{graph_of, ramp};
    use super::*;

    #[test]
    fn equations_are_products() {
        let cases: &[(&str, &[usize], &[usize], bool)] = &[
            ("bhid,bhjd->bhij", &[2, 3, 4, 5], &[2, 3, 6, 5], true),
            ("bihd,bjhd->bhij", &[2, 4, 3, 5], &[2, 6, 3, 5], true),
            ("bhij,bjhd->bihd", &[2, 3, 4, 6], &[2, 6, 3, 5], true),
            ("ncvl,cw->nwvl", &[2, 3, 4, 5], &[3, 6], true),
            ("bld,dhk->blhk", &[2, 3, 4], &[4, 5, 2], true),
            ("blhk,hkd->bld", &[2, 3, 4, 5], &[4, 5, 6], true),
            ("i,j->ij", &[3], &[4], true),
            ("i,i->", &[3], &[3], true),
            ("bij,bij->bij", &[2, 3, 4], &[2, 3, 4], true),
            ("bij,bi->bij", &[2, 3, 4], &[2, 3], true),
            ("ij,jk->k", &[3, 4], &[4, 5], true),
            ("bi,bi->b", &[2, 3], &[2, 3], true),
            ("ij,jk->ki", &[3, 4], &[4, 5], true),
            ("ii,jk->ik", &[3, 3], &[4, 5], false),
            ("ij,jk->ik", &[3, 4], &[1, 5], false),
            ("...ij,jk->...ik", &[2, 3, 4], &[4, 5], false),
        ];
        for (equation, left, right, spells) in cases {
            let (mut graph, x) = graph_of(left);
            let w = graph.constant("w", ramp(right)).unwrap();
            let y = graph.op("y", Einsum { equation: (*equation).to_owned() }, &[x, w]).unwrap();
            graph.output(y).unwrap();
            let before = graph.interpret(&[ramp(left)]).unwrap();
            let changed = spell_einsum(&mut graph).unwrap();
            assert_eq!(changed == 1, *spells, "{equation}");
            graph.verify().unwrap();
            let after = graph.interpret(&[ramp(left)]).unwrap();
            assert_eq!(after[0].shape(), before[0].shape(), "{equation}");
            for (a, b) in after[0].to_f64_vec().unwrap().iter().zip(before[0].to_f64_vec().unwrap()) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{equation}: {a} against {b}");
            }
        }
    }

    #[test]
    fn one_operand_is_turned_and_summed() {
        for (equation, nodes) in [("ijk->ki", 2), ("ijk->kji", 1), ("ijk->", 1), ("ijk->ijk", 1)] {
            let (mut graph, x) = graph_of(&[2, 3, 4]);
            let y = graph.op("y", Einsum { equation: equation.to_owned() }, &[x]).unwrap();
            graph.output(y).unwrap();
            super::super::testing::check(&mut graph, spell_einsum, &[ramp(&[2, 3, 4])], nodes);
        }
    }
}
