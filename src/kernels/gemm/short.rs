//! f32 products whose rows are short, or whose columns are few: what a tile costs beside its multiplications weighs most there.
//!
//! ```text
//! for each strip of 24 rows:
//!     for each panel: two tiles of 12 rows by two vectors, or one of 24 by one where the panel has no more columns
//! ```
//! Rows that fill no strip are left to the common driver. An element is summed in the same order by both.

use super::super::arch::{Body, FloatTile, Isa, Simd};
use super::driver::RowPointers;
use super::finish::{Direct, Finish, FinishTile, TILE_WORDS};
use super::part::{Operand, Part};
use std::cell::RefCell;
use std::mem::MaybeUninit;

/// Words of the longest row that is short: a strip of them stays in the first cache beside a panel. Beyond, the common tile is as
/// fast, and fetches what comes next.
const SHORT_WORDS: usize = 192;

/// Words of the longest segment of a row where the columns are few.
const MOST_WORDS: usize = 512;

/// Rows that are worth it where the columns are not few.
const FEWEST_ROWS: usize = 96;

/// Bytes of B that stay in the second cache while rows pass by.
const MOST_BYTES: usize = 256 * 1024;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Columns of the widest panel.
const MOST_COLUMNS: usize = 32;

thread_local! {
    /// Pointers to rows, and copies of them: kept, so that a warm call allocates nothing.
    static WORKSPACE: RefCell<(Vec<*const u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Computes the first rows of a part, and returns how many: none where it is of another kind, or the machine has no tile for it.
///
/// # Safety
/// As of [`drive`](super::part::drive).
pub(super) unsafe fn short(isa: Isa, rows: &dyn RowPointers, b: &Operand, part: &Part, finish: &Finish<'_>) -> usize {
    let columns = part.columns.len();
    let words = b.words.saturating_mul(rows.segments());
    let fits = if columns <= isa.lanes() {
        b.words <= MOST_WORDS
    } else {
        let bytes = words.saturating_mul(columns.next_multiple_of(b.panel) * 4);
        words <= SHORT_WORDS && bytes <= MOST_BYTES && part.rows.len() >= FEWEST_ROWS
    };
    let own = part.columns.start - part.first_column..part.columns.end - part.first_column;
    let fits = fits && own.end <= b.n && own.start.is_multiple_of(b.panel);
    if !fits || words == 0 || columns == 0 || finish.resume || finish.row_scale.is_some() {
        return 0;
    }
    isa.dispatch(Short { rows, b, part, finish })
}

struct Short<'a> {
    rows: &'a dyn RowPointers,
    b: &'a Operand,
    part: &'a Part,
    finish: &'a Finish<'a>,
}

impl Body for Short<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let Short { rows, b, part, finish } = self;
        let height = S::FLOAT_ROWS;
        let strips = part.rows.len().checked_div(height).unwrap_or(0);
        if strips == 0 {
            return 0;
        }
        let (segments, copy_bytes, columns) = (rows.segments(), rows.copy_bytes(), part.columns.len());
        let first_panel = (part.columns.start - part.first_column) / b.panel;
        let panels = columns.div_ceil(b.panel);
        // What the sums of the last panel start from, or of all where there is no bias.
        let mut start = [0i32; MOST_COLUMNS];
        if let Some(from) = finish.start {
            let column = (panels - 1) * b.panel;
            // SAFETY: the epilogue's operands have a word for each column.
            unsafe { std::ptr::copy_nonoverlapping(from.add(column), start.as_mut_ptr(), columns - column) };
        }
        let bounds = finish.direct.filter(|direct| direct.bounded);
        let (lo, hi) = bounds.map_or((f32::NEG_INFINITY, f32::INFINITY), |Direct { lo, hi, .. }| (lo, hi));
        let mut words = MaybeUninit::<[i32; TILE_WORDS]>::uninit();
        let words = words.as_mut_ptr().cast::<i32>();
        let next = &finish.next[..finish.next.len().min(MOST_BYTES)];
        let share = next.len().div_ceil(strips * panels).next_multiple_of(LINE_BYTES).max(LINE_BYTES);
        let mut next = next.chunks(share);
        WORKSPACE.with_borrow_mut(|(pointers, copies)| {
            pointers.resize(pointers.len().max(segments * height), std::ptr::null());
            copies.resize(copies.len().max(copy_bytes * height), 0);
            for first in (0..strips * height).step_by(height) {
                rows.fill(part.rows.start + first, height, &mut pointers[..segments * height], copies);
                for panel in 0..panels {
                    for line in next.next().unwrap_or_default().chunks(LINE_BYTES) {
                        s.prefetch(line.as_ptr());
                    }
                    let column = panel * b.panel;
                    let count = b.panel.min(columns - column);
                    let wide = count > S::LANES;
                    let (tiles, height, pitch) =
                        if wide { (2, height / 2, 2 * S::LANES) } else { (1, height, S::LANES) };
                    for tile in 0..tiles {
                        let row = first + tile * height;
                        let mut tile = FloatTile {
                            rows: pointers.as_ptr().wrapping_add(tile * height),
                            b: b.data.wrapping_add((first_panel + panel) * b.panel_bytes).cast(),
                            pitch: b.panel * 4,
                            segments,
                            words: b.words,
                            start: start.as_ptr().cast(),
                            residual: std::ptr::null(),
                            residual_stride: 0,
                            lo,
                            hi,
                            out: words.cast(),
                            stride: pitch * 4,
                            columns: pitch,
                        };
                        if let Some(from) = finish.start.filter(|_| panel + 1 < panels) {
                            tile.start = from.wrapping_add(column).cast();
                        }
                        if let Some(direct) = &finish.direct {
                            tile.out = finish.out.cast::<f32>().wrapping_add(row * finish.stride + column);
                            tile.stride = finish.stride * 4;
                            tile.columns = count;
                            if let Some(residual) = direct.residual {
                                tile.residual = residual.wrapping_add(row * direct.residual_stride + column);
                                tile.residual_stride = direct.residual_stride * 4;
                            }
                        }
                        // SAFETY: whoever made the operands saw to it that the rows, B and the output are as long as they
                        // say.
                        unsafe { s.float_tile(wide, &tile) };
                        if finish.direct.is_none() {
                            let (rows, columns) = (row..row + height, column..column + count);
                            s.call(FinishTile { finish, words, pitch, rows, columns });
                        }
                    }
                }
            }
        });
        strips * height
    }
}
