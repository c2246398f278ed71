//! The loops round the tile: blocks of B's panels outside, strips of rows inside.
//!
//! ```text
//! for each side of B (one, unless B is large and rows are long):
//!     for each block of rows (one, unless rows are long):
//!         for each chunk of K (one, unless it is in the thousands):
//!             for each block of panels:
//!                 for each strip of at most MR rows, all of nearly the same height:
//!                     for each panel of the block: one tile
//! ```
//! 1. A strip's rows of A stay in the first cache while it walks over a block's panels, and the block stays in the second
//!    while the strips walk over it.
//! 2. Rows that are too long for that are taken in blocks that stay in the second cache, beside a panel or two at a time:
//!    so the output is written once, which costs more than reading as much of A and B again. B comes from the third cache,
//!    a side of it at a time if it is too large for that.
//! 3. Where rows are longer still, K is cut into chunks, and the output holds the sums between them: the same
//!    additions in the same order, so the same bits.
//! 4. While the last strips of one block are computed, they fetch the next block, each a share of every panel.
//!    Those of the last block fetch what the epilogue names as next.
//!    So do tiles with the rows of the next strip, where these are long and come from far.
//! 5. The epilogue of a tile may wait for the next, whatever strip or block that is in; after the last, it is taken here.
//! 6. Rows that lie a multiple of 4 KiB apart would share a few lines of the first cache, and are copied together if they
//!    are to stay in it. Long ones are taken so many at a time that the lines suffice.
//!    Where an instruction set has tiles for rows that lie evenly apart, these fetch their rows as they go, and copy none.
//! 7. Before a strip of long rows, the lines that it will write are fetched where the output is larger than a second cache; by the
//!    tile before, where those for rows evenly apart compute it.
//! 8. Rows may fall into pieces that pass over segments of B, each piece over its own. A strip is of one piece.

use super::super::arch::{Body, ByteTile, EvenWords, Isa, Segment, Simd};
use super::deferred::{Columns, FinishLast, Line};
use super::even_rows::EvenStrip;
use super::finish::{Direct, Finish, Store};
use super::pieces::{Piece, Taken};
use super::strips::{StripOf, Strips};
use super::tile::{Ahead, LINE_BYTES, ROWS_AHEAD, Shared};
use std::cell::RefCell;
use std::ops::Range;

/// Bytes of B that are kept in the second cache while rows pass by; as many are on their way.
const BLOCK_BYTES: usize = 256 * 1024;

/// Rows that are done before the memory has delivered the next panel: they are as fast as it is, without help.
const STREAMED_ROWS: usize = 4;

/// Rows of the tallest strip that may take panels in pairs.
const PAIRING_ROWS: usize = 6;

/// Strips that share the fetching of the next block; more have time enough to wait for it.
const FETCHING_STRIPS: usize = 8;

/// Where rows begin.
pub(in crate::kernels) trait RowPointers {
    /// Segments of K, which every row takes unless it is of a [piece](RowPointers::pieces).
    fn segments(&self) -> usize;

    /// Bytes that a row needs where it must be put together first.
    fn copy_bytes(&self) -> usize {
        0
    }

    /// Bytes from one row to the next, where they lie so; 1 where they do not.
    fn apart(&self) -> usize {
        1
    }

    /// Whether rows have a pointer for each segment, as those of products of floats do, and not one for all. Pieces say it each
    /// for itself.
    fn segments_apart(&self) -> bool {
        true
    }

    /// Bytes from the pointer to a row to where its segment `segment` lies, where it has one pointer for all.
    fn offset(&self, _segment: usize) -> usize {
        0
    }

    /// Writes `[segments][count]` pointers for the rows `first..first + count`, or `[count]` where segments are not apart.
    /// `copies` holds [`copy_bytes`](RowPointers::copy_bytes) for each of them, which stay until the next call.
    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], copies: &mut [u8]);

    /// How many pieces the product's rows fall into that do not take all segments; none where all rows take all. Only of
    /// products of integers, and where there is more than one segment.
    fn pieces(&self) -> usize {
        0
    }

    /// One of them.
    fn piece(&self, _at: usize) -> Piece<'_> {
        Piece { rows: 0, segments: &[], apart: true, sums: None }
    }

    /// [`fill`](RowPointers::fill) for rows of a piece, counted in its own order, and where each lies among the product's.
    fn fill_piece(
        &self,
        _at: usize,
        (_first, _count): (usize, usize),
        _pointers: &mut [*const u8],
        _copies: &mut [u8],
        _places: &mut [usize],
    ) {
    }
}

/// Words of the longest row that is not long: twelve such rows and as much of a panel are as large as a first cache.
const SHORT_WORDS: usize = 640;

/// Words of the shortest rows that are worth tiles of their own.
const EVEN_WORDS: usize = 64;

/// Strips that long rows are divided into blocks from; fewer are one block.
const DIVIDED_STRIPS: usize = 4;

/// Words of a long row in one chunk of K, at most.
const CHUNK_WORDS: usize = 2048;

/// Bytes of B that all blocks of rows pass by, before the next.
const SIDE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of long rows in a block, and the fewest strips that are worth reading B for.
const ROWS_BYTES: usize = 384 * 1024;
const LEAST_STRIPS: usize = 4;

/// Rows this long and up to so long are fetched before their strip: short ones come by themselves, one behind the other,
/// and long ones do not stay.
const FETCHED_ROW_BYTES: usize = 1024;
const MOST_FETCHED_BYTES: usize = 8192;

/// Rows of a strip, filled up for fetching.
const MOST_ROWS_AHEAD: usize = 16;

/// Rows that lie a multiple of this apart share lines of the first cache.
const ALIAS_BYTES: usize = 4096;

/// Rows of a strip that share lines of the first cache and leave one for B.
const ALIASED_ROWS: usize = 11;

/// Bytes of an output that is too large for a second cache.
const FAR_BYTES: usize = 1 << 20;

/// A product of rows and panels.
pub(super) struct Drive<'a> {
    pub(super) isa: Isa,
    pub(super) strips: &'static Strips,
    pub(super) shared: &'a Shared<'a>,
    pub(super) rows: &'a dyn RowPointers,
    /// The rows of A; the output's first row is the first of them.
    pub(super) range: Range<usize>,
    /// Columns to compute, from the first panel on.
    pub(super) columns: usize,
    /// The output can hold sums between chunks of K.
    pub(super) chunks: bool,
}

/// What a strip needs beside registers: kept by each thread, so that a warm call allocates nothing.
#[derive(Default)]
struct Workspace {
    pointers: Vec<*const u8>,
    copies: Vec<u8>,
    lines: Vec<Line>,
    pieces: Vec<Taken>,
    layout: Vec<Segment>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

impl Drive<'_> {
    /// Computes all of it.
    ///
    /// # Safety
    /// The pointers that `rows` yields for `range` are good for a segment each; B and the epilogue's operands are as large
    /// as `shared` says.
    pub(super) unsafe fn run(&self) {
        let &Strips { height, width, .. } = self.strips;
        let rows = self.range.len();
        if rows == 0 {
            return;
        }
        let strips = rows.div_ceil(height);
        let segments = self.rows.segments();
        let Shared { words, panel_bytes, .. } = *self.shared;
        let long = segments == 1 && strips > DIVIDED_STRIPS && words > SHORT_WORDS;
        let aliased = long && self.rows.apart().is_multiple_of(ALIAS_BYTES);
        let even = self.strips.even.as_ref().filter(|(heights, _)| {
            segments == 1
                && rows > height.max(heights.start)
                && words >= EVEN_WORDS
                && self.rows.apart() > 1
                && self.shared.tail == 0
                && self.shared.finish.direct.is_some()
        });
        let height = match even {
            Some((rows, _)) => rows.end - 1,
            None if aliased => height.min(ALIASED_ROWS),
            None => height,
        };
        let cut = long && self.chunks && words > CHUNK_WORDS;
        let chunk = if cut { words.div_ceil(words.div_ceil(CHUNK_WORDS)).next_multiple_of(16) } else { words };
        let blocks = match long {
            true => rows.div_ceil(height).div_ceil((ROWS_BYTES / (chunk * 4 * height)).max(LEAST_STRIPS)),
            false => 1,
        };
        let far = long
            && self.shared.finish.store == Store::F32
            && rows.saturating_mul(self.columns).saturating_mul(size_of::<f32>()) >= FAR_BYTES;
        let panels = self.columns.div_ceil(width);
        let in_block = match rows.div_ceil(height) {
            1 => panels,
            _ if cut => (BLOCK_BYTES / (chunk * width * 4)).max(1),
            _ => (BLOCK_BYTES / panel_bytes.max(1)).max(1),
        };
        // Whole blocks of nearly the same size, in even numbers of panels, as short strips take panels in pairs.
        let in_block = panels.div_ceil(panels.div_ceil(in_block).max(1));
        let in_block = if long && height > PAIRING_ROWS { in_block } else { in_block.next_multiple_of(2) };
        // What is read again for each block of rows stays in the third cache.
        let side_columns = match blocks {
            1 => self.columns,
            _ => panels.div_ceil((panels * panel_bytes).div_ceil(SIDE_BYTES)).next_multiple_of(in_block) * width,
        };
        let copy_bytes = self.rows.copy_bytes();
        let mut state = None;
        WORKSPACE.with_borrow_mut(|Workspace { pointers, copies, lines, pieces, layout }| {
            let (segment_bytes, sums) = (panel_bytes.checked_div(segments).unwrap_or(0), self.shared.sums);
            Taken::list(self.rows, rows, segment_bytes, sums, pieces, layout);
            let operands = match &self.shared.deferred {
                Some(deferred) => deferred.columns(self.shared.finish, self.columns, pieces, lines),
                None => Columns::NONE,
            };
            state = self.shared.deferred.as_ref().map(|deferred| deferred.state(operands.largest));
            // With room for short runs of them to be written as long ones.
            if pointers.len() < (segments + 1) * height {
                pointers.resize((segments + 1) * height, std::ptr::null());
            }
            if copies.len() < copy_bytes * height {
                copies.resize(copy_bytes * height, 0);
            }
            let next = self.shared.finish.next;
            let panel = |start: usize, column: usize| {
                self.shared.b.wrapping_add(column / width * panel_bytes + start * width * 4)
            };
            let (mut side, mut block, mut start) = (0, 0, 0);
            while side < self.columns {
                let columns = side..self.columns.min(side + side_columns);
                let range = rows * block / blocks..rows * (block + 1) / blocks;
                let strips = match blocks {
                    1 => pieces.iter().map(|piece| piece.rows.div_ceil(height)).sum(),
                    _ => range.len().div_ceil(height),
                };
                let now = start;
                start += chunk;
                if start >= words {
                    (block, start) = (block + 1, 0);
                }
                if block == blocks {
                    (side, block) = (columns.end, 0);
                }
                let mut part;
                let mut finish = self.shared.finish;
                if cut {
                    part = finish.clone();
                    part.resume = now > 0;
                    if start > 0 {
                        (part.direct, part.extremes) = (Some(Direct::NOTHING), None);
                    }
                    finish = &part;
                }
                let mut column = columns.start;
                while column < columns.end {
                    let end = columns.end.min(column + in_block * width);
                    let more = end < columns.end || side < self.columns;
                    let mut ahead = Ahead {
                        distance: (strips > 1).then_some(in_block * panel_bytes),
                        shares: match strips {
                            1 if range.len() <= STREAMED_ROWS => 0,
                            1 => 1,
                            _ if more || !next.is_empty() => strips.min(FETCHING_STRIPS),
                            _ => 0,
                        },
                        ..Ahead::default()
                    };
                    ahead.first = strips - ahead.shares.min(strips);
                    if strips > 1 && end == columns.end {
                        let own = panel(now, column);
                        if more {
                            ahead.distance = Some((panel(start, side) as usize).wrapping_sub(own as usize));
                        } else {
                            ahead.fetch(next, own);
                        }
                    }
                    let shared = Shared {
                        ahead,
                        words: chunk.min(words - now),
                        b: panel(now, 0),
                        operands,
                        finish,
                        ..*self.shared
                    };
                    let near = long && column > columns.start;
                    let mut before = 0;
                    for (at, taken) in pieces.iter().enumerate() {
                        let rows = if taken.piece.is_some() { 0..taken.rows } else { range.clone() };
                        let own = rows.len().div_ceil(height);
                        let distance = ahead.distance.map(|distance| distance.wrapping_sub(taken.start));
                        let shared = Shared {
                            ahead: Ahead { distance, first: ahead.first.wrapping_sub(before), ..ahead },
                            segments: taken.segments,
                            layout: layout[taken.layout..].as_ptr(),
                            apart: taken.apart,
                            b: shared.b.wrapping_add(taken.start),
                            sums: taken.sums,
                            operands: operands.of(at),
                            ..shared
                        };
                        let rows = Block { rows, piece: taken.piece, offset: now * 4, height, near, far, even };
                        self.block(&shared, rows, column..end, pointers, copies, &mut state);
                        before += own;
                    }
                    column = end;
                }
            }
        });
        if let Some(state) = &mut state {
            self.isa.dispatch(FinishLast(state));
        }
    }

    /// A block of rows times a block of panels.
    #[inline]
    fn block(
        &self,
        shared: &Shared<'_>,
        Block { rows: range, piece, offset, height, near, far, even }: Block<'_>,
        columns: Range<usize>,
        pointers: &mut [*const u8],
        copies: &mut Vec<u8>,
        state: &mut Option<ByteTile>,
    ) {
        let rows = range.len();
        let &Strips { width, lanes, run, .. } = self.strips;
        let strips = rows.div_ceil(height);
        if strips == 0 {
            return;
        }
        let row_bytes = shared.words * 4 + shared.tail;
        let wide = columns.len() >= 8 * lanes;
        let fetches_rows = self.shared.segments == 1
            && !near
            && even.is_none()
            && self.rows.copy_bytes() == 0
            && (FETCHED_ROW_BYTES..=MOST_FETCHED_BYTES).contains(&row_bytes);
        let packable = even.is_none()
            && self.shared.segments == 1
            && self.rows.copy_bytes() == 0
            && (256..=SHORT_WORDS * 4).contains(&row_bytes);
        let tiles = columns.len().div_ceil(width);
        let mut next = [std::ptr::null(); MOST_ROWS_AHEAD];
        let mut places = [0; MOST_ROWS_AHEAD];
        let mut done = range.start;
        let (least, taller) = (rows / strips, rows % strips);
        let height = |strip: usize| least + usize::from(strip < taller);
        for strip in 0..strips {
            let count = height(strip);
            match piece {
                None => self.rows.fill(self.range.start + done, count, pointers, copies),
                Some(piece) => self.rows.fill_piece(piece, (done, count), pointers, copies, &mut places),
            }
            if offset > 0 {
                pointers[..count].iter_mut().for_each(|row| *row = row.wrapping_add(offset));
            }
            if packable && count > 1 {
                let apart = (pointers[1] as usize).wrapping_sub(pointers[0] as usize);
                if shared.finish.pack_rows.unwrap_or(wide && count > 4 && apart.is_multiple_of(ALIAS_BYTES)) {
                    // SAFETY: the rows are readable for as long as the strip reads them.
                    unsafe { gather(&mut pointers[..count], row_bytes, copies) };
                }
            }
            let Ahead { first, shares, .. } = shared.ahead;
            // Strips of pieces before may have had the first shares.
            let share = strip.wrapping_sub(first);
            let mut ahead = if share < shares { Ahead { share, ..shared.ahead } } else { Ahead::default() };
            if fetches_rows && strip + 1 < strips {
                let count_ahead = height(strip + 1);
                self.rows.fill(self.range.start + done + count, count_ahead, &mut next, &mut []);
                for row in &mut next[..count_ahead] {
                    *row = row.wrapping_add(offset);
                }
                let first = next[0];
                next[count_ahead..].fill(first);
                ahead.rows = next.as_ptr();
                ahead.groups = count_ahead.div_ceil(ROWS_AHEAD * tiles);
                ahead.count = count_ahead.next_multiple_of(ROWS_AHEAD * ahead.groups);
            }
            let places = if piece.is_some() { places.as_ptr() } else { std::ptr::null() };
            let shared = Shared { ahead, places, ..*shared };
            let mut column = columns.start;
            if let Some((rows, words)) = even
                && rows.contains(&count)
            {
                column += columns.len() / width * width;
                self.isa.dispatch(EvenStrip {
                    shared: &shared,
                    words: *words,
                    rows: pointers[0],
                    apart: self.rows.apart(),
                    count,
                    row: done,
                    columns: columns.start..column,
                    far,
                });
            } else if far {
                let Finish { out, stride, .. } = *shared.finish;
                let from = out.wrapping_add((done * stride + columns.start) * 4);
                self.isa.dispatch(FetchOutput { from, stride: stride * 4, rows: count, bytes: columns.len() * 4 });
            }
            for first in (0..count).step_by(self.strips.height) {
                if column == columns.end {
                    break;
                }
                let (rows, row) = (pointers[first..].as_ptr(), done + first);
                let mut of = StripOf { shared: &shared, rows, row, columns: column..columns.end, state };
                // SAFETY: there are as many pointers as rows, and the rest is as the caller of `run` promises.
                unsafe { run(self.isa, self.strips.height.min(count - first), &mut of) };
            }
            done += count;
        }
    }
}

/// Rows of a product from byte `offset` on, in strips of at most `height`.
struct Block<'a> {
    rows: Range<usize>,
    /// The piece whose rows they are.
    piece: Option<usize>,
    offset: usize,
    height: usize,
    /// They have been read before and are still in the second cache.
    near: bool,
    /// What is written is not there.
    far: bool,
    /// How many rows that lie evenly apart have tiles of their own, and what their words are.
    even: Option<&'a (Range<usize>, EvenWords)>,
}

/// Fetches the lines of an output that is written next: the stores would each wait for one, as they are taken in order.
struct FetchOutput {
    from: *mut u8,
    /// Bytes from row to row.
    stride: usize,
    rows: usize,
    /// Bytes of a row.
    bytes: usize,
}

impl Body for FetchOutput {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in 0..self.rows {
            let from = self.from.wrapping_add(row * self.stride);
            for at in (0..self.bytes).step_by(LINE_BYTES) {
                s.prefetch_to_write(from.wrapping_add(at));
            }
        }
    }
}

/// Copies rows one behind the other, a line apart, and points to the copies.
///
/// # Safety
/// Each pointer is good for `row_bytes`.
unsafe fn gather(rows: &mut [*const u8], row_bytes: usize, copies: &mut Vec<u8>) {
    let pitch = row_bytes.next_multiple_of(64) + 64;
    if copies.len() < pitch * rows.len() {
        copies.resize(pitch * rows.len(), 0);
    }
    for (row, copy) in rows.iter_mut().zip(copies.chunks_exact_mut(pitch)) {
        // SAFETY: as the caller promises; the copy is longer.
        unsafe { std::ptr::copy_nonoverlapping(*row, copy.as_mut_ptr(), row_bytes) };
        *row = copy.as_ptr();
    }
}
