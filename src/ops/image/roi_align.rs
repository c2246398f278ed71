//! `RoiAlign`: regions of an image pooled to one size.

use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::{length, output_shape};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// More samples for one region than any detector takes; a region's size comes from data.
const MAX_SAMPLES: usize = 1 << 24;

/// Pools each region `[x1, y1, x2, y2]` of `[batch, channels, h, w]` to `[regions, channels, height, width]`; inputs
/// are the images, the regions, and for each region its image.
#[derive(Debug, Clone, PartialEq)]
pub struct RoiAlign {
    /// Whether the largest sample counts, rather than the mean.
    pub max: bool,
    /// Height of the result.
    pub height: usize,
    /// Width of the result.
    pub width: usize,
    /// Samples along each side of a bin; 0 takes as many as the bin has pixels.
    pub sampling_ratio: usize,
    /// Factor from the regions' coordinates to pixels.
    pub spatial_scale: f32,
    /// Whether coordinates are shifted by half a pixel, so that pixels are centered.
    pub half_pixel: bool,
}

impl RoiAlign {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let max = match node.str_or("mode", "avg")?.as_str() {
            "avg" => false,
            "max" => true,
            other => bail!(InvalidModel, "mode {other:?} is neither avg nor max"),
        };
        let usual = if node.opset() < 16 { "output_half_pixel" } else { "half_pixel" };
        let half_pixel = match node.str_or("coordinate_transformation_mode", usual)?.as_str() {
            "half_pixel" => true,
            "output_half_pixel" => false,
            other => bail!(InvalidModel, "coordinate_transformation_mode {other:?} is not known"),
        };
        let mut int = |name: &str, default| node.int_or(name, default).and_then(length);
        let (height, width, sampling_ratio) =
            (int("output_height", 1)?, int("output_width", 1)?, int("sampling_ratio", 0)?);
        Ok(RoiAlign {
            max,
            height,
            width,
            sampling_ratio,
            spatial_scale: node.float_or("spatial_scale", 1.0)?,
            half_pixel,
        }
        .into())
    }
}

/// The pixels around a place with their weights; none far outside the image.
fn neighbors(y: f64, x: f64, h: usize, w: usize) -> [(usize, f64); 4] {
    if !(-1.0..=h as f64).contains(&y) || !(-1.0..=w as f64).contains(&x) {
        return [(0, 0.0); 4];
    }
    let axis = |at: f64, n: usize| {
        let at = at.max(0.0).min(n as f64 - 1.0);
        let low = at as usize;
        (low, (low + 1).min(n - 1), at - low as f64)
    };
    let ((top, bottom, down), (left, right, across)) = (axis(y, h), axis(x, w));
    [
        (top * w + left, (1.0 - down) * (1.0 - across)),
        (top * w + right, (1.0 - down) * across),
        (bottom * w + left, down * (1.0 - across)),
        (bottom * w + right, down * across),
    ]
}

impl Op for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, regions, images) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        ensure!(x.dtype.is_float() && regions.dtype.is_float(), InvalidModel, "images and regions must be floats");
        ensure!(images.dtype.is_integer(), InvalidModel, "the images of the regions are {}", images.dtype);
        let mut count = Dim::Unknown;
        if let Some(dims) = regions.dims() {
            let [rows, numbers] = dims else { bail!(Shape, "regions {regions} are no matrix") };
            numbers.unify(&Dim::Known(4)).map_err(|e| e.at("the numbers of a region"))?;
            count = rows.clone();
        }
        if let Some(dims) = images.dims() {
            let [rows] = dims else { bail!(Shape, "the images of the regions are {images}, but must be a list") };
            count = count.unify(rows).map_err(|e| e.at("the number of regions"))?;
        }
        let channels = match x.dims() {
            None => Dim::Unknown,
            Some([_, channels, h, w]) => {
                ensure!(*h != Dim::Known(0) && *w != Dim::Known(0), Shape, "there are no pixels in {x}");
                channels.clone()
            }
            Some(_) => bail!(Shape, "{x} is no batch of images"),
        };
        Ok(vec![Fact::new(x.dtype, vec![count, channels, Dim::Known(self.height), Dim::Known(self.width)])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, regions, images) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let &[batch, channels, h, w] = &**x.shape() else { bail!(Shape, "{} is no batch of images", x.shape()) };
        let shape = output_shape(self, inputs)?;
        let mut out = Vec::with_capacity(shape.checked_len()?);
        if shape.contains(&0) {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        let values = x.to_f64_vec()?;
        for (region, image) in regions.to_f32_vec()?.chunks_exact(4).zip(images.to_i64_vec()?) {
            let image = usize::try_from(image).ok().filter(|&image| image < batch);
            let Some(image) = image else { bail!(InvalidInput, "a region of an image outside the batch of {batch}") };
            // Places are computed in single precision, as other runtimes do: the edge of the image is a step.
            let shift = if self.half_pixel { 0.5 } else { 0.0 };
            let at = |i: usize| region[i] * self.spatial_scale - shift;
            // Regions that are not centered are at least a pixel large.
            let least = if self.half_pixel { f32::NEG_INFINITY } else { 1.0 };
            let bin_h = (at(3) - at(1)).max(least) / self.height as f32;
            let bin_w = (at(2) - at(0)).max(least) / self.width as f32;
            let samples = |bin: f32| if self.sampling_ratio > 0 { self.sampling_ratio } else { bin.ceil() as usize };
            let (rows, columns) = (samples(bin_h), samples(bin_w));
            let total = [rows, columns, self.height, self.width].iter().fold(1usize, |n, &d| n.saturating_mul(d));
            ensure!(total <= MAX_SAMPLES, Limit, "{total} samples for the region {region:?}");
            budget.spend(total.saturating_mul(channels))?;
            let of_bin = |bin: usize, sample: usize| {
                let (row, column) = ((bin / self.width) as f32, (bin % self.width) as f32);
                let (down, across) = ((sample / columns) as f32 + 0.5, (sample % columns) as f32 + 0.5);
                let y = at(1) + row * bin_h + down * bin_h / rows as f32;
                let x = at(0) + column * bin_w + across * bin_w / columns as f32;
                neighbors(y.into(), x.into(), h, w)
            };
            let (bins, count) = (self.height * self.width, rows * columns);
            let mut held = budget.hold();
            held.set(bins.saturating_mul(count).saturating_mul(size_of::<[(usize, f64); 4]>()))?;
            // The same places in every channel.
            let places: Vec<[(usize, f64); 4]> = (0..bins)
                .flat_map(|bin| (0..count).map(move |sample| (bin, sample)))
                .map(|(b, s)| of_bin(b, s))
                .collect();
            for channel in 0..channels {
                let plane = &values[(image * channels + channel) * h * w..][..h * w];
                for bin in 0..bins {
                    let (mut sum, mut largest) = (0.0, f64::NEG_INFINITY);
                    for sample in &places[bin * count..(bin + 1) * count] {
                        let parts = sample.map(|(place, weight)| weight * plane[place]);
                        sum += parts.iter().sum::<f64>();
                        largest = parts.into_iter().fold(largest, f64::max);
                    }
                    out.push(match (self.max, count) {
                        (_, 0) => 0.0,
                        (true, _) => largest,
                        (false, count) => sum / count as f64,
                    });
                }
            }
        }
        Ok(vec![from_f64(x.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .str("mode", if self.max { "max" } else { "avg" })
            .int("output_height", self.height as i64)
            .int("output_width", self.width as i64)
            .int("sampling_ratio", self.sampling_ratio as i64)
            .float("spatial_scale", self.spatial_scale)
            .str("coordinate_transformation_mode", if self.half_pixel { "half_pixel" } else { "output_half_pixel" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    fn op() -> RoiAlign {
        RoiAlign { max: false, height: 1, width: 2, sampling_ratio: 0, spatial_scale: 1.0, half_pixel: true }
    }

    fn align(op: &RoiAlign, region: [f32; 4], image: i64) -> Result<Vec<f32>> {
        let x = Tensor::new([1, 1, 2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let region = Tensor::new([1, 4], region.to_vec()).unwrap();
        run_one(op, &[&x, &region, &Tensor::vector(vec![image])])?.to_f32_vec()
    }

    #[test]
    fn a_region_is_pooled() {
        assert_eq!(align(&op(), [0.0, 0.0, 2.0, 2.0], 0).unwrap(), [2.0, 3.0]);
        assert_eq!(align(&RoiAlign { max: true, ..op() }, [0.0, 0.0, 2.0, 2.0], 0).unwrap(), [3.0, 4.0]);
        assert_eq!(align(&op(), [2.0, 2.0, 0.0, 0.0], 0).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn wild_regions_are_refused_or_empty() {
        assert!(align(&op(), [0.0, 0.0, 1.0, 1.0], 1).is_err());
        assert!(align(&op(), [0.0, 0.0, 1.0, 1.0], -1).is_err());
        assert!(align(&op(), [0.0, 0.0, 1e30, 1e30], 0).is_err());
        assert_eq!(align(&op(), [f32::NAN; 4], 0).unwrap(), [0.0, 0.0]);
    }
}
