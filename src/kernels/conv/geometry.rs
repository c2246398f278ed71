//! The sizes of a convolution at a concrete shape, checked once.

use crate::error::{Result, ensure};
use std::ops::Range;

/// Sizes of a two-dimensional convolution over `[batch, height, width, channels]`. A one-dimensional one has height 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Groups; both channels and filters are multiples of it.
    pub groups: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps down and across.
    pub strides: [usize; 2],
    /// Distances of the taps down and across.
    pub dilations: [usize; 2],
    /// Padding at the top and on the left.
    pub pad_begin: [usize; 2],
    /// Padding at the bottom and on the right.
    pub pad_end: [usize; 2],
    /// Height of the output, where a table says which lines it reads: of a volume that is folded into an image.
    pub lines: Option<usize>,
}

impl Geometry {
    /// A convolution of `input` `[height, width]` with stride and dilation 1, without padding, in one group.
    #[must_use]
    pub fn new(input: [usize; 2], channels: usize, filters: usize, kernel: [usize; 2]) -> Self {
        Geometry {
            input,
            channels,
            filters,
            groups: 1,
            kernel,
            strides: [1; 2],
            dilations: [1; 2],
            pad_begin: [0; 2],
            pad_end: [0; 2],
            lines: None,
        }
    }

    /// Height and width of the output; zero where the kernel does not fit.
    #[must_use]
    pub fn output(&self) -> [usize; 2] {
        let along = |axis: usize| {
            let padded = self.input[axis].saturating_add(self.pad_begin[axis]).saturating_add(self.pad_end[axis]);
            let reach = self.kernel[axis].saturating_sub(1).saturating_mul(self.dilations[axis]);
            match padded.checked_sub(reach.saturating_add(1)) {
                Some(room) => room / self.strides[axis].max(1) + 1,
                None => 0,
            }
        };
        [self.lines.unwrap_or_else(|| along(0)), along(1)]
    }

    /// Input channels of a group.
    #[must_use]
    pub fn channels_per_group(&self) -> usize {
        self.channels / self.groups.max(1)
    }

    /// Filters of a group.
    #[must_use]
    pub fn filters_per_group(&self) -> usize {
        self.filters / self.groups.max(1)
    }

    /// Taps of the kernel.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements of the weights, `[filters, channels / groups, kernel height, kernel width]`.
    #[must_use]
    pub fn weights_len(&self) -> usize {
        self.filters * self.channels_per_group() * self.taps()
    }

    /// Pixels of an input image.
    #[must_use]
    pub fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Pixels of an output image.
    #[must_use]
    pub fn output_pixels(&self) -> usize {
        let [height, width] = self.output();
        height * width
    }

    /// The convolution of a strip: of the output lines `lines`, and the input lines that they see. Empty where the strip
    /// sees padding alone.
    #[must_use]
    pub fn strip(&self, lines: &Range<usize>) -> (Self, Range<usize>) {
        let (stride, begin) = (self.strides[0], self.pad_begin[0]);
        let reach = (self.kernel[0] - 1) * self.dilations[0] + 1;
        let from = lines.start * stride;
        let to = if lines.is_empty() { from } else { (lines.end - 1) * stride + reach };
        let inside = |place: usize| place.saturating_sub(begin).min(self.input[0]);
        let rows = inside(from)..inside(to).max(inside(from));
        let before = begin.saturating_sub(from).min(reach);
        let strip = Geometry {
            input: [rows.len(), self.input[1]],
            pad_begin: [before, self.pad_begin[1]],
            pad_end: [(to - from).saturating_sub(before + rows.len()), self.pad_end[1]],
            ..*self
        };
        (strip, rows)
    }

    /// Whether every output pixel is a product of the input pixel at the same place alone.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        let plain = self.kernel == [1; 2] && self.strides == [1; 2] && self.lines.is_none();
        plain && self.pad_begin == [0; 2] && self.pad_end == [0; 2]
    }

    /// Whether an f32 convolution is expected to be faster by Winograd's algorithm
    /// ([`ConvWeights::pack_winograd`](super::ConvWeights::pack_winograd)): 3x3 taps at stride 1, at least 12 channels and
    /// filters, and an image large enough that the larger weights are worth reading, and their memory where they are many. The
    /// number of images plays no part.
    #[must_use]
    pub fn suits_winograd(&self) -> bool {
        self.winograd_tile().is_some()
    }

    /// Output pixels of a side of the tiles that it is expected to be fastest with: four, or two where the image is small
    /// beside many filters.
    #[must_use]
    pub fn winograd_tile(&self) -> Option<usize> {
        super::winograd::suits(self)
    }

    /// Where axis `axis` of the input is read for each output position and tap: an index, or `None` in the padding.
    pub(super) fn positions(&self, axis: usize) -> impl Iterator<Item = Option<usize>> + '_ {
        let (stride, dilation) = (self.strides[axis], self.dilations[axis]);
        let (begin, len) = (self.pad_begin[axis], self.input[axis]);
        (0..self.output()[axis]).flat_map(move |out| {
            (0..self.kernel[axis])
                .map(move |tap| (out * stride + tap * dilation).checked_sub(begin).filter(|&position| position < len))
        })
    }

    /// Checks that the sizes make sense together and that no product of them overflows.
    ///
    /// # Errors
    /// `Shape` where groups do not divide channels and filters, a stride or dilation is zero, or sizes overflow.
    pub fn validate(&self) -> Result<()> {
        let sizes = [self.strides, self.dilations, self.kernel].concat();
        ensure!(sizes.iter().all(|&size| size > 0), Shape, "kernel, strides and dilations must be positive: {self:?}");
        ensure!(
            self.groups > 0 && self.channels.is_multiple_of(self.groups) && self.filters.is_multiple_of(self.groups),
            Shape,
            "{} groups do not divide {} channels and {} filters",
            self.groups,
            self.channels,
            self.filters
        );
        let product = |sizes: &[usize]| {
            sizes
                .iter()
                .try_fold(8usize, |product, &size| product.checked_mul(size))
                .filter(|&p| p < isize::MAX as usize)
        };
        let [height, width] = self.output();
        let checked = [
            product(&[self.input[0], self.input[1], self.channels]),
            product(&[height, width, self.filters]),
            product(&[self.filters, self.channels, self.kernel[0], self.kernel[1]]),
            product(&[height, self.kernel[0]]),
            product(&[width, self.kernel[1]]),
            product(&[height, self.strides[0]]),
            product(&[width, self.strides[1]]),
        ];
        ensure!(checked.iter().all(Option::is_some), Limit, "the sizes overflow: {self:?}");
        Ok(())
    }
}
