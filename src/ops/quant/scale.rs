//! The arithmetic of linear quantization: one value, and which scale an element has.

use crate::error::{Result, bail, ensure};
use crate::tensor::{DType, Dim, Fact, Tensor, normalize_axis};

/// The least and the greatest value of an integer dtype that is quantized to.
pub(crate) fn range(dtype: DType) -> Result<(i64, i64)> {
    Ok(match dtype {
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        DType::I16 => (-32_768, 32_767),
        DType::U16 => (0, 65_535),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => bail!(InvalidModel, "{dtype} is no dtype of quantized values"),
    })
}

/// Rounds half to even, adds the zero point, saturates. `scaled` is the value in units of the scale.
pub(crate) fn round(scaled: f32, zero_point: i64, (low, high): (i64, i64)) -> i64 {
    (scaled.round_ties_even() as i64).saturating_add(zero_point).clamp(low, high)
}

/// Which scale each element has: one for all, one an index of an axis, or one a block along an axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granularity {
    /// Elements behind the axis.
    inner: usize,
    /// Length of the axis.
    length: usize,
    /// Elements of the axis that share a scale.
    block: usize,
    /// Whether all other axes share scales too.
    along_axis_only: bool,
}

impl Granularity {
    /// How scales of shape `scale` lie on a tensor of shape `shape`; a `block` of 0 means no blocks.
    pub(crate) fn new(shape: &[usize], scale: &[usize], axis: i64, block: usize) -> Result<Self> {
        if scale.iter().all(|&d| d == 1) && block == 0 {
            return Ok(Granularity { inner: 1, length: 1, block: 1, along_axis_only: true });
        }
        let axis = normalize_axis(axis, shape.len())?;
        let inner = shape[axis + 1..].iter().fold(1usize, |n, &d| n.saturating_mul(d)).max(1);
        let length = shape[axis].max(1);
        if block > 0 {
            let mut expected = shape.to_vec();
            expected[axis] = shape[axis].div_ceil(block);
            ensure!(scale == expected, Shape, "scales {scale:?} for blocks of {block} of {shape:?}; need {expected:?}");
            return Ok(Granularity { inner, length, block, along_axis_only: false });
        }
        ensure!(*scale == [shape[axis]], Shape, "scales {scale:?} for axis {axis} of {shape:?}");
        Ok(Granularity { inner, length, block: 1, along_axis_only: true })
    }

    /// The index of the scale of element `index`.
    pub(crate) fn of(&self, index: usize) -> usize {
        let at = index / self.inner % self.length / self.block;
        if self.along_axis_only {
            return at;
        }
        let outer = index / self.inner / self.length;
        (outer * self.length.div_ceil(self.block) + at) * self.inner + index % self.inner
    }
}

/// Refuses a scale that is no float, or that quantizes nothing as [`check`] has it.
pub(crate) fn check_scale(scale: &Fact, blocks: bool) -> Result<()> {
    ensure!(scale.dtype.is_float(), InvalidModel, "the scale is {scale}, not a float");
    check_values(scale, blocks)
}

/// Refuses a scale that quantizes nothing, where it is known: one that is no number, or zero. Exporters give a scale of
/// zero to `blocks` of nothing but zeros.
fn check_values(scale: &Fact, blocks: bool) -> Result<()> {
    let Some(value) = &scale.value else { return Ok(()) };
    for scale in value.to_f32_vec()? {
        ensure!(!scale.is_nan() && (blocks || scale != 0.0), InvalidModel, "a scale is {scale}");
    }
    Ok(())
}

/// Checks scale and zero point against the tensor that they are for; an `i32` may have a scale of its own dtype.
pub(crate) fn check(x: &Fact, scale: &Fact, zero_point: Option<&Fact>, axis: i64, block: usize) -> Result<()> {
    match (x.dtype, scale.dtype) {
        (DType::I32, DType::I32) => check_values(scale, block > 0)?,
        _ => check_scale(scale, block > 0)?,
    }
    if let (Some(scale), Some(zero)) = (scale.dims(), zero_point.and_then(Fact::dims)) {
        let lengths = |dims: &[Dim]| dims.iter().map(Dim::known).collect::<Option<Vec<_>>>();
        if let (Some(scale), Some(zero)) = (lengths(scale), lengths(zero)) {
            let one = |dims: &[usize]| dims.iter().all(|&d| d == 1);
            ensure!(scale == zero || one(&scale) && one(&zero), Shape, "scales {scale:?} with zero points {zero:?}");
        }
    }
    if let (Some(shape), Some(scales)) = (x.dims(), scale.concrete_shape()) {
        // Only the axis of the scales matters here; an unknown length fits whatever they say.
        let known = |(i, d): (usize, &Dim)| {
            let own = normalize_axis(axis, shape.len()).is_ok_and(|a| a == i);
            d.known().unwrap_or(if block == 0 && own { scales.first().copied().unwrap_or(1) } else { 0 })
        };
        let concrete: Vec<usize> = shape.iter().enumerate().map(known).collect();
        if block == 0 || shape.iter().all(|d| d.known().is_some()) {
            Granularity::new(&concrete, &scales, axis, block)?;
        }
    }
    Ok(())
}

/// The elements as `i64`, or one zero where the tensor is absent.
pub(crate) fn zero_points(tensor: Option<&Tensor>) -> Result<Vec<i64>> {
    tensor.map_or_else(|| Ok(vec![0]), Tensor::to_i64_vec)
}

/// Element `index` of a list that holds one number for all, or one for each.
pub(crate) fn one_or_each<T: Copy>(list: &[T], index: usize) -> Result<T> {
    match list {
        [one] => Ok(*one),
        _ => match list.get(index) {
            Some(value) => Ok(*value),
            None => bail!(Shape, "{} scales or zero points, but number {index} is needed", list.len()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_before_the_zero_point() {
        let u8s = (0, 255);
        let cases = [(0.5, 0, 0), (1.5, 0, 2), (2.5, 1, 3), (-0.5, 128, 128), (1e30, 3, 255), (-1e30, 3, 0)];
        for (scaled, zero, expected) in cases {
            assert_eq!(round(scaled, zero, u8s), expected, "{scaled}");
        }
        assert_eq!(round(f32::INFINITY, i64::MAX, (-128, 127)), 127);
    }

    #[test]
    fn scales_lie_along_axes_and_blocks() {
        let each = |g: Granularity| (0..6).map(|i| g.of(i)).collect::<Vec<_>>();
        assert_eq!(each(Granularity::new(&[2, 3], &[], 9, 0).unwrap()), [0; 6]);
        assert_eq!(each(Granularity::new(&[2, 3], &[3], 1, 0).unwrap()), [0, 1, 2, 0, 1, 2]);
        assert_eq!(each(Granularity::new(&[2, 3], &[2], -2, 0).unwrap()), [0, 0, 0, 1, 1, 1]);
        assert_eq!(each(Granularity::new(&[2, 3], &[2, 2], 1, 2).unwrap()), [0, 0, 1, 2, 2, 3]);
        assert_eq!(each(Granularity::new(&[2, 3], &[1, 3], 0, 2).unwrap()), [0, 1, 2, 0, 1, 2]);
        assert!(Granularity::new(&[2, 3], &[2], 1, 0).is_err());
        assert!(Granularity::new(&[2, 3], &[2, 3], 1, 2).is_err());
        assert!(Granularity::new(&[2, 3], &[3], 2, 0).is_err());
    }
}
