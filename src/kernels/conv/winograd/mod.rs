//! Convolution of 3x3 taps at stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3). And with half of them,
//! where the image is small beside the filters: F(2x2, 3x3).
//!
//! ```text
//! for each block of tiles (4 x 4 output pixels each), so that what follows stays in the second cache:
//!     scatter: V[p][tile] = point p of the tile's 6 x 6 input pixels     (36 points, vectors of channels)
//!     for each point p:   M[p] = V[p] x U[p]                              (the matrix product, U packed at load)
//!     gather:  the tile's output pixels out of M[0..36][tile]             (vectors of filters), epilogue, store
//! ```
//! 1. An output pixel needs 36 / 16 = 2.25 multiplications a channel in place of 9, or 16 / 4. The points (`points`) are chosen for
//!    small rounding errors.
//! 2. The tiles lie on a grid of the image, whatever part of it is computed, and the sums over channels are made in one
//!    order: a pixel's bits depend neither on the batch nor on how rows are divided. A part that ends inside a row of
//!    tiles computes the whole row, so divisions cost least at whole tiles.
//! 3. Padding and what lies behind the image are read from a row of zeros: the inner loops do not branch.

mod gather;
mod points;
mod scatter;
mod weights;

pub(super) use weights::WinogradWeights;

use super::super::arch::Isa;
use super::super::gemm::{Epilogue, Finish, Part, Strided, product};
use super::super::view::MatrixMut;
use super::geometry::Geometry;
use crate::tensor::Buffer;
use gather::Gather;
use points::points;
use scatter::Scatter;
use std::cell::RefCell;

/// Bytes of V and M that stay in the second cache.
const BLOCK_BYTES: usize = 640 * 1024;

/// Rows of all points together: fewer a block would read U too often.
const FEWEST_ROWS: usize = 864;

/// Channels and filters below which the transforms cost more than they save.
const FEWEST_CHANNELS: usize = 12;

/// Bytes of weights from which on no second cache holds them: they wait for memory, and are much of what a model keeps
/// there.
const FAR: usize = 2 << 20;

thread_local! {
    /// V, M and the zeros: kept by each thread, so that a warm call allocates nothing.
    static WORKSPACE: RefCell<Buffer> = RefCell::new(Buffer::zeroed(0));
}

/// Channels and filters from which on the smaller tiles' transforms are few beside the multiplications that they save.
const MANY_CHANNELS: usize = 192;

/// Whether a convolution of this geometry is expected to be faster so, and with how many outputs of a tile's side. The answer
/// depends on one image alone, not on their number.
pub(super) fn suits(g: &Geometry) -> Option<usize> {
    let fits = g.groups == 1 && g.kernel == [3; 2] && g.strides == [1; 2] && g.dilations == [1; 2];
    if !fits || g.lines.is_some() || g.channels < FEWEST_CHANNELS || g.filters < FEWEST_CHANNELS {
        return None;
    }
    // Multiplications saved for each pair of a channel and a filter, against the weights that are read in addition, in
    // units of a multiplication: four times as many as the direct product reads.
    let bytes = g.channels.saturating_mul(g.filters).saturating_mul(points(4) * 4);
    let toll = if bytes > FAR { 1000 } else { 400 };
    let direct = g.output_pixels().saturating_mul(9);
    let here = |outputs: usize, work: usize, toll: usize| {
        let [down, across] = tiles(g, outputs);
        down.saturating_mul(across).saturating_mul(work).saturating_add(toll)
    };
    if direct > here(4, 40, toll) {
        return Some(4);
    }
    // Less than twice as many weights as the direct product reads.
    (direct > here(2, 18, 100) && g.channels.min(g.filters) >= MANY_CHANNELS).then_some(2)
}

/// Tiles down and across an image.
fn tiles(g: &Geometry, outputs: usize) -> [usize; 2] {
    let [height, width] = g.output();
    [height.div_ceil(outputs), width.div_ceil(outputs)]
}

/// Computes a part of the output pixels (of all images) and of the filters; those begin with a panel of the weights.
///
/// # Safety
/// `input` points to the channels of the first pixel of all images, whose pixels lie `pixel` elements apart; `finish`
/// describes an output of the part, which is not empty.
pub(super) unsafe fn run(
    isa: Isa,
    g: &Geometry,
    weights: &WinogradWeights,
    (input, pixel): (*const f32, usize),
    part: &Part,
    finish: &Finish<'_>,
) {
    let rows = &part.rows;
    let [height, width] = g.output();
    let outputs = weights.outputs();
    let points = points(outputs);
    let [down, across] = tiles(g, outputs);
    let tile_row = |row: usize| {
        let line = row / width;
        line / height * down + line % height / outputs
    };
    let range = tile_row(rows.start) * across..(tile_row(rows.end - 1) + 1) * across;
    let lanes = isa.lanes();
    let (channels, filters) = (g.channels.next_multiple_of(lanes), part.columns.len().next_multiple_of(lanes));
    let most = (BLOCK_BYTES / (points * 4 * (channels + filters))).max(FEWEST_ROWS / points).min(range.len());
    let blocks = range.len().div_ceil(most);
    let most = range.len().div_ceil(blocks);
    // A line more from plane to plane, so that the points of a tile do not share lines of the first cache.
    let (from_plane, to_plane) = (most * channels + 16, most * filters + 16);
    WORKSPACE.with_borrow_mut(|buffer| {
        let len = channels + points * (from_plane + to_plane);
        if buffer.as_slice().len() < len * 4 {
            *buffer = Buffer::zeroed(len * 4);
        }
        let words: &mut [f32] = buffer.as_mut_slice().map(bytemuck::cast_slice_mut).unwrap_or_default();
        let (zeros, words) = words.split_at_mut(channels);
        let (v, m) = words.split_at_mut(points * from_plane);
        zeros.fill(0.0);
        for block in 0..blocks {
            let tiles = range.start + range.len() * block / blocks..range.start + range.len() * (block + 1) / blocks;
            let (to, zeros, tiles_here) = (v.as_mut_ptr(), zeros.as_ptr(), tiles.clone());
            let (row, plane) = (channels, from_plane);
            match outputs {
                2 => isa.dispatch(Scatter::<2> { g, input, pixel, tiles: tiles_here, zeros, to, row, plane }),
                _ => isa.dispatch(Scatter::<4> { g, input, pixel, tiles: tiles_here, zeros, to, row, plane }),
            }
            for (point, m) in m.chunks_exact_mut(to_plane).take(points).enumerate() {
                let a = Strided { data: v[point * from_plane..].as_ptr().cast(), stride_bytes: channels * 4 };
                let of_point = |point| weights.view(point, part.columns.start, filters);
                let u = of_point(point);
                let next = match point + 1 {
                    last if last == points && block + 1 == blocks => finish.next,
                    next => of_point(next % points).bytes(),
                };
                let whole = (tiles.len(), filters);
                let all = Part { whole, rows: 0..tiles.len(), columns: 0..filters, first_column: 0 };
                let mut m = MatrixMut::dense(m, tiles.len(), filters);
                let epilogue = Epilogue { next, ..Epilogue::default() };
                // SAFETY: V holds a row of the channels for each tile.
                unsafe { product(isa, &a, u, g.channels, all, &mut m, &epilogue) };
            }
            let from = m.as_ptr();
            let (rows, columns) = (rows.clone(), part.columns.len());
            let (row, plane) = (filters, to_plane);
            match outputs {
                2 => isa.dispatch(Gather::<2> { g, tiles, rows, columns, from, row, plane, finish }),
                _ => isa.dispatch(Gather::<4> { g, tiles, rows, columns, from, row, plane, finish }),
            }
        }
    });
}

/// Where a tile's output begins: its image, line and column.
fn place(g: &Geometry, outputs: usize, tile: usize) -> (usize, usize, usize) {
    let [down, across] = tiles(g, outputs);
    let (line, column) = (tile / across, tile % across);
    (line / down, line % down * outputs, column * outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_weights_ask_for_a_larger_image() {
        let suited = |side: usize, channels: usize, filters: usize| {
            suits(&Geometry {
                pad_begin: [1; 2],
                pad_end: [1; 2],
                ..Geometry::new([side; 2], channels, filters, [3; 2])
            })
        };
        for (side, few, many) in [(7, None, None), (13, Some(4), None), (14, Some(4), Some(4)), (56, Some(4), Some(4))]
        {
            assert_eq!((suited(side, 48, 192), suited(side, 64, 256)), (few, many), "{side}");
        }
        assert!(suited(56, 8, 64).is_none() && suited(56, 64, 8).is_none());
        // Smaller tiles take no more memory than they are worth on a smaller image.
        assert_eq!([4, 5, 7, 12, 14].map(|side| suited(side, 512, 512)), [None, None, Some(2), Some(2), Some(4)]);
    }
}
