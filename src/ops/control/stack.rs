//! What the iterations of a loop yield, laid one after the other along a new axis.

use crate::error::{Result, ensure};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};
use bytes::Bytes;

/// The elements of one scan output so far.
pub(super) struct Stack {
    dtype: DType,
    shape: Option<Shape>,
    bytes: Vec<u8>,
    count: usize,
}

impl Stack {
    pub(super) fn new(dtype: DType) -> Self {
        Stack { dtype, shape: None, bytes: Vec::new(), count: 0 }
    }

    /// Adds what one iteration yields; every iteration must yield the same shape.
    pub(super) fn push(&mut self, value: &Tensor) -> Result<()> {
        let shape = self.shape.get_or_insert_with(|| value.shape().clone());
        ensure!(
            value.dtype() == self.dtype && value.shape() == shape,
            InvalidInput,
            "iteration {} yields {}{}, those before it {}{shape}",
            self.count,
            value.dtype(),
            value.shape(),
            self.dtype
        );
        self.bytes.extend_from_slice(value.as_bytes());
        self.count += 1;
        Ok(())
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The tensor `[count, ...]`; `element` tells its shape where no iteration ran, with 0 for what is not known.
    pub(super) fn finish(self, element: &Fact) -> Result<Tensor> {
        let element: Shape = match (self.shape, element.dims()) {
            (Some(shape), _) => shape,
            (None, Some(dims)) => dims.iter().map(|d| d.known().unwrap_or(0)).collect(),
            (None, None) => Shape::scalar(),
        };
        Tensor::from_bytes(self.dtype, element.replaced(0..0, &[self.count]), Bytes::from(self.bytes))
    }
}

/// The fact of a stack along `axis` of the result; unranked where the element is.
pub(super) fn stacked_fact(element: &Fact, axis: i64, count: Dim) -> Result<Fact> {
    let Some(dims) = element.dims() else { return Ok(Fact::unranked(element.dtype)) };
    let axis = crate::tensor::normalize_axis(axis, dims.len() + 1)?;
    let mut dims = dims.to_vec();
    dims.insert(axis, count);
    Ok(Fact::new(element.dtype, dims))
}

/// Moves `axis` to the front: `[outer.., n, inner..]` becomes `[n, outer.., inner..]`.
pub(super) fn axis_to_front(value: &Tensor, axis: usize) -> Result<Tensor> {
    let shape = value.shape();
    let to = shape.replaced(axis..axis + 1, &[]).replaced(0..0, &[shape[axis]]);
    move_axis(value, &shape[..axis], shape[axis], &shape[axis + 1..], to, true)
}

/// Moves axis 0 to `axis`: the opposite of [`axis_to_front`].
pub(super) fn front_to_axis(value: &Tensor, axis: usize) -> Result<Tensor> {
    let shape = value.shape();
    let to = shape.replaced(0..1, &[]).replaced(axis..axis, &[shape[0]]);
    move_axis(value, &shape[1..=axis], shape[0], &shape[axis + 1..], to, false)
}

fn move_axis(
    value: &Tensor,
    outer: &[usize],
    count: usize,
    inner: &[usize],
    to: Shape,
    to_front: bool,
) -> Result<Tensor> {
    let outer: usize = outer.iter().product();
    let block = inner.iter().product::<usize>() * value.dtype().size();
    let bytes = value.as_bytes();
    let mut moved = Vec::with_capacity(bytes.len());
    let (first, second) = if to_front { (count, outer) } else { (outer, count) };
    for a in 0..first {
        for b in 0..second {
            // The source lies as [second, first, block].
            let at = (b * first + a) * block;
            moved.extend_from_slice(&bytes[at..at + block]);
        }
    }
    Tensor::from_bytes(value.dtype(), to, Bytes::from(moved))
}

/// The rows of axis 0 in reverse.
pub(super) fn reversed_rows(value: &Tensor) -> Result<Tensor> {
    let row = value.as_bytes().len() / value.shape().first().copied().unwrap_or(1).max(1);
    let mut bytes = Vec::with_capacity(value.as_bytes().len());
    if row > 0 {
        for chunk in value.as_bytes().chunks_exact(row).rev() {
            bytes.extend_from_slice(chunk);
        }
    }
    Tensor::from_bytes(value.dtype(), value.shape().clone(), Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_move_there_and_back() {
        let x = Tensor::new([2, 3, 2], (0..12i32).collect()).unwrap();
        for axis in 0..3 {
            let front = axis_to_front(&x, axis).unwrap();
            assert_eq!(front_to_axis(&front, axis).unwrap(), x);
        }
        let front = axis_to_front(&x, 1).unwrap();
        assert_eq!(&**front.shape(), [3, 2, 2]);
        assert_eq!(front.as_slice::<i32>().unwrap()[..4], [0, 1, 6, 7]);
        let last = reversed_rows(&front).unwrap();
        assert_eq!(last.as_slice::<i32>().unwrap()[..4], [4, 5, 10, 11]);
    }

    #[test]
    fn iterations_must_agree() {
        let mut stack = Stack::new(DType::I32);
        stack.push(&Tensor::vector(vec![1i32, 2])).unwrap();
        assert!(stack.push(&Tensor::vector(vec![1i32])).is_err());
        let none = Stack::new(DType::I32).finish(&Fact::concrete(DType::I32, &[2])).unwrap();
        assert_eq!(&**none.shape(), [0, 2]);
    }
}
