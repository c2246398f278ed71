//! Windows on an image.

/// What a window becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element; minus infinity of a window that holds nothing but padding. NaN is passed over.
    Max,
    /// The mean.
    Average {
        /// Whether padding counts as zeros, or not at all.
        include_padding: bool,
    },
}

/// Sizes of a pool, `[height, width]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Channels.
    pub channels: usize,
    /// Input.
    pub input: [usize; 2],
    /// Output.
    pub output: [usize; 2],
    /// Window.
    pub kernel: [usize; 2],
    /// Between windows.
    pub strides: [usize; 2],
    /// Between the elements of a window.
    pub dilations: [usize; 2],
    /// Padding above and to the left.
    pub begin: [usize; 2],
    /// Padding below and to the right.
    pub end: [usize; 2],
}

/// The elements of a window on one axis: `count` of them from input index `first` on, a dilation apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taps {
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Pool {
    /// Taps of output index `o` on `axis` that lie in the input.
    #[inline(always)]
    pub(super) fn taps(&self, axis: usize, o: usize) -> Taps {
        let (start, dilation) = (o * self.strides[axis], self.dilations[axis].max(1));
        let skipped = parts(self.begin[axis].saturating_sub(start), dilation).min(self.kernel[axis]);
        let first = start + skipped * dilation;
        let limit = parts((self.input[axis] + self.begin[axis]).saturating_sub(first), dilation);
        Taps { first: first.saturating_sub(self.begin[axis]), count: limit.min(self.kernel[axis] - skipped) }
    }

    /// Taps of output index `o` on `axis` that lie in the padded input.
    #[inline(always)]
    pub(super) fn padded_taps(&self, axis: usize, o: usize) -> usize {
        let start = o * self.strides[axis];
        let padded = self.input[axis] + self.begin[axis] + self.end[axis];
        parts(padded.saturating_sub(start), self.dilations[axis].max(1)).min(self.kernel[axis])
    }

    /// Elements that a window's mean is taken over.
    #[inline(always)]
    pub(super) fn count(&self, include_padding: bool, oy: usize, ox: usize) -> usize {
        if include_padding {
            self.padded_taps(0, oy) * self.padded_taps(1, ox)
        } else {
            self.taps(0, oy).count * self.taps(1, ox).count
        }
    }

    /// Elements of one input image and of one output row of all channels.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.input[0] * self.input[1] * self.channels, self.output[1] * self.channels)
    }
}

/// `length.div_ceil(dilation)`, without the division that nearly every pool has no need of.
#[inline(always)]
fn parts(length: usize, dilation: usize) -> usize {
    if dilation == 1 { length } else { length.div_ceil(dilation) }
}
