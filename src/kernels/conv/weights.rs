//! Weights of a convolution packed once at load, for any size of image.

use super::super::arch::Isa;
use super::super::gemm::PackedB;
use super::winograd::WinogradWeights;
use crate::error::{Result, ensure};

/// Packed f32 weights of `[filters, channels / groups, kernel height, kernel width]`, ONNX's order.
#[derive(Debug, Clone)]
pub struct ConvWeights {
    pub(super) isa: Isa,
    pub(super) filters: usize,
    pub(super) channels_per_group: usize,
    pub(super) groups: usize,
    pub(super) kernel: [usize; 2],
    pub(super) form: Form,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    /// One B a group, `[taps x channels per group, filters per group]`.
    Groups(Vec<PackedB>),
    /// `[taps + 1][channels, filled up to whole vectors]`; the last row is zeros.
    Depthwise(Vec<f32>),
    /// A B for each point of Winograd's transform.
    Winograd(WinogradWeights),
}

impl ConvWeights {
    /// Packs `weights` of `[filters, channels_per_group, kernel height, kernel width]` for `isa`.
    ///
    /// # Errors
    /// `Shape` where the number of elements is not the product of the sizes, or groups do not divide the filters.
    pub fn pack(
        isa: Isa,
        weights: &[f32],
        filters: usize,
        channels_per_group: usize,
        kernel: [usize; 2],
        groups: usize,
    ) -> Result<Self> {
        let sizes = [filters, channels_per_group, kernel[0], kernel[1]];
        let len = sizes.iter().try_fold(1usize, |len, &size| len.checked_mul(size));
        ensure!(len == Some(weights.len()), Shape, "{} weights for {sizes:?}", weights.len());
        ensure!(groups > 0 && filters.is_multiple_of(groups), Shape, "{groups} groups do not divide {filters} filters");
        let taps = kernel[0] * kernel[1];
        let form = if channels_per_group == 1 && filters == groups && groups > 1 {
            let padded = filters.next_multiple_of(isa.lanes());
            let mut packed = vec![0.0; (taps + 1) * padded];
            for (channel, weights) in weights.chunks_exact(taps.max(1)).enumerate() {
                for (tap, &weight) in weights.iter().enumerate() {
                    packed[tap * padded + channel] = weight;
                }
            }
            Form::Depthwise(packed)
        } else {
            let per_group = filters / groups;
            let group_len = per_group * channels_per_group * taps;
            let group = |g: usize| {
                PackedB::from_filters(isa, &weights[g * group_len..][..group_len], per_group, channels_per_group, taps)
            };
            Form::Groups((0..groups).map(group).collect())
        };
        Ok(ConvWeights { isa, filters, channels_per_group, groups, kernel, form })
    }

    /// Packs `weights` of `[filters, channels, 3, 3]` for Winograd's algorithm in tiles of four output pixels a side, or of two;
    /// see [`Geometry::winograd_tile`]. They take four times the memory, or less than twice as much.
    ///
    /// # Errors
    /// `Shape` where the number of elements is not the product of the sizes.
    ///
    /// [`Geometry::winograd_tile`]: super::Geometry::winograd_tile
    pub fn pack_winograd(isa: Isa, weights: &[f32], filters: usize, channels: usize, tile: usize) -> Result<Self> {
        ensure!([2, 4].contains(&tile), Unsupported, "Winograd's tiles have two or four pixels a side, not {tile}");
        let len = filters.checked_mul(channels).and_then(|len| len.checked_mul(9));
        ensure!(len == Some(weights.len()), Shape, "{} weights for {filters} x {channels} x 3 x 3", weights.len());
        let form = Form::Winograd(WinogradWeights::pack(isa, weights, filters, channels, tile));
        Ok(ConvWeights { isa, filters, channels_per_group: channels, groups: 1, kernel: [3; 2], form })
    }

    /// The instruction set that they are packed for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Output pixels of a side of Winograd's tiles, where it runs so.
    pub(super) fn winograd_tile(&self) -> Option<usize> {
        match &self.form {
            Form::Winograd(packed) => Some(packed.outputs()),
            _ => None,
        }
    }

    /// What a run reads first of those for `filter` and the following, where it reads them in sequence.
    #[must_use]
    pub(super) fn bytes_from(&self, filter: usize) -> &[u8] {
        match &self.form {
            Form::Groups(groups) => groups.first().map_or(&[], |b| b.bytes_from(filter)),
            Form::Winograd(packed) => packed.first_point(),
            Form::Depthwise(_) => &[],
        }
    }

    /// Bytes that they hold.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match &self.form {
            Form::Groups(groups) => groups.iter().map(PackedB::len_bytes).sum(),
            Form::Depthwise(packed) => packed.len() * 4,
            Form::Winograd(packed) => packed.len_bytes(),
        }
    }
}
