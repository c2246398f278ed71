//! Channels last: a few vectors of channels at a time, over the window.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector::max_nan;
use super::geometry::{Pool, PoolKind, Taps};
use std::ops::Range;

/// Pools `x`, shaped `[images, height, width, channels]`, into the given output rows, counted over all images
/// (`images * output height` in all); `y` holds these rows.
///
/// # Panics
/// Where a slice does not hold its rows.
pub fn pool_channels_last(isa: Isa, kind: PoolKind, pool: &Pool, x: &[f32], rows: Range<usize>, y: &mut [f32]) {
    let (image, row) = pool.sizes();
    assert_eq!(y.len(), rows.len() * row, "the output holds its rows");
    if y.is_empty() {
        return;
    }
    assert!(x.len() >= rows.end.div_ceil(pool.output[0]) * image, "the input holds the images of the rows");
    isa.dispatch(Last { kind, pool, x, rows, y });
}

struct Last<'a> {
    kind: PoolKind,
    pool: &'a Pool,
    x: &'a [f32],
    rows: Range<usize>,
    y: &'a mut [f32],
}

impl Body for Last<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Last { kind, pool, x, rows, y } = self;
        let (image, row_len) = pool.sizes();
        for (row, y) in rows.zip(y.chunks_exact_mut(row_len)) {
            let (n, oy) = (row / pool.output[0], row % pool.output[0]);
            let x = &x[n * image..(n + 1) * image];
            let down = pool.taps(0, oy);
            for (ox, y) in y.chunks_exact_mut(pool.channels).enumerate() {
                let across = pool.taps(1, ox);
                match kind {
                    PoolKind::Max => window(s, pool, x, down, across, y, true, 1.0),
                    PoolKind::Average { include_padding } => {
                        let count = pool.count(include_padding, oy, ox).max(1);
                        window(s, pool, x, down, across, y, false, 1.0 / count as f32);
                    }
                }
            }
        }
    }
}

/// One window, for all channels.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn window<S: Simd>(s: S, pool: &Pool, x: &[f32], down: Taps, across: Taps, y: &mut [f32], max: bool, factor: f32) {
    let channels = pool.channels;
    let (step_y, step_x) = (pool.dilations[0] * pool.input[1] * channels, pool.dilations[1] * channels);
    let first = (down.first * pool.input[1] + across.first) * channels;
    let start = if max { f32::NEG_INFINITY } else { 0.0 };
    let mut c = 0;
    while c < channels {
        let left = channels - c;
        if left >= 2 * S::LANES {
            let mut best = [s.splat(start); 2];
            for ky in 0..down.count {
                for kx in 0..across.count {
                    let tap = x[first + ky * step_y + kx * step_x..][..channels].as_ptr();
                    // SAFETY: two vectors of channels follow c in every pixel.
                    let v = unsafe { [s.load(tap.add(c)), s.load(tap.add(c + S::LANES))] };
                    best = if max {
                        [max_nan(s, v[0], best[0]), max_nan(s, v[1], best[1])]
                    } else {
                        [s.add(v[0], best[0]), s.add(v[1], best[1])]
                    };
                }
            }
            let factor = s.splat(factor);
            for (k, &best) in best.iter().enumerate() {
                let result = if max { best } else { s.mul(best, factor) };
                // SAFETY: as above.
                unsafe { s.store(y.as_mut_ptr().add(c + k * S::LANES), result) };
            }
            c += 2 * S::LANES;
        } else {
            let n = left.min(S::LANES);
            let mut best = s.splat(start);
            for ky in 0..down.count {
                for kx in 0..across.count {
                    let tap = x[first + ky * step_y + kx * step_x..][..channels].as_ptr();
                    // SAFETY: n channels follow c in every pixel.
                    let v = unsafe { s.load_part(tap.add(c), n) };
                    best = if max { max_nan(s, v, best) } else { s.add(v, best) };
                }
            }
            let result = if max { best } else { s.mul(best, s.splat(factor)) };
            // SAFETY: as above.
            unsafe { s.store_part(y.as_mut_ptr().add(c), n, result) };
            c += n;
        }
    }
}
