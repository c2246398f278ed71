//! Channels first: an output row at a time, in plain loops that the compiler makes vectors of.

use super::super::arch::{Body, Isa, Simd};
use super::geometry::{Pool, PoolKind, Taps};
use std::ops::Range;

/// Pools the given planes of `x`, shaped `[images * channels, height, width]`; `y` holds their outputs.
///
/// # Panics
/// Where a slice does not hold its planes.
pub fn pool_channels_first(isa: Isa, kind: PoolKind, pool: &Pool, x: &[f32], planes: Range<usize>, y: &mut [f32]) {
    let (from, to) = (pool.input[0] * pool.input[1], pool.output[0] * pool.output[1]);
    assert_eq!(y.len(), planes.len() * to, "the output holds its planes");
    if y.is_empty() {
        return;
    }
    isa.dispatch(First { kind, pool, x: &x[planes.start * from..planes.end * from], y });
}

struct First<'a> {
    kind: PoolKind,
    pool: &'a Pool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Body for First<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let First { kind, pool, x, y } = self;
        let [height, width] = pool.input;
        let (plane_in, plane_out) = (height * width, pool.output[0] * pool.output[1]);
        // Outputs whose windows together are no wider than the buffer; a window that is wider itself is cut to it.
        let window = (pool.kernel[1].max(1) - 1).saturating_mul(pool.dilations[1]);
        let chunk = BUFFER.saturating_sub(window.saturating_add(1)) / pool.strides[1].max(1) + 1;
        let mut buffer = [0.0; BUFFER];
        for p in 0..y.len() / plane_out {
            let x = &x[p * plane_in..(p + 1) * plane_in];
            let y = &mut y[p * plane_out..(p + 1) * plane_out];
            for (oy, y) in y.chunks_exact_mut(pool.output[1]).enumerate() {
                let down = pool.taps(0, oy);
                let mut done = 0;
                while done < y.len() {
                    let n = chunk.min(y.len() - done);
                    window_row(kind, pool, x, down, done, &mut y[done..done + n], &mut buffer);
                    done += n;
                }
                if let PoolKind::Average { include_padding } = kind {
                    for (ox, y) in y.iter_mut().enumerate() {
                        *y *= 1.0 / pool.count(include_padding, oy, ox).max(1) as f32;
                    }
                }
            }
        }
    }
}

/// Elements of the buffer that holds the rows of a window, joined.
const BUFFER: usize = 1024;

/// Outputs `from..from + y.len()` of one row: the window's rows are joined column by column first, so that the columns
/// are joined along one row only.
#[inline(always)]
fn window_row(
    kind: PoolKind,
    pool: &Pool,
    x: &[f32],
    down: Taps,
    from: usize,
    y: &mut [f32],
    buffer: &mut [f32; BUFFER],
) {
    let width = pool.input[1];
    let start = if kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 };
    let (stride, dilation) = (pool.strides[1], pool.dilations[1]);
    let span = (y.len() - 1) * stride + (pool.kernel[1].max(1) - 1) * dilation + 1;
    y.fill(start);
    if span > BUFFER {
        // A single window, wider than the buffer.
        let across = pool.taps(1, from);
        for ky in 0..down.count {
            let row = &x[(down.first + ky * pool.dilations[0]) * width..][..width];
            for kx in 0..across.count {
                y[0] = join(kind, y[0], row[across.first + kx * dilation]);
            }
        }
        return;
    }
    // Column 0 of the buffer is column `from * stride - begin` of the image; what lies outside stays at the start.
    let buffer = &mut buffer[..span];
    buffer.fill(start);
    let skipped = pool.begin[1].saturating_sub(from * stride).min(span);
    let first = (from * stride + skipped).saturating_sub(pool.begin[1]);
    let inside = span.min((skipped + width).saturating_sub(first)).saturating_sub(skipped);
    for ky in 0..down.count {
        let row = &x[(down.first + ky * pool.dilations[0]) * width..][..width];
        for (b, &x) in buffer[skipped..skipped + inside].iter_mut().zip(&row[first..first + inside]) {
            *b = join(kind, *b, x);
        }
    }
    for kx in 0..pool.kernel[1] {
        let row = &buffer[kx * dilation..];
        match stride {
            1 => y.iter_mut().zip(row).for_each(|(y, &b)| *y = join(kind, *y, b)),
            2 => {
                let (last, pairs) = y.split_last_mut().map_or((None, 0), |(last, y)| (Some(last), y.len()));
                if let Some(last) = last {
                    *last = join(kind, *last, row[2 * pairs]);
                }
                y[..pairs].iter_mut().zip(row.chunks_exact(2)).for_each(|(y, b)| *y = join(kind, *y, b[0]));
            }
            _ => y.iter_mut().enumerate().for_each(|(i, y)| *y = join(kind, *y, row[i * stride])),
        }
    }
}

#[inline(always)]
fn join(kind: PoolKind, y: f32, x: f32) -> f32 {
    match kind {
        PoolKind::Max => {
            let larger = if x > y { x } else { y };
            if x.is_nan() { x } else { larger }
        }
        PoolKind::Average { .. } => y + x,
    }
}
