//! Quantized pools, channels last: the maximum needs no scale, the average goes through i32 sums.

use super::super::arch::{Body, Isa, Simd};
use super::super::quantize::Byte;
use super::geometry::Pool;
use std::ops::Range;

/// Pools the largest element of each window of `x`, shaped `[images, height, width, channels]`, into the given output
/// rows, counted over all images; `y` holds these rows. A window of padding alone becomes the smallest byte.
///
/// # Panics
/// Where a slice does not hold its rows.
pub fn max_bytes<T: Byte>(isa: Isa, pool: &Pool, x: &[T], rows: Range<usize>, y: &mut [T]) {
    assert_eq!(y.len(), rows.len() * pool.sizes().1, "the output holds its rows");
    isa.dispatch(Max { pool, x, rows, y });
}

struct Max<'a, T> {
    pool: &'a Pool,
    x: &'a [T],
    rows: Range<usize>,
    y: &'a mut [T],
}

impl<T: Byte> Body for Max<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Max { pool, x, rows, y } = self;
        let (image, row_len) = pool.sizes();
        if y.is_empty() {
            return;
        }
        for (row, y) in rows.zip(y.chunks_exact_mut(row_len)) {
            let (n, oy) = (row / pool.output[0], row % pool.output[0]);
            let x = &x[n * image..(n + 1) * image];
            let down = pool.taps(0, oy);
            for (ox, y) in y.chunks_exact_mut(pool.channels).enumerate() {
                let across = pool.taps(1, ox);
                let first = (down.first * pool.input[1] + across.first) * pool.channels;
                let steps = (pool.dilations[0] * pool.input[1] * pool.channels, pool.dilations[1] * pool.channels);
                let mut c = 0;
                while c + BLOCK <= pool.channels {
                    // The whole block stays in registers over the window.
                    let mut best = [T::LOWEST; BLOCK];
                    for ky in 0..down.count {
                        for kx in 0..across.count {
                            let tap = &x[first + ky * steps.0 + kx * steps.1 + c..][..BLOCK];
                            // SAFETY: the slice has that many elements.
                            let tap = unsafe { *tap.as_ptr().cast::<[T; BLOCK]>() };
                            for i in 0..BLOCK {
                                best[i] = if tap[i] > best[i] { tap[i] } else { best[i] };
                            }
                        }
                    }
                    y[c..c + BLOCK].copy_from_slice(&best);
                    c += BLOCK;
                }
                if c == pool.channels {
                    continue;
                }
                let y = &mut y[c..];
                y.fill(T::LOWEST);
                for (ky, kx) in (0..down.count).flat_map(|ky| (0..across.count).map(move |kx| (ky, kx))) {
                    let tap = &x[first + ky * steps.0 + kx * steps.1 + c..][..y.len()];
                    for (y, &x) in y.iter_mut().zip(tap) {
                        *y = if x > *y { x } else { *y };
                    }
                }
            }
        }
    }
}

/// Channels of one block.
const BLOCK: usize = 64;

/// How an average goes from the input's scale and zero point to the output's.
#[derive(Debug, Clone, Copy)]
pub struct Requantize {
    /// Real value of one step of the input.
    pub x_scale: f32,
    /// The input's byte that stands for 0.
    pub x_zero: i32,
    /// Real value of one step of the output.
    pub y_scale: f32,
    /// The output's byte that stands for 0.
    pub y_zero: i32,
}

/// Pools the mean of each window as [`max_bytes`] does the maximum; padding counts as zeros or not at all.
///
/// # Panics
/// Where a slice does not hold its rows.
pub fn average_bytes<T: Byte>(
    isa: Isa,
    pool: &Pool,
    include_padding: bool,
    scales: Requantize,
    x: &[T],
    rows: Range<usize>,
    y: &mut [T],
) {
    assert_eq!(y.len(), rows.len() * pool.sizes().1, "the output holds its rows");
    isa.dispatch(Average { pool, include_padding, scales, x, rows, y });
}

struct Average<'a, T> {
    pool: &'a Pool,
    include_padding: bool,
    scales: Requantize,
    x: &'a [T],
    rows: Range<usize>,
    y: &'a mut [T],
}

impl<T: Byte> Body for Average<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Average { pool, include_padding, scales, x, rows, y } = self;
        let (image, row_len) = pool.sizes();
        if y.is_empty() {
            return;
        }
        for (row, y) in rows.zip(y.chunks_exact_mut(row_len)) {
            let (n, oy) = (row / pool.output[0], row % pool.output[0]);
            let x = &x[n * image..(n + 1) * image];
            let down = pool.taps(0, oy);
            for (ox, y) in y.chunks_exact_mut(pool.channels).enumerate() {
                let across = pool.taps(1, ox);
                let inside = (down.count * across.count) as i32;
                let count = pool.count(include_padding, oy, ox).max(1) as f32;
                for c in (0..pool.channels).step_by(S::LANES) {
                    let n = (pool.channels - c).min(S::LANES);
                    let mut sum = s.splat_i32(inside.wrapping_mul(-scales.x_zero));
                    for ky in 0..down.count {
                        for kx in 0..across.count {
                            let (iy, ix) = (down.first + ky * pool.dilations[0], across.first + kx * pool.dilations[1]);
                            let tap = &x[(iy * pool.input[1] + ix) * pool.channels + c..][..n];
                            // SAFETY: the tap holds n elements.
                            sum = s.add_i32(sum, unsafe { T::load_part(s, tap.as_ptr(), n) });
                        }
                    }
                    let mean = s.div(s.mul(s.from_i32(sum), s.splat(scales.x_scale)), s.splat(count));
                    let steps = s.to_i32(s.div(mean, s.splat(scales.y_scale)));
                    let byte = s.add_i32(steps, s.splat_i32(scales.y_zero));
                    // SAFETY: n channels follow c.
                    unsafe { T::store_part(s, y.as_mut_ptr().add(c), n, byte) };
                }
            }
        }
    }
}
