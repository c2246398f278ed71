//! Numpy broadcasting of facts, and of the lengths that small integer tensors hold.

use crate::error::{Result, bail};
use crate::tensor::{DType, Dim, Fact};

/// Lengths beyond this many are data, not a shape, and are not tracked.
const TRACKED: usize = 64;

/// The axes that broadcasting makes of all the facts together; `None` where a rank is not known.
///
/// # Errors
/// [`Shape`](crate::ErrorKind::Shape) when two known axes differ and neither is 1.
pub(crate) fn broadcast_dims(facts: &[&Fact]) -> Result<Option<Vec<Dim>>> {
    let Some(shapes) = facts.iter().map(|f| f.dims()).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::Known(1); rank];
    for shape in &shapes {
        let offset = rank - shape.len();
        for (axis, dim) in shape.iter().enumerate() {
            let Ok(joined) = out[offset + axis].broadcast(dim) else {
                bail!(
                    Shape,
                    "shapes {shapes:?} do not broadcast: axis {} has lengths {:?} and {dim:?}",
                    offset + axis,
                    out[offset + axis]
                )
            };
            out[offset + axis] = joined;
        }
    }
    Ok(Some(out))
}

/// The lengths that a value holds, where it is the kind of value that holds lengths: a few `i32` or `i64`.
pub(super) fn tracked_lengths(fact: &Fact) -> Option<Vec<Dim>> {
    let few = matches!(fact.dims()?, [] | [Dim::Known(0..=TRACKED)]);
    (few && matches!(fact.dtype, DType::I32 | DType::I64)).then(|| fact.lengths()).flatten()
}

/// The lengths that `f` makes of two lists of lengths, a list of one standing for as many as needed. Lengths that
/// `dtype` cannot hold become unknown.
pub(super) fn zip_lengths(a: &[Dim], b: &[Dim], dtype: DType, f: impl Fn(&Dim, &Dim) -> Dim) -> Option<Vec<Dim>> {
    let len = if a.len() == 1 { b.len() } else { a.len() };
    if (a.len() != len && a.len() != 1) || (b.len() != len && b.len() != 1) {
        return None;
    }
    let pick = |list: &[Dim], i: usize| if list.len() == 1 { list[0].clone() } else { list[i].clone() };
    Some((0..len).map(|i| held(f(&pick(a, i), &pick(b, i)), dtype)).collect())
}

/// The length, where `dtype` (`i32` or `i64`) can hold it.
pub(super) fn held(length: Dim, dtype: DType) -> Dim {
    let most = if dtype == DType::I32 { i32::MAX as usize } else { i64::MAX as usize };
    match length {
        Dim::Known(n) if n > most => Dim::Unknown,
        length => length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Symbol;

    #[test]
    fn ranks_align_at_the_last_axis() {
        let n = Dim::Symbol(Symbol::new("N"));
        let a = Fact::new(DType::F32, vec![n.clone(), 1.into(), 4.into()]);
        let b = Fact::concrete(DType::F32, &[3, 1]);
        assert_eq!(broadcast_dims(&[&a, &b]).unwrap(), Some(vec![n, 3.into(), 4.into()]));
        assert_eq!(broadcast_dims(&[&a, &Fact::unranked(DType::F32)]).unwrap(), None);
        assert!(broadcast_dims(&[&a, &Fact::concrete(DType::F32, &[5])]).is_err());
    }

    #[test]
    fn only_a_few_integers_are_taken_for_lengths() {
        let n = Dim::Symbol(Symbol::new("N"));
        let shape = Fact::concrete(DType::I64, &[1]).with_content(vec![n.clone()]);
        assert_eq!(tracked_lengths(&shape), Some(vec![n]));
        assert_eq!(tracked_lengths(&Fact::concrete(DType::I64, &[1 << 40])), None);
    }
}
