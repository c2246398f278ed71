//! A matrix of bytes packed once at load for the integer product, with the sums of its columns.

use super::super::arch::Isa;
use super::super::movement::transpose_2d;
use super::product::Bytes;
use super::strips::Strips;
use crate::tensor::Buffer;
use std::ops::Range;

/// Bytes of a weight as a model stores them.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ByteWeights<'a> {
    /// Signed.
    I8(&'a [i8]),
    /// Unsigned.
    U8(&'a [u8]),
}

impl ByteWeights<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            ByteWeights::I8(bytes) => bytes.len(),
            ByteWeights::U8(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` of them from `start` on.
    pub(in crate::kernels) fn part(&self, start: usize, len: usize) -> Self {
        match self {
            ByteWeights::I8(bytes) => ByteWeights::I8(&bytes[start..][..len]),
            ByteWeights::U8(bytes) => ByteWeights::U8(&bytes[start..][..len]),
        }
    }

    /// The bytes as they are stored.
    fn raw(&self) -> &[u8] {
        match self {
            ByteWeights::I8(bytes) => bytemuck::cast_slice(bytes),
            ByteWeights::U8(bytes) => bytes,
        }
    }

    #[inline]
    pub(in crate::kernels) fn get(&self, at: usize) -> i32 {
        match self {
            ByteWeights::I8(bytes) => bytes[at].into(),
            ByteWeights::U8(bytes) => bytes[at].into(),
        }
    }
}

/// A packed B of `[k, n]`: bytes less their zero point, which is taken off here and once for all.
///
/// Where a difference does not fit in a signed byte (unsigned weights whose zero point is far from 128), B is kept as a
/// sum of two or three matrices that do fit, one below the other, and costs as many products.
#[derive(Debug, Clone)]
pub struct PackedBytes {
    pub(super) data: Buffer,
    pub(super) sums: Vec<i32>,
    pub(super) n: usize,
    pub(super) panel: usize,
    /// Segments of K, and elements of each; all segments follow each other `summands` times.
    pub(in crate::kernels) segments: usize,
    pub(in crate::kernels) segment: usize,
    pub(in crate::kernels) summands: usize,
}

impl PackedBytes {
    /// Packs `b` of `[k, n]` in row-major order, less `zero_points` (one, one a column, or none).
    ///
    /// # Panics
    /// If `b` is shorter than `k * n`, or there is another number of zero points.
    #[must_use]
    #[track_caller]
    pub fn pack(isa: Isa, b: ByteWeights<'_>, k: usize, n: usize, zero_points: &[i32]) -> Self {
        assert!(k.checked_mul(n) == Some(b.len()), "B of {k} x {n} in {} elements", b.len());
        PackedBytes::from_columns(isa, b, [1, k, k], n, zero_points, |b, columns, to| {
            // SAFETY: k rows of these columns are in B, whose length was found to be right, and as many elements in `to`.
            unsafe {
                let (b, to) = (b[columns.start..].as_ptr().cast::<[u8; 1]>(), to.as_mut_ptr().cast());
                transpose_2d(b, n as isize, k, to, k, columns.len());
            }
        })
    }

    /// Packs the transposed `b` of `[n, k]`, less `zero_points` (one, one a column of the product, or none).
    ///
    /// # Panics
    /// As [`PackedBytes::pack`].
    #[must_use]
    #[track_caller]
    pub fn pack_transposed(isa: Isa, b: ByteWeights<'_>, k: usize, n: usize, zero_points: &[i32]) -> Self {
        assert!(k.checked_mul(n) == Some(b.len()), "B of {n} x {k} in {} elements", b.len());
        PackedBytes::from_columns(isa, b, [1, k, k], n, zero_points, |b, columns, to| {
            to.copy_from_slice(&b[columns.start * k..columns.end * k]);
        })
    }

    /// Packs a convolution's filters, `[n, channels, taps]`, as a B whose K consists of `segments` of as many taps each,
    /// the channels of a tap side by side; a segment is `segment` elements long, those behind its taps zeros.
    ///
    /// # Panics
    /// If there are not `n * channels * taps` weights, segments do not divide the taps, or theirs do not fit.
    #[track_caller]
    pub(in crate::kernels) fn from_filters(
        isa: Isa,
        weights: ByteWeights<'_>,
        n: usize,
        [channels, taps]: [usize; 2],
        [segments, segment]: [usize; 2],
        zero_points: &[i32],
    ) -> Self {
        let k = channels * taps;
        assert!(weights.len() == n * k, "{} weights for {n} filters of {k}", weights.len());
        let filled = k.checked_div(segments).unwrap_or(0);
        assert!(filled * segments == k && filled <= segment, "{segments} segments of {segment} for {k} weights");
        PackedBytes::from_columns(isa, weights, [segments, segment, filled], n, zero_points, |weights, columns, to| {
            let filters = &weights[columns.start * k..columns.end * k];
            if taps == 1 {
                return to.copy_from_slice(filters);
            }
            for (filter, to) in filters.chunks_exact(k.max(1)).zip(to.chunks_exact_mut(k.max(1))) {
                // SAFETY: both hold the taps of all channels.
                unsafe {
                    let (filter, to) = (filter.as_ptr().cast::<[u8; 1]>(), to.as_mut_ptr().cast());
                    transpose_2d(filter, taps as isize, channels, to, channels, taps);
                }
            }
        })
    }

    /// Packs a B whose K consists of `segments` of `segment` elements, the first `filled` of each from `b` and the rest
    /// zeros. `copy` takes what is there of some columns out of `b`, one column after the other.
    #[track_caller]
    fn from_columns(
        isa: Isa,
        b: ByteWeights<'_>,
        [segments, segment, filled]: [usize; 3],
        n: usize,
        zero_points: &[i32],
        copy: impl Fn(&[u8], Range<usize>, &mut [u8]),
    ) -> Self {
        assert!([0, 1, n].contains(&zero_points.len()), "{} zero points for {n} columns", zero_points.len());
        let zero_point = |column: usize| match zero_points {
            [] => 0,
            [one] => *one,
            many => many[column],
        };
        // A signed byte with its highest bit turned is an unsigned one, 128 higher.
        let (flip, higher) = match b {
            ByteWeights::I8(_) => (0x80, 128),
            ByteWeights::U8(_) => (0, 0),
        };
        let panel = panel_width(isa);
        let length = segment.div_ceil(4) * 4;
        let mut sums = vec![0i32; n];
        let mut raw = vec![0u8; panel.min(n) * segments * filled];
        // Nearly always everything fits, and one pass over the elements is enough.
        let mut summands = 1;
        let data = loop {
            let words = summands * segments * length / 4;
            let mut needed = summands;
            let mut data = Buffer::zeroed_to_stay(n.div_ceil(panel) * words * panel * 4);
            let packed: &mut [u32] = data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
            // The columns of a panel, each in the order of K: a word of it goes beside the same word of the others.
            let mut lines = vec![0u32; panel.min(n) * words];
            for (first, to) in (0..n).step_by(panel).zip(packed.chunks_exact_mut((words * panel).max(1))) {
                let columns = first..n.min(first + panel);
                let raw = &mut raw[..columns.len() * segments * filled];
                copy(b.raw(), columns.clone(), raw);
                raw.iter_mut().for_each(|byte| *byte ^= flip);
                for (at, column) in columns.clone().enumerate() {
                    let raw = &raw[at * segments * filled..][..segments * filled];
                    let offset = zero_point(column) + higher;
                    sums[column] = less(raw, offset);
                    needed = needed.max(bytes_of(raw, offset));
                    if needed == summands && filled > 0 {
                        let line = bytemuck::cast_slice_mut(&mut lines[at * words..][..words]);
                        lay(raw, offset, filled, length, summands, line);
                    }
                }
                let (from, stride) = (lines.as_ptr().cast::<[u8; 4]>(), words as isize);
                // SAFETY: there are as many lines of so many words as columns, and the panel holds that many words of each.
                unsafe { transpose_2d(from, stride, columns.len(), to.as_mut_ptr().cast(), panel, words) };
            }
            if needed == summands {
                break data;
            }
            summands = needed;
        };
        PackedBytes { data, sums, n, panel, segments, segment, summands }
    }

    /// Rows.
    #[must_use]
    pub fn k(&self) -> usize {
        self.segments * self.segment
    }

    /// Columns.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Whether its rows are one segment: a matrix, and not the filters of a convolution.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.segments == 1
    }

    /// Columns of a panel; ranges of columns start at multiples of it.
    #[must_use]
    pub fn panel(&self) -> usize {
        self.panel
    }

    /// The sum of each column, zero points taken off.
    #[must_use]
    pub fn column_sums(&self) -> &[i32] {
        &self.sums
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.data.as_slice().len() + self.sums.len() * 4
    }

    /// The panels from the one that holds `column` on.
    #[must_use]
    pub fn bytes_from(&self, column: usize) -> &[u8] {
        self.data.as_slice().get(column / self.panel.max(1) * self.panel_bytes()..).unwrap_or_default()
    }

    pub(super) fn panel_bytes(&self) -> usize {
        self.summands * self.segments * self.segment.div_ceil(4) * self.panel * 4
    }
}

/// The sum of the elements, each less `offset`.
fn less(elements: &[u8], offset: i32) -> i32 {
    let sum = elements.iter().fold(0u32, |sum, &byte| sum.wrapping_add(byte.into()));
    (sum as i32).wrapping_sub(offset.wrapping_mul(elements.len() as i32))
}

/// Signed bytes that it takes to hold any of the elements less `offset`, as their sum.
fn bytes_of(elements: &[u8], offset: i32) -> usize {
    let (least, most) = elements.iter().fold((255, 0), |(least, most), &byte| (byte.min(least), byte.max(most)));
    match (i32::from(most) - offset).max(offset - 1 - i32::from(least)) {
        ..=127 => 1,
        128..=254 => 2,
        _ => 3,
    }
}

/// Writes the elements less `offset`, as so many summands one behind the other, in segments of which `filled` elements are
/// there and which begin every `length` bytes.
fn lay(elements: &[u8], offset: i32, filled: usize, length: usize, summands: usize, line: &mut [i8]) {
    let behind = line.len() / summands;
    for (segment, elements) in elements.chunks_exact(filled).enumerate() {
        let start = segment * length;
        if summands == 1 {
            let to = &mut line[start..][..filled];
            for i in 0..filled {
                to[i] = elements[i].wrapping_sub(offset as u8) as i8;
            }
            continue;
        }
        for (row, &byte) in elements.iter().enumerate() {
            let mut rest = i32::from(byte) - offset;
            for summand in 0..summands {
                let share = rest / (summands - summand) as i32;
                rest -= share;
                line[summand * behind + start + row] = share as i8;
            }
        }
    }
}

/// Columns of a panel: as many vectors as the instruction set's tile is wide.
pub(super) fn panel_width(isa: Isa) -> usize {
    Strips::of::<Bytes>(isa).width
}
