//! Where an axis has its largest or smallest element.

/// The index of the largest (`max`) or smallest element along the middle axis of `x`, shaped `[outer, n, inner]`, into
/// `y`, shaped `[outer, inner]`: the first of equals, or the `last`. A NaN is more extreme than any number.
///
/// # Panics
/// Where the lengths do not fit together or `n` is 0.
pub fn arg_extreme<T: Copy + PartialOrd>(max: bool, last: bool, n: usize, inner: usize, x: &[T], y: &mut [i64]) {
    if y.is_empty() {
        return;
    }
    assert!(n > 0 && inner > 0 && y.len().is_multiple_of(inner), "the axis has an element");
    assert_eq!(x.len() / n, y.len(), "the input has the axis");
    #[allow(clippy::eq_op)]
    let is_nan = |x: T| x != x;
    let beats = |new: T, best: T| {
        if is_nan(best) {
            return last && is_nan(new);
        }
        let strictly = if max { new > best } else { new < best };
        strictly || is_nan(new) || last && new == best
    };
    for (o, y) in y.chunks_exact_mut(inner).enumerate() {
        let x = &x[o * n * inner..(o + 1) * n * inner];
        for (c, y) in y.iter_mut().enumerate() {
            let (mut best, mut at) = (x[c], 0);
            for k in 1..n {
                let new = x[k * inner + c];
                if beats(new, best) {
                    (best, at) = (new, k);
                }
            }
            *y = at as i64;
        }
    }
}
