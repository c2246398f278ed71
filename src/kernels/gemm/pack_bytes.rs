//! A matrix of bytes packed once at load for the integer product, with the sums of its columns.

use super::super::arch::Isa;
use crate::tensor::Buffer;

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

    /// Packs the elements whose places `at(segment, row, column)` yields, and zeros where it yields none.
    #[track_caller]
    pub(in crate::kernels) fn packed(
        &self,
        isa: Isa,
        sizes: [usize; 2],
        n: usize,
        zero_points: &[i32],
        at: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> PackedBytes {
        // Chosen here, not for each element.
        match self {
            ByteWeights::I8(bytes) => PackedBytes::from_elements(isa, sizes, n, zero_points, |s, row, column| {
                at(s, row, column).map(|at| bytes[at].into())
            }),
            ByteWeights::U8(bytes) => PackedBytes::from_elements(isa, sizes, n, zero_points, |s, row, column| {
                at(s, row, column).map(|at| bytes[at].into())
            }),
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
    pub(super) summands: usize,
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
        b.packed(isa, [1, k], n, zero_points, |_, row, column| Some(row * n + column))
    }

    /// Packs the transposed `b` of `[n, k]`, less `zero_points` (one, one a column of the product, or none).
    ///
    /// # Panics
    /// As [`PackedBytes::pack`].
    #[must_use]
    #[track_caller]
    pub fn pack_transposed(isa: Isa, b: ByteWeights<'_>, k: usize, n: usize, zero_points: &[i32]) -> Self {
        assert!(k.checked_mul(n) == Some(b.len()), "B of {n} x {k} in {} elements", b.len());
        b.packed(isa, [1, k], n, zero_points, |_, row, column| Some(column * k + row))
    }

    /// Packs a B whose K consists of `segments` of `segment` elements; `element(segment, row, column)` yields it,
    /// or none for a zero.
    #[track_caller]
    fn from_elements(
        isa: Isa,
        [segments, segment]: [usize; 2],
        n: usize,
        zero_points: &[i32],
        element: impl Fn(usize, usize, usize) -> Option<i32>,
    ) -> Self {
        assert!([0, 1, n].contains(&zero_points.len()), "{} zero points for {n} columns", zero_points.len());
        let zero_point = |column: usize| match zero_points {
            [] => 0,
            [one] => *one,
            many => many[column],
        };
        let value = |s: usize, row: usize, column: usize| element(s, row, column).map_or(0, |v| v - zero_point(column));
        let panel = panel_width(isa);
        let words = segment.div_ceil(4);
        let mut sums = vec![0i32; n];
        // Nearly always everything fits, and one pass over the elements is enough.
        let mut summands = 1;
        let data = loop {
            let panel_bytes = summands * segments * words * panel * 4;
            let mut data = Buffer::zeroed(n.div_ceil(panel) * panel_bytes);
            let bytes: &mut [i8] = data.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
            let mut farthest = 0;
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = 0;
                let start = column / panel * panel_bytes + column % panel * 4;
                for (s, word) in (0..segments).flat_map(|s| (0..words).map(move |word| (s, word))) {
                    for row in word * 4..segment.min(word * 4 + 4) {
                        let mut rest = value(s, row, column);
                        *sum = sum.wrapping_add(rest);
                        farthest = farthest.max(if rest < 0 { -rest - 1 } else { rest });
                        for summand in 0..summands {
                            let share = if summands == 1 { rest } else { rest / (summands - summand) as i32 };
                            rest -= share;
                            let at = (summand * segments + s) * words + word;
                            bytes[start + at * panel * 4 + row % 4] = share as i8;
                        }
                    }
                }
            }
            let needed = match farthest {
                ..=127 => 1,
                128..=254 => 2,
                _ => 3,
            };
            if needed <= summands {
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

/// Columns of a panel: as many vectors as the instruction set's tile is wide.
pub(super) fn panel_width(isa: Isa) -> usize {
    match isa {
        // Its sums and B take two registers a vector.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => isa.lanes(),
        _ => 2 * isa.lanes(),
    }
}
