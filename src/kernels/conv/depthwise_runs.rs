//! Depthwise convolution of f32 by taps three or five wide, at stride 1 or 2: each input is loaded once for all the output
//! columns that it takes part in.
//!
//! ```text
//! for each output row, for each run of COLUMNS output columns, for each vector of channels:
//!     acc[j] = bias
//!     for each row of taps in the image, for each input column i of the run:
//!         x = input[row][i]
//!         for each tap k that meets it: acc[(i - k) / stride] += x * weight[row][k]
//! ```
//! Columns are found through tables of pointers, one for each row of taps, which are made once for all runs and channels of
//! an output row; those beside the image point to zeros, so that there is no other path for the edges. A run that ends behind
//! the row computes what it does not store.

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
        // Taken out and put back: a closure would be compiled without the instruction set.
        let mut tables = TABLES.take();
        tables.clear();
        tables.resize(g.kernel[0] * columns, zeros);
        let mut row = d.rows.start;
        while row < d.rows.end {
            let (line, first) = (row / out_width, row % out_width);
            let (image, y) = (line / out_height, line % out_height);
            let end = out_width.min(first + d.rows.end - row);
            let (mut lines, mut height) = ([std::ptr::null(); HEIGHT], 0);
            for tap in 0..g.kernel[0] {
                // Positions before the image wrap round to one behind it.
                let y = (y * g.strides[0] + tap * g.dilations[0]).wrapping_sub(g.pad_begin[0]);
                if y >= g.input[0] {
                    continue;
                }
                if height == 0 {
                    run.weights = d.weights[tap * K * padded..].as_ptr();
                }
                let table = &mut tables[height * columns..][..columns];
                let from = d.input.wrapping_add((image * g.input[0] + y) * g.input[1] * d.pixel);
                for (x, pixel) in table[inside.clone()].iter_mut().enumerate() {
                    *pixel = from.wrapping_add(x * d.pixel);
                }
                lines[height] = table.as_ptr();
                height += 1;
            }
            run.height = height;
            for x in (first..end).step_by(COLUMNS) {
                run.count = COLUMNS.min(end - x);
                run.row = row - d.rows.start + x - first;
                for (pixels, line) in run.pixels[..height].iter_mut().zip(&lines) {
                    *pixels = line.wrapping_add(x * STEP);
                }
                let mut channel = 0;
                // SAFETY: a table has as many columns as the last run of a row; the pixels lie in the image or are
                // zeros, both as many as channels; weights are whole vectors; the columns that are stored lie in the
                // output.
                unsafe {
                    while channel + S::LANES <= g.channels {
                        vector::<S, K, STEP, true>(s, &run, channel, S::LANES);
                        channel += S::LANES;
                    }
                    if channel < g.channels {
                        vector::<S, K, STEP, false>(s, &run, channel, g.channels - channel);
                    }
                }
            }
            row += end - first;
        }
        TABLES.set(tables);
    }
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
