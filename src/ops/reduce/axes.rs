//! Which axes a reduction goes over, and what it leaves of a shape.

use crate::error::{Result, bail};
use crate::tensor::{Dim, normalize_axis};

/// For each axis of a tensor of rank `rank` whether it is reduced. No axes, or an empty list, mean all of them, or none
/// where `noop` is set.
pub(super) fn reduced_axes(axes: Option<&[i64]>, rank: usize, noop: bool) -> Result<Vec<bool>> {
    let axes = axes.unwrap_or(&[]);
    if axes.is_empty() {
        return Ok(vec![!noop; rank]);
    }
    let mut reduced = vec![false; rank];
    for &axis in axes {
        let index = normalize_axis(axis, rank)?;
        if std::mem::replace(&mut reduced[index], true) {
            bail!(InvalidModel, "axis {axis} is named twice in {axes:?}");
        }
    }
    Ok(reduced)
}

/// `dims` with the reduced axes of length 1, or without them.
pub(super) fn remaining<T: Clone>(dims: &[T], reduced: &[bool], keep_dims: bool, one: &T) -> Vec<T> {
    let axes = dims.iter().zip(reduced);
    if keep_dims {
        axes.map(|(dim, &reduced)| if reduced { one.clone() } else { dim.clone() }).collect()
    } else {
        axes.filter(|(_, reduced)| !**reduced).map(|(dim, _)| dim.clone()).collect()
    }
}

/// What is left of `dims` when `count` axes, not known which, are reduced.
pub(super) fn remaining_of_unknown(dims: &[Dim], count: Option<usize>, keep_dims: bool) -> Option<Vec<Dim>> {
    if keep_dims {
        return Some(vec![Dim::Unknown; dims.len()]);
    }
    let left = dims.len().checked_sub(count?)?;
    Some(vec![Dim::Unknown; left])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_axes_mean_all_or_none() {
        assert_eq!(reduced_axes(None, 2, false).unwrap(), [true, true]);
        assert_eq!(reduced_axes(Some(&[]), 2, true).unwrap(), [false, false]);
        assert_eq!(reduced_axes(Some(&[-1]), 3, true).unwrap(), [false, false, true]);
        assert!(reduced_axes(Some(&[3]), 3, false).is_err());
        assert!(reduced_axes(Some(&[0, -2]), 2, false).is_err());
    }

    #[test]
    fn reduced_axes_stay_as_one_or_go() {
        assert_eq!(remaining(&[2, 3, 4], &[false, true, false], true, &1), [2, 1, 4]);
        assert_eq!(remaining(&[2, 3, 4], &[false, true, false], false, &1), [2, 4]);
    }
}
