//! Arithmetic on lengths of axes: what elementwise operators make of a small integer tensor that holds a shape.

use super::BinaryKind;
use crate::tensor::{DType, Dim, Fact, Symbol};

/// More numbers than this are data, not a shape, and are not tracked.
const TRACKED: usize = 64;

/// The lengths that a value holds, where it is the kind of value that holds lengths: a few `i32` or `i64`.
pub(super) fn tracked(fact: &Fact) -> Option<Vec<Dim>> {
    may_hold_lengths(fact).then(|| fact.lengths()).flatten()
}

fn may_hold_lengths(fact: &Fact) -> bool {
    let few = matches!(fact.dims(), Some([] | [Dim::Known(0..=TRACKED)]));
    few && matches!(fact.dtype, DType::I32 | DType::I64)
}

/// The length, where `dtype` (`i32` or `i64`) can hold it.
pub(super) fn held(length: Dim, dtype: DType) -> Dim {
    let most = if dtype == DType::I32 { i32::MAX as usize } else { i64::MAX as usize };
    match length {
        Dim::Known(n) if n > most => Dim::Unknown,
        length => length,
    }
}

/// `f` of the pairs of two lists, a list of one standing for as many as needed.
fn zip<T, U>(a: &[T], b: &[T], f: impl Fn(&T, &T) -> U) -> Option<Vec<U>> {
    match (a, b) {
        ([a], b) => Some(b.iter().map(|b| f(a, b)).collect()),
        (a, [b]) => Some(a.iter().map(|a| f(a, b)).collect()),
        (a, b) => (a.len() == b.len()).then(|| a.iter().zip(b).map(|(a, b)| f(a, b)).collect()),
    }
}

/// What addition, subtraction, multiplication and division make of lengths; `None` for any other function.
pub(super) fn arithmetic(kind: BinaryKind, a: &Fact, b: &Fact) -> Option<Vec<Dim>> {
    if !matches!(kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul | BinaryKind::Div) {
        return None;
    }
    let length = |x: &Dim, y: &Dim| match (kind, x, y) {
        (BinaryKind::Add, x, y) => x.plus(y),
        (BinaryKind::Mul, x, y) => x.times(y),
        (BinaryKind::Sub, x, Dim::Known(0)) | (BinaryKind::Div, x, Dim::Known(1)) => x.clone(),
        (BinaryKind::Sub, Dim::Known(x), Dim::Known(y)) => x.checked_sub(*y).map_or(Dim::Unknown, Dim::Known),
        (BinaryKind::Sub, Dim::Symbol(x), Dim::Symbol(y)) if x == y => Dim::Known(0),
        (BinaryKind::Div, Dim::Known(x), Dim::Known(y)) => x.checked_div(*y).map_or(Dim::Unknown, Dim::Known),
        _ => Dim::Unknown,
    };
    zip(&tracked(a)?, &tracked(b)?, |x, y| held(length(x, y), a.dtype))
}

/// An element as far as equality can be decided: lengths are never negative, so a symbol differs from -1.
enum Element {
    Number(i64),
    Symbol(Symbol),
}

fn elements(fact: &Fact) -> Option<Vec<Element>> {
    if !may_hold_lengths(fact) {
        return None;
    }
    if let Some(value) = &fact.value {
        return Some(value.to_i64_vec().ok()?.into_iter().map(Element::Number).collect());
    }
    let known = |dim: &Dim| match dim {
        Dim::Known(n) => i64::try_from(*n).ok().map(Element::Number),
        Dim::Symbol(symbol) => Some(Element::Symbol(symbol.clone())),
        Dim::Unknown => None,
    };
    fact.content.as_ref()?.iter().map(known).collect()
}

/// Which lengths are equal, where that is known of every pair: exporters ask so for the wildcard -1 in a shape.
pub(super) fn equal(a: &Fact, b: &Fact) -> Option<Vec<bool>> {
    let decide = |a: &Element, b: &Element| match (a, b) {
        (Element::Number(a), Element::Number(b)) => Some(a == b),
        (Element::Symbol(a), Element::Symbol(b)) => (a == b).then_some(true),
        (Element::Symbol(_), Element::Number(n)) | (Element::Number(n), Element::Symbol(_)) => {
            (*n < 0).then_some(false)
        }
    };
    zip(&elements(a)?, &elements(b)?, decide)?.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn shape() -> Fact {
        let n = Dim::Symbol(Symbol::new("N"));
        Fact::concrete(DType::I64, &[2]).with_content(vec![n, Dim::Known(6)])
    }

    #[test]
    fn only_a_few_integers_are_taken_for_lengths() {
        assert_eq!(tracked(&shape()), shape().content);
        assert_eq!(tracked(&Fact::concrete(DType::I64, &[1 << 40])), None);
        assert_eq!(tracked(&Fact { dtype: DType::F32, ..shape() }), None);
    }

    #[test]
    fn a_symbol_is_no_wildcard() {
        let wildcards = Fact::constant(Tensor::vector(vec![-1i64, -1]));
        assert_eq!(equal(&shape(), &wildcards), Some(vec![false, false]));
        assert_eq!(equal(&shape(), &shape()), Some(vec![true, true]));
        assert_eq!(equal(&shape(), &Fact::constant(Tensor::scalar(6i64))), None);
        assert_eq!(equal(&shape(), &Fact::constant(Tensor::vector(vec![1i64, 2, 3]))), None);
    }

    #[test]
    fn what_a_dtype_cannot_hold_is_unknown() {
        let big = Fact::constant(Tensor::scalar(1i32 << 30));
        let shape = Fact { dtype: DType::I32, ..shape() };
        assert_eq!(arithmetic(BinaryKind::Mul, &shape, &big), Some(vec![Dim::Unknown; 2]));
    }
}
