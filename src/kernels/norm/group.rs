//! Group normalization; with as many groups as channels it is instance normalization.

use super::super::arch::{Body, Isa, Simd};
use super::affine::scale_shift;
use super::rows::{Center, moments};

/// Normalizes every group of channels of every image; `x` is `[images, channels, plane]`, `scale` and `shift` one
/// value a channel, `groups` a divisor of the channels.
///
/// # Panics
/// Where the lengths differ or do not divide.
#[allow(clippy::too_many_arguments)]
pub fn group_norm(
    isa: Isa,
    groups: usize,
    plane: usize,
    epsilon: f32,
    scale: &[f32],
    shift: &[f32],
    x: &[f32],
    y: &mut [f32],
) {
    let channels = scale.len();
    if y.is_empty() {
        return;
    }
    check(groups, plane, scale, shift, x, y);
    let per_group = channels / groups;
    for (i, (x, y)) in x.chunks_exact(per_group * plane).zip(y.chunks_exact_mut(per_group * plane)).enumerate() {
        let (mean, factor) = isa.dispatch(Moments { x, epsilon });
        let first = i % groups * per_group;
        for (k, (x, y)) in x.chunks_exact(plane).zip(y.chunks_exact_mut(plane)).enumerate() {
            let c = first + k;
            scale_shift(isa, &[scale[c] * factor], &[shift[c] - mean * factor * scale[c]], plane, 0, x, y);
        }
    }
}

/// [`group_norm`] of `x` shaped `[images, plane, channels]`.
///
/// # Panics
/// Where the lengths differ or do not divide.
#[allow(clippy::too_many_arguments)]
pub fn group_norm_channels_last(
    isa: Isa,
    groups: usize,
    plane: usize,
    epsilon: f32,
    scale: &[f32],
    shift: &[f32],
    x: &[f32],
    y: &mut [f32],
) {
    let channels = scale.len();
    if y.is_empty() {
        return;
    }
    check(groups, plane, scale, shift, x, y);
    isa.dispatch(ChannelsLast { per_group: channels / groups, plane, epsilon, scale, shift, x, y });
}

fn check(groups: usize, plane: usize, scale: &[f32], shift: &[f32], x: &[f32], y: &[f32]) {
    let channels = scale.len();
    assert!(x.len() == y.len() && channels == shift.len(), "lengths agree");
    assert!(groups > 0 && channels > 0 && channels.is_multiple_of(groups), "groups divide the channels");
    assert!(plane > 0 && y.len().is_multiple_of(plane * channels), "the input is whole images");
}

/// The mean and `1 / sqrt(var + epsilon)` of a slice.
struct Moments<'a> {
    x: &'a [f32],
    epsilon: f32,
}

impl Body for Moments<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        // SAFETY: the slice holds its elements.
        unsafe { moments(s, self.x.as_ptr(), self.x.len(), Center::Mean, self.epsilon) }
    }
}

/// A vector of channels at a time, down the plane; a group's lanes and vectors are summed when it has several channels.
struct ChannelsLast<'a> {
    per_group: usize,
    plane: usize,
    epsilon: f32,
    scale: &'a [f32],
    shift: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Body for ChannelsLast<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ChannelsLast { per_group, plane, epsilon, scale, shift, x, y } = self;
        let channels = scale.len();
        let image = plane * channels;
        // Channels that share a step: a vector of independent ones, or one group.
        let width = if per_group == 1 { S::LANES } else { per_group };
        let count = if per_group == 1 { plane as f32 } else { (plane * per_group) as f32 };
        let per_element = s.splat(1.0 / count);
        for (x, y) in x.chunks_exact(image).zip(y.chunks_exact_mut(image)) {
            for from in (0..channels).step_by(width) {
                let to = (from + width).min(channels);
                let sum = column_sum(s, x, from, to, channels, s.splat(0.0), false);
                let mean = s.mul(if per_group == 1 { sum } else { s.splat(s.sum(sum)) }, per_element);
                let squares = column_sum(s, x, from, to, channels, mean, true);
                let variance = s.mul(if per_group == 1 { squares } else { s.splat(s.sum(squares)) }, per_element);
                let factor = s.div(s.splat(1.0), s.sqrt(s.add(variance, s.splat(epsilon))));
                for c in (from..to).step_by(S::LANES) {
                    let n = (to - c).min(S::LANES);
                    // SAFETY: n channels from c on exist in every pixel, scale and shift.
                    unsafe {
                        let a = s.mul(s.load_part(scale.as_ptr().add(c), n), factor);
                        let b = s.fnma(mean, a, s.load_part(shift.as_ptr().add(c), n));
                        for p in 0..plane {
                            let at = p * channels + c;
                            s.store_part(y.as_mut_ptr().add(at), n, s.fma(s.load_part(x.as_ptr().add(at), n), a, b));
                        }
                    }
                }
            }
        }
    }
}

/// The sum of `x - center`, or of its squares, down the pixels: lane by lane over channels `from..to`, its vectors added.
#[inline(always)]
fn column_sum<S: Simd>(
    s: S,
    x: &[f32],
    from: usize,
    to: usize,
    channels: usize,
    center: S::F32,
    squared: bool,
) -> S::F32 {
    let mut sum = s.splat(0.0);
    for pixel in x.chunks_exact(channels) {
        for c in (from..to).step_by(S::LANES) {
            let n = (to - c).min(S::LANES);
            // SAFETY: n channels from c on exist in the pixel.
            let d = s.sub(unsafe { s.load_part(pixel.as_ptr().add(c), n) }, center);
            let d = s.select(s.first(n), d, s.splat(0.0));
            sum = if squared { s.fma(d, d, sum) } else { s.add(sum, d) };
        }
    }
    sum
}
