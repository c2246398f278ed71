//! `DeformConv`: a convolution whose taps are moved by offsets that the model computes.

use super::conv::{Conv, add_bias};
use crate::error::{Result, bail, ensure};
use crate::ops::matrix::product::multiply_add;
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// x `[batch, channels, h, w]`, w `[out, channels / group, kh, kw]`, offsets `[batch, offset_group * kh * kw * 2, oh,
/// ow]` (rows before columns), optional bias `[out]` and mask `[batch, offset_group * kh * kw, oh, ow]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeformConv {
    /// The convolution before taps are moved.
    pub conv: Conv,
    /// Into how many groups of channels that share offsets the input falls; at least 1.
    pub offset_group: usize,
}

impl DeformConv {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let offset_group = node.int_or("offset_group", 1)?;
        ensure!(offset_group > 0, InvalidModel, "offset_group is {offset_group}, but must be at least 1");
        Ok(DeformConv { conv: Conv::read_attrs(node)?, offset_group: offset_group as usize }.into())
    }
}

/// The value at a fractional place of a plane `[h, w]`, linear between elements, zero outside.
fn sample(plane: &[f64], (height, width): (usize, usize), row: f64, column: f64) -> f64 {
    let (top, left) = (row.floor(), column.floor());
    let mut sum = 0.0;
    for (y, weight_y) in [(top, 1.0 - (row - top)), (top + 1.0, row - top)] {
        for (x, weight_x) in [(left, 1.0 - (column - left)), (left + 1.0, column - left)] {
            if y >= 0.0 && x >= 0.0 && y < height as f64 && x < width as f64 {
                sum += weight_y * weight_x * plane[y as usize * width + x as usize];
            }
        }
    }
    sum
}

impl Op for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, w, offset) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        for fact in [Some(x), Some(w), Some(offset), inputs.get(3), inputs.get(4)].into_iter().flatten() {
            let fits = fact.dtype.is_float() && fact.dtype == x.dtype;
            ensure!(fits, Shape, "DeformConv of {} with {}", x.dtype, fact.dtype);
        }
        for fact in [x, w] {
            let planar = fact.rank().is_none_or(|rank| rank == 4);
            ensure!(planar, Unsupported, "DeformConv is supported over two spatial axes only, not on {fact}");
        }
        let Some(mut shape) = self.conv.infer_shape(x, w, inputs.get(3))? else {
            return Ok(vec![Fact::unranked(x.dtype)]);
        };
        if let Some(channels) = x.dims().and_then(|d| d[1].known()) {
            let groups = self.offset_group;
            ensure!(groups > 0 && channels % groups == 0, Shape, "{channels} channels in {groups} offset groups");
        }
        let taps = w.dims().map_or(Dim::Unknown, |d| d[2].times(&d[3])).times(&Dim::Known(self.offset_group));
        for (name, fact, numbers) in [("offsets", Some(offset), 2), ("mask", inputs.get(4), 1)] {
            let Some(dims) = fact.and_then(Fact::dims) else { continue };
            ensure!(dims.len() == 4, Shape, "{name} have rank {}, not 4", dims.len());
            dims[1].unify(&taps.times(&Dim::Known(numbers))).map_err(|e| e.at(name))?;
            for axis in [0, 2, 3] {
                shape[axis] = shape[axis].unify(&dims[axis]).map_err(|e| e.at(name))?;
            }
        }
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        let (&[batch, channels, height, width], &[out_channels, per_group, ..]) = (&x.shape()[..], &w.shape()[..])
        else {
            bail!(Shape, "DeformConv of {} with {}", x.shape(), w.shape())
        };
        let window = self.conv.spec(&w.shape()[2..]).over(&[height, width])?;
        let (places, taps) = (window.places(), window.taps());
        let shape: Shape = [batch, out_channels].into_iter().chain(window.output()).collect();
        let mut out = vec![0.0; shape.checked_len()?];
        let depth = channels.saturating_mul(taps);
        budget.spend(out.len().saturating_mul(per_group).saturating_mul(taps))?;
        if !out.is_empty() && depth > 0 {
            budget.admit_bytes(depth.saturating_mul(places).saturating_mul(8))?;
            let (values, weights) = (x.to_f64_vec()?, w.to_f64_vec()?);
            let offsets = inputs.require(2)?.to_f64_vec()?;
            let mask = inputs.get(4).map(Tensor::to_f64_vec).transpose()?;
            let together = channels / self.offset_group;
            let group_out = out_channels / self.conv.group;
            let mut columns = vec![0.0; depth * places];
            for image in 0..batch {
                for (index, row) in columns.chunks_exact_mut(places).enumerate() {
                    let (channel, tap) = (index / taps, index % taps);
                    let moved = (image * self.offset_group + channel / together) * taps + tap;
                    let plane = &values[(image * channels + channel) * height * width..][..height * width];
                    for (place, slot) in row.iter_mut().enumerate() {
                        let (y, x) = window.coordinates(place, tap);
                        let y = y + offsets[2 * moved * places + place];
                        let x = x + offsets[(2 * moved + 1) * places + place];
                        let kept = mask.as_ref().map_or(1.0, |m| m[moved * places + place]);
                        *slot = kept * sample(plane, (height, width), y, x);
                    }
                }
                for group in 0..self.conv.group {
                    let rows = per_group * taps;
                    multiply_add(
                        group_out,
                        rows,
                        places,
                        &weights[group * group_out * rows..][..group_out * rows],
                        &columns[group * rows * places..][..rows * places],
                        &mut out[(image * out_channels + group * group_out) * places..][..group_out * places],
                    );
                }
            }
        }
        if let Some(bias) = inputs.get(3) {
            add_bias(&mut out, &shape, &bias.to_f64_vec()?);
        }
        Ok(vec![from_f64(x.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        self.conv.attrs().int("offset_group", self.offset_group as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_elements_is_linear_and_outside_is_zero() {
        let plane = [0.0, 1.0, 2.0, 3.0];
        let cases =
            [((0.5, 0.5), 1.5), ((1.0, 1.0), 3.0), ((-0.5, 1.0), 0.5), ((5.0, 0.0), 0.0), ((f64::NAN, 0.0), 0.0)];
        for ((row, column), expected) in cases {
            assert_eq!(sample(&plane, (2, 2), row, column), expected, "{row} {column}");
        }
    }
}
