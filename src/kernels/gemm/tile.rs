//! The one tile, generic over the element type, the rows and the columns.
//!
//! # What it computes
//! ```text
//! for each segment of K (one, or a convolution's taps):
//!     for each 32-bit word w of the segment:
//!         b[j] = load LANES words of B          (NV vectors)
//!         for each row i of MR:
//!             a = broadcast word w of row i
//!             acc[i][j] += a * b[j]             (NV times)
//! ```
//! 1. The whole of K is accumulated in registers, in ascending order and in one chain an element, so that an element's
//!    bits depend on its row and column alone, never on the tile that it fell into; and so that the epilogue sees
//!    the finished sum while it is still in a register.
//! 2. Rows are pointers, one per row and segment: strided, gathered and convolution rows are one code path. The pointers
//!    of a wide tile do not fit in the integer registers; four words a turn pay for reading them back.
//! 3. Few rows take more vectors of columns, so that there are enough independent chains to hide the latency of a
//!    multiply-add, and so that a single row reads B at the speed of memory.
//! 4. The panels to come are fetched while these are multiplied: a model's weights are larger than its caches, and the
//!    first row of tiles to see a panel would otherwise wait for every line of it.
//!    So are the rows of the next strip, four to a tile: a line of one of them each turn.
//! 5. A tile of fewer columns than its vectors hold computes with the zeros that fill its panel, and stores a part.

use super::super::arch::{Body, ByteTile, ByteTileOperands, Segment, Simd};
use super::deferred::{Columns, Deferred};
use super::finish::{Finish, FinishTile, TILE_WORDS};
use super::product::{Element, Product};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Bytes of a cache line.
pub(super) const LINE_BYTES: usize = 64;

/// Words of a row that one turn of the inner loop takes.
const UNROLL: usize = 4;

/// Vectors of sums that a tile has at most.
const MOST_VECTORS: usize = 24;

/// Runs the body for each number below the bound (at most [`MOST_VECTORS`]), as a constant: an accumulator that is indexed by a
/// variable, even in a loop that could be unrolled and was not, lives in memory from its first to its last use.
macro_rules! each {
    ($bound:expr, $i:ident => $body:block) => {
        each!(@ $bound, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23)
    };
    (@ $bound:expr, $i:ident, $body:block, $($number:literal)*) => {
        $(if const { $number < $bound } {
            #[allow(non_upper_case_globals)]
            const $i: usize = $number;
            $body
        })*
    };
}

pub(in crate::kernels) use each;

/// What all strips of one product have in common.
pub(super) struct Shared<'a> {
    /// Segments of K that a row takes, of how many.
    pub(super) segments: usize,
    pub(super) of_segments: usize,
    /// Where each of them lies; products of floats take them one behind the other.
    pub(super) layout: *const Segment,
    /// Whether there are pointers for each of them.
    pub(super) apart: bool,
    /// Whole words of a segment.
    pub(super) words: usize,
    /// Bytes after the last whole word of a segment.
    pub(super) tail: usize,
    /// The first panel.
    pub(super) b: *const u8,
    /// Bytes of a panel.
    pub(super) panel_bytes: usize,
    pub(super) ahead: Ahead,
    /// The epilogue, where the next tile can take it.
    pub(super) deferred: Option<Deferred>,
    /// What it takes of each column.
    pub(super) operands: Columns,
    /// The sums of B's columns, where a zero point is to be taken off.
    pub(super) sums: Option<*const i32>,
    /// Where the rows of a strip lie in the output; null where they follow each other.
    pub(super) places: *const usize,
    pub(super) finish: &'a Finish<'a>,
}

/// Rows of the next strip that one tile fetches in turn: a word of each is what the tile itself takes in a turn, and a line
/// four times that.
pub(super) const ROWS_AHEAD: usize = LINE_BYTES / 4 / UNROLL;

/// What a tile fetches of the panels and rows that come after it, so that memory works while it computes.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// How far behind each panel it begins, in bytes; where there is no block to come, each tile fetches for the next.
    pub(super) distance: Option<usize>,
    /// Where there is nothing more to fetch.
    pub(super) end: usize,
    /// The tiles that share the work of one panel, and which of them this one is; nothing is fetched for none.
    pub(super) shares: usize,
    pub(super) share: usize,
    /// The first strip that takes a share.
    pub(super) first: usize,
    /// The rows of the next strip, and how many there are: whole multiples of [`ROWS_AHEAD`].
    pub(super) rows: *const *const u8,
    pub(super) count: usize,
    /// How many times [`ROWS_AHEAD`] of them each tile fetches.
    pub(super) groups: usize,
}

impl Default for Ahead {
    #[inline]
    fn default() -> Self {
        let rows = std::ptr::null();
        Ahead { distance: None, end: usize::MAX, shares: 0, share: 0, first: 0, rows, count: 0, groups: 0 }
    }
}

impl Ahead {
    /// Fetches `next` while the block is computed whose first panel is `b`.
    pub(super) fn fetch(&mut self, next: &[u8], b: *const u8) {
        self.distance = Some((next.as_ptr() as usize).wrapping_sub(b as usize));
        self.end = next.as_ptr_range().end as usize;
    }
}

/// `MR` rows times a run of panels of B.
pub(super) struct Strip<'a, E, const MR: usize> {
    pub(super) shared: &'a Shared<'a>,
    /// `[MR]` pointers to the rows, for each segment or once.
    pub(super) rows: *const *const u8,
    /// The first row, in the output's coordinates.
    pub(super) row: usize,
    /// The columns, in the output's coordinates; the first is the first of a panel.
    pub(super) columns: Range<usize>,
    /// What the tile before has left, where the epilogue is deferred.
    pub(super) state: &'a mut Option<ByteTile>,
    pub(super) element: PhantomData<E>,
}

/// The largest power of two, up to 8, of vectors of columns that a tile of `rows` rows has registers for: its sums, a
/// vector of B for each of them, and a word of A. A single row reads B straight from memory.
const fn widest<S: Simd, P: Product<S>>(rows: usize) -> usize {
    let fit = (S::REGISTERS - 1) / P::REGISTERS / (rows + 1);
    let fit = if fit * rows > MOST_VECTORS { MOST_VECTORS / rows } else { fit };
    match fit {
        _ if rows == 1 => 8 / P::REGISTERS,
        8.. => 8,
        4..8 => 4,
        2..4 => 2,
        _ => 1,
    }
}

/// Rows of the tallest tile that is one panel wide.
pub(super) const fn tallest<S: Simd, P: Product<S>>() -> usize {
    let fit = (S::REGISTERS - 1) / P::REGISTERS / P::PANEL - 1;
    if fit > P::TALLEST { P::TALLEST } else { fit }
}

impl<E: Element, const MR: usize> Body for Strip<'_, E, MR> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut column = self.columns.start;
        let mut done = 0;
        let Ahead { rows, count, groups, .. } = self.shared.ahead;
        // The rows of the next strip that the next tile fetches.
        let mut next = || {
            let first = done * groups * ROWS_AHEAD;
            done += 1;
            if first < count { (rows.wrapping_add(first), groups) } else { (rows, 0) }
        };
        macro_rules! tiles {
            ($vectors:literal) => {
                while column + ($vectors - 1) * S::LANES < self.columns.end {
                    tile::<S, E::On<S>, MR, $vectors>(
                        s,
                        self.shared,
                        self.rows,
                        next(),
                        self.row,
                        column,
                        self.columns.end,
                    );
                    column += $vectors * S::LANES;
                }
            };
        }
        // SAFETY: whoever made the strip saw to it that the rows, B and the output are as long as it says.
        unsafe {
            if const { widest::<S, E::On<S>>(MR) >= 8 } {
                tiles!(8);
            }
            if const { widest::<S, E::On<S>>(MR) >= 4 } {
                tiles!(4);
            }
            if const { widest::<S, E::On<S>>(MR) == 2 && S::BYTE_TILE && E::On::<S>::DEFERS } {
                column += self.deferred(s);
            }
            if const { widest::<S, E::On<S>>(MR) >= 2 } {
                tiles!(2);
            }
            tiles!(1);
        }
    }
}

impl<E: Element, const MR: usize> Strip<'_, E, MR> {
    /// Full tiles whose epilogue is deferred, where it can be: the columns that they took.
    ///
    /// # Safety
    /// As of [`tile`].
    #[inline(always)]
    unsafe fn deferred<S: Simd>(&mut self, s: S) -> usize {
        let (Some(deferred), Some(state)) = (&self.shared.deferred, &mut *self.state) else { return 0 };
        let (shared, column) = (self.shared, self.columns.start);
        let panels = self.columns.len() / (2 * S::LANES);
        if panels == 0 {
            return 0;
        }
        let b = shared.b.wrapping_add(column / (2 * S::LANES) * shared.panel_bytes);
        let row = if shared.places.is_null() { self.row } else { 0 };
        let (ahead, lines) = fetches::<S, E::On<S>, 2>(shared, b);
        let fetched = shared.words / UNROLL * shared.segments * lines * LINE_BYTES;
        let operands = ByteTileOperands {
            rows: self.rows,
            apart: shared.apart,
            b,
            panels,
            segments: shared.segments,
            layout: shared.layout,
            pairs: shared.words / 2,
            ahead,
            lines,
            skip: shared.panel_bytes.wrapping_sub(fetched),
            start: shared.operands.starts.wrapping_add(column),
            scale: shared.operands.scales.wrapping_add(column),
            other: deferred.other(row, column),
            out: deferred.out(row, column),
            places: shared.places,
        };
        // SAFETY: as the caller promises; the epilogue's operands are those of the product.
        unsafe { s.byte_tile::<MR>(state, &operands) };
        panels * 2 * S::LANES
    }
}

/// One tile: `MR` rows, `NV` vectors of columns from `column` on, of which those before `end` are stored.
///
/// # Safety
/// - `rows` holds `MR` pointers, or as many for each segment where they are `apart`; `words * 4 + tail` bytes are readable where
///   a segment lies from each.
/// - The panels from `shared.b` on reach to `end`, each `(words + (tail > 0)) * segments` words high.
/// - `next` holds `groups` times [`ROWS_AHEAD`] pointers.
/// - `column` is the first of a panel, or `NV` is 1 and it is the first of a panel's vector.
/// - The rows `row..row + MR`, or the `MR` rows at `shared.places` where it is not null, and the columns `column..end` lie in
///   what `shared.finish` describes.
#[inline(always)]
unsafe fn tile<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
    s: S,
    shared: &Shared<'_>,
    rows: *const *const u8,
    (next, groups): (*const *const u8, usize),
    row: usize,
    column: usize,
    end: usize,
) {
    // SAFETY: each access below stays within what the caller promises; B's rows are read in sequence.
    unsafe {
        let line = P::PANEL * S::LANES * 4;
        let vector = column / S::LANES;
        let mut b = shared.b.add(vector / P::PANEL * shared.panel_bytes + vector % P::PANEL * S::LANES * 4);

        let finish = shared.finish;
        let mut words = MaybeUninit::<[i32; 8 * 16]>::uninit();
        let words = words.as_mut_ptr().cast::<i32>();
        for j in 0..NV {
            let at = (column + j * S::LANES).min(end);
            let n = S::LANES.min(end - at);
            let mut start = finish.start.map_or(s.splat_i32(0), |start| load_upto(s, start.add(at), n));
            if P::INTEGER
                && let Some(sums) = shared.sums
            {
                let zero = s.splat_i32(finish.zero_point);
                start = s.sub_i32(start, s.mul_i32(zero, load_upto(s, sums.add(at), n)));
            }
            s.store_i32(words.add(j * S::LANES), start);
        }
        // Written one by one: an array of arrays would be copied row by row.
        let mut acc = MaybeUninit::<[[P::Acc; NV]; MR]>::uninit();
        let first = acc.as_mut_ptr().cast::<P::Acc>();
        each!(MR * NV, t => {
            first.add(t).write(P::start(s, s.load_i32(words.add(const { t % NV } * S::LANES))));
        });
        if P::GROUP == 1 && finish.resume {
            let sums = finish.out.cast::<i32>().add(row * finish.stride);
            let mut held = MaybeUninit::<[i32; TILE_WORDS]>::uninit();
            let held = held.as_mut_ptr().cast::<i32>();
            for i in 0..MR {
                for j in 0..NV {
                    let at = (column + j * S::LANES).min(end);
                    let sums = load_upto(s, sums.add(i * finish.stride + at), S::LANES.min(end - at));
                    s.store_i32(held.add((i * NV + j) * S::LANES), sums);
                }
            }
            each!(MR * NV, t => { first.add(t).write(P::start(s, s.load_i32(held.add(t * S::LANES)))) });
            // Those of the next tile.
            for i in 0..MR {
                for j in NV..2 * NV {
                    s.prefetch(sums.wrapping_add(i * finish.stride + column + j * S::LANES).cast());
                }
            }
        }
        let mut acc = acc.assume_init();

        let (mut ahead, lines) = fetches::<S, P, NV>(shared, b);
        let mut rows = rows;
        for segment in 0..shared.segments {
            let mut a = [std::ptr::null::<u8>(); MR];
            let Segment { offset, passes } =
                if const { P::INTEGER } { *shared.layout.add(segment) } else { Segment::default() };
            for (i, a) in a.iter_mut().enumerate() {
                *a = (*rows.add(i)).wrapping_add(offset);
            }
            if const { !P::INTEGER } || shared.apart {
                rows = rows.add(MR);
            }
            let mut word = 0;
            while word + UNROLL <= shared.words {
                for u in 0..UNROLL {
                    step::<S, P, MR, NV>(s, &mut acc, &a, (word + u) * 4, b.add(u * line), shared.panel_bytes);
                }
                word += UNROLL;
                b = b.add(UNROLL * line);
                for _ in 0..lines {
                    s.prefetch(ahead);
                    ahead = ahead.wrapping_add(LINE_BYTES);
                }
                // A strip of few rows is the only one.
                if const { MR > 4 } {
                    for group in 0..groups {
                        let row = *next.add(group * ROWS_AHEAD + word / UNROLL % ROWS_AHEAD);
                        s.prefetch(row.wrapping_add(word * 4));
                    }
                }
            }
            while word < shared.words {
                step::<S, P, MR, NV>(s, &mut acc, &a, word * 4, b, shared.panel_bytes);
                word += 1;
                b = b.add(line);
            }
            if P::GROUP > 1 && shared.tail > 0 {
                let mut last = [[0u8; 4]; MR];
                let mut pointers = a;
                for (row, last) in last.iter_mut().enumerate() {
                    *last = last_word(a[row], word, shared.tail);
                    pointers[row] = last.as_ptr();
                }
                step::<S, P, MR, NV>(s, &mut acc, &pointers, 0, b, shared.panel_bytes);
                b = b.add(line);
            }
            b = b.wrapping_add(passes);
        }
        let placed = const { P::INTEGER } && !shared.places.is_null();

        if let Some(direct) = finish.direct.as_ref().filter(|_| !P::INTEGER)
            && column + NV * S::LANES <= end
        {
            let out = finish.out.cast::<f32>().add(row * finish.stride + column);
            if let Some(residual) = direct.residual {
                let residual = residual.add(row * direct.residual_stride + column);
                each!(MR * NV, t => {
                    let more = residual.add(const { t / NV } * direct.residual_stride + const { t % NV } * S::LANES);
                    let acc = &mut acc[const { t / NV }][const { t % NV }];
                    *acc = P::of_floats(s, s.add(P::floats(s, *acc), s.load(more)));
                });
            }
            if direct.bounded {
                let (lo, hi) = (s.splat(direct.lo), s.splat(direct.hi));
                each!(MR * NV, t => {
                    let acc = &mut acc[const { t / NV }][const { t % NV }];
                    *acc = P::of_floats(s, s.min(hi, s.max(lo, P::floats(s, *acc))));
                });
            }
            each!(MR * NV, t => {
                let sums = P::floats(s, acc[const { t / NV }][const { t % NV }]);
                s.store(out.add(const { t / NV } * finish.stride + const { t % NV } * S::LANES), sums);
            });
            return;
        }
        if P::INTEGER
            && !placed
            && let Some((rescale, signed)) = finish.narrow()
            && column + NV * S::LANES <= end
        {
            let mut factors = [s.splat(0.0); NV];
            for (j, factor) in factors.iter_mut().enumerate() {
                *factor = s.load(rescale.scale.add(column + j * S::LANES));
            }
            let (most, least) = (s.splat(rescale.most), s.splat_i32(rescale.least));
            let zero_point = s.splat_i32(rescale.zero_point);
            let out = finish.out.add(row * finish.stride + column);
            each!(MR * NV, t => {
                let sums = P::words(s, acc[const { t / NV }][const { t % NV }]);
                let v = s.min(most, s.mul(s.from_i32(sums), factors[const { t % NV }]));
                let v = s.add_i32(s.max_i32(s.to_i32(v), least), zero_point);
                let to = out.add(const { t / NV } * finish.stride + const { t % NV } * S::LANES);
                if signed { s.store_i8(to.cast(), v) } else { s.store_u8_inside(to, v) }
            });
            return;
        }
        let mut words = MaybeUninit::<[i32; TILE_WORDS]>::uninit();
        let at = words.as_mut_ptr().cast::<i32>();
        each!(MR * NV, t => {
            s.store_i32(at.add(t * S::LANES), P::words(s, acc[const { t / NV }][const { t % NV }]));
        });
        let mut done = 0;
        while done < MR {
            let (row, count) = if placed { run(shared.places, done, MR) } else { (row, MR) };
            s.call(FinishTile {
                finish,
                words: at.add(done * NV * S::LANES),
                pitch: NV * S::LANES,
                rows: row..row + count,
                columns: column..end.min(column + NV * S::LANES),
            });
            done += count;
        }
    }
}

/// The first of `count` places from the `done`th on, and how many follow each other from there.
///
/// # Safety
/// There are `count` of them, more than `done`.
unsafe fn run(places: *const usize, done: usize, count: usize) -> (usize, usize) {
    // SAFETY: as the caller promises.
    let places = unsafe { std::slice::from_raw_parts(places.add(done), count - done) };
    let run = places.windows(2).take_while(|pair| pair[1] == pair[0] + 1).count();
    (places[0], run + 1)
}

/// Where a tile whose panel is `b` begins to fetch, and how many lines it fetches each turn.
#[inline(always)]
pub(super) fn fetches<S: Simd, P: Product<S>, const NV: usize>(
    shared: &Shared<'_>,
    b: *const u8,
) -> (*const u8, usize) {
    let Ahead { distance, end, shares, share, .. } = shared.ahead;
    if shares == 0 {
        return (b, 0);
    }
    let panels = NV.div_ceil(P::PANEL);
    let wanted = UNROLL * P::PANEL * S::LANES * 4 / LINE_BYTES * panels;
    let own = shared.words / UNROLL * shared.of_segments * wanted.div_ceil(shares) * LINE_BYTES;
    let lines = (wanted * shared.of_segments).div_ceil(shares * shared.segments.max(1));
    let from = b.wrapping_add(distance.unwrap_or(panels * shared.panel_bytes).wrapping_add(share * own));
    (from, if (from as usize) < end { lines } else { 0 })
}

/// Loads `n <= LANES` words.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn load_upto<S: Simd>(s: S, p: *const i32, n: usize) -> S::I32 {
    // SAFETY: as the caller promises.
    unsafe { if n == S::LANES { s.load_i32(p) } else { s.load_i32_part(p, n) } }
}

/// The `tail < 4` bytes behind `words` words of a row, and zeros. No byte behind them is read.
///
/// # Safety
/// The row holds them.
#[inline(always)]
unsafe fn last_word(row: *const u8, words: usize, tail: usize) -> [u8; 4] {
    // SAFETY: as the caller promises; the four bytes that end with the row's last lie in it if it has a whole word.
    unsafe {
        if words > 0 {
            let end = row.add(words * 4 + tail - 4).cast::<u32>().read_unaligned();
            // The last bytes of a word are its high ones.
            return (u32::from_le(end) >> (32 - 8 * tail)).to_le_bytes();
        }
        // Byte by byte without a loop, which would become a call of `memcpy`.
        [
            if tail > 0 { *row } else { 0 },
            if tail > 1 { *row.add(1) } else { 0 },
            if tail > 2 { *row.add(2) } else { 0 },
            0,
        ]
    }
}

/// One word of K.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn step<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[P::Acc; NV]; MR],
    a: &[*const u8; MR],
    at: usize,
    b: *const u8,
    panel_bytes: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut columns = [P::b(s, b); NV];
        for (j, column) in columns.iter_mut().enumerate().skip(1) {
            *column = P::b(s, b.add(j / P::PANEL * panel_bytes + j % P::PANEL * S::LANES * 4));
        }
        for (row, acc) in acc.iter_mut().enumerate() {
            let a = P::a(s, a[row].add(at));
            for (column, acc) in acc.iter_mut().enumerate() {
                *acc = P::mac(s, *acc, a, columns[column]);
            }
        }
    }
}
