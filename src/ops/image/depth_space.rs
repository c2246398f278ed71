//! `DepthToSpace` and `SpaceToDepth`: channels into blocks of pixels, and back.

use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::output_shape;
use crate::ops::layout::strided::{signed_strides, strided};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// Blocks wider than this would overflow what follows, and no image has them.
const MAX_BLOCK: usize = 1 << 15;

fn read_block(node: &mut NodeReader) -> Result<usize> {
    let size = node.int("blocksize")?.and_then(|size| usize::try_from(size).ok());
    match size.filter(|size| (1..=MAX_BLOCK).contains(size)) {
        Some(size) => Ok(size),
        None => bail!(InvalidModel, "attribute blocksize is missing or not in 1..={MAX_BLOCK}"),
    }
}

/// The four axes of an image, with lengths divided and multiplied; `None` where the rank is not known.
fn scaled(x: &Fact, divide: [usize; 4], multiply: [usize; 4]) -> Result<Vec<Fact>> {
    let Some(dims) = x.dims() else { return Ok(vec![Fact::new(x.dtype, vec![Dim::Unknown; 4])]) };
    ensure!(dims.len() == 4, Shape, "{x} is no batch of images: [batch, channels, height, width]");
    let scale = |axis: usize| {
        let (by, times) = (divide[axis], multiply[axis]);
        match dims[axis].known() {
            Some(n) => {
                ensure!(n % by == 0, Shape, "axis {axis} of {x} does not divide by {by}");
                Ok((n / by).checked_mul(times).map_or(Dim::Unknown, Dim::Known))
            }
            None if by == times => Ok(dims[axis].clone()),
            None => Ok(Dim::Unknown),
        }
    };
    Ok(vec![Fact::new(x.dtype, (0..4).map(scale).collect::<Result<_>>()?)])
}

/// Lengths and strides of the axes of a batch of images.
fn image(x: &Tensor) -> Result<([usize; 4], [isize; 4])> {
    match (&**x.shape(), signed_strides(x.shape()).as_slice()) {
        (&[n, c, h, w], &[sn, sc, sh, sw]) => Ok(([n, c, h, w], [sn, sc, sh, sw])),
        _ => bail!(Shape, "{} is no batch of images", x.shape()),
    }
}

/// Spreads each pixel's channels over a block of pixels: `[batch, c * b * b, h, w]` to `[batch, c, h * b, w * b]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepthToSpace {
    /// Width and height of a block: b.
    pub block: usize,
    /// Whether the block's row and column are counted inside a channel (`CRD`), rather than outside (`DCR`).
    pub column_row_depth: bool,
}

impl DepthToSpace {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let column_row_depth = match node.str_or("mode", "DCR")?.as_str() {
            "DCR" => false,
            "CRD" => true,
            other => bail!(InvalidModel, "mode {other:?} is neither DCR nor CRD"),
        };
        Ok(DepthToSpace { block: read_block(node)?, column_row_depth }.into())
    }
}

impl Op for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let b = self.block;
        scaled(inputs.require(0)?, [1, b * b, 1, 1], [1, 1, b, b])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        let ([n, c, h, w], [sn, sc, sh, sw]) = image(x)?;
        let (block, channels) = (self.block, c / (self.block * self.block));
        let (b, own) = (block as isize, channels as isize);
        let (channel, row, column) = if self.column_row_depth { (b * b, b, 1) } else { (1, b * own, own) };
        let axes = Shape::from([n, channels, h, block, w, block]);
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        Ok(vec![strided(x, axes, 0, &[sn, channel * sc, sh, row * sc, sw, column * sc])?.reshaped(shape)?])
    }

    fn attrs(&self) -> Attrs {
        let mode = if self.column_row_depth { "CRD" } else { "DCR" };
        Attrs::new().int("blocksize", self.block as i64).str("mode", mode)
    }
}

/// Gathers each block of pixels into channels: `[batch, c, h * b, w * b]` to `[batch, b * b * c, h, w]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceToDepth {
    /// Width and height of a block: b.
    pub block: usize,
}

impl SpaceToDepth {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        // A later form names the order of the channels; only the one that always was is known.
        let mode = node.str_or("mode", "DCR")?;
        ensure!(mode == "DCR", Unsupported, "mode {mode:?} of SpaceToDepth");
        Ok(SpaceToDepth { block: read_block(node)? }.into())
    }
}

impl Op for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let b = self.block;
        scaled(inputs.require(0)?, [1, 1, b, b], [1, b * b, 1, 1])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        let ([n, c, h, w], [sn, sc, sh, sw]) = image(x)?;
        let (block, b) = (self.block, self.block as isize);
        let axes = Shape::from([n, block, block, c, h / block, w / block]);
        Ok(vec![strided(x, axes, 0, &[sn, sh, sw, sc, b * sh, b * sw])?.reshaped(shape)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("blocksize", self.block as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn channels_become_pixels_and_come_back() {
        let x = Tensor::new([1, 8, 1, 1], (0..8u8).collect()).unwrap();
        for (column_row_depth, expected) in [(false, [0u8, 2, 4, 6, 1, 3, 5, 7]), (true, [0, 1, 2, 3, 4, 5, 6, 7])] {
            let y = run_one(&DepthToSpace { block: 2, column_row_depth }, &[&x]).unwrap();
            assert_eq!(y, Tensor::new([1, 2, 2, 2], expected.to_vec()).unwrap());
            let back = run_one(&SpaceToDepth { block: 2 }, &[&y]).unwrap();
            assert_eq!(back.shape(), x.shape());
            assert_eq!(back == x, !column_row_depth);
        }
        assert!(run_one(&DepthToSpace { block: 3, column_row_depth: false }, &[&x]).is_err());
        assert!(run_one(&SpaceToDepth { block: 2 }, &[&x]).is_err());
        assert!(run_one(&SpaceToDepth { block: 1 }, &[&x.reshaped([8]).unwrap()]).is_err());
    }
}
