//! The discrete Fourier transform of one row: by halves where its length is a power of two, otherwise through a
//! convolution of such a length (Bluestein, 1970).

use std::f64::consts::PI;

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) fn new(re: f64, im: f64) -> Self {
        Complex { re, im }
    }

    fn turned(angle: f64) -> Self {
        Complex::new(angle.cos(), angle.sin())
    }

    fn plus(self, other: Self) -> Self {
        Complex::new(self.re + other.re, self.im + other.im)
    }

    fn minus(self, other: Self) -> Self {
        Complex::new(self.re - other.re, self.im - other.im)
    }

    fn times(self, other: Self) -> Self {
        Complex::new(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)
    }

    pub(super) fn conjugate(self) -> Self {
        Complex::new(self.re, -self.im)
    }

    fn scaled(self, factor: f64) -> Self {
        Complex::new(self.re * factor, self.im * factor)
    }
}

/// The transform of a row, `y[k] = sum of x[n] * exp(-2 pi i k n / len)`; inverse, with the opposite sign and divided
/// by the length.
pub(super) fn transform(row: &[Complex], inverse: bool) -> Vec<Complex> {
    if inverse {
        let mirrored: Vec<Complex> = row.iter().map(|v| v.conjugate()).collect();
        let factor = 1.0 / row.len().max(1) as f64;
        return transform(&mirrored, false).into_iter().map(|v| v.conjugate().scaled(factor)).collect();
    }
    match row.len() {
        0 | 1 => row.to_vec(),
        n if n.is_power_of_two() => by_halves(row),
        _ => by_convolution(row),
    }
}

/// Cooley and Tukey (1965), from the bottom up.
fn by_halves(row: &[Complex]) -> Vec<Complex> {
    let n = row.len();
    let bits = n.trailing_zeros();
    let mut out: Vec<Complex> = (0..n).map(|i| row[i.reverse_bits() >> (usize::BITS - bits)]).collect();
    let twiddles: Vec<Complex> = (0..n / 2).map(|k| Complex::turned(-2.0 * PI * k as f64 / n as f64)).collect();
    let mut half = 1;
    while half < n {
        for block in out.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (k, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let turned = b.times(twiddles[k * (n / (2 * half))]);
                (*a, *b) = (a.plus(turned), a.minus(turned));
            }
        }
        half *= 2;
    }
    out
}

/// With `kn = (k^2 + n^2 - (k - n)^2) / 2` the transform is a convolution with a chirp.
fn by_convolution(row: &[Complex]) -> Vec<Complex> {
    let n = row.len();
    let len = (2 * n - 1).next_power_of_two();
    // The square is taken modulo the period, which keeps the angle small and exact.
    let chirp: Vec<Complex> =
        (0..n as u128).map(|k| Complex::turned(-PI * ((k * k) % (2 * n as u128)) as f64 / n as f64)).collect();
    let mut signal = vec![Complex::default(); len];
    let mut filter = vec![Complex::default(); len];
    for (k, turn) in chirp.iter().enumerate() {
        signal[k] = row[k].times(*turn);
        filter[k] = turn.conjugate();
        filter[(len - k) % len] = turn.conjugate();
    }
    let product: Vec<Complex> =
        by_halves(&signal).into_iter().zip(by_halves(&filter)).map(|(a, b)| a.times(b)).collect();
    let convolved = transform(&product, true);
    chirp.iter().zip(convolved).map(|(turn, v)| turn.times(v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_the_definition() {
        for n in [0usize, 1, 2, 3, 5, 8, 12, 17, 32] {
            let row: Vec<Complex> = (0..n).map(|i| Complex::new((i * i % 7) as f64, (i % 3) as f64)).collect();
            let naive = |k: usize| {
                let term =
                    |(i, v): (usize, &Complex)| v.times(Complex::turned(-2.0 * PI * (i * k % n) as f64 / n as f64));
                row.iter().enumerate().map(term).fold(Complex::default(), Complex::plus)
            };
            let transformed = transform(&row, false);
            let near = |a: Complex, b: Complex| (a.re - b.re).abs() + (a.im - b.im).abs() < 1e-9;
            assert!((0..n).all(|k| near(transformed[k], naive(k))), "length {n}");
            assert!(transform(&transformed, true).into_iter().zip(&row).all(|(a, &b)| near(a, b)), "length {n}");
        }
    }
}
