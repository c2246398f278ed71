//! Resizing of images in two axes, in both layouts: nearest by tables of indices, linear by tables of two taps.
//!
//! The tables of an axis come from the caller, who knows ONNX's coordinate transforms ([`Axis::nearest`] and
//! [`Axis::linear`] build them from source coordinates); a run then only looks them up.

use super::super::arch::{Body, Isa, Simd};
use std::ops::Range;

/// Where each output index of one axis reads: `low` and `high` with `weight` on `high`.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    low: Vec<usize>,
    high: Vec<usize>,
    /// Empty for nearest.
    weight: Vec<f32>,
    source_len: usize,
}

impl Axis {
    /// One source index for each output index, limited to the axis.
    #[must_use]
    pub fn nearest(source_len: usize, indices: impl IntoIterator<Item = usize>) -> Axis {
        let low: Vec<usize> = indices.into_iter().map(|i| i.min(source_len.saturating_sub(1))).collect();
        Axis { high: low.clone(), low, weight: Vec::new(), source_len }
    }

    /// A source coordinate for each output index, limited to `0..=source_len - 1`, between two neighbors.
    #[must_use]
    pub fn linear(source_len: usize, coordinates: impl IntoIterator<Item = f32>) -> Axis {
        let last = source_len.saturating_sub(1);
        let mut axis = Axis { low: Vec::new(), high: Vec::new(), weight: Vec::new(), source_len };
        for x in coordinates {
            let x = x.max(0.0).min(last as f32);
            let low = (x as usize).min(last);
            axis.low.push(low);
            axis.high.push((low + 1).min(last));
            axis.weight.push(x - low as f32);
        }
        axis
    }

    /// Elements of the output.
    #[must_use]
    pub fn len(&self) -> usize {
        self.low.len()
    }

    /// True where the output has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.low.is_empty()
    }

    /// Elements of the source.
    #[must_use]
    pub fn source_len(&self) -> usize {
        self.source_len
    }
}

/// Nearest, of any element: `x` is `[images, height, width, channels]`, `rows` output rows counted over all images, `y`
/// these rows. Channels first is `channels` 1 and a plane for an image.
///
/// # Panics
/// Where a slice does not hold its rows.
pub fn resize_nearest<T: Copy>(
    vertical: &Axis,
    horizontal: &Axis,
    channels: usize,
    x: &[T],
    rows: Range<usize>,
    y: &mut [T],
) {
    let row = horizontal.len() * channels;
    assert_eq!(y.len(), rows.len() * row, "the output holds its rows");
    if y.is_empty() {
        return;
    }
    let from_row = horizontal.source_len * channels;
    let mut before: Option<(usize, usize)> = None;
    for (k, r) in rows.enumerate() {
        let (image, oy) = (r / vertical.len(), r % vertical.len());
        let source = image * vertical.source_len + vertical.low[oy];
        // A row that repeats is copied whole.
        if let Some((_, at)) = before.filter(|&(same, _)| same == source) {
            y.copy_within(at * row..(at + 1) * row, k * row);
            continue;
        }
        before = Some((source, k));
        let from = &x[source * from_row..(source + 1) * from_row];
        let to = &mut y[k * row..(k + 1) * row];
        if channels == 1 {
            for (to, &i) in to.iter_mut().zip(&horizontal.low) {
                *to = from[i];
            }
        } else {
            for (to, &i) in to.chunks_exact_mut(channels).zip(&horizontal.low) {
                to.copy_from_slice(&from[i * channels..(i + 1) * channels]);
            }
        }
    }
}

/// Linear in both axes; shapes as in [`resize_nearest`]. `row` holds one row of the source.
///
/// # Panics
/// Where a slice does not hold its rows, or an axis was made for nearest.
#[allow(clippy::too_many_arguments)]
pub fn resize_linear(
    isa: Isa,
    vertical: &Axis,
    horizontal: &Axis,
    channels: usize,
    x: &[f32],
    rows: Range<usize>,
    y: &mut [f32],
    row: &mut [f32],
) {
    assert_eq!(y.len(), rows.len() * horizontal.len() * channels, "the output holds its rows");
    let row = &mut row[..horizontal.source_len * channels];
    if y.is_empty() {
        return;
    }
    assert!(!vertical.weight.is_empty() && !horizontal.weight.is_empty(), "the axes have weights");
    isa.dispatch(Linear { vertical, horizontal, channels, x, rows, y, row });
}

struct Linear<'a> {
    vertical: &'a Axis,
    horizontal: &'a Axis,
    channels: usize,
    x: &'a [f32],
    rows: Range<usize>,
    y: &'a mut [f32],
    row: &'a mut [f32],
}

impl Body for Linear<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Linear { vertical, horizontal, channels, x, rows, y, row } = self;
        let from_row = row.len();
        for (r, y) in rows.zip(y.chunks_exact_mut(horizontal.len() * channels)) {
            let (image, oy) = (r / vertical.len(), r % vertical.len());
            let source = |i: usize| &x[(image * vertical.source_len + i) * from_row..][..from_row];
            let (top, bottom) = (source(vertical.low[oy]), source(vertical.high[oy]));
            // Down first: it costs a source row, and what goes across then reads one row alone.
            let from = if vertical.weight[oy] == 0.0 {
                top
            } else {
                blend(s, top, bottom, vertical.weight[oy], row);
                &*row
            };
            if channels == 1 {
                let taps = horizontal.low.iter().zip(&horizontal.high).zip(&horizontal.weight);
                for (y, ((&left, &right), &across)) in y.iter_mut().zip(taps) {
                    *y = (from[right] - from[left]) * across + from[left];
                }
                continue;
            }
            for (ox, y) in y.chunks_exact_mut(channels).enumerate() {
                let at = |column: usize| &from[column * channels..][..channels];
                blend(s, at(horizontal.low[ox]), at(horizontal.high[ox]), horizontal.weight[ox], y);
            }
        }
    }
}

/// `a + (b - a) * weight`, element by element.
#[inline(always)]
fn blend<S: Simd>(s: S, a: &[f32], b: &[f32], weight: f32, y: &mut [f32]) {
    let n = a.len().min(b.len()).min(y.len());
    let (a, b, y, weight) = (a.as_ptr(), b.as_ptr(), y.as_mut_ptr(), s.splat(weight));
    let mut i = 0;
    // SAFETY: all three hold n elements.
    unsafe {
        while i + S::LANES <= n {
            let from = s.load(a.add(i));
            s.store(y.add(i), s.fma(s.sub(s.load(b.add(i)), from), weight, from));
            i += S::LANES;
        }
        if i < n {
            let from = s.load_part(a.add(i), n - i);
            s.store_part(y.add(i), n - i, s.fma(s.sub(s.load_part(b.add(i), n - i), from), weight, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 2003) as f32 / 100.0).collect()
    }

    #[test]
    fn nearest_repeats_and_drops() {
        let (images, h, w) = (2, 3, 4);
        for channels in [1, 3] {
            let x = numbers(images * h * w * channels);
            let vertical = Axis::nearest(h, (0..5).map(|i| i * 3 / 5));
            let horizontal = Axis::nearest(w, [3, 0, 99]);
            let mut y = vec![0.0; images * 5 * 3 * channels];
            let half = 7 * 3 * channels;
            resize_nearest(&vertical, &horizontal, channels, &x, 0..7, &mut y[..half]);
            resize_nearest(&vertical, &horizontal, channels, &x, 7..10, &mut y[half..]);
            for (i, y) in y.iter().enumerate() {
                let (c, ox, oy, n) = (i % channels, i / channels % 3, i / channels / 3 % 5, i / channels / 15);
                let at = ((n * h + oy * 3 / 5) * w + [3, 0, 3][ox]) * channels + c;
                assert_eq!(*y, x[at]);
            }
        }
    }

    #[test]
    fn linear_lies_between_its_neighbors() {
        for isa in Isa::available() {
            for channels in [1, 5, 16, 19] {
                let (h, w) = (3, 4);
                let x = numbers(h * w * channels);
                let (ys, xs) = ([-0.5f32, 0.25, 1.0, 1.9, 2.5], [0.0f32, 0.6, 2.9, 3.0]);
                let (vertical, horizontal) = (Axis::linear(h, ys), Axis::linear(w, xs));
                let mut y = vec![0.0; 5 * 4 * channels];
                let mut row = vec![0.0; w * channels];
                resize_linear(isa, &vertical, &horizontal, channels, &x, 0..5, &mut y, &mut row);
                for (i, y) in y.iter().enumerate() {
                    let (c, px, py) = (i % channels, xs[i / channels % 4], ys[i / channels / 4].clamp(0.0, 2.0));
                    let pixel = |y: usize, x_: usize| x[(y.min(h - 1) * w + x_.min(w - 1)) * channels + c];
                    let (iy, ix) = (py as usize, px as usize);
                    let (fy, fx) = (py - iy as f32, px - ix as f32);
                    let upper = pixel(iy, ix) * (1.0 - fx) + pixel(iy, ix + 1) * fx;
                    let lower = pixel(iy + 1, ix) * (1.0 - fx) + pixel(iy + 1, ix + 1) * fx;
                    assert!((y - (upper * (1.0 - fy) + lower * fy)).abs() < 1e-4);
                }
            }
        }
    }
}
