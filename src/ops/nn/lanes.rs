//! Walking a row-major tensor along one of its axes.

/// Calls `f` on each run of elements along `axis`, in place.
pub(super) fn for_each_lane(values: &mut [f64], shape: &[usize], axis: usize, mut f: impl FnMut(&mut [f64])) {
    let (length, inner) = (shape[axis], shape[axis + 1..].iter().fold(1usize, |n, &d| n.saturating_mul(d)));
    if values.is_empty() {
        return;
    }
    let mut lane = vec![0.0; length];
    for block in values.chunks_exact_mut(length * inner) {
        for offset in 0..inner {
            for (slot, value) in lane.iter_mut().zip(block[offset..].iter().step_by(inner)) {
                *slot = *value;
            }
            f(&mut lane);
            for (value, slot) in block[offset..].iter_mut().step_by(inner).zip(&lane) {
                *value = *slot;
            }
        }
    }
}

/// Mean and variance (of the population) of a run of elements.
pub(super) fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_run_along_the_axis() {
        let mut values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        for_each_lane(&mut values, &[2, 3], 0, |lane| lane.reverse());
        assert_eq!(values, [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        for_each_lane(&mut values, &[2, 3], 1, |lane| lane.reverse());
        assert_eq!(values, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
        for_each_lane(&mut [], &[0, 3], 1, |_| panic!("no lanes"));
    }
}
