//! Epilogues of integer tiles that wait for the next tile: see [`ByteTile`].

use super::super::arch::{Body, ByteTile, Narrow, Simd};
use super::finish::Finish;
use super::pieces::Taken;

/// An epilogue that ends in bytes, without operands that are rare.
#[derive(Clone, Copy)]
pub(super) struct Deferred {
    to: Narrow,
    scale: *const f32,
    other: *const u8,
    other_stride: usize,
    out: *mut u8,
    stride: usize,
}

impl Deferred {
    /// The epilogue in this form, where it has it.
    pub(super) fn of(finish: &Finish<'_>) -> Option<Self> {
        let (rescale, signed) = finish.bytes()?;
        let offset = rescale.zero_point - if signed { 0 } else { 128 };
        let mut to = Narrow {
            most: rescale.most,
            offset,
            least: rescale.least + offset,
            flip: if signed { 0 } else { 128 },
            sums: 0,
            lo: rescale.lo,
            hi: rescale.hi,
            step: 0.0,
            other_step: 0.0,
            other_zero: 0,
        };
        let (mut other, mut other_stride) = (std::ptr::null(), 0);
        if let Some(through) = &finish.through {
            let residual = through.residual.as_ref().filter(|_| through.shift.is_none())?;
            (other, other_stride) = (residual.data, residual.stride);
            let (step, other_step, other_zero) = (through.scale, residual.scale, residual.zero_point);
            to = Narrow { sums: 1, step, other_step, other_zero, ..to };
        }
        Some(Deferred { to, scale: rescale.scale, other, other_stride, out: finish.out, stride: finish.stride })
    }

    /// What the tiles of the product share, whose factors are at most `scale`.
    pub(super) fn state(&self, scale: f32) -> ByteTile {
        ByteTile::new(self.to, scale, self.stride, self.other_stride)
    }

    /// The operands of the first `columns`, copied to `lines`, where no vector of them lies in two lines of the cache.
    pub(super) fn columns(
        &self,
        finish: &Finish<'_>,
        columns: usize,
        pieces: &[Taken],
        lines: &mut Vec<Line>,
    ) -> Columns {
        let count = columns.div_ceil(LINE_WORDS);
        // Without a zero point, all pieces start from the same.
        let (starts, apart) = if finish.zero_point == 0 { (1, 0) } else { (pieces.len(), count * LINE_WORDS) };
        lines.clear();
        lines.resize((starts + 1) * count, Line([0; LINE_WORDS]));
        let first = lines.as_mut_ptr().cast::<i32>();
        let scales = first.wrapping_add(starts * count * LINE_WORDS).cast::<f32>();
        // SAFETY: the epilogue's operands have a word for each column, and so have the lines of each part.
        unsafe {
            for (at, piece) in pieces[..starts].iter().enumerate() {
                let first = first.add(at * count * LINE_WORDS);
                if let Some(from) = finish.start {
                    std::ptr::copy_nonoverlapping(from, first, columns);
                }
                if let Some(sums) = piece.sums.filter(|_| finish.zero_point != 0) {
                    let sums = std::slice::from_raw_parts(sums, columns);
                    for (start, &sum) in std::slice::from_raw_parts_mut(first, columns).iter_mut().zip(sums) {
                        *start = start.wrapping_sub(sum.wrapping_mul(finish.zero_point));
                    }
                }
            }
            std::ptr::copy_nonoverlapping(self.scale, scales, columns);
        }
        // SAFETY: as above.
        let bits = unsafe { std::slice::from_raw_parts(scales.cast::<u32>(), columns) };
        // Without their signs, floats are in the order of their bits, and NaNs above all.
        let largest = bits.iter().fold(0, |largest, bits| largest.max(bits & 0x7fff_ffff));
        Columns { starts: first, apart, scales, largest: f32::from_bits(largest) }
    }

    /// The other summand at a place.
    #[inline(always)]
    pub(super) fn other(&self, row: usize, column: usize) -> *const u8 {
        self.other.wrapping_add(row * self.other_stride + column)
    }

    /// The output at a place.
    #[inline(always)]
    pub(super) fn out(&self, row: usize, column: usize) -> *mut u8 {
        self.out.wrapping_add(row * self.stride + column)
    }
}

/// Words of a cache line.
const LINE_WORDS: usize = 16;

/// A line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[expect(dead_code, reason = "its words are reached by their address")]
pub(super) struct Line([i32; LINE_WORDS]);

/// What the sums of each column start from, and its factor.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) starts: *const i32,
    /// Words from those of a piece to those of the next.
    apart: usize,
    pub(super) scales: *const f32,
    /// The largest factor, its sign apart.
    pub(super) largest: f32,
}

impl Columns {
    pub(super) const NONE: Columns =
        Columns { starts: std::ptr::null(), apart: 0, scales: std::ptr::null(), largest: 0.0 };

    /// Those of a piece.
    #[inline]
    pub(super) fn of(&self, piece: usize) -> Self {
        Columns { starts: self.starts.wrapping_add(piece * self.apart), ..*self }
    }
}

/// Narrows what the last tile has left.
pub(super) struct FinishLast<'a>(pub(super) &'a mut ByteTile);

impl Body for FinishLast<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the product's operands outlive it.
        unsafe { s.finish_byte_tile(self.0) }
    }
}
