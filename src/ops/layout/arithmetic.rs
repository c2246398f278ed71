//! Shape arithmetic that many operators share: products and quotients of dimensions, lists of lengths, and concrete
//! shapes for an evaluation.

use crate::error::{Result, bail, ensure, err};
use crate::ops::{Inputs, NodeReader, Op};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// More axes than any real tensor has; a list of lengths that is longer is an attack.
pub(in crate::ops) const MAX_RANK: usize = 64;

/// Up to this many elements are tracked symbolically.
pub(in crate::ops) const MAX_CONTENT: usize = 64;

/// The product of dimensions; the empty product is 1.
pub(in crate::ops) fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::Known(1), |product, dim| product.times(dim))
}

/// What `whole` elements leave for one more axis beside `part`; symbols that stand in both cancel.
///
/// # Errors
/// [`Shape`](crate::ErrorKind::Shape) when everything is known and does not divide.
pub(in crate::ops) fn quotient(whole: &[Dim], part: &[Dim]) -> Result<Dim> {
    let mut symbols: Vec<&Dim> = whole.iter().filter(|d| matches!(d, Dim::Symbol(_))).collect();
    let unknown = |dims: &[Dim]| dims.contains(&Dim::Unknown);
    let mut certain = !unknown(whole) && !unknown(part);
    for dim in part.iter().filter(|d| matches!(d, Dim::Symbol(_))) {
        match symbols.iter().position(|s| *s == dim) {
            Some(index) => drop(symbols.swap_remove(index)),
            None => certain = false,
        }
    }
    if !certain {
        return Ok(Dim::Unknown);
    }
    let (whole_known, part_known) = (known_product(whole)?, known_product(part)?);
    Ok(match (symbols.as_slice(), whole_known, part_known) {
        ([], _, 0) => bail!(Shape, "a length cannot be found for -1 beside an axis of length 0"),
        ([], w, p) if w % p == 0 => Dim::Known(w / p),
        ([], w, p) => bail!(Shape, "{w} elements do not divide into groups of {p}"),
        ([symbol], w, p) if w == p && w > 0 => (*symbol).clone(),
        _ => Dim::Unknown,
    })
}

/// The product of the known dimensions among `dims`.
fn known_product(dims: &[Dim]) -> Result<usize> {
    dims.iter().filter_map(Dim::known).collect::<Shape>().checked_len()
}

/// How many elements a list has (a tensor of rank 1), where that is known.
///
/// # Errors
/// [`Shape`](crate::ErrorKind::Shape) when it is no list, [`Limit`](crate::ErrorKind::Limit) when it is longer than a
/// tensor may have axes.
pub(in crate::ops) fn list_len(list: &Fact) -> Result<Option<usize>> {
    let len = match list.dims() {
        None => return Ok(None),
        Some([len]) => len.known(),
        Some(_) => bail!(Shape, "expected a list (rank 1), found {list}"),
    };
    ensure!(len.is_none_or(|n| n <= 2 * MAX_RANK), Limit, "{list} is no list of lengths or axes: it is too long");
    Ok(len)
}

/// The axes of a tensor of `rank` that a list names, or all of them where there is no list; `None` where the list is
/// not known.
///
/// # Errors
/// [`Shape`](crate::ErrorKind::Shape) for an axis outside the tensor or named twice.
pub(in crate::ops) fn axes_of(axes: Option<&Fact>, rank: usize) -> Result<Option<Vec<usize>>> {
    let Some(axes) = axes else { return Ok(Some((0..rank).collect())) };
    let Some(axes) = axes.integers() else { return Ok(None) };
    distinct_axes(&axes, rank).map(Some)
}

/// The axes counted from the front, none of them twice.
pub(in crate::ops) fn distinct_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    ensure!(axes.len() <= rank, Shape, "{} axes are named in a tensor of rank {rank}", axes.len());
    let mut seen = vec![false; rank];
    axes.iter()
        .map(|&axis| {
            let axis = crate::tensor::normalize_axis(axis, rank)?;
            ensure!(!std::mem::replace(&mut seen[axis], true), Shape, "axis {axis} is named twice");
            Ok(axis)
        })
        .collect()
}

/// A length that came as an integer.
pub(in crate::ops) fn length(value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| err!(Shape, "a length of {value} is negative"))
}

/// The lengths that a list holds, as far as they are known; a negative constant is an error.
pub(in crate::ops) fn lengths_of(list: &Fact) -> Result<Option<Vec<Dim>>> {
    if let Some(negative) = list.value.as_ref().and(list.integers()).and_then(|v| v.into_iter().find(|&v| v < 0)) {
        bail!(Shape, "a length of {negative} is negative");
    }
    match list.lengths() {
        Some(lengths) => Ok(Some(lengths)),
        None => Ok(list_len(list)?.map(|len| vec![Dim::Unknown; len])),
    }
}

/// The facts of tensors that are there to be computed with.
pub(in crate::ops) fn infer_constant(op: &dyn Op, inputs: Inputs<'_, Tensor>) -> Result<Vec<Fact>> {
    let facts: Vec<Option<Fact>> =
        (0..inputs.count()).map(|i| inputs.get(i).map(|t| Fact::constant(t.clone()))).collect();
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    op.infer(Inputs::new(&facts))
}

/// The shape of the first output that inference makes of these inputs.
pub(in crate::ops) fn output_shape(op: &dyn Op, inputs: Inputs<'_, Tensor>) -> Result<Shape> {
    match infer_constant(op, inputs)?.first() {
        Some(fact) => fact.require_shape(),
        None => bail!(Internal, "{} has no output", op.name()),
    }
}

/// Where an older opset gives the integers `name` as an attribute, makes them the input `index`.
pub(in crate::ops) fn ints_to_input(node: &mut NodeReader, name: &str, index: usize) -> Result<()> {
    if let Some(values) = node.ints(name)? {
        ensure!(!node.has_input(index), InvalidModel, "{name} is given both as an attribute and as an input");
        node.set_input(index, Tensor::vector(values));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::symbol;

    #[test]
    fn quotients_cancel_symbols() {
        let n = || symbol("N");
        let known = |v: &[usize]| v.iter().map(|&d| Dim::Known(d)).collect::<Vec<_>>();
        let with_n = |v: &[usize]| [vec![n()], known(v)].concat();
        for (whole, part, expected) in [
            (known(&[2, 12]), known(&[3]), Dim::Known(8)),
            (with_n(&[4, 8]), known(&[32]), n()),
            (with_n(&[4, 8]), with_n(&[4]), Dim::Known(8)),
            (with_n(&[4, 8]), known(&[4]), Dim::Unknown),
            (known(&[8]), with_n(&[]), Dim::Unknown),
            (known(&[0, 5]), known(&[5]), Dim::Known(0)),
        ] {
            assert_eq!(quotient(&whole, &part).unwrap(), expected, "{whole:?} / {part:?}");
        }
        assert!(quotient(&known(&[7]), &known(&[2])).is_err());
        assert!(quotient(&known(&[0]), &known(&[0])).is_err());
        assert!(quotient(&known(&[usize::MAX, 4]), &known(&[2])).is_err());
    }

    #[test]
    fn lists_of_axes_and_lengths_are_checked() {
        assert_eq!(distinct_axes(&[-1, 0], 3).unwrap(), [2, 0]);
        assert!(distinct_axes(&[2, -1], 3).is_err());
        assert!(distinct_axes(&[3], 3).is_err());
        assert!(lengths_of(&Fact::constant(Tensor::vector(vec![2i64, -1]))).is_err());
        assert!(lengths_of(&Fact::concrete(crate::DType::I64, &[1 << 40])).is_err());
    }
}
