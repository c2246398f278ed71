//! `Col2Im`: columns of blocks added up into an image.

use crate::error::{Result, bail, ensure};
use crate::ops::index::{ScatterReduction, pick, scatter};
use crate::ops::layout::arithmetic::{lengths_of, output_shape};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor, with_bits};

/// Adds up blocks where they overlap: `[batch, channels * block, places]`, with the image's and the block's shape as
/// inputs 1 and 2, to `[batch, channels, image..]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Col2Im {
    /// Distance of the elements of a block; without it, ones.
    pub dilations: Option<Vec<usize>>,
    /// Elements added at each begin, then at each end; without them, none.
    pub pads: Option<Vec<usize>>,
    /// Distance of the blocks; without it, ones.
    pub strides: Option<Vec<usize>>,
}

/// How blocks lie along one axis of the image.
#[derive(Debug, Clone, Copy)]
struct Axis {
    image: usize,
    block: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
    places: usize,
}

impl Col2Im {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let op = Col2Im {
            dilations: node.lengths("dilations")?,
            pads: node.lengths("pads")?,
            strides: node.lengths("strides")?,
        };
        let positive = |list: &Option<Vec<usize>>| list.as_ref().is_none_or(|list| !list.contains(&0));
        ensure!(positive(&op.dilations) && positive(&op.strides), InvalidModel, "strides or dilations of 0: {op:?}");
        Ok(op.into())
    }

    fn axes(&self, image: &[usize], block: &[usize]) -> Result<Vec<Axis>> {
        let rank = image.len();
        ensure!(block.len() == rank, Shape, "a block of {} axes in an image of {rank}", block.len());
        let list = |list: &Option<Vec<usize>>, len: usize, default: usize| match list {
            None => Ok(vec![default; len]),
            Some(list) => {
                ensure!(list.len() == len, Shape, "{list:?} for an image of {rank} axes");
                Ok(list.clone())
            }
        };
        let (dilations, strides) = (list(&self.dilations, rank, 1)?, list(&self.strides, rank, 1)?);
        let pads = list(&self.pads, 2 * rank, 0)?;
        let axis = |axis: usize| {
            let (stride, dilation, pad) = (strides[axis], dilations[axis], pads[axis]);
            let padded = image[axis] as u128 + pad as u128 + pads[rank + axis] as u128;
            let extent = dilation as u128 * (block[axis] as u128).saturating_sub(1) + 1;
            ensure!(block[axis] > 0 && padded >= extent, Shape, "blocks of {block:?} do not fit the image {image:?}");
            let places = usize::try_from((padded - extent) / stride as u128).unwrap_or(usize::MAX).saturating_add(1);
            Ok(Axis { image: image[axis], block: block[axis], stride, dilation, pad, places })
        };
        (0..rank).map(axis).collect()
    }
}

fn saturating_product(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.fold(1, usize::saturating_mul)
}

impl Op for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, image, block) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        ensure!(
            x.rank().is_none_or(|rank| rank == 3),
            Shape,
            "{x} holds no columns: [batch, channels * block, places]"
        );
        let Some(image) = lengths_of(image)? else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let block: Option<Vec<usize>> = lengths_of(block)?.and_then(|block| block.iter().map(Dim::known).collect());
        let batch = x.dims().map_or(Dim::Unknown, |dims| dims[0].clone());
        let mut channels = Dim::Unknown;
        if let Some(block) = &block {
            let size = saturating_product(block.iter().copied());
            if let Some(rows) = x.dims().and_then(|dims| dims[1].known()) {
                ensure!(size > 0 && rows % size == 0, Shape, "{rows} rows are no blocks of {block:?}");
                channels = Dim::Known(rows / size);
            }
            if let Some(lengths) = image.iter().map(Dim::known).collect::<Option<Vec<usize>>>() {
                let places = saturating_product(self.axes(&lengths, block)?.iter().map(|axis| axis.places));
                let columns = x.dims().and_then(|dims| dims[2].known());
                ensure!(columns.is_none_or(|n| n == places), Shape, "{columns:?} columns for {places} places");
            }
        }
        let mut shape = vec![batch, channels];
        shape.extend(image);
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, block) = (inputs.require(0)?, inputs.require(2)?);
        let shape = output_shape(self, inputs)?;
        let zeros = Tensor::zeros(x.dtype(), shape.clone())?;
        if x.is_empty() || zeros.is_empty() {
            return Ok(vec![zeros]);
        }
        let block: Option<Vec<usize>> = block.to_i64_vec()?.iter().map(|&n| usize::try_from(n).ok()).collect();
        let Some(block) = block else { bail!(Shape, "a block has a negative length") };
        let axes = self.axes(&shape[2..], &block)?;
        budget.admit_bytes(x.len().saturating_mul(24))?;
        // The elements of x as [batch * channels, block.., places..].
        let mut lengths = vec![shape[0] * shape[1]];
        lengths.extend(axes.iter().map(|axis| axis.block));
        lengths.extend(axes.iter().map(|axis| axis.places));
        let strides = crate::tensor::Shape::from(lengths.clone()).strides();
        let image = saturating_product(shape[2..].iter().copied());
        let place = |i: usize| {
            let at = |axis: usize| i / strides[axis] % lengths[axis];
            let mut offset = 0;
            for (number, axis) in axes.iter().enumerate() {
                let (inner, step) = (at(1 + number), at(1 + axes.len() + number));
                let along = (step * axis.stride + inner * axis.dilation).checked_sub(axis.pad)?;
                offset = offset * axis.image + Some(along).filter(|&along| along < axis.image)?;
            }
            Some(at(0) * image + offset)
        };
        let (sources, places): (Vec<usize>, Vec<usize>) = (0..x.len()).filter_map(|i| Some((i, place(i)?))).unzip();
        let updates = with_bits!(x.dtype().size(), T => {
            Tensor::from_bits(x.dtype(), [sources.len()], pick(x.bits::<T>()?, &sources)?)?
        });
        Ok(vec![scatter(&zeros, &updates, &places, ScatterReduction::Add)?])
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = Attrs::new();
        for (name, list) in [("dilations", &self.dilations), ("pads", &self.pads), ("strides", &self.strides)] {
            if let Some(list) = list {
                attrs = attrs.lengths(name, list);
            }
        }
        attrs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    fn fold(op: &Col2Im, x: &Tensor, image: &[i64], block: &[i64]) -> Result<Tensor> {
        run_one(op, &[x, &Tensor::vector(image.to_vec()), &Tensor::vector(block.to_vec())])
    }

    #[test]
    fn overlapping_blocks_add_up() {
        let plain = Col2Im { dilations: None, pads: None, strides: None };
        let x = Tensor::new([1, 2, 4], vec![1i32, 2, 3, 4, 10, 20, 30, 40]).unwrap();
        let y = fold(&plain, &x, &[1, 5], &[1, 2]).unwrap();
        assert_eq!(y, Tensor::new([1, 1, 1, 5], vec![1i32, 12, 23, 34, 40]).unwrap());
        let padded = Col2Im { pads: Some(vec![0, 1, 0, 0]), ..plain.clone() };
        let y = fold(&padded, &x, &[1, 4], &[1, 2]).unwrap();
        assert_eq!(y.as_slice::<i32>().unwrap(), [12, 23, 34, 40]);
        let apart = Col2Im { strides: Some(vec![1, 2]), dilations: Some(vec![1, 3]), ..plain.clone() };
        let y = fold(&apart, &x, &[1, 10], &[1, 2]).unwrap();
        assert_eq!(y.as_slice::<i32>().unwrap(), [1, 0, 2, 10, 3, 20, 4, 30, 0, 40]);
        assert!(fold(&plain, &x, &[1, 6], &[1, 2]).is_err());
        assert!(fold(&plain, &x, &[1, 5], &[1, 0]).is_err());
        assert!(fold(&plain, &x, &[1, 5], &[1, 3]).is_err());
        assert!(fold(&plain, &x, &[5], &[1, 2]).is_err());
        assert!(fold(&plain, &x, &[1, i64::MAX], &[1, 2]).is_err());
    }
}
