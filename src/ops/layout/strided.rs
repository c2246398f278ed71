//! Moving elements without reading them: by strides, or by one index map for each axis.
//!
//! Every operator here that copies is one of the two; only the element size matters, not the dtype.

use crate::error::{Result, err};
use crate::tensor::{Element, Shape, Tensor, with_bits};
use bytemuck::AnyBitPattern;

/// Row-major strides of a shape, as signed numbers; a shape without elements has strides that nobody uses.
pub(in crate::ops) fn signed_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(isize::try_from(shape[axis]).unwrap_or(isize::MAX));
    }
    strides
}

/// The tensor of `shape` whose element `[i, j, ..]` is element `start + i * strides[0] + j * strides[1] + ..` of `x`.
pub(in crate::ops) fn strided(x: &Tensor, shape: Shape, start: usize, strides: &[isize]) -> Result<Tensor> {
    if shape.checked_len()? == 0 {
        return Tensor::zeros(x.dtype(), shape);
    }
    with_bits!(x.dtype().size(), T => {
        let moved = walk(x.bits::<T>()?, &shape, start as isize, strides);
        Tensor::from_bits(x.dtype(), shape, moved.ok_or_else(outside)?)
    })
}

fn outside() -> crate::Error {
    err!(Internal, "an element outside the tensor was asked for")
}

fn walk<T: Element + AnyBitPattern>(x: &[T], shape: &[usize], start: isize, strides: &[isize]) -> Option<Vec<T>> {
    let mut out = Vec::with_capacity(shape.iter().product());
    let (Some((&row, outer)), Some((&step, outer_strides))) = (shape.split_last(), strides.split_last()) else {
        out.push(*x.get(usize::try_from(start).ok()?)?);
        return Some(out);
    };
    let mut counter = vec![0usize; outer.len()];
    let mut offset = start;
    loop {
        if step == 1 {
            let begin = usize::try_from(offset).ok()?;
            out.extend_from_slice(x.get(begin..begin.checked_add(row)?)?);
        } else {
            for i in 0..row as isize {
                out.push(*x.get(usize::try_from(offset + i * step).ok()?)?);
            }
        }
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return Some(out);
            }
            axis -= 1;
            counter[axis] += 1;
            offset += outer_strides[axis];
            if counter[axis] < outer[axis] {
                break;
            }
            offset -= outer_strides[axis] * outer[axis] as isize;
            counter[axis] = 0;
        }
    }
}

/// An entry of an index map that stands for the fill value.
pub(in crate::ops) const FILL: usize = usize::MAX;

/// The tensor whose element `[i, j, ..]` is `x[maps[0][i], maps[1][j], ..]`, or `fill` where a map says [`FILL`];
/// there is one map for each axis of `x`, and `fill` is a tensor of one element of `x`'s dtype.
pub(in crate::ops) fn mapped(x: &Tensor, maps: &[Vec<usize>], fill: &Tensor) -> Result<Tensor> {
    let shape: Shape = maps.iter().map(Vec::len).collect();
    if shape.checked_len()? == 0 {
        return Tensor::zeros(x.dtype(), shape);
    }
    let strides = x.shape().strides();
    with_bits!(x.dtype().size(), T => {
        let fill = *fill.bits::<T>()?.first().ok_or_else(outside)?;
        let mut out = Vec::with_capacity(shape.elements());
        let moved = map_axis(x.bits::<T>()?, maps, &strides, Some(0), fill, &mut out);
        moved.ok_or_else(outside)?;
        Tensor::from_bits(x.dtype(), shape, out)
    })
}

/// Appends what the maps of the remaining axes take from `base` on; `None` as the base stands for fill alone.
fn map_axis<T: Copy>(
    x: &[T],
    maps: &[Vec<usize>],
    strides: &[usize],
    base: Option<usize>,
    fill: T,
    out: &mut Vec<T>,
) -> Option<()> {
    let (Some((map, inner)), Some((stride, inner_strides))) = (maps.split_first(), strides.split_first()) else {
        out.push(match base {
            Some(index) => *x.get(index)?,
            None => fill,
        });
        return Some(());
    };
    for &index in map {
        let base = base.filter(|_| index != FILL).map(|base| base + index * stride);
        map_axis(x, inner, inner_strides, base, fill, out)?;
    }
    Some(())
}

/// For each index `[i, j, ..]` of `shape`, row-major, the sum `i * strides[0] + j * strides[1] + ..`.
pub(in crate::ops) fn offsets(shape: &[usize], strides: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let total = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
    let total = if shape.contains(&0) { 0 } else { total };
    let axes: Vec<(usize, usize)> = shape.iter().copied().zip(strides.iter().copied()).collect();
    let mut counter = vec![0usize; axes.len()];
    let mut offset = 0usize;
    (0..total).map(move |_| {
        let here = offset;
        for (count, &(length, stride)) in counter.iter_mut().zip(&axes).rev() {
            *count += 1;
            offset += stride;
            if *count < length {
                break;
            }
            offset -= stride * length;
            *count = 0;
        }
        here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_may_be_negative_or_zero() {
        let x = Tensor::new([2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        for (shape, start, strides, expected) in [
            (vec![3, 2], 0, vec![1, 3], vec![1u8, 4, 2, 5, 3, 6]),
            (vec![2, 2], 5, vec![-3, -2], vec![6, 4, 3, 1]),
            (vec![2, 3], 3, vec![0, 1], vec![4, 5, 6, 4, 5, 6]),
            (vec![], 4, vec![], vec![5]),
        ] {
            let moved = strided(&x, Shape::from(shape), start, &strides).unwrap();
            assert_eq!(moved.as_slice::<u8>().unwrap(), expected);
        }
        assert!(strided(&x, Shape::from([2]), 5, &[1]).is_err());
    }

    #[test]
    fn offsets_count_row_major() {
        assert_eq!(offsets(&[2, 2], &[10, 1]).collect::<Vec<_>>(), [0, 1, 10, 11]);
        assert_eq!(offsets(&[], &[]).collect::<Vec<_>>(), [0]);
        assert_eq!(offsets(&[usize::MAX, 9, 0], &[1, 1, 1]).count(), 0);
    }

    #[test]
    fn maps_pick_and_fill() {
        let x = Tensor::new([2, 2], vec![1i16, 2, 3, 4]).unwrap();
        let picked = mapped(&x, &[vec![1, FILL], vec![0, 0, FILL]], &Tensor::scalar(9i16)).unwrap();
        assert_eq!(picked.as_slice::<i16>().unwrap(), [3, 3, 9, 9, 9, 9]);
    }
}
