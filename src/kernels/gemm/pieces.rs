//! Pieces of a product: rows that pass over segments of B, as they would multiply nothing but padding there.

use super::super::arch::Segment;
use super::driver::RowPointers;

/// Rows that take the same segments of B, in an order of their own.
pub(in crate::kernels) struct Piece<'a> {
    /// How many.
    pub(in crate::kernels) rows: usize,
    /// The segments, in ascending order: one at least.
    pub(in crate::kernels) segments: &'a [usize],
    /// Whether rows have a pointer for each of them, and not one for all.
    pub(in crate::kernels) apart: bool,
    /// The sums of B's columns over them, where a zero point is to be taken off and they are not all.
    pub(in crate::kernels) sums: Option<*const i32>,
}

/// A piece as strips take it.
pub(super) struct Taken {
    /// Its number, where rows have an order of their own.
    pub(super) piece: Option<usize>,
    pub(super) rows: usize,
    pub(super) segments: usize,
    /// Bytes of a panel before its first segment.
    pub(super) start: usize,
    /// The first of its segments in the list of all pieces.
    pub(super) layout: usize,
    pub(super) apart: bool,
    pub(super) sums: Option<*const i32>,
}

impl Taken {
    /// The pieces of `rows`, or one of all `count` rows; segments of B are `segment_bytes` long, the sums of all of them
    /// `sums`.
    pub(super) fn list(
        rows: &dyn RowPointers,
        count: usize,
        segment_bytes: usize,
        sums: Option<*const i32>,
        pieces: &mut Vec<Taken>,
        layout: &mut Vec<Segment>,
    ) {
        pieces.clear();
        layout.clear();
        let all = rows.segments();
        if rows.pieces() == 0 {
            let apart = rows.segments_apart();
            let offset = |segment: usize| if apart { 0 } else { rows.offset(segment) };
            layout.extend((0..all).map(|segment| Segment { offset: offset(segment), passes: 0 }));
            pieces.push(Taken { piece: None, rows: count, segments: all, start: 0, layout: 0, apart, sums });
        }
        for at in 0..rows.pieces() {
            let piece = rows.piece(at);
            let first = piece.segments.first().copied().unwrap_or(0);
            pieces.push(Taken {
                piece: Some(at),
                rows: piece.rows,
                segments: piece.segments.len(),
                start: first * segment_bytes,
                layout: layout.len(),
                apart: piece.apart,
                sums: if piece.segments.len() == all { sums } else { piece.sums },
            });
            let next = piece.segments.iter().skip(1).copied().chain([all + first]);
            layout.extend(piece.segments.iter().zip(next).map(|(&own, next)| Segment {
                offset: if piece.apart { 0 } else { rows.offset(own) },
                passes: (next - own - 1) * segment_bytes,
            }));
        }
    }
}
