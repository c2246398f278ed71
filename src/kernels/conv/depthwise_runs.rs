//! Depthwise convolution of f32 by taps three or five wide, at stride 1 or 2: each input is loaded once for all the output
//! columns that it takes part in.
//!
//! ```text
//! for each band of output rows, for each block of channels, for each row of the band:
//!     for each run of COLUMNS output columns, for each vector of the block:
//!         acc[j] = bias
//!         for each row of taps in the image, for each input column i of the run:
//!             x = input[row][i]
//!             for each tap k that meets it: acc[(i - k) / stride] += x * weight[row][k]
//! ```
//! Blocks are so small that the input rows of one output row are still in the first cache at the next, and bands so small
//! that their input is in the second for all blocks.
//!
//! Columns are found through tables of pointers, one for each input row, which are made once for all runs and channels of a
//! band; those beside the image point to zeros, so that there is no other path for the edges. A run that ends behind the row
//! computes what it does not store.

use super::super::arch::{Body, Simd};
use super::super::gemm::{Finish, FinishTile, each};
use super::geometry::Geometry;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Output columns of one run.
const COLUMNS: usize = 8;

/// Output columns of the longest row, so that tables stay small.
const MOST_COLUMNS: usize = 1 << 14;

/// Bytes of input that a band sees.
const BAND_BYTES: usize = 384 << 10;

/// Most output rows of a band, so that tables stay small.
const MOST_LINES: usize = 16;

/// Bytes of input that a block sees for an output row.
const BLOCK_BYTES: usize = 12 << 10;

/// Bytes of a vector at most.
const LINE: usize = 64;

/// The highest kernel.
const HEIGHT: usize = 5;

thread_local! {
    /// The tables: kept by each thread, so that a warm call allocates nothing.
    static TABLES: RefCell<Vec<*const f32>> = const { RefCell::new(Vec::new()) };
}

/// Whether this kernel takes it.
pub(super) fn suits(g: &Geometry) -> bool {
    g.output()[1] <= MOST_COLUMNS
        && g.kernel[0] <= HEIGHT
        && matches!((g.kernel[1], g.strides[1]), (3 | 5, 1 | 2))
        && g.dilations[1] == 1
}

/// A depthwise convolution of the output pixels `rows`.
pub(super) struct DepthwiseRuns<'a> {
    pub(super) geometry: &'a Geometry,
    /// `[taps + 1][channels, filled up to whole vectors]`, the last row zeros.
    pub(super) weights: &'a [f32],
    pub(super) input: *const f32,
    /// Elements from pixel to pixel of the input.
    pub(super) pixel: usize,
    pub(super) rows: Range<usize>,
    pub(super) finish: &'a Finish<'a>,
}

/// One run of output columns.
struct Run<'a> {
    /// Where the columns of each row of taps begin.
    pixels: [*const *const f32; HEIGHT],
    /// Rows of taps in the image.
    height: usize,
    /// Weights of the first of them, and elements from tap to tap.
    weights: *const f32,
    padded: usize,
    finish: &'a Finish<'a>,
    /// The first column's row of the output, and how many of them are stored.
    row: usize,
    count: usize,
}

impl Body for DepthwiseRuns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.geometry.kernel[1], self.geometry.strides[1]) {
            (3, 1) => s.call(Sized::<3, 1>(self)),
            (3, _) => s.call(Sized::<3, 2>(self)),
            (_, 1) => s.call(Sized::<5, 1>(self)),
            _ => s.call(Sized::<5, 2>(self)),
        }
    }
}

/// The same for taps `K` wide, `STEP` input columns apart from output to output.
struct Sized<'a, const K: usize, const STEP: usize>(DepthwiseRuns<'a>);

impl<const K: usize, const STEP: usize> Body for Sized<'_, K, STEP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.0;
        let g = d.geometry;
        let [out_height, out_width] = g.output();
        let padded = g.channels.next_multiple_of(S::LANES);
        let zeros = d.weights[g.taps() * padded..].as_ptr();
        // The last run of a row may begin at its last column.
        let columns = (out_width + COLUMNS - 1) * STEP + K;
        // Where the image's columns stand in a table; a kernel may not reach them all.
        let inside = g.pad_begin[1].min(columns)..(g.pad_begin[1] + g.input[1]).min(columns);
        let mut run = Run {
            pixels: [std::ptr::null(); HEIGHT],
            height: 0,
            weights: d.weights.as_ptr(),
            padded,
            finish: d.finish,
            row: 0,
            count: 0,
        };
        let [height, stride] = [g.kernel[0], g.strides[0]];
        // Tables are of input rows where output rows share them, or else of the taps of each output row.
        let shared = g.dilations[0] == 1 && stride <= height;
        let band = band(g, d.pixel);
        let block = block(g) * S::LANES;
        // Taken out and put back: a closure would be compiled without the instruction set.
        let mut tables = TABLES.take();
        let mut row = d.rows.start;
        while row < d.rows.end {
            let line = row / out_width;
            let (image, y) = (line / out_height, line % out_height);
            let lines = band.min(out_height - y).min((d.rows.end - 1) / out_width + 1 - line);
            let end = d.rows.end.min((line + lines) * out_width);
            let slots = if shared { (lines - 1) * stride + height } else { lines * height };
            // Positions before the image wrap round to ones behind it.
            let position = |slot: usize| match shared {
                true => (y * stride + slot).wrapping_sub(g.pad_begin[0]),
                false => ((y + slot / height) * stride + slot % height * g.dilations[0]).wrapping_sub(g.pad_begin[0]),
            };
            tables.clear();
            tables.resize(slots * columns, zeros);
            for slot in 0..slots {
                let y = position(slot);
                if y < g.input[0] {
                    let table = &mut tables[slot * columns..][..columns];
                    let mut from = d.input.wrapping_add((image * g.input[0] + y) * g.input[1] * d.pixel);
                    for pixel in &mut table[inside.clone()] {
                        *pixel = from;
                        from = from.wrapping_add(d.pixel);
                    }
                }
            }
            for start in (0..g.channels).step_by(block) {
                let behind = g.channels.min(start + block);
                let mut row = row;
                while row < end {
                    let (at, first) = (row / out_width - line, row % out_width);
                    let stop = out_width.min(first + end - row);
                    let mut lines = [std::ptr::null(); HEIGHT];
                    run.height = 0;
                    for tap in 0..height {
                        let slot = if shared { at * stride + tap } else { at * height + tap };
                        if position(slot) >= g.input[0] {
                            continue;
                        }
                        if run.height == 0 {
                            run.weights = d.weights[tap * K * padded..].as_ptr();
                        }
                        lines[run.height] = tables[slot * columns..].as_ptr();
                        run.height += 1;
                    }
                    for x in (first..stop).step_by(COLUMNS) {
                        run.count = COLUMNS.min(stop - x);
                        run.row = row - d.rows.start + x - first;
                        for (pixels, line) in run.pixels[..run.height].iter_mut().zip(&lines) {
                            *pixels = line.wrapping_add(x * STEP);
                        }
                        let mut channel = start;
                        // SAFETY: a table has as many columns as the last run of a row; the pixels lie in the image or
                        // are zeros, both as many as channels; weights are whole vectors; the columns that are stored
                        // lie in the output.
                        unsafe {
                            while channel + S::LANES <= behind {
                                vector::<S, K, STEP, true>(s, &run, channel, S::LANES);
                                channel += S::LANES;
                            }
                            if channel < behind {
                                vector::<S, K, STEP, false>(s, &run, channel, behind - channel);
                            }
                        }
                    }
                    row += stop - first;
                }
            }
            row = end;
        }
        TABLES.set(tables);
    }
}

/// Output rows of a band, whose input stays in the second cache.
fn band(g: &Geometry, pixel: usize) -> usize {
    let row = g.input[1].saturating_mul(pixel * size_of::<f32>()).max(1);
    let rows = (BAND_BYTES / row).saturating_sub(g.kernel[0]);
    (rows / g.strides[0]).clamp(1, MOST_LINES)
}

/// Vectors of channels of a block, whose input rows stay in the first cache from output row to output row.
fn block(g: &Geometry) -> usize {
    let vector = g.kernel[0] * g.input[1].saturating_mul(LINE);
    (BLOCK_BYTES / vector.max(1)).max(1)
}

/// One vector of channels, of which the first `n` are there: all of them where it is `WHOLE`.
///
/// # Safety
/// The run's pixels can be loaded at `channel`, and its weights as a whole vector; `count` rows from `row` on lie in what
/// `finish` describes.
#[inline(always)]
#[allow(clippy::absurd_extreme_comparisons)] // The first of a row of constants is 0.
unsafe fn vector<S: Simd, const K: usize, const STEP: usize, const WHOLE: bool>(
    s: S,
    run: &Run<'_>,
    channel: usize,
    n: usize,
) {
    let finish = run.finish;
    // SAFETY: as the caller promises.
    unsafe {
        let start = finish.start.map_or(s.splat_i32(0), |start| s.load_i32_part(start.add(channel), n));
        let mut acc = [s.from_bits(start); COLUMNS];
        // The rows of taps in the image follow each other.
        let mut weights = run.weights.add(channel);
        for &pixels in &run.pixels[..run.height] {
            let mut taps = [s.splat(0.0); K];
            for (k, tap) in taps.iter_mut().enumerate() {
                *tap = s.load(weights.add(k * run.padded));
            }
            each!(const { (COLUMNS - 1) * STEP + K }, i => {
                let x = (*pixels.add(i)).add(channel);
                let x = if WHOLE { s.load(x) } else { s.load_part(x, n) };
                each!(K, k => {
                    if const { i >= k && (i.wrapping_sub(k)).is_multiple_of(STEP) && i.wrapping_sub(k) / STEP < COLUMNS } {
                        let acc = &mut acc[const { i.wrapping_sub(k) / STEP % COLUMNS }];
                        *acc = s.fma(x, taps[const { k % K }], *acc);
                    }
                });
            });
            weights = weights.add(K * run.padded);
        }
        match &finish.direct {
            Some(direct) if WHOLE => {
                each!(COLUMNS, j => {
                    if j < run.count {
                        let mut v = acc[const { j % COLUMNS }];
                        if let Some(residual) = direct.residual {
                            v = s.add(v, s.load(residual.add((run.row + j) * direct.residual_stride + channel)));
                        }
                        if direct.bounded {
                            v = s.min(s.splat(direct.hi), s.max(s.splat(direct.lo), v));
                        }
                        s.store(finish.out.cast::<f32>().add((run.row + j) * finish.stride + channel), v);
                    }
                });
            }
            _ => {
                let mut words = MaybeUninit::<[i32; COLUMNS * 16]>::uninit();
                let words = words.as_mut_ptr().cast::<i32>();
                each!(COLUMNS, j => { s.store_i32(words.add(j * S::LANES), s.to_bits(acc[const { j % COLUMNS }])) });
                let (rows, columns) = (run.row..run.row + run.count, channel..channel + n);
                s.call(FinishTile { finish, words, pitch: S::LANES, rows, columns });
            }
        }
    }
}
