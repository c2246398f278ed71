//! Filters at the points, packed once at load.

use super::super::super::arch::{Body, Isa, Simd};
use super::super::super::gemm::{PackedView, panel_width};
use super::super::super::stored::Parts;
use super::points::{INPUT, filter, points};
use crate::error::{Result, ensure};
use crate::tensor::Buffer;

/// A packed B of `[channels, filters]` for each point.
#[derive(Debug, Clone)]
pub(in super::super) struct WinogradWeights {
    /// Outputs of a tile's side: two or four.
    outputs: usize,
    data: Buffer,
    channels: usize,
    panel: usize,
    /// Words of one point.
    plane: usize,
}

impl WinogradWeights {
    /// Outputs of a tile's side.
    pub(in super::super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Those of the point that is multiplied first.
    pub(in super::super) fn first_point(&self) -> &[u8] {
        self.data.as_slice().get(..self.plane * 4).unwrap_or_default()
    }

    /// Transforms `weights` of `[filters, channels, 3, 3]` for tiles of so many outputs a side.
    pub(in super::super) fn pack(isa: Isa, weights: &[f32], filters: usize, channels: usize, outputs: usize) -> Self {
        let panel = panel_width(isa);
        let plane = filters.div_ceil(panel) * panel * channels;
        let mut data = Buffer::zeroed_to_stay(points(outputs) * plane * 4);
        let words: &mut [f32] = data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        match outputs {
            2 => isa.dispatch(Transform::<2> { weights, filters, channels, panel, words }),
            _ => isa.dispatch(Transform::<4> { weights, filters, channels, panel, words }),
        }
        WinogradWeights { outputs, data, channels, panel, plane }
    }

    /// B of one point, of `n` columns from `first` on, which begins a panel; those behind the last filter are zero.
    pub(super) fn view(&self, point: usize, first: usize, n: usize) -> PackedView<'_> {
        let words: &[f32] = bytemuck::cast_slice(self.data.as_slice());
        let panels = &words[point * self.plane..][..self.plane];
        assert!(first.is_multiple_of(self.panel), "filter {first} starts no panel of {}", self.panel);
        PackedView::of_panels(&panels[first * self.channels..], self.channels, n, self.panel)
    }

    /// Appends what it consists of, for a file.
    pub(in super::super) fn store(&self, parts: &mut Parts) {
        parts.put(self.panel);
        parts.put_buffer(&self.data);
    }

    /// The same back, for so many filters and channels.
    pub(in super::super) fn restore(
        isa: Isa,
        parts: &mut Parts,
        filters: usize,
        channels: usize,
        outputs: usize,
    ) -> Result<Self> {
        let panel = parts.take()?;
        ensure!(panel == panel_width(isa), Malformed, "panels of {panel} columns, not for {}", isa.name());
        let data = parts.take_buffer(&[points(outputs), filters.div_ceil(panel), panel, channels, 4])?;
        // The product with the number of points did not overflow.
        Ok(WinogradWeights { outputs, data, channels, panel, plane: filters.div_ceil(panel) * panel * channels })
    }

    pub(in super::super) fn len_bytes(&self) -> usize {
        self.data.as_slice().len()
    }
}

struct Transform<'a, const O: usize> {
    weights: &'a [f32],
    filters: usize,
    channels: usize,
    panel: usize,
    words: &'a mut [f32],
}

impl<const O: usize> Body for Transform<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plane = self.words.len() / points(O);
        for first in (0..self.filters).step_by(S::LANES) {
            let count = S::LANES.min(self.filters - first);
            let column = first / self.panel * self.panel * self.channels + first % self.panel;
            for channel in 0..self.channels {
                // The taps of a vector of filters, side by side.
                let mut taps = [[0.0f32; 16]; 9];
                for lane in 0..count {
                    let filter = &self.weights[((first + lane) * self.channels + channel) * 9..][..9];
                    for (taps, &weight) in taps.iter_mut().zip(filter) {
                        taps[lane] = weight;
                    }
                }
                let mut rows = [[s.splat(0.0); INPUT]; 3];
                for (rows, taps) in rows.iter_mut().zip(taps.chunks_exact(3)) {
                    // SAFETY: no instruction set has more than sixteen lanes.
                    let g = unsafe { [s.load(taps[0].as_ptr()), s.load(taps[1].as_ptr()), s.load(taps[2].as_ptr())] };
                    *rows = filter::<S, O>(s, g);
                }
                let at = column + channel * self.panel;
                #[allow(clippy::needless_range_loop)] // A column of several rows.
                for x in 0..O + 2 {
                    let us = filter::<S, O>(s, [rows[0][x], rows[1][x], rows[2][x]]);
                    for (y, u) in us.into_iter().enumerate().take(O + 2) {
                        let to = &mut self.words[(y * (O + 2) + x) * plane + at..][..S::LANES];
                        // SAFETY: the slice holds a vector.
                        unsafe { s.store(to.as_mut_ptr(), u) };
                    }
                }
            }
        }
    }
}
