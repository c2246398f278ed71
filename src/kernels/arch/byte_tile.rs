//! A tile of a byte product whose sums become bytes while the next tile is multiplied.
//!
//! Multiplications take two of a core's vector units, conversions the others; one after the other, each half stands
//! still while the other works. So a tile leaves its sums here, and the next one narrows them, two rows at a time, between
//! its multiplications. Whoever runs the last tile of a product narrows what that has left.

use super::simd::Simd;
use std::mem::MaybeUninit;

/// How sums become bytes.
///
/// `v = sum * scale`; where it `sums`, `v = round(clamp(v, lo, hi)) * step + (other - other_zero) * other_step`; then
/// `max(round(min(v, most)) + offset, least)`, a signed byte to which `flip` is added.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Narrow {
    /// The largest real number, in steps of the output.
    pub most: f32,
    /// The zero point, less 128 for unsigned bytes.
    pub offset: i32,
    /// A signed byte.
    pub least: i32,
    /// 128 for unsigned bytes, 0 for signed ones.
    pub flip: i32,
    /// Whether there is another summand: 1, or else 0.
    pub sums: i32,
    /// Bounds of the first rounding.
    pub lo: f32,
    /// The same.
    pub hi: f32,
    /// What a step of the first rounding is in steps of the output.
    pub step: f32,
    /// The same of the other summand.
    pub other_step: f32,
    /// Its zero point.
    pub other_zero: i32,
}

/// What is left to do when rounded integers are packed to bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u32)]
pub(super) enum Packing {
    /// Bounds, offset and sign.
    General = 0,
    /// Unsigned saturation is the bounds: only the offset.
    Saturating = 1,
    /// Not even that.
    Bare = 2,
}

impl Packing {
    /// `scale` is the largest of the product's factors.
    fn of(to: &Narrow, scale: f32) -> Self {
        let whole = to.flip == 128 && to.least == -128 && to.most.round_ties_even() + to.offset as f32 == 127.0;
        // What is converted is below 2^31.
        let small = if to.sums > 0 { to.step.abs().max(to.other_step.abs()) < 1e6 } else { scale < 1.0 };
        match to.offset {
            _ if !whole || !small => Packing::General,
            -128 => Packing::Bare,
            _ => Packing::Saturating,
        }
    }
}

/// Rows of the tallest tile.
const ROWS: usize = 12;

/// Words of the largest tile: two vectors of 16 lanes a row.
const WORDS: usize = ROWS * 2 * 16;

/// Where a row lies in the output and in the other summand: bytes from the tile's first address in each.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Place {
    /// In the output.
    pub(super) out: usize,
    /// In the other summand.
    pub(super) other: usize,
}

/// Places of a tile's rows, and one that is read and not used: rows are narrowed two at a time.
type Places = [Place; ROWS + 1];

/// Sums of a tile.
#[repr(C, align(64))]
struct Words(MaybeUninit<[i32; WORDS]>);

/// What the tiles of one product share, and what the last one has left.
#[repr(C)]
pub struct ByteTile {
    words: Words,
    /// What `to` says of whole bytes, once for each; where packing bounds, the offset from signed words to unsigned bytes.
    pub(super) offsets: [i16; 32],
    pub(super) leasts: [i8; 64],
    pub(super) flips: [u8; 64],
    /// Where the second row goes that there is not.
    pub(super) spare: [u8; 32],
    pub(super) to: Narrow,
    pub(super) packing: Packing,
    /// Places of rows that follow each other.
    pub(super) dense: Places,
    /// Places of rows that do not: those of the strip that runs, and of the one before.
    pub(super) kept: [Places; 2],
    pub(super) turn: usize,
    /// Rows that are left; places and sums are those of the first of them, the rest is the tile's.
    pub(super) left: isize,
    pub(super) places: *const Place,
    pub(super) sums: *const i32,
    pub(super) scale: *const f32,
    pub(super) other: *const u8,
    pub(super) out: *mut u8,
    /// Of the tile that runs: what it was told, segments still to come, and pairs of rows that it narrows between two
    /// pairs of words.
    pub(super) next: ByteTileOperands,
    pub(super) segments: usize,
    pub(super) segment: *const Segment,
    pub(super) row_step: usize,
    pub(super) next_places: *const Place,
    pub(super) narrows: usize,
    /// Bytes from a row of the other summand to the one that the next strip adds in its place.
    pub(super) other_ahead: usize,
}

/// Where a segment of K lies.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Segment {
    /// Bytes from the pointer to a row.
    pub offset: usize,
    /// Bytes of B that are passed over behind it; behind the last, up to the first of the next panel.
    pub passes: usize,
}

/// What some tiles side by side multiply, and where their results belong.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ByteTileOperands {
    /// `[MR]` pointers to the rows, for each segment or once.
    pub rows: *const *const u8,
    /// Whether there are some for each segment.
    pub apart: bool,
    /// The panels, one behind the other, and how many.
    pub b: *const u8,
    /// The same.
    pub panels: usize,
    /// Segments of K, one at least.
    pub segments: usize,
    /// Where they lie.
    pub layout: *const Segment,
    /// Pairs of words in a segment, one at least.
    pub pairs: usize,
    /// What is fetched meanwhile, how many lines of it for every two pairs, and how many bytes are passed over from one
    /// panel to the next.
    pub ahead: *const u8,
    /// The same.
    pub lines: usize,
    /// The same.
    pub skip: usize,
    /// The sums to start from, one a column.
    pub start: *const i32,
    /// One factor a column.
    pub scale: *const f32,
    /// The first tile's first byte of the other summand, where there is one.
    pub other: *const u8,
    /// The first tile's first byte of the output.
    pub out: *mut u8,
    /// The numbers of the `MR` rows, from that of the addresses on; null where they follow each other.
    pub places: *const usize,
}

impl ByteTile {
    /// For a product whose factors are at most `scale` (a NaN if one is), whose results are `stride` bytes apart from row to
    /// row, and its other summands `other_stride`.
    #[must_use]
    pub fn new(to: Narrow, scale: f32, stride: usize, other_stride: usize) -> Self {
        let packing = Packing::of(&to, scale);
        let offset = if packing == Packing::General { to.offset } else { to.offset + to.flip };
        let mut dense = Places::default();
        for (row, place) in dense.iter_mut().enumerate() {
            *place = Place { out: row.wrapping_mul(stride), other: row.wrapping_mul(other_stride) };
        }
        ByteTile {
            words: Words(MaybeUninit::uninit()),
            offsets: [offset as i16; 32],
            leasts: [to.least as i8; 64],
            flips: [to.flip as u8; 64],
            spare: [0; 32],
            to,
            packing,
            dense,
            kept: [Places::default(); 2],
            turn: 0,
            left: 0,
            places: std::ptr::null(),
            sums: std::ptr::null(),
            scale: std::ptr::null(),
            other: std::ptr::null(),
            out: std::ptr::null_mut(),
            next: ByteTileOperands {
                rows: std::ptr::null(),
                apart: false,
                b: std::ptr::null(),
                panels: 0,
                segments: 0,
                layout: std::ptr::null(),
                pairs: 0,
                ahead: std::ptr::null(),
                lines: 0,
                skip: 0,
                start: std::ptr::null(),
                scale: std::ptr::null(),
                other: std::ptr::null(),
                out: std::ptr::null_mut(),
                places: std::ptr::null(),
            },
            segments: 0,
            segment: std::ptr::null(),
            row_step: 0,
            next_places: std::ptr::null(),
            narrows: 0,
            other_ahead: 0,
        }
    }

    /// Takes over what a strip of `MR` rows is told.
    ///
    /// # Safety
    /// There are as many places as rows, unless they follow each other.
    #[inline(always)]
    pub(super) unsafe fn begin<const MR: usize>(&mut self, tile: &ByteTileOperands) {
        self.next = *tile;
        self.other_ahead = self.dense[1].other.wrapping_mul(MR);
        self.narrows = 6usize.div_ceil(tile.pairs.saturating_mul(tile.segments).max(1));
        self.row_step = if tile.apart { MR * size_of::<*const u8>() } else { 0 };
        self.next_places = self.dense.as_ptr();
        if !tile.places.is_null() {
            // The strip before needs its own until the first tile of this one is done.
            self.turn ^= 1;
            let kept = &mut self.kept[self.turn];
            let Place { out, other } = self.dense[1];
            for (at, place) in kept[..MR].iter_mut().enumerate() {
                // SAFETY: there is one for each row, as the caller promises.
                let row = unsafe { *tile.places.add(at) };
                *place = Place { out: row.wrapping_mul(out), other: row.wrapping_mul(other) };
            }
            self.next_places = kept.as_ptr();
        }
    }

    /// Narrows all that is left.
    ///
    /// # Safety
    /// What the tile was told is still there.
    #[inline(always)]
    pub(super) unsafe fn finish<S: Simd>(&mut self, s: S) {
        let to = &self.to;
        // Bounded first: the offset would carry the least integers round to the greatest.
        let (offset, least) = (s.splat_i32(to.offset + to.flip), s.splat_i32(to.least - to.offset));
        while self.left > 0 {
            // SAFETY: as the caller promises.
            let Place { out: row, other: other_row } = unsafe { *self.places };
            for column in [0, S::LANES] {
                // SAFETY: as the caller promises.
                unsafe {
                    let mut v = s.mul(s.from_i32(s.load_i32(self.sums.add(column))), s.load(self.scale.add(column)));
                    if to.sums > 0 {
                        let steps = s.round(s.min(s.splat(to.hi), s.max(s.splat(to.lo), v)));
                        let other =
                            s.sub_i32(s.load_u8(self.other.add(other_row + column)), s.splat_i32(to.other_zero));
                        let other = s.mul(s.from_i32(other), s.splat(to.other_step));
                        v = s.add(s.mul(steps, s.splat(to.step)), other);
                    }
                    let v = s.add_i32(s.max_i32(s.to_i32(s.min(s.splat(to.most), v)), least), offset);
                    let out = self.out.add(row + column);
                    if to.flip == 0 { s.store_i8(out.cast(), v) } else { s.store_u8(out, v) }
                }
            }
            self.left -= 1;
            self.sums = self.sums.wrapping_add(2 * S::LANES);
            self.places = self.places.wrapping_add(1);
        }
    }
}
