//! Convolutions of volumes, `[batch, depth, height, width, channels]`: a volume is an image whose lines are those of all
//! its slices, and a kernel one whose lines of taps are those of all its slices. Only where each line of taps is read is
//! not at even steps any more: a table says it.

use super::Conv2d;
use super::geometry::Geometry;
use super::taps::TapTable;
use super::weights::{ConvWeights, Form};
use crate::error::{Result, ensure};
use std::sync::Arc;

/// Lines of taps of all lines of an output, at most.
const MOST_LINES: usize = 1 << 22;

/// Sizes of a convolution of volumes: depth, height and width each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// The input.
    pub input: [usize; 3],
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Groups; both channels and filters are multiples of it, and a group has several channels or filters.
    pub groups: usize,
    /// The kernel.
    pub kernel: [usize; 3],
    /// Steps.
    pub strides: [usize; 3],
    /// Distances of the taps.
    pub dilations: [usize; 3],
    /// Padding before.
    pub pad_begin: [usize; 3],
    /// Padding behind.
    pub pad_end: [usize; 3],
}

impl Volume {
    /// The image that it is, and which of its lines each line of taps reads, `[output lines][kernel lines]`.
    fn folded(&self) -> Result<(Geometry, Vec<Option<usize>>)> {
        let two = |of: [usize; 3]| [of[0], of[1]];
        let slices = Geometry {
            strides: two(self.strides),
            dilations: two(self.dilations),
            pad_begin: two(self.pad_begin),
            pad_end: two(self.pad_end),
            ..Geometry::new(two(self.input), 1, 1, two(self.kernel))
        };
        slices.validate()?;
        let [depth, height] = slices.output();
        let kernel_lines = self.kernel[0].saturating_mul(self.kernel[1]);
        let lines = depth.saturating_mul(height);
        ensure!(lines.saturating_mul(kernel_lines) <= MOST_LINES, Limit, "the volume has too many lines: {self:?}");
        let slice: Vec<Option<usize>> = slices.positions(0).collect();
        let line: Vec<Option<usize>> = slices.positions(1).collect();
        let mut down = Vec::with_capacity(lines * kernel_lines);
        for slice in slice.chunks_exact(self.kernel[0]) {
            for line in line.chunks_exact(self.kernel[1]) {
                for slice in slice {
                    let at = |line: &Option<usize>| Some((*slice)? * self.input[1] + (*line)?);
                    down.extend(line.iter().map(at));
                }
            }
        }
        let folded = Geometry {
            groups: self.groups,
            strides: [1, self.strides[2]],
            dilations: [1, self.dilations[2]],
            pad_begin: [0, self.pad_begin[2]],
            pad_end: [0, self.pad_end[2]],
            lines: Some(lines),
            ..Geometry::new(
                [self.input[0].saturating_mul(self.input[1]), self.input[2]],
                self.channels,
                self.filters,
                [kernel_lines, self.kernel[2]],
            )
        };
        Ok((folded, down))
    }

    /// Joins weights of `[filters, channels / groups, kernel depth * kernel height, kernel width]` with this size of volume.
    ///
    /// # Errors
    /// As [`Conv2d::new`], and `Shape` for weights of a depthwise convolution or in Winograd's form.
    pub fn conv(&self, weights: Arc<ConvWeights>) -> Result<Conv2d> {
        let (geometry, down) = self.folded()?;
        geometry.validate()?;
        let fits = weights.filters == geometry.filters
            && weights.channels_per_group == geometry.channels_per_group()
            && weights.groups == geometry.groups
            && weights.kernel == geometry.kernel
            && matches!(weights.form, Form::Groups(_));
        ensure!(fits, Shape, "the weights are of another convolution than {self:?}");
        let taps = Some(TapTable::of_lines(&geometry, 4, 0, down));
        Ok(Conv2d { geometry, weights, taps })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::arch::Isa;
    use super::super::super::gemm::Epilogue;
    use super::super::super::{Matrix, MatrixMut};
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 3) % 31) as f32 - 15.0).collect()
    }

    /// Integers that floats hold exactly.
    fn expected(v: &Volume, x: &[f32], w: &[f32], batch: usize, out: [usize; 3]) -> Vec<f32> {
        let (cpg, fpg) = (v.channels / v.groups, v.filters / v.groups);
        let mut y = Vec::new();
        for n in 0..batch {
            for at in 0..out[0] * out[1] * out[2] {
                let o = [at / out[2] / out[1], at / out[2] % out[1], at % out[2]];
                for f in 0..v.filters {
                    let mut sum = 0.0;
                    for tap in 0..v.kernel.iter().product::<usize>() {
                        let t = [tap / v.kernel[2] / v.kernel[1], tap / v.kernel[2] % v.kernel[1], tap % v.kernel[2]];
                        let p = [0, 1, 2]
                            .map(|a| (o[a] * v.strides[a] + t[a] * v.dilations[a]).wrapping_sub(v.pad_begin[a]));
                        if (0..3).any(|a| p[a] >= v.input[a]) {
                            continue;
                        }
                        let pixel = ((n * v.input[0] + p[0]) * v.input[1] + p[1]) * v.input[2] + p[2];
                        for c in 0..cpg {
                            let weight = w[(f * cpg + c) * v.kernel.iter().product::<usize>() + tap];
                            sum += x[pixel * v.channels + f / fpg * cpg + c] * weight;
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }

    #[test]
    fn volumes_are_images_of_all_their_lines() {
        let plain = Volume {
            input: [4, 5, 6],
            channels: 6,
            filters: 8,
            groups: 1,
            kernel: [3; 3],
            strides: [1; 3],
            dilations: [1; 3],
            pad_begin: [1; 3],
            pad_end: [1; 3],
        };
        let cases = [
            plain,
            Volume { channels: 3, strides: [1, 2, 2], ..plain },
            Volume { channels: 20, filters: 33, kernel: [2, 3, 1], pad_begin: [0, 1, 0], ..plain },
            Volume { groups: 2, strides: [2, 1, 1], dilations: [1, 2, 1], pad_begin: [2, 2, 1], ..plain },
            Volume { kernel: [1; 3], strides: [2; 3], pad_begin: [0; 3], pad_end: [0; 3], ..plain },
            Volume { kernel: [3, 1, 1], pad_begin: [1, 0, 0], pad_end: [1, 0, 0], ..plain },
        ];
        for isa in Isa::available() {
            for v in cases {
                let out = [0, 1, 2].map(|a| {
                    let room = v.input[a] + v.pad_begin[a] + v.pad_end[a] - (v.kernel[a] - 1) * v.dilations[a] - 1;
                    room / v.strides[a] + 1
                });
                let (pixels, places) = (v.input.iter().product::<usize>(), out.iter().product::<usize>());
                let (x, taps) = (numbers(2 * pixels * v.channels), v.kernel.iter().product::<usize>());
                let w = numbers(v.filters * (v.channels / v.groups) * taps);
                let kernel = [v.kernel[0] * v.kernel[1], v.kernel[2]];
                let weights = ConvWeights::pack(isa, &w, v.filters, v.channels / v.groups, kernel, v.groups).unwrap();
                let conv = v.conv(Arc::new(weights)).unwrap();
                let mut y = vec![0.0; 2 * places * v.filters];
                let output = MatrixMut::dense(&mut y, 2 * places, v.filters);
                conv.run(Matrix::dense(&x, 2 * pixels, v.channels), output, &Epilogue::default());
                assert_eq!(y, expected(&v, &x, &w, 2, out), "{v:?} on {}", isa.name());
            }
        }
    }
}
