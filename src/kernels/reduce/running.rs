//! Running sums along an axis.

/// A number with the total that its sums are kept in.
pub trait Addend: Copy {
    /// Wide enough for many of them, or wrapping as they do.
    type Total: Copy + Default;
    /// `total + self`.
    #[must_use]
    fn added_to(self, total: Self::Total) -> Self::Total;
    /// The total in the type of the addends.
    #[must_use]
    fn of(total: Self::Total) -> Self;
}

macro_rules! addends {
    ($($t:ty, $total:ty, |$v:ident, $sum:ident| $add:expr;)*) => { $(
        impl Addend for $t {
            type Total = $total;
            #[inline(always)]
            fn added_to(self, $sum: $total) -> $total {
                let $v = self;
                $add
            }
            #[inline(always)]
            fn of(total: $total) -> Self {
                total as $t
            }
        }
    )* };
}

addends! {
    f32, f64, |v, sum| sum + f64::from(v);
    i32, i64, |v, sum| sum.wrapping_add(i64::from(v));
    i64, i64, |v, sum| sum.wrapping_add(v);
}

/// The sums of the elements up to each one along the middle axis of `x`, shaped `[outer, n, inner]` as `y` is: those
/// before it alone where they are `exclusive`, and from the end where they are in `reverse`.
///
/// # Panics
/// Where the lengths do not fit together.
pub fn running_sum<T: Addend>(exclusive: bool, reverse: bool, n: usize, inner: usize, x: &[T], y: &mut [T]) {
    if y.is_empty() {
        return;
    }
    assert!(n > 0 && inner > 0 && y.len().is_multiple_of(n * inner), "the output is whole lines");
    assert_eq!(x.len(), y.len(), "the input has the axis");
    for (x, y) in x.chunks_exact(n * inner).zip(y.chunks_exact_mut(n * inner)) {
        for column in 0..inner {
            let mut sum = T::Total::default();
            for step in 0..n {
                let at = (if reverse { n - 1 - step } else { step }) * inner + column;
                let after = x[at].added_to(sum);
                y[at] = T::of(if exclusive { sum } else { after });
                sum = after;
            }
        }
    }
}
