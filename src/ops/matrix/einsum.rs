//! `Einsum`: sums of products said by an equation of axis labels.

use super::product::Wide;
use crate::error::{Result, bail, ensure, err};
use crate::ops::numeric::{from_f64, from_i64};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};

/// Operands and result as labels of their axes, `ij,jk->ik`: what is missing on the right is summed. An ellipsis
/// stands for axes without labels, which broadcast; a label that an operand repeats takes its diagonal. Without `->`
/// the result has the ellipsis and then the labels that occur once, in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Einsum {
    /// The equation.
    pub equation: String,
}

/// An axis: a letter, or the n-th last of an ellipsis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Letter(u8),
    Ellipsis(usize),
}

/// One side of an equation's comma or arrow, before the ranks are known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    before: Vec<u8>,
    /// The letters behind an ellipsis, where there is one.
    after: Option<Vec<u8>>,
}

impl Term {
    fn parse(text: &str) -> Result<Self> {
        let letters = |part: &str| -> Result<Vec<u8>> {
            let bytes = part.bytes().collect::<Vec<u8>>();
            ensure!(bytes.iter().all(u8::is_ascii_alphabetic), InvalidModel, "{part} in an equation is no axis label");
            Ok(bytes)
        };
        match text.split_once("...") {
            Some((before, after)) => Ok(Term { before: letters(before)?, after: Some(letters(after)?) }),
            None => Ok(Term { before: letters(text)?, after: None }),
        }
    }

    fn letters(&self) -> impl Iterator<Item = u8> {
        self.before.iter().chain(self.after.iter().flatten()).copied()
    }

    /// How many axes the ellipsis stands for in an operand of this rank.
    fn unnamed(&self, rank: usize) -> Result<usize> {
        let named = self.letters().count();
        let fits = if self.after.is_some() { rank >= named } else { rank == named };
        ensure!(fits, Shape, "an operand of rank {rank} has {named} labels in the equation");
        Ok(rank - named)
    }

    fn labels(&self, unnamed: usize) -> Vec<Label> {
        let mut labels: Vec<Label> = self.before.iter().map(|&c| Label::Letter(c)).collect();
        if let Some(after) = &self.after {
            labels.extend((0..unnamed).rev().map(Label::Ellipsis));
            labels.extend(after.iter().map(|&c| Label::Letter(c)));
        }
        labels
    }
}

/// The labels of each operand and of the result.
struct Labels {
    operands: Vec<Vec<Label>>,
    result: Vec<Label>,
}

impl Einsum {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let Some(equation) = node.str("equation")? else { bail!(InvalidModel, "attribute equation is missing") };
        let op = Einsum { equation };
        let (terms, _) = op.parse()?;
        let count = node.input_count();
        ensure!(terms.len() == count, InvalidModel, "{} has {} operands, not {count}", op.equation, terms.len());
        Ok(op.into())
    }

    fn parse(&self) -> Result<(Vec<Term>, Option<Term>)> {
        let text: String = self.equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms = left.split(',').map(Term::parse).collect::<Result<Vec<_>>>()?;
        Ok((terms, right.map(Term::parse).transpose()?))
    }

    fn labels(&self, ranks: &[usize]) -> Result<Labels> {
        let (terms, result) = self.parse()?;
        ensure!(terms.len() == ranks.len(), Shape, "{} operands for {}", ranks.len(), self.equation);
        let unnamed = terms.iter().zip(ranks).map(|(t, &rank)| t.unnamed(rank)).collect::<Result<Vec<_>>>()?;
        let widest = unnamed.iter().copied().max().unwrap_or(0);
        let operands: Vec<Vec<Label>> = terms.iter().zip(&unnamed).map(|(t, &n)| t.labels(n)).collect();
        let result = match result {
            Some(term) => {
                let kept = term.after.is_some() || widest == 0;
                ensure!(kept, InvalidModel, "{} drops the axes of its ellipsis", self.equation);
                term.labels(widest)
            }
            None => {
                let all: Vec<u8> = terms.iter().flat_map(Term::letters).collect();
                let once = (0..=u8::MAX).filter(|c| all.iter().filter(|d| *d == c).count() == 1);
                (0..widest).rev().map(Label::Ellipsis).chain(once.map(Label::Letter)).collect()
            }
        };
        for (index, label) in result.iter().enumerate() {
            ensure!(!result[..index].contains(label), InvalidModel, "{} repeats a label of its result", self.equation);
            let known = operands.iter().flatten().any(|l| l == label);
            ensure!(known, InvalidModel, "{} has a label in its result that no operand has", self.equation);
        }
        Ok(Labels { operands, result })
    }
}

/// What is known of the length of a label over all operands.
fn length_of(label: Label, operands: &[Vec<Label>], dims: &[Vec<Dim>]) -> Result<Dim> {
    let axes = operands.iter().zip(dims).flat_map(|(labels, dims)| labels.iter().zip(dims));
    axes.filter(|(l, _)| **l == label).try_fold(Dim::Known(1), |length, (_, dim)| length.broadcast(dim))
}

/// A walk over an axis: its length, and how far each operand moves at a step.
struct Walk {
    length: usize,
    steps: Vec<usize>,
}

/// How many indices the axes have together; saturates.
fn total(walks: &[Walk]) -> usize {
    walks.iter().fold(1, |n, w| n.saturating_mul(w.length))
}

/// More products than this are refused: a few bytes of operands can ask for any number.
const MAX_PRODUCTS: usize = 1 << 40;

/// Sums of products over the axes `summed` for each index of the axes `kept`.
fn contract<T: Wide + Default>(operands: &[Vec<T>], one: T, kept: &[Walk], summed: &[Walk]) -> Vec<T> {
    let mut starts = vec![0; operands.len()];
    let mut kept_at = vec![0; kept.len()];
    let count = total(summed);
    let mut out = Vec::new();
    for _ in 0..total(kept) {
        let mut at = starts.clone();
        let mut summed_at = vec![0; summed.len()];
        let mut sum = T::default();
        for _ in 0..count {
            let (first, rest) = operands.split_first().map_or((one, &[][..]), |(first, rest)| (first[at[0]], rest));
            let factor = rest.iter().zip(&at[1..]).fold(one, |p, (v, &i)| T::default().plus_product(p, v[i]));
            sum = sum.plus_product(first, factor);
            step(summed, &mut summed_at, &mut at);
        }
        out.push(sum);
        step(kept, &mut kept_at, &mut starts);
    }
    out
}

/// Moves a counter and the operands' positions by one.
fn step(walks: &[Walk], counter: &mut [usize], at: &mut [usize]) {
    for (walk, slot) in walks.iter().zip(counter).rev() {
        *slot += 1;
        let wrapped = *slot == walk.length;
        for (position, by) in at.iter_mut().zip(&walk.steps) {
            *position = if wrapped { *position - by * (walk.length - 1) } else { *position + by };
        }
        if !wrapped {
            return;
        }
        *slot = 0;
    }
}

impl Op for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let facts = inputs.require_from(0)?;
        let first = facts.first().ok_or_else(|| err!(InvalidModel, "Einsum has no operand"))?;
        let dtype = first.dtype;
        let fits = dtype != DType::Bool && facts.iter().all(|f| f.dtype == dtype);
        ensure!(fits, Shape, "the operands are {facts:?}");
        let Some(dims) = facts.iter().map(|f| f.dims().map(<[Dim]>::to_vec)).collect::<Option<Vec<_>>>() else {
            return Ok(vec![Fact::unranked(dtype)]);
        };
        let ranks: Vec<usize> = dims.iter().map(Vec::len).collect();
        let labels = self.labels(&ranks)?;
        for &label in labels.operands.iter().flatten() {
            length_of(label, &labels.operands, &dims)?;
        }
        let shape = labels.result.iter().map(|&l| length_of(l, &labels.operands, &dims)).collect::<Result<_>>()?;
        Ok(vec![Fact::new(dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let tensors = inputs.require_from(0)?;
        let dims: Vec<Vec<Dim>> = tensors.iter().map(|t| t.shape().iter().map(|&d| Dim::Known(d)).collect()).collect();
        let ranks: Vec<usize> = dims.iter().map(Vec::len).collect();
        let Labels { operands, result } = self.labels(&ranks)?;
        let walk = |label: Label| -> Result<Walk> {
            let length = length_of(label, &operands, &dims)?.known().unwrap_or(0);
            let steps = operands.iter().zip(&tensors).map(|(labels, tensor)| {
                let strides = tensor.shape().strides();
                let own = |axis: &usize| labels[*axis] == label && tensor.shape()[*axis] != 1;
                (0..labels.len()).filter(own).map(|axis| strides[axis]).sum()
            });
            Ok(Walk { length, steps: steps.collect() })
        };
        let mut sums: Vec<Label> = Vec::new();
        for &label in operands.iter().flatten() {
            if !result.contains(&label) && !sums.contains(&label) {
                sums.push(label);
            }
        }
        let kept = result.iter().map(|&l| walk(l)).collect::<Result<Vec<_>>>()?;
        let summed = sums.iter().map(|&l| walk(l)).collect::<Result<Vec<_>>>()?;
        let shape: Shape = kept.iter().map(|w| w.length).collect();
        let products = shape.checked_len()?.saturating_mul(total(&summed));
        ensure!(products <= MAX_PRODUCTS, Limit, "{} takes {products} products", self.equation);
        budget.spend(products)?;
        let dtype = tensors[0].dtype();
        let y = if dtype.is_float() {
            let values = tensors.iter().map(|t| t.to_f64_vec()).collect::<Result<Vec<_>>>()?;
            from_f64(dtype, shape, contract(&values, 1.0, &kept, &summed))?
        } else {
            let values = tensors.iter().map(|t| t.to_i64_vec()).collect::<Result<Vec<_>>>()?;
            from_i64(dtype, shape, contract(&values, 1, &kept, &summed))?
        };
        Ok(vec![y])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().str("equation", &self.equation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Symbol;

    fn run(equation: &str, shapes: &[&[usize]]) -> Result<(Vec<usize>, Vec<i64>)> {
        let op = Einsum { equation: equation.to_owned() };
        let ramp = |shape: &&[usize]| Tensor::new(*shape, (0..shape.iter().product::<usize>() as i64).collect());
        let tensors: Vec<Tensor> = shapes.iter().map(ramp).collect::<Result<_>>()?;
        let facts: Vec<Fact> = tensors.iter().map(|t| Fact::concrete(t.dtype(), t.shape())).collect();
        let inferred = op.infer(Inputs::new(&facts.iter().map(Some).collect::<Vec<_>>()))?.remove(0);
        let y = op.eval(Inputs::new(&tensors.iter().map(Some).collect::<Vec<_>>()), &Budget::generous())?.remove(0);
        assert_eq!(inferred.concrete_shape().as_ref(), Some(y.shape()));
        Ok((y.shape().to_vec(), y.to_i64_vec()?))
    }

    #[test]
    fn equations() {
        type Case<'a> = (&'a str, &'a [&'a [usize]], &'a [usize], &'a [i64]);
        let cases: &[Case] = &[
            ("ij,jk->ik", &[&[2, 2], &[2, 2]], &[2, 2], &[2, 3, 6, 11]),
            ("ij,jk", &[&[2, 2], &[2, 2]], &[2, 2], &[2, 3, 6, 11]),
            ("ij->ji", &[&[2, 3]], &[3, 2], &[0, 3, 1, 4, 2, 5]),
            ("ba", &[&[2, 3]], &[3, 2], &[0, 3, 1, 4, 2, 5]),
            ("ii->i", &[&[2, 2]], &[2], &[0, 3]),
            ("ii", &[&[2, 2]], &[], &[3]),
            ("i,i", &[&[3], &[3]], &[], &[5]),
            ("i,j->ij", &[&[2], &[2]], &[2, 2], &[0, 0, 0, 1]),
            ("...ii->...i", &[&[2, 2, 2]], &[2, 2], &[0, 3, 4, 7]),
            ("... i j , j -> ... i", &[&[1, 2, 2], &[2]], &[1, 2], &[1, 3]),
            ("...i,...i->...", &[&[2, 1, 2], &[2, 2]], &[2, 2], &[1, 3, 3, 13]),
            ("->", &[&[]], &[], &[0]),
            ("ij->", &[&[0, 3]], &[], &[0]),
            ("i,i,i->", &[&[3], &[3], &[3]], &[], &[9]),
        ];
        for (equation, shapes, shape, values) in cases {
            assert_eq!(run(equation, shapes).unwrap(), (shape.to_vec(), values.to_vec()), "{equation}");
        }
    }

    #[test]
    fn wrong_equations_are_errors() {
        let cases: &[(&str, &[&[usize]])] = &[
            ("ij->ik", &[&[2, 2]]),
            ("ij->ii", &[&[2, 2]]),
            ("i", &[&[2, 2]]),
            ("i,j", &[&[2]]),
            ("i1", &[&[2, 2]]),
            ("ij,jk->ik", &[&[2, 2], &[3, 2]]),
            ("...i->i", &[&[2, 2]]),
            ("i...j...", &[&[2, 2]]),
        ];
        for (equation, shapes) in cases {
            assert!(run(equation, shapes).is_err(), "{equation}");
        }
    }

    #[test]
    fn endless_sums_are_refused() {
        let long = Tensor::new([4096], vec![1i64; 4096]).unwrap();
        let op = Einsum { equation: "a,b,c,d->".to_owned() };
        let error = op.eval(Inputs::new(&[Some(&long); 4]), &Budget::generous()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Limit);
    }

    #[test]
    fn a_batch_symbol_survives() {
        let n = Dim::Symbol(Symbol::new("N"));
        let a = Fact::new(DType::F32, vec![n.clone(), Dim::Known(3)]);
        let b = Fact::concrete(DType::F32, &[3, 5]);
        let op = Einsum { equation: "bi,io->bo".to_owned() };
        assert_eq!(op.infer(Inputs::new(&[Some(&a), Some(&b)])).unwrap()[0].dims().unwrap(), [n, Dim::Known(5)]);
    }
}
