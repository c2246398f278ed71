//! Which taps of which output pixels lie in the image, so that no others are multiplied.
//!
//! ```text
//! . . . . . . .     a 3x3 kernel with padding 1: pixels of the top line take six taps (or the corners
//! . o o o o o .     four), those of the bottom, the left and the right as many, only the others nine.
//! . o o o o o .     Of a 7 x 7 image, 361 of 441 taps lie in it.
//! . . . . . . .
//! ```
//! 1. Pixels that take the same taps are a rectangle, the same in every image. The rows of a product have no order of
//!    their own, so each rectangle is a piece of it: those pixels of all images, one behind the other.
//! 2. A rectangle with few pixels is no full tile. So there are several ways to divide the output, finer and finer, and the
//!    pixels of a run decide which is the cheapest. What is taken together takes the taps that any of it needs.
//! 3. Where all taps of a rectangle lie in the image, each of them lies as far from the first as in any other pixel: so a row
//!    has one pointer. That is why an image without padding is a rectangle, too.
//! 4. Padding is the zero point, and what is not multiplied is not to be taken off: each piece has its own sums of weights.

use super::super::arch::Isa;
use super::super::gemm::{
    ByteEpilogue, ByteOutput, PackedBytes, Part, Piece, RowPointers, byte_strip_rows, product_bytes,
};
use super::super::view::MatrixMut;
use super::geometry::Geometry;
use super::taps::{SPREAD, TapRows};
use std::ops::Range;

/// More pieces than this are not worth their strips.
const MOST_PIECES: usize = 25;

/// What a strip costs beside its multiplications, and the rows of one that costs no more than if it had fewer. The unit is a
/// row times a word of K, a cycle where there are products of 64 bytes.
const STRIP: usize = 100;
const LEAST_ROWS: usize = 5;

/// The part of the time that must be saved: one in so many.
const WORTH: usize = 64;

/// Output pixels of every image that lie in some lines and columns, and the taps that any of them needs.
#[derive(Debug, Clone)]
struct Rectangle {
    lines: Range<usize>,
    columns: Range<usize>,
    down: Range<usize>,
    across: Range<usize>,
    /// Those of the columns where all of the taps lie in the image.
    inside: Range<usize>,
    /// The numbers of the taps.
    segments: Vec<usize>,
    /// For each filter, the sum of the weights of these taps; empty where they were not needed.
    sums: Vec<i32>,
}

/// The ways to divide the output of a geometry.
#[derive(Debug, Clone)]
pub(super) struct Borders {
    geometry: Geometry,
    /// Rows of the tallest strip, and words of a segment.
    height: usize,
    words: usize,
    ways: Vec<Vec<Rectangle>>,
}

/// Positions along an axis that follow each other and take the same taps; none where all lie in the padding.
fn runs(g: &Geometry, axis: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let taps = |position: usize| {
        let from = position * g.strides[axis];
        let inside = |tap: &usize| {
            (from + tap * g.dilations[axis]).checked_sub(g.pad_begin[axis]).is_some_and(|at| at < g.input[axis])
        };
        let first = (0..g.kernel[axis]).find(inside).unwrap_or(0);
        first..first + (first..g.kernel[axis]).take_while(inside).count()
    };
    let mut runs: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for position in 0..g.output()[axis] {
        let taps = taps(position);
        match runs.last_mut() {
            Some((positions, same)) if *same == taps => positions.end += 1,
            _ => runs.push((position..position + 1, taps)),
        }
    }
    runs
}

impl Rectangle {
    /// `columns` are some runs of them, side by side.
    fn new(
        g: &Geometry,
        (lines, down_taps): &(Range<usize>, Range<usize>),
        columns: &[(Range<usize>, Range<usize>)],
    ) -> Self {
        // One tap at least: it reads padding.
        let hull = |taps: &mut dyn Iterator<Item = &Range<usize>>| {
            taps.filter(|taps| !taps.is_empty())
                .cloned()
                .reduce(|all, own| all.start.min(own.start)..all.end.max(own.end))
                .unwrap_or(0..1)
        };
        let down = hull(&mut std::iter::once(down_taps));
        let across = hull(&mut columns.iter().map(|(_, taps)| taps));
        let seen = |(_, taps): &&(Range<usize>, Range<usize>)| !down_taps.is_empty() && *taps == across;
        let mut inside = columns.iter().filter(seen).map(|(columns, _)| columns.clone());
        let first = inside.next().unwrap_or(0..0);
        Rectangle {
            lines: lines.clone(),
            columns: columns.first().map_or(0, |(run, _)| run.start)..columns.last().map_or(0, |(run, _)| run.end),
            segments: down.clone().flat_map(|y| across.clone().map(move |x| y * g.kernel[1] + x)).collect(),
            inside: inside.fold(first, |all, run| all.start..run.end),
            down,
            across,
            sums: Vec::new(),
        }
    }

    /// Whether all of its taps lie in the image.
    fn is_inside(&self) -> bool {
        self.inside == self.columns
    }

    /// How many of its pixels come before output pixel `place`.
    fn before(&self, place: usize, [height, width]: [usize; 2]) -> usize {
        let (line, x) = (place / width, place % width);
        let (image, y) = (line / height, line % height);
        let lines = image * self.lines.len() + y.clamp(self.lines.start, self.lines.end) - self.lines.start;
        let rest =
            if self.lines.contains(&y) { x.clamp(self.columns.start, self.columns.end) } else { self.columns.start };
        lines * self.columns.len() + rest - self.columns.start
    }

    /// How many of its pixels are among `range`.
    fn count(&self, range: &Range<usize>, output: [usize; 2]) -> usize {
        self.before(range.end, output) - self.before(range.start, output)
    }
}

impl Borders {
    /// Those of `geometry`, unless it is better off without, for the groups `b` of its weights; with sums where `zero_point` is not 0.
    pub(super) fn new(isa: Isa, geometry: &Geometry, b: &[PackedBytes], zero_point: u8) -> Option<Self> {
        let g = geometry;
        let (lines, columns) = (runs(g, 0), runs(g, 1));
        let longest = lines.iter().map(|(lines, _)| lines.len()).max()?;
        let divided = |apart: &dyn Fn(usize) -> bool| -> Vec<Rectangle> {
            let of = |line: &(Range<usize>, Range<usize>)| -> Vec<Rectangle> {
                match apart(line.0.len()) {
                    true => {
                        columns.iter().map(|column| Rectangle::new(g, line, std::slice::from_ref(column))).collect()
                    }
                    false => vec![Rectangle::new(g, line, &columns)],
                }
            };
            let mut pieces: Vec<Rectangle> = lines.iter().flat_map(of).collect();
            // The last ones have the time to fetch weights.
            pieces.sort_by_key(|piece| piece.lines.len() * piece.columns.len() * piece.segments.len());
            pieces
        };
        let ways = [divided(&|_| false), divided(&|lines| lines == longest), divided(&|_| true)];
        let gains = |way: &[Rectangle]| way.iter().any(|piece| piece.segments.len() < g.taps() || piece.is_inside());
        let mut ways: Vec<_> = ways.into_iter().filter(|way| way.len() <= MOST_PIECES && gains(way)).collect();
        ways.dedup_by_key(|way| way.len());
        // Weights that are sums are gone through several times.
        if ways.is_empty() || g.taps() == 1 || b.iter().any(|b| b.summands > 1) {
            return None;
        }
        if zero_point != 0 {
            for piece in ways.iter_mut().flatten() {
                piece.sums = b.iter().flat_map(|b| sums(isa, b, &piece.segments)).collect();
            }
        }
        let words = g.channels_per_group().div_ceil(4);
        Some(Borders { geometry: *geometry, height: byte_strip_rows(isa), words, ways })
    }

    /// The cost of `count` rows that take `taps` taps.
    fn cost(&self, count: usize, taps: usize) -> usize {
        let strips = count.div_ceil(self.height);
        let rows = count.max(strips * LEAST_ROWS);
        rows.saturating_mul(taps * self.words).saturating_add(strips * STRIP)
    }

    /// The cheapest way for the output pixels `range`, unless that is to take all taps.
    fn way(&self, range: &Range<usize>, zero_point: i32) -> Option<&[Rectangle]> {
        let output = self.geometry.output();
        let all = self.cost(range.len(), self.geometry.taps());
        let cost = |way: &[Rectangle]| -> usize {
            way.iter().map(|piece| self.cost(piece.count(range, output), piece.segments.len())).sum()
        };
        let sums = |piece: &Rectangle| !piece.sums.is_empty() || piece.segments.len() == self.geometry.taps();
        let known = |way: &&Vec<Rectangle>| zero_point == 0 || way.iter().all(sums);
        let ways = self.ways.iter().filter(known).map(|way| (cost(way), way));
        let (least, way) = ways.min_by_key(|(cost, _)| *cost)?;
        (way.len() == 1 || least < all - all / WORTH).then_some(way)
    }

    /// The rows of a part of the output, of the group that has its columns, unless it is cheapest to take all taps of all pixels.
    pub(super) fn rows<'a>(&'a self, rows: &'a TapRows<'a>, part: &Part, zero_point: i32) -> Option<BorderRows<'a>> {
        let pieces = self.way(&part.rows, zero_point)?;
        Some(self.by(pieces, rows, part))
    }

    fn by<'a>(&'a self, pieces: &'a [Rectangle], rows: &'a TapRows<'a>, part: &Part) -> BorderRows<'a> {
        let (range, filter, output) = (part.rows.clone(), part.first_column, self.geometry.output());
        let mut starts = [0; MOST_PIECES];
        for (start, piece) in starts.iter_mut().zip(pieces) {
            *start = piece.before(range.start, output);
        }
        BorderRows { geometry: &self.geometry, rows, pieces, range, filter, output, starts }
    }
}

#[cfg(test)]
impl Borders {
    /// The rows by each way, however dear.
    pub(super) fn all_ways<'a>(
        &'a self,
        rows: &'a TapRows<'a>,
        part: &'a Part,
    ) -> impl Iterator<Item = BorderRows<'a>> {
        self.ways.iter().map(move |pieces| self.by(pieces, rows, part))
    }
}

/// The rows of a run, in pieces.
pub(super) struct BorderRows<'a> {
    geometry: &'a Geometry,
    rows: &'a TapRows<'a>,
    pieces: &'a [Rectangle],
    range: Range<usize>,
    filter: usize,
    output: [usize; 2],
    /// How many pixels of each piece come before the range.
    starts: [usize; MOST_PIECES],
}

impl RowPointers for BorderRows<'_> {
    fn segments(&self) -> usize {
        self.rows.segments()
    }

    fn copy_bytes(&self) -> usize {
        self.rows.copy_bytes()
    }

    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], copies: &mut [u8]) {
        self.rows.fill(first, count, pointers, copies);
    }

    fn pieces(&self) -> usize {
        self.pieces.len()
    }

    fn piece(&self, at: usize) -> Piece<'_> {
        let piece = &self.pieces[at];
        let sums = (!piece.sums.is_empty()).then(|| piece.sums[self.filter..].as_ptr());
        Piece {
            rows: piece.before(self.range.end, self.output) - self.starts[at],
            segments: &piece.segments,
            apart: !piece.is_inside(),
            sums,
        }
    }

    fn offset(&self, segment: usize) -> usize {
        let g = self.geometry;
        let (y, x) = (segment / g.kernel[1] * g.dilations[0], segment % g.kernel[1] * g.dilations[1]);
        y.wrapping_mul(g.input[1]).wrapping_add(x).wrapping_mul(self.rows.pixels().1)
    }

    fn fill_piece(
        &self,
        at: usize,
        (first, count): (usize, usize),
        pointers: &mut [*const u8],
        copies: &mut [u8],
        places: &mut [usize],
    ) {
        let (g, piece) = (self.geometry, &self.pieces[at]);
        let [height, width] = self.output;
        let (input, pixel_bytes) = self.rows.pixels();
        let line_bytes = g.input[1].wrapping_mul(pixel_bytes);
        // Where the first tap lies, or would lie, of each row.
        let mut firsts = [input; SPREAD];
        let step = g.strides[1].wrapping_mul(pixel_bytes);
        let from = self.starts[at] + first;
        let (mut line, mut column) = (from / piece.columns.len(), from % piece.columns.len());
        let mut image = line / piece.lines.len();
        line -= image * piece.lines.len();
        let mut row = 0;
        while row < count {
            let (y, x) = (piece.lines.start + line, piece.columns.start + column);
            let run = (count - row).min(piece.columns.len() - column);
            let place = (image * height + y) * width + x - self.range.start;
            let down = (image * g.input[0] + y * g.strides[0]).wrapping_sub(g.pad_begin[0]);
            let across = (x * g.strides[1]).wrapping_sub(g.pad_begin[1]);
            let mut first =
                input.wrapping_add(down.wrapping_mul(line_bytes)).wrapping_add(across.wrapping_mul(pixel_bytes));
            for at in 0..run {
                firsts[row + at] = first;
                places[row + at] = place + at;
                first = first.wrapping_add(step);
            }
            row += run;
            (line, column) = (line + 1, 0);
            if line == piece.lines.len() {
                (image, line) = (image + 1, 0);
            }
        }
        if piece.is_inside() {
            return move_over(pointers, count, &firsts, 0);
        }
        // As if no tap lay beside the image, and then once more those that do.
        let mut slot = 0;
        for y in piece.down.clone() {
            let line = (y * g.dilations[0]).wrapping_mul(line_bytes);
            for x in piece.across.clone() {
                move_over(&mut pointers[slot..], count, &firsts, line + x * g.dilations[1] * pixel_bytes);
                slot += count;
            }
        }
        let padding = self.rows.padding(copies).as_ptr();
        self.pad(piece, &places[..count], pointers, padding);
    }
}

/// `count` pointers, moved by so many bytes; maybe some behind them, which are written later, so that there is one length.
#[inline(always)]
fn move_over(slots: &mut [*const u8], count: usize, from: &[*const u8; SPREAD], bytes: usize) {
    match slots.first_chunk_mut::<SPREAD>() {
        Some(slots) => {
            for at in 0..SPREAD {
                slots[at] = from[at].wrapping_add(bytes);
            }
        }
        None => {
            for (slot, from) in slots[..count].iter_mut().zip(from) {
                *slot = from.wrapping_add(bytes);
            }
        }
    }
}

impl BorderRows<'_> {
    /// Points to `padding` where a tap of the output pixels `places` lies beside the image.
    fn pad(&self, piece: &Rectangle, places: &[usize], pointers: &mut [*const u8], padding: *const u8) {
        let (g, [height, width]) = (self.geometry, self.output);
        let beside = |axis: usize, position: usize, tap: usize| {
            let place = position * g.strides[axis] + tap * g.dilations[axis];
            place.checked_sub(g.pad_begin[axis]).is_none_or(|place| place >= g.input[axis])
        };
        for (row, place) in places.iter().enumerate() {
            let place = place + self.range.start;
            let (y, x) = (place / width % height, place % width);
            if piece.inside.contains(&x) {
                continue;
            }
            let taps = piece.down.clone().flat_map(|y| piece.across.clone().map(move |x| (y, x)));
            for (slot, (down, across)) in pointers[row..].iter_mut().step_by(places.len()).zip(taps) {
                if beside(0, y, down) || beside(1, x, across) {
                    *slot = padding;
                }
            }
        }
    }
}

/// A row of ones, for some segments of B.
struct Ones<'a> {
    ones: &'a [u8],
    all: usize,
    segments: &'a [usize],
}

impl RowPointers for Ones<'_> {
    fn segments(&self) -> usize {
        self.all
    }

    fn fill(&self, _: usize, count: usize, pointers: &mut [*const u8], _: &mut [u8]) {
        pointers[..self.all * count].fill(self.ones.as_ptr());
    }

    fn pieces(&self) -> usize {
        1
    }

    fn piece(&self, _: usize) -> Piece<'_> {
        Piece { rows: 1, segments: self.segments, apart: false, sums: None }
    }

    fn fill_piece(
        &self,
        _: usize,
        (_, count): (usize, usize),
        pointers: &mut [*const u8],
        _: &mut [u8],
        places: &mut [usize],
    ) {
        pointers[..count].fill(self.ones.as_ptr());
        places[..count].fill(0);
    }
}

/// The sums of B's columns over some of its segments.
fn sums(isa: Isa, b: &PackedBytes, segments: &[usize]) -> Vec<i32> {
    let (columns, ones) = (b.n(), vec![1; b.segment]);
    let mut sums = vec![0; columns];
    let mut out = ByteOutput::I32(MatrixMut::dense(&mut sums, 1, columns));
    let part = Part { whole: (1, columns), rows: 0..1, columns: 0..columns, first_column: 0 };
    let ones = Ones { ones: &ones, all: b.segments, segments };
    // SAFETY: a segment of B is as long as the ones.
    unsafe { product_bytes(isa, &ones, b, &part, &mut out, &ByteEpilogue::default()) };
    sums
}
