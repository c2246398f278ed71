//! The matrix product that every reference evaluation of this crate ends in: row-major, accumulated wide.
//!
//! Floats are summed in `f64`, so the result is the true sum to the last bit of `f32`; integers wrap in `i64`, whose
//! low bits are those of any narrower wrapping sum. Sums of products of bytes are exact in `f64` too.

/// What a product is accumulated in.
pub(crate) trait Wide: Copy {
    /// `self + a * b`.
    fn plus_product(self, a: Self, b: Self) -> Self;
    /// `self + a`.
    fn plus(self, a: Self) -> Self;
    /// `sums[j] += factors[0] * terms[0][j] + .. + factors[3] * terms[3][j]`, one after the other.
    fn add_four(sums: &mut [Self], factors: [Self; 4], terms: [&[Self]; 4]);
}

macro_rules! wide {
    ($t:ty, |$sum:ident, $a:ident, $b:ident| $plus_product:expr, $plus:expr) => {
        impl Wide for $t {
            #[inline]
            fn plus_product(self, $a: Self, $b: Self) -> Self {
                let $sum = self;
                $plus_product
            }

            #[inline]
            fn plus(self, $a: Self) -> Self {
                let $sum = self;
                $plus
            }

            // Whole models are evaluated in builds without optimization, where a plain loop over indices is several
            // times as fast as iterators.
            fn add_four(sums: &mut [Self], factors: [Self; 4], terms: [&[Self]; 4]) {
                let n = sums.len();
                let [f0, f1, f2, f3] = factors;
                let [t0, t1, t2, t3] = terms.map(|t| &t[..n]);
                let mut j = 0;
                while j < n {
                    let $sum = sums[j];
                    let ($a, $b) = (f0, t0[j]);
                    let $sum = $plus_product;
                    let ($a, $b) = (f1, t1[j]);
                    let $sum = $plus_product;
                    let ($a, $b) = (f2, t2[j]);
                    let $sum = $plus_product;
                    let ($a, $b) = (f3, t3[j]);
                    sums[j] = $plus_product;
                    j += 1;
                }
            }
        }
    };
}

wide!(f64, |sum, a, b| sum + a * b, sum + a);
wide!(i64, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b)), sum.wrapping_add(a));

/// Columns worked on at a time: a row of `b` and of `c` stay in the first cache.
const COLUMNS: usize = 512;

/// `c[m, n] += a[m, k] * b[k, n]`, all row-major and dense. Each sum runs over `k` in order.
pub(crate) fn multiply_add<T: Wide>(m: usize, k: usize, n: usize, a: &[T], b: &[T], c: &mut [T]) {
    for start in (0..n).step_by(COLUMNS) {
        let end = (start + COLUMNS).min(n);
        for row in 0..m {
            let sums = &mut c[row * n + start..row * n + end];
            let factors = &a[row * k..(row + 1) * k];
            let terms = |step: usize| &b[step * n + start..step * n + end];
            let fours = factors.chunks_exact(4);
            let rest = k - fours.remainder().len();
            for (four, f) in fours.enumerate() {
                let step = 4 * four;
                let four = [terms(step), terms(step + 1), terms(step + 2), terms(step + 3)];
                T::add_four(sums, [f[0], f[1], f[2], f[3]], four);
            }
            for (step, &factor) in factors.iter().enumerate().skip(rest) {
                for (sum, &term) in sums.iter_mut().zip(terms(step)) {
                    *sum = sum.plus_product(factor, term);
                }
            }
        }
    }
}

/// The transpose of a row-major `[rows, columns]`.
pub(crate) fn transpose<T: Copy>(rows: usize, columns: usize, values: &[T]) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_to_what_is_there() {
        let mut c = [1.0, 1.0, 1.0, 1.0];
        multiply_add(2, 3, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &mut c);
        assert_eq!(c, [5.0, 6.0, 11.0, 12.0]);
    }

    #[test]
    fn any_depth_is_summed() {
        for k in 0..10 {
            let ramp: Vec<i64> = (0..k as i64).collect();
            let mut c = [0];
            multiply_add(1, k, 1, &ramp, &ramp, &mut c);
            assert_eq!(c, [ramp.iter().map(|v| v * v).sum::<i64>()]);
        }
    }

    #[test]
    fn integers_wrap() {
        let mut c = [i64::MAX];
        multiply_add(1, 1, 1, &[1], &[1], &mut c);
        assert_eq!(c, [i64::MIN]);
    }

    #[test]
    fn wide_rows_are_cut_into_blocks() {
        let n = COLUMNS + 3;
        let b: Vec<i64> = (0..2 * n as i64).collect();
        let mut c = vec![0; n];
        multiply_add(1, 2, n, &[1, 2], &b, &mut c);
        assert!(c.iter().enumerate().all(|(j, &v)| v == (j + 2 * (n + j)) as i64));
        assert_eq!(transpose(2, 3, &[1, 2, 3, 4, 5, 6]), [1, 4, 2, 5, 3, 6]);
    }
}
