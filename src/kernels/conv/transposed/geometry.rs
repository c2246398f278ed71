//! The sizes of a transposed convolution, and which of its taps reach which pixels.
//!
//! Output position `o` is reached by tap `t` of the input element `(o + pad - t * dilation) / stride`, where that is a
//! whole number and an element. What remains of `o + pad` divided by the stride is its *phase*: it alone says which taps
//! can reach it.

use crate::error::{Result, ensure};

/// Sizes of a two-dimensional transposed convolution over `[batch, height, width, channels]`. A one-dimensional one has
/// height 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransposedGeometry {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output: what the kernels cover or less, or more, where nothing reaches.
    pub output: [usize; 2],
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Groups; both channels and filters are multiples of it.
    pub groups: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps in the output from one input element to the next, down and across.
    pub strides: [usize; 2],
    /// Distances of the taps down and across.
    pub dilations: [usize; 2],
    /// What is cut from the top and the left of the output.
    pub pad_begin: [usize; 2],
}

impl TransposedGeometry {
    /// Of `input` `[height, width]`, one group, without padding: the output holds all that the kernels cover.
    #[must_use]
    pub fn new(input: [usize; 2], channels: usize, filters: usize, kernel: [usize; 2], strides: [usize; 2]) -> Self {
        let along = |axis: usize| match input[axis].checked_sub(1) {
            Some(last) => last.saturating_mul(strides[axis]).saturating_add(kernel[axis]),
            None => 0,
        };
        TransposedGeometry {
            input,
            output: [along(0), along(1)],
            channels,
            filters,
            groups: 1,
            kernel,
            strides,
            dilations: [1; 2],
            pad_begin: [0; 2],
        }
    }

    /// The same with so much cut from the top and left, and from the bottom and right.
    #[must_use]
    pub fn padded(self, begin: [usize; 2], end: [usize; 2]) -> Self {
        let along = |axis: usize| self.output[axis].saturating_sub(begin[axis]).saturating_sub(end[axis]);
        TransposedGeometry { output: [along(0), along(1)], pad_begin: begin, ..self }
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

    /// Elements of the weights, `[channels, filters / groups, kernel height, kernel width]`.
    #[must_use]
    pub fn weights_len(&self) -> usize {
        self.channels * self.filters_per_group() * self.kernel[0] * self.kernel[1]
    }

    /// Pixels of an input image.
    #[must_use]
    pub fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Pixels of an output image.
    #[must_use]
    pub fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// How many taps come before those of a phase where they are packed phase by phase.
    pub(super) fn first_tap(&self, [y, x]: [usize; 2]) -> usize {
        let [down, across] = [0, 1].map(|axis| reached(self.kernel[axis], self.strides[axis], self.dilations[axis]));
        let before = |phases: &[(usize, Vec<usize>)], phase: usize| -> usize {
            phases.iter().take_while(|own| own.0 < phase).map(|own| own.1.len()).sum()
        };
        let own = down.iter().find(|own| own.0 == y).map_or(0, |own| own.1.len());
        before(&down, y) * self.kernel[1] + own * before(&across, x)
    }

    /// The phase of output position `out`.
    pub(super) fn phase(&self, axis: usize, out: usize) -> usize {
        (out + self.pad_begin[axis]) % self.strides[axis]
    }

    /// The input element whose tap `tap` reaches output position `out`, where there is one.
    pub(super) fn source(&self, axis: usize, out: usize, tap: usize) -> Option<usize> {
        let ahead = (out + self.pad_begin[axis]).checked_sub(tap * self.dilations[axis])?;
        let (element, rest) = (ahead / self.strides[axis], ahead % self.strides[axis]);
        (rest == 0 && element < self.input[axis]).then_some(element)
    }

    /// The input elements that reach output position `out`: all between the first and the last.
    pub(super) fn sources(&self, axis: usize, out: usize) -> std::ops::Range<usize> {
        let (ahead, stride) = (out + self.pad_begin[axis], self.strides[axis]);
        let reach = (self.kernel[axis] - 1) * self.dilations[axis];
        let end = (ahead / stride + 1).min(self.input[axis]);
        ahead.saturating_sub(reach).div_ceil(stride).min(end)..end
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
        let fits = |sizes: &[usize]| {
            let product = sizes.iter().try_fold(8usize, |product, &size| product.checked_mul(size));
            product.is_some_and(|product| product < isize::MAX as usize)
        };
        let taps = [self.kernel[0], self.kernel[1]];
        let checked = (0..2).all(|axis| {
            let reach = fits(&[taps[axis], self.dilations[axis]]);
            reach && self.output[axis].checked_add(self.pad_begin[axis]).is_some_and(|end| fits(&[end]))
        }) && fits(&[self.input[0], self.input[1], self.channels])
            && fits(&[self.output[0], self.output[1], self.filters])
            && fits(&[self.channels, self.filters, taps[0], taps[1]])
            && fits(&[self.input[1], self.filters, taps[0], taps[1]])
            && fits(&[self.output[0], taps[0]])
            && fits(&[self.output[1], taps[1]]);
        ensure!(checked, Shape, "the sizes of {self:?} overflow");
        Ok(())
    }
}

/// The phases of an axis that taps reach, in order, each with its taps from the last to the first: so that the elements
/// that they take ascend.
pub(super) fn reached(kernel: usize, stride: usize, dilation: usize) -> Vec<(usize, Vec<usize>)> {
    let mut phases = std::collections::BTreeMap::<usize, Vec<usize>>::new();
    for tap in (0..kernel).rev() {
        let phase = (tap % stride) * (dilation % stride) % stride;
        phases.entry(phase).or_default().push(tap);
    }
    phases.into_iter().collect()
}
