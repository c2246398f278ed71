//! Group normalization; with as many groups as channels it is instance normalization.

use super::super::arch::{Body, Isa, Simd};
use super::rows::{Center, moments};

/// Normalizes every group of channels of every image; `x` is `[images, channels, plane]`, `scale` and `shift` one
/// value a channel, `groups` a divisor of the channels. The slices begin with group `start` of an image.
///
/// # Panics
/// Where the lengths differ or do not divide.
#[allow(clippy::too_many_arguments)]
pub fn group_norm(
    isa: Isa,
    groups: usize,
    start: usize,
    plane: usize,
    epsilon: f32,
    scale: &[f32],
    shift: &[f32],
    x: &[f32],
    y: &mut [f32],
) {
    if y.is_empty() {
        return;
    }
    check(groups, plane, scale, shift, x, y);
    let per_group = scale.len() / groups;
    for (i, (x, y)) in x.chunks_exact(per_group * plane).zip(y.chunks_exact_mut(per_group * plane)).enumerate() {
        let (mean, factor) = isa.dispatch(Moments { x, epsilon });
        let first = (start + i) % groups * per_group;
        for (k, (x, y)) in x.chunks_exact(plane).zip(y.chunks_exact_mut(plane)).enumerate() {
            let c = first + k;
            isa.dispatch(Finish { mean: &[mean], factor: &[scale[c] * factor], shift: &shift[c..=c], x, y });
        }
    }
}

/// [`group_norm`] of whole images `x` shaped `[images, plane, channels]`; `work` holds two numbers for each channel.
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
    work: &mut [f32],
) {
    if y.is_empty() {
        return;
    }
    let channels = scale.len();
    check(groups, plane, scale, shift, x, y);
    assert!(y.len().is_multiple_of(plane * channels) && work.len() >= 2 * channels, "whole images, and room to sum in");
    let per_group = channels / groups;
    let count = (plane * per_group) as f32;
    let (first, second) = work.split_at_mut(channels);
    let second = &mut second[..channels];
    for (x, y) in x.chunks_exact(plane * channels).zip(y.chunks_exact_mut(plane * channels)) {
        isa.dispatch(ColumnSums { x, center: None, sums: first });
        together(first, per_group, count);
        isa.dispatch(ColumnSums { x, center: Some(first), sums: second });
        together(second, per_group, count);
        for (variance, scale) in second.iter_mut().zip(scale) {
            *variance = scale / (*variance + epsilon).sqrt();
        }
        isa.dispatch(Finish { mean: first, factor: second, shift, x, y });
    }
}

fn check(groups: usize, plane: usize, scale: &[f32], shift: &[f32], x: &[f32], y: &[f32]) {
    let channels = scale.len();
    assert!(x.len() == y.len() && channels == shift.len(), "lengths agree");
    assert!(groups > 0 && channels > 0 && channels.is_multiple_of(groups), "groups divide the channels");
    assert!(plane > 0 && y.len().is_multiple_of(plane * (channels / groups)), "the input is whole groups");
}

/// Each channel's sum becomes its group's mean.
fn together(sums: &mut [f32], per_group: usize, count: f32) {
    for group in sums.chunks_exact_mut(per_group) {
        let mean = group.iter().sum::<f32>() / count;
        group.fill(mean);
    }
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

/// `(x - mean) * factor + shift` of each channel, which runs along `x`; a lone channel is all of it. The mean is taken off
/// first: beside a large one little would be left of what varies.
struct Finish<'a> {
    mean: &'a [f32],
    factor: &'a [f32],
    shift: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Body for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Finish { mean, factor, shift, x, y } = self;
        let channels = mean.len().min(factor.len()).min(shift.len());
        let lone = channels == 1;
        let run = if lone { x.len() } else { channels };
        if run == 0 {
            return;
        }
        let first = |of: &[f32]| s.splat(of[0]);
        let [mean_all, factor_all, shift_all] = [first(mean), first(factor), first(shift)];
        for (x, y) in x.chunks_exact(run).zip(y.chunks_exact_mut(run)) {
            for i in (0..run).step_by(S::LANES) {
                let n = (run - i).min(S::LANES);
                // SAFETY: n elements follow i in the run, and n channels where channels run along it.
                unsafe {
                    let (mean, factor, shift) = if lone {
                        (mean_all, factor_all, shift_all)
                    } else {
                        let at = |of: &[f32]| s.load_part(of.as_ptr().add(i), n);
                        (at(mean), at(factor), at(shift))
                    };
                    let centered = s.sub(s.load_part(x.as_ptr().add(i), n), mean);
                    s.store_part(y.as_mut_ptr().add(i), n, s.fma(centered, factor, shift));
                }
            }
        }
    }
}

/// The sum of each channel of an image `x`, or of the squares of its distance from `center`.
struct ColumnSums<'a> {
    x: &'a [f32],
    center: Option<&'a [f32]>,
    sums: &'a mut [f32],
}

impl Body for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ColumnSums { x, center, sums } = self;
        let channels = sums.len();
        for c in (0..channels).step_by(4 * S::LANES) {
            let n = (channels - c).min(4 * S::LANES);
            // SAFETY: n channels from c on exist in every pixel, in the sums, and in the center, which is as long.
            unsafe {
                let center = center.map(|center| center[..channels].as_ptr().add(c));
                let sums = sums.as_mut_ptr().add(c);
                if n == 4 * S::LANES {
                    let full = [S::LANES; 4];
                    column_sums(s, x, channels, c, &full, center, sums);
                } else {
                    let rest = [n.min(S::LANES), part::<S>(n, 1), part::<S>(n, 2), part::<S>(n, 3)];
                    column_sums(s, x, channels, c, &rest[..n.div_ceil(S::LANES)], center, sums);
                }
            }
        }
    }
}

/// How many of `n` channels fall into vector `k`.
fn part<S: Simd>(n: usize, k: usize) -> usize {
    n.saturating_sub(k * S::LANES).min(S::LANES)
}

/// The sums of up to four vectors of channels from `c` on, `lanes` of each.
///
/// # Safety
/// So many channels from `c` on exist in every pixel of `x`, at `center` and at `sums`.
#[inline(always)]
unsafe fn column_sums<S: Simd>(
    s: S,
    x: &[f32],
    channels: usize,
    c: usize,
    lanes: &[usize],
    center: Option<*const f32>,
    sums: *mut f32,
) {
    let mut total = [s.splat(0.0); 4];
    let mut middle = [s.splat(0.0); 4];
    // SAFETY: as the caller promises.
    unsafe {
        if let Some(center) = center {
            for (k, &n) in lanes.iter().enumerate() {
                middle[k] = s.load_part(center.add(k * S::LANES), n);
            }
        }
        for pixel in x.chunks_exact(channels) {
            let pixel = pixel.as_ptr().add(c);
            for (k, &n) in lanes.iter().enumerate() {
                let v = s.load_part(pixel.add(k * S::LANES), n);
                if center.is_some() {
                    let d = s.sub(v, middle[k]);
                    total[k] = s.fma(d, d, total[k]);
                } else {
                    total[k] = s.add(total[k], v);
                }
            }
        }
        for (k, &n) in lanes.iter().enumerate() {
            s.store_part(sums.add(k * S::LANES), n, total[k]);
        }
    }
}
