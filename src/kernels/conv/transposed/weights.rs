//! Weights of a transposed convolution packed once at load, for any size of image.

use super::super::super::arch::Isa;
use super::super::super::gemm::{Layout, PackedB};
use super::super::super::stored::{Parts, Stored, restore_all, store_all};
use super::geometry::reached;
use crate::error::{Result, bail, ensure};

/// Packed f32 weights of `[channels, filters / groups, kernel height, kernel width]`, ONNX's order.
#[derive(Debug, Clone)]
pub struct TransposedWeights {
    pub(super) isa: Isa,
    pub(super) sizes: Sizes,
    pub(super) form: Form,
}

/// What packed weights are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) channels_per_group: usize,
    pub(super) filters_per_group: usize,
    pub(super) groups: usize,
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    pub(super) dilations: [usize; 2],
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    /// `[phases down][phases across][groups]` matrices of `[taps of the phase x channels, filters]`.
    Phases(Vec<PackedB>),
    /// A matrix of `[channels, taps x filters]`.
    Scatter(PackedB),
    /// `[phases][taps][channels, filled up to whole vectors]`.
    Depthwise(Vec<f32>),
}

/// What it costs to sum a vector of results, and to write and find one of them, in multiplications.
const SUMMED: usize = 100;
const WRITTEN: usize = 4;

impl Sizes {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn depthwise(&self) -> bool {
        self.groups > 1 && self.channels_per_group == 1 && self.filters_per_group == 1
    }

    /// Whether one product for all taps can be taken apart into lines: where a stride is a run of taps.
    fn can_scatter(&self) -> bool {
        self.groups == 1 && self.dilations[1] == 1 && self.strides[1] <= self.kernel[1]
    }

    /// Whether one product for all taps, whose results are added afterwards, is expected to be faster than one for each
    /// phase: few filters leave most of a vector empty. The answer depends on no image, so that all sizes share weights.
    fn scatters(&self) -> bool {
        // Half of a panel is a tile of one vector, which takes nearly as long as one of two.
        let columns = |n: usize| n.next_multiple_of(32) - if (1..=16).contains(&(n % 32)) { 8 } else { 0 };
        let ([height, width], filters) = (self.kernel, self.filters_per_group);
        let phases = self.taps().saturating_mul(columns(filters)).saturating_mul(self.channels_per_group);
        let all = self.taps().saturating_mul(filters);
        let run = self.strides[1].saturating_mul(filters);
        let sums = height.saturating_mul(width.div_ceil(self.strides[1])).saturating_mul(run.div_ceil(16));
        let product = columns(all).saturating_mul(self.channels_per_group);
        let after = sums.saturating_mul(SUMMED).saturating_add(all.saturating_mul(WRITTEN));
        product.saturating_add(after) < phases
    }

    /// The taps of each phase that taps reach: from the last to the first, so that the pixels which they take ascend.
    fn phases(&self) -> Vec<Vec<usize>> {
        let [down, across] = [0, 1].map(|axis| reached(self.kernel[axis], self.strides[axis], self.dilations[axis]));
        let pairs = down.iter().flat_map(|y| across.iter().map(move |x| (&y.1, &x.1)));
        let taps = |(ys, xs): (&Vec<usize>, &Vec<usize>)| {
            ys.iter().flat_map(|y| xs.iter().map(move |x| y * self.kernel[1] + x)).collect()
        };
        pairs.map(taps).collect()
    }

    /// Checks that no product of the sizes overflows.
    fn check(&self) -> Result<()> {
        let Sizes { channels_per_group: channels, filters_per_group: filters, groups, kernel, strides, dilations } =
            *self;
        let steps = [strides, dilations, kernel].concat();
        ensure!(groups > 0 && !steps.contains(&0), Shape, "a transposed convolution of {self:?}");
        let sizes = [channels, filters, groups, kernel[0], kernel[1], 64];
        let len = sizes.iter().try_fold(1usize, |len, &size| len.checked_mul(size));
        ensure!(len.is_some_and(|len| len < isize::MAX as usize), Shape, "the weights of {self:?} are too large");
        Ok(())
    }
}

/// How weights are to be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransposedForm {
    /// A product for each phase of the output, which stores it finished.
    Phases,
    /// One product for all taps, whose results are added afterwards.
    Scatter,
}

impl TransposedWeights {
    /// Packs `weights` for `isa`, for a convolution of these strides and dilations.
    ///
    /// # Errors
    /// `Shape` where the number of elements is not the product of the sizes, or groups do not divide the channels.
    pub fn pack(
        isa: Isa,
        weights: &[f32],
        shape: [usize; 4],
        groups: usize,
        strides: [usize; 2],
        dilations: [usize; 2],
    ) -> Result<Self> {
        Self::pack_as(isa, weights, shape, groups, strides, dilations, None)
    }

    /// The same in a form that the caller chooses; depthwise weights have one of their own.
    ///
    /// # Errors
    /// As [`TransposedWeights::pack`].
    pub fn pack_as(
        isa: Isa,
        weights: &[f32],
        [channels, filters, height, width]: [usize; 4],
        groups: usize,
        strides: [usize; 2],
        dilations: [usize; 2],
        form: Option<TransposedForm>,
    ) -> Result<Self> {
        let divides = groups > 0 && channels.is_multiple_of(groups);
        ensure!(divides, Shape, "{groups} groups do not divide {channels} channels");
        let sizes = Sizes {
            channels_per_group: channels / groups,
            filters_per_group: filters,
            groups,
            kernel: [height, width],
            strides,
            dilations,
        };
        sizes.check()?;
        let (taps, per_group) = (sizes.taps(), sizes.channels_per_group);
        let len = channels * filters * taps;
        ensure!(weights.len() == len, Shape, "{} weights for {sizes:?}", weights.len());
        let scatters = match form {
            None => sizes.scatters(),
            Some(form) => form == TransposedForm::Scatter,
        };
        let phases = sizes.phases();
        let form = if sizes.depthwise() {
            let padded = channels.next_multiple_of(isa.lanes());
            let mut packed = Vec::with_capacity(taps * padded);
            for tap in phases.into_iter().flatten() {
                packed.extend((0..channels).map(|channel| weights[channel * taps + tap]));
                packed.resize(packed.len().next_multiple_of(padded), 0.0);
            }
            Form::Depthwise(packed)
        } else if scatters && sizes.can_scatter() {
            let columns = (taps * filters).max(1);
            let mut b = vec![0.0; len];
            for (kernels, row) in weights.chunks_exact(columns).zip(b.chunks_exact_mut(columns)) {
                for (at, &weight) in kernels.iter().enumerate() {
                    row[at % taps * filters + at / taps] = weight;
                }
            }
            let n = taps * filters;
            Form::Scatter(PackedB::pack(isa, &b, channels, n, Layout::RowMajor { stride: n }))
        } else {
            // A matrix has the taps that it is for, in its order, as rows.
            let matrix = |group: usize, own: &[usize]| {
                let kernels = &weights[group * per_group * filters * taps..][..per_group * filters * taps];
                let mut b = vec![0.0; own.len() * per_group * filters];
                for (at, kernel) in kernels.chunks_exact(taps).enumerate() {
                    for (index, &tap) in own.iter().enumerate() {
                        b[index * per_group * filters + at] = kernel[tap];
                    }
                }
                PackedB::pack(isa, &b, own.len() * per_group, filters, Layout::RowMajor { stride: filters })
            };
            let groups = |own: &Vec<usize>| (0..groups).map(|group| matrix(group, own)).collect::<Vec<_>>();
            Form::Phases(phases.iter().flat_map(groups).collect())
        };
        Ok(TransposedWeights { isa, sizes, form })
    }

    /// Bytes that they hold.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match &self.form {
            Form::Phases(packed) => packed.iter().map(PackedB::len_bytes).sum(),
            Form::Scatter(packed) => packed.len_bytes(),
            Form::Depthwise(packed) => packed.len() * 4,
        }
    }
}

impl Stored for TransposedWeights {
    const KIND: &'static str = "f32 transposed convolution";

    fn store(&self, parts: &mut Parts) {
        let s = &self.sizes;
        parts.put_all(&[s.channels_per_group, s.filters_per_group, s.groups]);
        [s.kernel, s.strides, s.dilations].iter().for_each(|pair| parts.put_all(pair));
        match &self.form {
            Form::Phases(packed) => {
                parts.put(0);
                store_all(packed, parts);
            }
            Form::Scatter(packed) => {
                parts.put(1);
                packed.store(parts);
            }
            Form::Depthwise(packed) => {
                parts.put(2);
                parts.put_elements(packed);
            }
        }
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let [channels_per_group, filters_per_group, groups] = parts.take_sizes()?;
        let [kernel, strides, dilations] = [parts.take_sizes()?, parts.take_sizes()?, parts.take_sizes()?];
        let sizes = Sizes { channels_per_group, filters_per_group, groups, kernel, strides, dilations };
        sizes.check()?;
        let form = match parts.take()? {
            0 => {
                let packed = restore_all::<PackedB>(isa, parts)?;
                // No phase is without a tap, so a kernel of more taps than there are columns in all has too many.
                let rows: usize = packed.iter().map(PackedB::k).sum();
                let fits = rows >= sizes.taps() && packed.len() >= groups;
                ensure!(fits, Malformed, "{rows} rows for the taps of {sizes:?}");
                let depths: Vec<usize> = sizes
                    .phases()
                    .iter()
                    .flat_map(|taps| std::iter::repeat_n(taps.len() * channels_per_group, groups))
                    .collect();
                let fit = packed.len() == depths.len()
                    && packed.iter().zip(&depths).all(|(b, &k)| (b.k(), b.n()) == (k, filters_per_group));
                ensure!(fit, Malformed, "the matrices are not those of the phases");
                Form::Phases(packed)
            }
            1 => {
                let packed = PackedB::restore(isa, parts)?;
                let fit = (packed.k(), packed.n()) == (channels_per_group, sizes.taps() * filters_per_group);
                ensure!(fit && sizes.can_scatter(), Malformed, "the matrix is not that of the taps");
                Form::Scatter(packed)
            }
            2 => {
                ensure!(sizes.depthwise(), Malformed, "depthwise weights of {sizes:?}");
                Form::Depthwise(parts.take_elements(&[sizes.taps(), groups.next_multiple_of(isa.lanes())])?)
            }
            form => bail!(Malformed, "weights in form {form}"),
        };
        Ok(TransposedWeights { isa, sizes, form })
    }
}
