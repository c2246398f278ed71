//! Packed weights of convolutions in files.
//!
//! The sizes of a restored form agree with each other; [`Conv2d::new`](super::Conv2d::new) and
//! [`ByteConv2d::new`](super::ByteConv2d::new) compare them with the geometry.

use super::super::arch::Isa;
use super::super::gemm::{PackedB, PackedBytes};
use super::super::stored::{Parts, Stored, restore_all, store_all};
use super::bytes::{self, ByteConvWeights};
use super::depthwise_bytes::{MOST_TAPS, TapWords};
use super::depthwise_rows::BlockWords;
use super::depthwise_strips::StripWords;
use super::weights::{self, ConvWeights};
use super::winograd::WinogradWeights;
use crate::error::{Result, bail, ensure};

/// The sizes that both kinds of weights have.
#[derive(Clone, Copy)]
struct Sizes {
    filters: usize,
    channels: usize,
    groups: usize,
    kernel: [usize; 2],
    taps: usize,
}

impl Sizes {
    fn put(parts: &mut Parts, filters: usize, channels: usize, groups: usize, [height, width]: [usize; 2]) {
        parts.put_all(&[filters, channels, groups, height, width]);
    }

    fn take(parts: &mut Parts) -> Result<Self> {
        let [filters, channels, groups, height, width] = parts.take_sizes()?;
        let Some(taps) = height.checked_mul(width) else { bail!(Malformed, "a kernel of {height} x {width}") };
        let divides = groups > 0 && filters.is_multiple_of(groups);
        ensure!(divides, Malformed, "{filters} filters in {groups} groups");
        Ok(Sizes { filters, channels, groups, kernel: [height, width], taps })
    }

    /// The channels of a depthwise convolution, filled up to whole vectors.
    fn padded(&self, isa: Isa) -> Result<usize> {
        let depthwise = self.channels == 1 && self.filters == self.groups && self.groups > 1;
        match self.filters.checked_next_multiple_of(isa.lanes()) {
            Some(padded) if depthwise => Ok(padded),
            _ => bail!(Malformed, "depthwise weights of {} filters in {} groups", self.filters, self.groups),
        }
    }
}

impl Stored for ConvWeights {
    const KIND: &'static str = "f32 convolution";

    fn store(&self, parts: &mut Parts) {
        Sizes::put(parts, self.filters, self.channels_per_group, self.groups, self.kernel);
        match &self.form {
            weights::Form::Groups(groups) => {
                parts.put(0);
                store_all(groups, parts);
            }
            weights::Form::Depthwise(packed) => {
                parts.put(1);
                parts.put_elements(packed);
            }
            weights::Form::Winograd(packed) => {
                parts.put(packed.outputs());
                packed.store(parts);
            }
        }
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let sizes = Sizes::take(parts)?;
        let form = match parts.take()? {
            0 => {
                let groups = restore_all::<PackedB>(isa, parts)?;
                let (depth, columns) = (sizes.taps.checked_mul(sizes.channels), sizes.filters / sizes.groups);
                let fit = groups.iter().all(|b| Some(b.k()) == depth && b.n() == columns);
                ensure!(fit && groups.len() == sizes.groups, Malformed, "the matrices are not those of the groups");
                weights::Form::Groups(groups)
            }
            1 => weights::Form::Depthwise(parts.take_elements(&[sizes.taps.saturating_add(1), sizes.padded(isa)?])?),
            outputs @ (2 | 4) => {
                let plain = sizes.groups == 1 && sizes.kernel == [3; 2];
                ensure!(plain, Malformed, "Winograd's weights of {:?} taps", sizes.kernel);
                weights::Form::Winograd(WinogradWeights::restore(isa, parts, sizes.filters, sizes.channels, outputs)?)
            }
            form => bail!(Malformed, "weights in form {form}"),
        };
        let Sizes { filters, channels, groups, kernel, .. } = sizes;
        Ok(ConvWeights { isa, filters, channels_per_group: channels, groups, kernel, form })
    }
}

impl Stored for ByteConvWeights {
    const KIND: &'static str = "byte convolution";

    fn store(&self, parts: &mut Parts) {
        Sizes::put(parts, self.filters, self.channels_per_group, self.groups, self.kernel);
        parts.put(usize::from(self.merged));
        match &self.form {
            bytes::Form::Groups(groups) => {
                parts.put(0);
                store_all(groups, parts);
            }
            bytes::Form::Depthwise(packed) => {
                parts.put(1);
                parts.put_elements(packed);
            }
            bytes::Form::Taps(words) => {
                parts.put(2);
                parts.put_elements(&words.words);
                parts.put_elements(&words.sums);
            }
            bytes::Form::Blocks(words) => {
                parts.put(3);
                words.store(parts);
            }
            bytes::Form::Strips(words) => {
                parts.put(4);
                words.store(parts);
            }
        }
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let sizes = Sizes::take(parts)?;
        let Sizes { filters, channels, groups, kernel, taps } = sizes;
        let merged = match parts.take()? {
            0 => false,
            1 => true,
            other => bail!(Malformed, "a flag of {other}"),
        };
        let form = match parts.take()? {
            0 => {
                let packed = restore_all::<PackedBytes>(isa, parts)?;
                let columns = filters / groups;
                // How long merged segments are depends on the geometry.
                let segments = |b: &PackedBytes| match merged {
                    true => b.segments == kernel[0] && groups == 1,
                    false => (b.segments, b.segment) == (taps, channels),
                };
                let fit = packed.iter().all(|b| segments(b) && b.n() == columns);
                ensure!(fit && packed.len() == groups, Malformed, "the matrices are not those of the groups");
                bytes::Form::Groups(packed)
            }
            1 => bytes::Form::Depthwise(parts.take_elements(&[taps, sizes.padded(isa)?])?),
            2 => {
                ensure!(taps <= MOST_TAPS, Malformed, "{taps} taps in words");
                let padded = sizes.padded(isa)?;
                let words = parts.take_elements(&[taps.div_ceil(4), padded, 4])?;
                bytes::Form::Taps(TapWords { words, sums: parts.take_elements(&[padded])?, taps })
            }
            3 => {
                sizes.padded(isa)?;
                bytes::Form::Blocks(BlockWords::restore(isa, parts, taps, filters)?)
            }
            4 => {
                sizes.padded(isa)?;
                bytes::Form::Strips(StripWords::restore(isa, parts, taps, filters)?)
            }
            form => bail!(Malformed, "weights in form {form}"),
        };
        Ok(ByteConvWeights { isa, filters, channels_per_group: channels, groups, kernel, merged, form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::conv::Geometry;
    use crate::kernels::gemm::ByteWeights;

    fn cases() -> Vec<Geometry> {
        let depthwise = |c, kernel| Geometry { groups: c, ..Geometry::new([6, 6], c, c, kernel) };
        let grouped = Geometry { groups: 2, ..Geometry::new([6, 6], 32, 40, [3, 1]) };
        vec![
            Geometry::new([5, 5], 3, 20, [3, 3]),
            Geometry::new([5, 5], 32, 8, [1, 1]),
            grouped,
            depthwise(24, [3, 3]),
            depthwise(80, [5, 5]),
            depthwise(24, [2, 3]),
        ]
    }

    /// What is stored comes back the same, and no size can be changed alone.
    fn check<T: Stored>(isa: Isa, form: &T, g: &Geometry) {
        let mut whole = Parts::default();
        form.store(&mut whole);
        let restored = |mut parts: Parts| T::restore(isa, &mut parts).and_then(|form| parts.finish().map(|()| form));
        let mut again = Parts::default();
        restored(whole.clone()).unwrap().store(&mut again);
        let bytes = |parts: &Parts| parts.buffers.iter().map(|b| b.as_slice().to_vec()).collect::<Vec<_>>();
        assert_eq!((&again.numbers, bytes(&again)), (&whole.numbers, bytes(&whole)), "{} {g:?}", isa.name());
        for index in 0..whole.numbers.len() {
            for other in [0, 1, 2, 5, 11, 1 << 40, u64::MAX] {
                let mut parts = whole.clone();
                parts.numbers[index] = other;
                // Some changes only exchange sizes, such as a kernel of 3 x 1 and one of 1 x 3; none may panic.
                if let Ok(form) = restored(parts) {
                    let mut again = Parts::default();
                    form.store(&mut again);
                    assert_eq!(bytes(&again), bytes(&whole));
                }
            }
        }
    }

    #[test]
    fn every_form_comes_back() {
        for isa in Isa::available() {
            for g in cases() {
                let len = g.weights_len();
                let floats: Vec<f32> = (0..len).map(|i| i as f32 * 0.5 - 7.0).collect();
                let (filters, channels) = (g.filters, g.channels / g.groups);
                let packed = ConvWeights::pack(isa, &floats, filters, channels, g.kernel, g.groups).unwrap();
                check(isa, &packed, &g);
                if g.kernel == [3; 2] && g.groups == 1 {
                    for tile in [2, 4] {
                        let packed = ConvWeights::pack_winograd(isa, &floats, filters, channels, tile).unwrap();
                        check(isa, &packed, &g);
                    }
                }
                let signed: Vec<i8> = (0..len).map(|i| (i % 100) as i8 - 50).collect();
                let unsigned: Vec<u8> = (0..len).map(|i| (i % 256) as u8).collect();
                for weights in [ByteWeights::I8(&signed), ByteWeights::U8(&unsigned)] {
                    check(isa, &ByteConvWeights::pack(isa, weights, &g, &[1]).unwrap(), &g);
                }
            }
        }
    }
}
