//! Channels first: an output row at a time, tap by tap over the row, which the compiler makes vectors of.

use super::super::arch::{Body, Isa, Simd};
use super::geometry::{Pool, PoolKind};
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
        for p in 0..y.len() / plane_out {
            let x = &x[p * plane_in..(p + 1) * plane_in];
            let y = &mut y[p * plane_out..(p + 1) * plane_out];
            for (oy, y) in y.chunks_exact_mut(pool.output[1]).enumerate() {
                y.fill(if kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 });
                let down = pool.taps(0, oy);
                for ky in 0..down.count {
                    let row = &x[(down.first + ky * pool.dilations[0]) * width..][..width];
                    for kx in 0..pool.kernel[1] {
                        let reached = pool.reached(1, kx);
                        if reached.is_empty() {
                            continue;
                        }
                        let stride = pool.strides[1];
                        let from = reached.start * stride + kx * pool.dilations[1] - pool.begin[1];
                        fold(kind, &mut y[reached], &row[from..], stride);
                    }
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

/// Joins every `stride`-th element of `row` to `y`.
#[inline(always)]
fn fold(kind: PoolKind, y: &mut [f32], row: &[f32], stride: usize) {
    macro_rules! fold {
        ($step:expr, |$y:ident, $x:ident| $body:expr) => {
            for ($y, &$x) in y.iter_mut().zip(row.iter().step_by($step)) {
                *$y = $body;
            }
        };
    }
    match (kind, stride) {
        (PoolKind::Max, 1) => fold!(1, |y, x| if x > *y || x.is_nan() { x } else { *y }),
        (PoolKind::Max, 2) => fold!(2, |y, x| if x > *y || x.is_nan() { x } else { *y }),
        (PoolKind::Max, _) => fold!(stride, |y, x| if x > *y || x.is_nan() { x } else { *y }),
        (_, 1) => fold!(1, |y, x| *y + x),
        (_, 2) => fold!(2, |y, x| *y + x),
        (_, _) => fold!(stride, |y, x| *y + x),
    }
}
