//! B packed once at load: panels of as many columns as a tile is wide, each panel's rows of 32-bit words in sequence.
//!
//! The layout is `[N / NR][K / G][NR][G]`: `G` elements of one column make a word (one f32, two bf16, four bytes), and a
//! tile walks down a panel reading `NR` words at a time. The last panel is filled up with zeros, and so is the last
//! word of each segment of K, where K consists of segments (the taps of a convolution) of their own length.

use super::super::arch::Isa;
use super::super::movement::transpose_2d;
use crate::tensor::Buffer;

/// Where the elements of an unpacked B lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// `b[k * stride + n]`: what ONNX's `MatMul` has.
    RowMajor {
        /// Elements from one `k` to the next.
        stride: usize,
    },
    /// `b[n * stride + k]`: what `Gemm` with `transB` has, or the keys of an attention.
    Transposed {
        /// Elements from one column to the next.
        stride: usize,
    },
}

/// A packed f32 matrix B of `[k, n]`, owned or borrowed from a mapping.
#[derive(Debug, Clone)]
pub struct PackedB {
    pub(super) data: Buffer,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panel: usize,
}

impl PackedB {
    /// Packs `b` of `[k, n]` for `isa`.
    ///
    /// # Panics
    /// If `b` is too short for its layout.
    #[must_use]
    #[track_caller]
    pub fn pack(isa: Isa, b: &[f32], k: usize, n: usize, layout: Layout) -> Self {
        let panel = panel_width(isa);
        let mut data = Buffer::zeroed_to_stay(n.div_ceil(panel) * panel * k * 4);
        let words = data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        pack_panels(b, k, n, layout, panel, words);
        PackedB { data, k, n, panel }
    }

    /// The panels from the one that holds `column` on.
    #[must_use]
    pub fn bytes_from(&self, column: usize) -> &[u8] {
        let first = column / self.panel.max(1) * self.panel * self.k * 4;
        self.data.as_slice().get(first..).unwrap_or_default()
    }

    /// Packs a convolution's filters, `[n, channels, taps]`, as a B of `[taps * channels, n]`.
    ///
    /// # Panics
    /// If there are not `n * channels * taps` weights.
    #[must_use]
    #[track_caller]
    pub fn from_filters(isa: Isa, weights: &[f32], n: usize, channels: usize, taps: usize) -> Self {
        let k = taps * channels;
        assert!(weights.len() == n * k, "{} weights for {n} filters of {k}", weights.len());
        if taps == 1 {
            return PackedB::pack(isa, weights, k, n, Layout::Transposed { stride: k });
        }
        let panel = panel_width(isa);
        let mut data = Buffer::zeroed_to_stay(n.div_ceil(panel) * panel * k * 4);
        let words: &mut [f32] = data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        if k > 0 {
            let blocks = words.chunks_exact_mut(panel * k).zip(weights.chunks(panel * k));
            for (block, filters) in blocks {
                // Sixteen channels at a time, so that the lines that are written stay in the first cache.
                for first in (0..channels).step_by(16) {
                    let some = first * taps..channels.min(first + 16) * taps;
                    for (column, filter) in filters.chunks_exact(k).enumerate() {
                        for (c, weights) in filter[some.clone()].chunks_exact(taps).enumerate() {
                            for (tap, &weight) in weights.iter().enumerate() {
                                block[(tap * channels + first + c) * panel + column] = weight;
                            }
                        }
                    }
                }
            }
        }
        PackedB { data, k, n, panel }
    }

    /// Rows.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of a panel; ranges of columns start at multiples of it.
    #[must_use]
    pub fn panel(&self) -> usize {
        self.panel
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.data.as_slice().len()
    }

    /// A view for the product.
    #[must_use]
    pub fn view(&self) -> PackedView<'_> {
        PackedView { data: bytemuck::cast_slice(self.data.as_slice()), k: self.k, n: self.n, panel: self.panel }
    }
}

impl<'a> From<&'a PackedB> for PackedView<'a> {
    fn from(b: &'a PackedB) -> Self {
        b.view()
    }
}

/// A packed f32 matrix B of `[k, n]` that lies somewhere else: in a [`PackedB`], or in a caller's scratch.
#[derive(Debug, Clone, Copy)]
pub struct PackedView<'a> {
    pub(super) data: &'a [f32],
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panel: usize,
}

impl<'a> PackedView<'a> {
    /// Elements of scratch that [`PackedView::pack_into`] needs for a B of `[k, n]`; saturates.
    #[must_use]
    pub fn scratch_len(isa: Isa, k: usize, n: usize) -> usize {
        let panel = panel_width(isa);
        n.div_ceil(panel).saturating_mul(panel).saturating_mul(k)
    }

    /// Packs `b` of `[k, n]` into `scratch`, for a B that is computed and used once.
    ///
    /// # Panics
    /// If `b` is too short for its layout, or `scratch` shorter than [`PackedView::scratch_len`].
    #[must_use]
    #[track_caller]
    pub fn pack_into(isa: Isa, b: &[f32], k: usize, n: usize, layout: Layout, scratch: &'a mut [f32]) -> Self {
        let panel = panel_width(isa);
        let data = &mut scratch[..n.div_ceil(panel) * panel * k];
        pack_panels(b, k, n, layout, panel, data);
        PackedView { data, k, n, panel }
    }

    /// All panels.
    pub(in crate::kernels) fn bytes(self) -> &'a [u8] {
        bytemuck::cast_slice(self.data)
    }

    /// A view of panels that somebody else has laid out.
    ///
    /// # Panics
    /// If `data` is shorter than the panels of `[k, n]`.
    #[track_caller]
    pub(in crate::kernels) fn of_panels(data: &'a [f32], k: usize, n: usize, panel: usize) -> Self {
        assert!(data.len() >= n.div_ceil(panel) * panel * k, "{k} x {n} in {} words", data.len());
        PackedView { data, k, n, panel }
    }

    /// Rows.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }
}

/// Columns of a panel: two vectors.
pub(in crate::kernels) fn panel_width(isa: Isa) -> usize {
    2 * isa.lanes()
}

#[track_caller]
fn pack_panels(b: &[f32], k: usize, n: usize, layout: Layout, panel: usize, packed: &mut [f32]) {
    if k == 0 || n == 0 {
        return;
    }
    let (lines, width, stride) = match layout {
        Layout::RowMajor { stride } => (k, n, stride),
        Layout::Transposed { stride } => (n, k, stride),
    };
    let needed = (lines - 1).checked_mul(stride).and_then(|start| start.checked_add(width));
    assert!(needed.is_some_and(|needed| needed <= b.len()), "B of {k} x {n}, {layout:?}, in {} elements", b.len());
    for (p, block) in packed.chunks_exact_mut(panel * k).enumerate() {
        let first = p * panel;
        let columns = panel.min(n - first);
        match layout {
            Layout::RowMajor { stride } => {
                for (row, line) in block.chunks_exact_mut(panel).enumerate() {
                    let start = row * stride + first;
                    line[..columns].copy_from_slice(&b[start..start + columns]);
                    line[columns..].fill(0.0);
                }
            }
            Layout::Transposed { stride } => {
                if columns < panel {
                    block.fill(0.0);
                }
                let source = b[first * stride..].as_ptr();
                // SAFETY: `columns` rows of k elements were found in B above; the block holds k rows of a panel.
                unsafe {
                    let (source, block) = (source.cast::<[u8; 4]>(), block.as_mut_ptr().cast());
                    transpose_2d(source, stride as isize, columns, block, panel, k);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PackedBf16, PackedHalves};
    use super::*;

    #[test]
    fn both_layouts_pack_alike() {
        for isa in Isa::available() {
            for (k, n) in [(1, 1), (3, 5), (17, 33), (40, 64), (0, 3), (3, 0)] {
                // Float16 holds them all.
                let b: Vec<f32> =
                    (0..k * n).map(|i| i as f32 + 1.0).map(|x| if x > 2048.0 { 2048.0 - x } else { x }).collect();
                let transposed: Vec<f32> = (0..k * n).map(|i| b[(i % k.max(1)) * n + i / k.max(1)]).collect();
                let b_as = |layout| if matches!(layout, Layout::RowMajor { .. }) { &b } else { &transposed };
                let rows = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
                let columns = PackedB::pack(isa, &transposed, k, n, Layout::Transposed { stride: k });
                let made = PackedB::from_filters(isa, &transposed, n, k, 1);
                assert_eq!(rows.view().data, columns.view().data);
                assert_eq!(rows.view().data, made.view().data);
                let (by_row, by_column) = (Layout::RowMajor { stride: n }, Layout::Transposed { stride: k });
                let halves = [by_row, by_column].map(|layout| PackedHalves::pack(isa, b_as(layout), k, n, layout));
                assert!(halves[0].is_exact() && halves[0].data.as_slice() == halves[1].data.as_slice());
                let brains = [by_row, by_column].map(|layout| PackedBf16::pack(isa, b_as(layout), k, n, layout));
                assert_eq!(brains[0].data.as_slice(), brains[1].data.as_slice());
                let mut scratch = vec![f32::NAN; PackedView::scratch_len(isa, k, n)];
                let again = PackedView::pack_into(isa, &b, k, n, Layout::RowMajor { stride: n }, &mut scratch);
                assert_eq!(again.data, rows.view().data);
                let panel = rows.panel();
                for (row, column) in (0..k).flat_map(|row| (0..n).map(move |column| (row, column))) {
                    let at = (column / panel) * panel * k + row * panel + column % panel;
                    assert_eq!(rows.view().data[at], b[row * n + column]);
                }
            }
        }
    }
}
