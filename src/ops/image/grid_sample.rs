//! `GridSample`: an image read at the places that a grid names.

use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::output_shape;
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor};

/// More spatial axes would make an explosion of neighbors.
const MAX_SPATIAL: usize = 5;

/// How a value between pixels is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GridMode {
    /// Linear between the neighbors.
    #[default]
    Linear,
    /// The nearest pixel, the even one of two.
    Nearest,
    /// Cubic convolution with coefficient -0.75.
    Cubic,
}

/// What stands outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GridPadding {
    /// Zeros.
    #[default]
    Zeros,
    /// The pixels of the border.
    Border,
    /// The image mirrored.
    Reflection,
}

/// Samples `[batch, channels, spatial..]` at a grid `[batch, places.., coordinates]`, which gives coordinates in
/// -1..1, the innermost axis first; the result is `[batch, channels, places..]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridSample {
    /// How a value between pixels is made.
    pub mode: GridMode,
    /// What stands outside the image.
    pub padding: GridPadding,
    /// Whether -1 and 1 are the centers of the outermost pixels, rather than their outer edges.
    pub align_corners: bool,
}

impl GridSample {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let mode = match node.str_or("mode", "linear")?.as_str() {
            "linear" | "bilinear" => GridMode::Linear,
            "nearest" => GridMode::Nearest,
            "cubic" | "bicubic" => GridMode::Cubic,
            other => bail!(InvalidModel, "mode {other:?} is none of linear, nearest and cubic"),
        };
        let padding = match node.str_or("padding_mode", "zeros")?.as_str() {
            "zeros" => GridPadding::Zeros,
            "border" => GridPadding::Border,
            "reflection" => GridPadding::Reflection,
            other => bail!(InvalidModel, "padding_mode {other:?} is none of zeros, border and reflection"),
        };
        Ok(GridSample { mode, padding, align_corners: node.flag_or("align_corners", false)? }.into())
    }

    /// The pixels of an axis that make up the value at `at` in -1..1, with their weights; those outside the image are
    /// left out where they count as zero.
    fn neighbors(&self, at: f32, length: usize) -> Vec<(usize, f64)> {
        let n = length as f32;
        // In single precision, as the grid is, so that halves between pixels are told alike.
        let place = if self.align_corners { (at + 1.0) / 2.0 * (n - 1.0) } else { ((at + 1.0) * n - 1.0) / 2.0 };
        let place = if self.mode == GridMode::Nearest { place.round_ties_even() } else { place };
        let place = match (self.mode, self.padding) {
            // Each neighbor is moved to the border on its own; further out they are all the same.
            (GridMode::Cubic, GridPadding::Border) => f64::from(place.clamp(-3.0, n + 2.0)),
            _ => self.inside(f64::from(place), length),
        };
        let low = place.floor();
        let t = place - low;
        let weights: &[(f64, f64)] = match self.mode {
            GridMode::Nearest => &[(0.0, 1.0)],
            GridMode::Linear => &[(0.0, 1.0 - t), (1.0, t)],
            GridMode::Cubic => &[(-1.0, keys(1.0 + t)), (0.0, keys(t)), (1.0, keys(1.0 - t)), (2.0, keys(2.0 - t))],
        };
        let pixel = |&(offset, weight): &(f64, f64)| {
            let index = low + offset;
            let within = (0.0..n.into()).contains(&index);
            let index = match self.padding {
                GridPadding::Zeros if !within => return None,
                GridPadding::Reflection if !within => self.inside(index, length),
                _ => index,
            };
            Some(((index.max(0.0) as usize).min(length - 1), weight))
        };
        weights.iter().filter_map(pixel).collect()
    }

    /// A place moved into the image as the padding says.
    fn inside(&self, place: f64, length: usize) -> f64 {
        let margin = if self.align_corners { 0.0 } else { 0.5 };
        let (low, high) = (-margin, length as f64 - 1.0 + margin);
        if place >= low && place <= high {
            return place;
        }
        match self.padding {
            GridPadding::Zeros => place,
            GridPadding::Border => place.clamp(0.0, length as f64 - 1.0),
            GridPadding::Reflection if high <= low => 0.0,
            GridPadding::Reflection => {
                let span = high - low;
                let there = (place - low).rem_euclid(2.0 * span);
                low + if there > span { 2.0 * span - there } else { there }
            }
        }
    }
}

/// Keys' cubic convolution kernel with coefficient -0.75, for a distance in 0..=2.
fn keys(d: f64) -> f64 {
    const A: f64 = -0.75;
    if d <= 1.0 { ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0 } else { ((d - 5.0) * d + 8.0) * d * A - 4.0 * A }
}

impl Op for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, grid) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(grid.dtype.is_float(), InvalidModel, "the grid is {}, not float", grid.dtype);
        ensure!(x.dtype != DType::Bool || self.mode == GridMode::Nearest, InvalidModel, "bools have no values between");
        let (Some(dims), Some(places)) = (x.dims(), grid.dims()) else {
            let rank = x.rank().or(grid.rank());
            return Ok(vec![match rank {
                Some(rank) => Fact::new(x.dtype, vec![Dim::Unknown; rank]),
                None => Fact::unranked(x.dtype),
            }]);
        };
        let same_rank = dims.len() == places.len() && dims.len() >= 3;
        ensure!(same_rank, Shape, "x is {x} and the grid {grid}: the ranks must be equal and at least 3");
        ensure!(dims.len() - 2 <= MAX_SPATIAL, Unsupported, "more than {MAX_SPATIAL} spatial axes: {x}");
        let coordinates = places[places.len() - 1].known();
        ensure!(
            coordinates.is_none_or(|n| n == dims.len() - 2),
            Shape,
            "{coordinates:?} coordinates for the {} spatial axes of {x}",
            dims.len() - 2
        );
        let batch = dims[0].unify(&places[0]).map_err(|e| e.at("the batch axis"))?;
        let mut shape = vec![batch, dims[1].clone()];
        shape.extend_from_slice(&places[1..places.len() - 1]);
        let empty = dims[2..].contains(&Dim::Known(0));
        ensure!(!empty || shape.contains(&Dim::Known(0)), Shape, "there are no pixels to sample in {x}");
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, grid) = (inputs.require(0)?, inputs.require(1)?);
        let shape = output_shape(self, inputs)?;
        let len = shape.checked_len()?;
        if len == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        let (spatial, channels) = (&x.shape()[2..], x.shape()[1]);
        let strides = x.shape().strides();
        let pixels = spatial.iter().product::<usize>();
        let places = shape[2..].iter().product::<usize>();
        let values = x.to_f64_vec()?;
        let grid = grid.to_f32_vec()?;
        let mut out = vec![0.0; len];
        for (i, coordinates) in grid.chunks_exact(spatial.len()).enumerate() {
            let (batch, place) = (i / places, i % places);
            let mut taps = vec![(0usize, 1.0f64)];
            for (axis, &length) in spatial.iter().enumerate() {
                let at = coordinates[spatial.len() - 1 - axis];
                let neighbors = self.neighbors(at, length);
                let next = taps.iter().flat_map(|&(offset, weight)| {
                    let stride = strides[axis + 2];
                    neighbors.iter().map(move |&(index, own)| (offset + index * stride, weight * own))
                });
                taps = next.collect();
            }
            for channel in 0..channels {
                let plane = &values[(batch * channels + channel) * pixels..][..pixels];
                let sum = taps.iter().map(|&(offset, weight)| weight * plane[offset]).sum();
                out[(batch * channels + channel) * places + place] = sum;
            }
        }
        Ok(vec![from_f64(x.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        let mode = match self.mode {
            GridMode::Linear => "linear",
            GridMode::Nearest => "nearest",
            GridMode::Cubic => "cubic",
        };
        let padding = match self.padding {
            GridPadding::Zeros => "zeros",
            GridPadding::Border => "border",
            GridPadding::Reflection => "reflection",
        };
        Attrs::new().str("mode", mode).str("padding_mode", padding).flag("align_corners", self.align_corners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    fn sample(mode: GridMode, padding: GridPadding, align_corners: bool, at: &[f32]) -> Vec<f32> {
        let x = Tensor::new([1, 1, 4], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let grid = Tensor::new([1, at.len(), 1], at.to_vec()).unwrap();
        run_one(&GridSample { mode, padding, align_corners }, &[&x, &grid]).unwrap().to_f32_vec().unwrap()
    }

    #[test]
    fn places_are_read_between_and_outside_pixels() {
        let at = [-1.0f32, 0.0, 0.25, 1.5];
        for (mode, padding, align, expected) in [
            (GridMode::Linear, GridPadding::Zeros, false, [0.5f32, 2.5, 3.0, 0.0]),
            (GridMode::Linear, GridPadding::Border, false, [1.0, 2.5, 3.0, 4.0]),
            (GridMode::Linear, GridPadding::Reflection, false, [1.0, 2.5, 3.0, 3.5]),
            (GridMode::Linear, GridPadding::Zeros, true, [1.0, 2.5, 2.875, 1.0]),
            (GridMode::Nearest, GridPadding::Border, false, [1.0, 3.0, 3.0, 4.0]),
            (GridMode::Cubic, GridPadding::Border, false, [0.90625, 2.5, 3.0, 4.0]),
        ] {
            let y = sample(mode, padding, align, &at);
            assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{mode:?} {padding:?} {align}: {y:?}");
        }
    }

    #[test]
    fn wild_places_do_no_harm() {
        let at = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30];
        for mode in [GridMode::Linear, GridMode::Nearest, GridMode::Cubic] {
            for padding in [GridPadding::Zeros, GridPadding::Border, GridPadding::Reflection] {
                assert_eq!(sample(mode, padding, true, &at).len(), 5);
            }
        }
    }
}
