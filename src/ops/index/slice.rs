//! `Slice`: every so many elements between two places of an axis.

use crate::error::{Result, ensure, err};
use crate::ops::layout::arithmetic::{distinct_axes, ints_to_input, list_len};
use crate::ops::layout::strided::{signed_strides, strided};
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// Ends at least this large mean the end of the axis, whatever its length; exporters write anything from 10^9 on.
const NO_END: i64 = 1_000_000_000;

/// Takes elements of some axes: inputs are x, starts, ends, and the optional axes and steps.
///
/// Places count from the end when negative and are clamped to the axis; a negative step goes backwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice;

/// The elements `first, first + step, ..` of an axis, `len` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    first: usize,
    step: i64,
    len: usize,
}

/// The elements that a start, an end and a step take of an axis.
fn take(length: usize, start: i64, end: i64, step: i64) -> Taken {
    let n = length.min(i64::MAX as usize) as i64;
    let place = |at: i64| if at < 0 { at.saturating_add(n) } else { at };
    if n == 0 {
        return Taken { first: 0, step, len: 0 };
    }
    let (first, span) = if step > 0 {
        let first = place(start).clamp(0, n);
        (first, place(end).clamp(0, n) - first)
    } else {
        // Not as numpy has it: a start before the front is the first element, going backwards too.
        let first = place(start).clamp(0, n - 1);
        (first, first - place(end).clamp(-1, n - 1))
    };
    let len = if span <= 0 { 0 } else { (span as u64).div_ceil(step.unsigned_abs()) as usize };
    Taken { first: first as usize, step, len }
}

/// A start or an end, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    At(i64),
    Length(Dim),
}

fn places(list: &Fact) -> Option<Vec<Place>> {
    if list.value.is_some() {
        return Some(list.integers()?.into_iter().map(Place::At).collect());
    }
    let place = |dim: Dim| match dim.known().map(i64::try_from) {
        Some(Ok(n)) => Place::At(n),
        _ => Place::Length(dim),
    };
    Some(list.lengths()?.into_iter().map(place).collect())
}

fn taken_length(dim: &Dim, start: &Place, end: &Place, step: i64) -> Dim {
    match (dim.known(), start, end) {
        (Some(length), Place::At(start), Place::At(end)) => Dim::Known(take(length, *start, *end, step).len),
        (None, Place::At(0), Place::At(end)) if step == 1 && *end >= NO_END => dim.clone(),
        (None, Place::At(-1), Place::At(end)) if step == -1 && *end < -NO_END => dim.clone(),
        // The first positions of a table, as many as a sequence is long. A sequence longer than the table meets an
        // error where both are added; at concrete shapes the length is exact anyway.
        (_, Place::At(0), Place::Length(end @ Dim::Symbol(_))) if step == 1 => match dim {
            Dim::Symbol(_) if end != dim => Dim::Unknown,
            Dim::Unknown => Dim::Unknown,
            _ => end.clone(),
        },
        _ => Dim::Unknown,
    }
}

impl Slice {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        ints_to_input(node, "starts", 1)?;
        ints_to_input(node, "ends", 2)?;
        ints_to_input(node, "axes", 3)?;
        Ok(Slice.into())
    }
}

/// Which axes are sliced and by which steps, for a tensor of this rank; `None` where that is not known.
fn axes_and_steps(inputs: Inputs<'_, Fact>, count: usize, rank: usize) -> Result<Option<(Vec<usize>, Vec<i64>)>> {
    let axes = match inputs.get(3) {
        None => Some((0..count as i64).collect()),
        Some(axes) => axes.integers(),
    };
    let steps = match inputs.get(4) {
        None => Some(vec![1; count]),
        Some(steps) => steps.integers(),
    };
    let (Some(axes), Some(steps)) = (axes, steps) else { return Ok(None) };
    let axes = distinct_axes(&axes, rank)?;
    ensure!(axes.len() == count && steps.len() == count, Shape, "starts, axes and steps differ in length");
    ensure!(!steps.contains(&0), InvalidInput, "a step of 0 never arrives");
    Ok(Some((axes, steps)))
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, starts, ends) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let unknown = || Fact::new(x.dtype, vec![Dim::Unknown; dims.len()]);
        let count = match (list_len(starts)?, list_len(ends)?) {
            (Some(starts), Some(ends)) => {
                ensure!(starts == ends, Shape, "{starts} starts and {ends} ends");
                starts
            }
            _ => return Ok(vec![unknown()]),
        };
        let Some((axes, steps)) = axes_and_steps(inputs, count, dims.len())? else { return Ok(vec![unknown()]) };
        let somewhere = || vec![Place::Length(Dim::Unknown); count];
        let starts = places(starts).unwrap_or_else(somewhere);
        let ends = places(ends).unwrap_or_else(somewhere);
        ensure!(starts.len() == count && ends.len() == count, Shape, "starts and ends differ in length");
        let mut sliced = dims.to_vec();
        for (i, &axis) in axes.iter().enumerate() {
            sliced[axis] = taken_length(&dims[axis], &starts[i], &ends[i], steps[i]);
        }
        let mut fact = Fact::new(x.dtype, sliced);
        if let (Some(content), [_], [Place::At(start)], [Place::At(end)], [step]) =
            (&x.content, dims, starts.as_slice(), ends.as_slice(), steps.as_slice())
        {
            let taken = take(content.len(), *start, *end, *step);
            let at = |i: usize| (taken.first as i64).checked_add((i as i64).checked_mul(taken.step)?);
            let pick = |i| content.get(usize::try_from(at(i)?).ok()?).cloned();
            fact.content = (0..taken.len).map(pick).collect();
        }
        Ok(vec![fact])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let (starts, ends) = (inputs.require(1)?.to_i64_vec()?, inputs.require(2)?.to_i64_vec()?);
        let facts: Vec<Option<Fact>> = (0..5).map(|i| inputs.get(i).map(|t| Fact::constant(t.clone()))).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let Some((axes, steps)) = axes_and_steps(Inputs::new(&facts), starts.len(), x.rank())? else {
            return Err(err!(InvalidModel, "axes and steps must be integers"));
        };
        let mut shape = x.shape().to_vec();
        let mut strides = signed_strides(x.shape());
        let mut first = 0;
        for (i, &axis) in axes.iter().enumerate() {
            let taken = take(shape[axis], starts[i], ends.get(i).copied().unwrap_or(0), steps[i]);
            shape[axis] = taken.len;
            first += taken.first * strides[axis] as usize;
            // A step past the axis is never made, so it may saturate.
            strides[axis] = strides[axis].saturating_mul(taken.step as isize);
        }
        if shape.contains(&0) {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        for (stride, _) in strides.iter_mut().zip(&shape).filter(|(_, length)| **length == 1) {
            *stride = 0;
        }
        Ok(vec![strided(x, Shape::from(shape), first, &strides)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;
    use crate::ops::testing::{infer_one, inputs_read, run_one, symbol};
    use crate::tensor::DType;

    fn list(values: &[i64]) -> Tensor {
        Tensor::vector(values.to_vec())
    }

    #[test]
    fn places_are_clamped_and_steps_go_both_ways() {
        let x = Tensor::vector(vec![0u8, 1, 2, 3, 4]);
        for (start, end, step, expected) in [
            (1, 4, 1, vec![1u8, 2, 3]),
            (-2, i64::MAX, 1, vec![3, 4]),
            (0, -1, 2, vec![0, 2]),
            (-1, i64::MIN, -1, vec![4, 3, 2, 1, 0]),
            (9, 0, -2, vec![4, 2]),
            (3, 3, 1, vec![]),
            (4, 1, 1, vec![]),
            (-9, 9, 4, vec![0, 4]),
            (0, 5, i64::MAX, vec![0]),
            (4, i64::MIN, i64::MIN, vec![4]),
            (-9, i64::MIN, -1, vec![0]),
            (-9, -9, -1, vec![0]),
            (-9, 0, -1, vec![]),
        ] {
            let y = run_one(&Slice, &[&x, &list(&[start]), &list(&[end]), &list(&[0]), &list(&[step])]).unwrap();
            assert_eq!(y.as_slice::<u8>().unwrap(), expected, "{start}..{end} by {step}");
        }
        assert!(run_one(&Slice, &[&x, &list(&[0]), &list(&[1]), &list(&[0]), &list(&[0])]).is_err());
        assert!(run_one(&Slice, &[&x, &list(&[0]), &list(&[1]), &list(&[1])]).is_err());
        assert!(run_one(&Slice, &[&x, &list(&[0]), &list(&[1, 2])]).is_err());
    }

    #[test]
    fn several_axes_at_once() {
        let x = Tensor::new([2, 3, 2], (0..12i32).collect()).unwrap();
        let y = run_one(&Slice, &[&x, &list(&[2, 1]), &list(&[-9, 2]), &list(&[1, -1]), &list(&[-2, 1])]).unwrap();
        assert_eq!(y, Tensor::new([2, 2, 1], vec![5i32, 1, 11, 7]).unwrap());
        let y = run_one(&Slice, &[&x, &list(&[1]), &list(&[2])]).unwrap();
        assert_eq!(y.shape().to_vec(), [1, 3, 2]);
    }

    #[test]
    fn symbols_and_content_survive() {
        let constant = |v: &[i64]| Fact::constant(list(v));
        let x = Fact::new(DType::F32, vec![symbol("N"), Dim::Known(8)]);
        let y = infer_one(&Slice, &[&x, &constant(&[0, 2]), &constant(&[i64::MAX, 4])]).unwrap();
        assert_eq!(y.dims().unwrap(), [symbol("N"), Dim::Known(2)]);
        let end = Fact::concrete(DType::I64, &[1]).with_content(vec![symbol("N")]);
        assert_eq!(infer_one(&Slice, &[&x, &constant(&[0]), &end]).unwrap(), x);
        let shape = Fact::concrete(DType::I64, &[3]).with_content(vec![symbol("N"), Dim::Known(4), symbol("S")]);
        let y = infer_one(&Slice, &[&shape, &constant(&[0]), &constant(&[2])]).unwrap();
        assert_eq!(y.lengths().unwrap(), [symbol("N"), Dim::Known(4)]);
    }

    #[test]
    fn old_attributes_become_inputs() {
        let attrs = [("starts", Attr::Ints(vec![0])), ("ends", Attr::Ints(vec![1])), ("axes", Attr::Ints(vec![-1]))];
        let added = inputs_read("Slice", 9, &attrs, 1).unwrap();
        assert_eq!(added.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
