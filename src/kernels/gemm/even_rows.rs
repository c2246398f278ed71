//! Strips of rows that lie evenly apart, where an instruction set has tiles for them: see [`EvenTile`].

use super::super::arch::{Body, EvenTile, EvenWords, Simd};
use super::product::Float;
use super::tile::{LINE_BYTES, Shared, fetches};
use std::ops::Range;

/// What the sums of a panel's columns start from where there is nothing.
static ZEROS: [f32; 32] = [0.0; 32];

/// `count` rows times whole panels of B, with an epilogue that a tile has.
pub(super) struct EvenStrip<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) words: EvenWords,
    /// The first row, and bytes from row to row.
    pub(super) rows: *const u8,
    pub(super) apart: usize,
    pub(super) count: usize,
    /// The first row and the columns, in the output's coordinates.
    pub(super) row: usize,
    pub(super) columns: Range<usize>,
    /// What is written is not in the second cache.
    pub(super) far: bool,
}

impl Body for EvenStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if const { S::EVEN_ROWS.end == 0 } {
            return;
        }
        let EvenStrip { shared, words, rows, apart, count, row, columns, far } = self;
        let width = 2 * S::LANES;
        let Some(direct) = &shared.finish.direct else { return };
        let finish = shared.finish;
        let at = |row: usize, column: usize| finish.out.cast::<f32>().wrapping_add(row * finish.stride + column);
        for column in columns.clone().step_by(width) {
            let b = shared.b.wrapping_add(column / width * shared.panel_bytes);
            let (ahead, lines) = fetches::<S, Float, 2>(shared, b);
            let more = column + width < columns.end;
            let tile = EvenTile {
                rows,
                apart,
                b,
                words: shared.words,
                ahead: if lines > 0 { ahead } else { b },
                more: lines.saturating_sub(2) * LINE_BYTES,
                step: lines * LINE_BYTES,
                start: finish.start.map_or(ZEROS.as_ptr(), |start| start.wrapping_add(column).cast()),
                resume: usize::from(finish.resume),
                residual: direct
                    .residual
                    .map_or(std::ptr::null(), |residual| residual.wrapping_add(row * direct.residual_stride + column)),
                residual_stride: direct.residual_stride * size_of::<f32>(),
                bounded: usize::from(direct.bounded),
                lo: direct.lo,
                hi: direct.hi,
                out: at(row, column),
                stride: finish.stride * size_of::<f32>(),
                next: if more { at(row, column + width) } else { at(row + count, columns.start) },
                next_rows: if far { count } else { 0 },
            };
            // SAFETY: whoever made the strip saw to it that rows, B and the output are as long as it says.
            unsafe { s.even_tile(words, count, &tile) };
        }
    }
}
