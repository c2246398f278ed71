//! The bridge to `ndarray`: owned arrays move in and out without a copy where they are in standard layout and not shared.
//! Strided views are `ndarray`'s own: `ArrayViewD::try_from(&tensor)`, then any permutation or slice of it.

use super::{Element, Tensor};
use crate::error::{Error, Result, err};
use ndarray::{Array, ArrayD, ArrayView, ArrayViewD, Dimension, IxDyn};

/// Takes the array over; copies only where it is not in standard (row-major) layout.
impl<T: Element, D: Dimension> From<Array<T, D>> for Tensor {
    fn from(array: Array<T, D>) -> Self {
        let shape = super::Shape::from(array.shape());
        let elements = if array.is_standard_layout() {
            match array.into_raw_vec_and_offset() {
                (elements, None | Some(0)) if elements.len() == shape.elements() => elements,
                (elements, offset) => {
                    let start = offset.unwrap_or(0);
                    elements[start..start + shape.elements()].to_vec()
                }
            }
        } else {
            array.iter().copied().collect()
        };
        Tensor::vector(elements).with_shape_of_len(shape)
    }
}

/// Copies the view, in row-major order.
impl<T: Element, D: Dimension> From<ArrayView<'_, T, D>> for Tensor {
    fn from(view: ArrayView<'_, T, D>) -> Self {
        let elements: Vec<T> = view.iter().copied().collect();
        Tensor::vector(elements).with_shape_of_len(super::Shape::from(view.shape()))
    }
}

impl<'a, T: Element> TryFrom<&'a Tensor> for ArrayViewD<'a, T> {
    type Error = Error;

    fn try_from(tensor: &'a Tensor) -> Result<Self> {
        ArrayViewD::from_shape(IxDyn(tensor.shape()), tensor.as_slice()?)
            .map_err(|e| err!(Internal, "the tensor does not fit an array").with_source(e))
    }
}

impl<T: Element> TryFrom<&Tensor> for ArrayD<T> {
    type Error = Error;

    fn try_from(tensor: &Tensor) -> Result<Self> {
        Ok(ArrayViewD::<T>::try_from(tensor)?.to_owned())
    }
}

/// Moves a vector that the tensor took over and shares with nobody; copies otherwise.
impl<T: Element> TryFrom<Tensor> for ArrayD<T> {
    type Error = Error;

    fn try_from(tensor: Tensor) -> Result<Self> {
        if !tensor.is_lone_vec::<T>() {
            return ArrayD::try_from(&tensor);
        }
        let shape = IxDyn(tensor.shape());
        let elements = tensor.into_vec().ok_or_else(|| err!(Internal, "a vector that nobody shares is shared"))?;
        ArrayD::from_shape_vec(shape, elements)
            .map_err(|e| err!(Internal, "the tensor does not fit an array").with_source(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn standard_arrays_move_in_without_a_copy() {
        let array = array![[1.0f32, 2.0], [3.0, 4.0]];
        let address = array.as_ptr();
        let tensor = Tensor::from(array);
        assert_eq!(tensor.as_slice::<f32>().unwrap().as_ptr(), address);
    }

    #[test]
    fn arrays_move_out_without_a_copy_where_nobody_shares_them() {
        let tensor = Tensor::from(array![[1.0f32, 2.0], [3.0, 4.0]]);
        let address = tensor.as_slice::<f32>().unwrap().as_ptr();
        let shared = tensor.clone();
        let copied = ArrayD::<f32>::try_from(shared).unwrap();
        assert_ne!(copied.as_ptr(), address);
        let moved = ArrayD::<f32>::try_from(tensor).unwrap();
        assert_eq!(moved.as_ptr(), address);
        assert_eq!(moved, copied);
        let part = Tensor::from(array![[1i32, 2], [3, 4]]).rows(1..2).unwrap();
        assert_eq!(ArrayD::<i32>::try_from(part).unwrap(), array![[3, 4]].into_dyn());
    }

    #[test]
    fn transposed_arrays_arrive_in_row_major_order() {
        let array = array![[1i64, 2], [3, 4]].reversed_axes();
        assert_eq!(Tensor::from(array).as_slice::<i64>().unwrap(), [1, 3, 2, 4]);
    }

    #[test]
    fn sliced_arrays_keep_their_part() {
        let array = Array2::from_shape_fn((4, 2), |(r, c)| (r * 2 + c) as i32).slice_move(ndarray::s![2.., ..]);
        assert_eq!(Tensor::from(array).as_slice::<i32>().unwrap(), [4, 5, 6, 7]);
    }

    #[test]
    fn views_share_the_tensor() {
        let tensor = Tensor::new([2, 2], vec![1u8, 2, 3, 4]).unwrap();
        let view = ArrayViewD::<u8>::try_from(&tensor).unwrap();
        assert_eq!(view[[1, 0]], 3);
        assert!(ArrayViewD::<i8>::try_from(&tensor).is_err());
    }
}
