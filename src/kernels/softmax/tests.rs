//! Against f64, with masks and tails, and the same bits wherever a row stands.

use super::super::arch::Isa;
use super::*;

fn reference(form: Form, z: &[f64]) -> Vec<f64> {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| (z - top).exp()).sum();
    let one = |z: &f64| match form {
        Form::Softmax => (z - top).exp() / sum,
        Form::LogSoftmax => z - top - sum.ln(),
    };
    z.iter().map(one).collect()
}

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 100.0 - 10.0).collect()
}

fn check(y: &[f32], expected: &[f64], what: &str) {
    for (&y, &e) in y.iter().zip(expected) {
        assert!((f64::from(y) - e).abs() <= 2e-6 + 4e-7 * e.abs(), "{y} is not {e}: {what}");
    }
}

#[test]
fn rows_sum_to_one() {
    for isa in Isa::available() {
        for form in [Form::Softmax, Form::LogSoftmax] {
            for cols in [1, 2, 3, 4, 8, 15, 16, 17, 33, 100, 500] {
                for rows in [0, 1, 5] {
                    let x = numbers(rows * cols, 1);
                    let masks = numbers(2 * cols, 2);
                    let mask = Mask { data: &masks, repeat: 2 };
                    let (mut plain, mut masked) = (vec![0.0; x.len()], x.clone());
                    softmax(isa, form, cols, 1.0, None, 0, &x, &mut plain);
                    softmax_in_place(isa, form, cols, 0.3, Some(mask), 0, &mut masked);
                    for r in 0..rows {
                        let row = r * cols..(r + 1) * cols;
                        let z: Vec<f64> = x[row.clone()].iter().map(|&x| f64::from(x)).collect();
                        check(&plain[row.clone()], &reference(form, &z), "plain");
                        let m = &masks[r / 2 % 2 * cols..][..cols];
                        let z: Vec<f64> = z.iter().zip(m).map(|(z, &m)| z * f64::from(0.3f32) + f64::from(m)).collect();
                        check(&masked[row.clone()], &reference(form, &z), "masked");
                        let mut alone = vec![0.0; cols];
                        softmax(isa, form, cols, 0.3, Some(mask), r, &x[row.clone()], &mut alone);
                        assert_eq!(alone, masked[row], "a row does not know its neighbors");
                    }
                }
            }
        }
    }
}

#[test]
fn short_rows_do_not_know_their_neighbors() {
    for isa in Isa::available() {
        for form in [Form::Softmax, Form::LogSoftmax] {
            for cols in 1..16 {
                for rows in [15, 16, 17, 40] {
                    let x = numbers(rows * cols, 4);
                    let (mut all, mut in_place) = (vec![f32::NAN; x.len()], x.clone());
                    softmax(isa, form, cols, 0.7, None, 0, &x, &mut all);
                    softmax_in_place(isa, form, cols, 0.7, None, 0, &mut in_place);
                    assert_eq!(all, in_place);
                    for (x, y) in x.chunks_exact(cols).zip(all.chunks_exact(cols)) {
                        let z: Vec<f64> = x.iter().map(|&x| f64::from(x) * f64::from(0.7f32)).collect();
                        check(y, &reference(form, &z), "short");
                        let mut alone = vec![0.0; cols];
                        softmax(isa, form, cols, 0.7, None, 0, x, &mut alone);
                        assert_eq!(alone, y);
                    }
                }
            }
        }
    }
}

#[test]
fn columns_do_as_rows_do() {
    for isa in Isa::available() {
        for form in [Form::Softmax, Form::LogSoftmax] {
            for (outer, n, inner) in [(1, 1, 1), (2, 5, 3), (3, 7, 16), (1, 4, 37), (2, 3, 0), (0, 3, 2)] {
                let x = numbers(outer * n * inner, 3);
                let mut y = vec![0.0; x.len()];
                softmax_columns(isa, form, n, inner, &x, &mut y);
                for (o, c) in (0..outer).flat_map(|o| (0..inner).map(move |c| (o, c))) {
                    let at = |k: usize| (o * n + k) * inner + c;
                    let z: Vec<f64> = (0..n).map(|k| f64::from(x[at(k)])).collect();
                    let column: Vec<f32> = (0..n).map(|k| y[at(k)]).collect();
                    check(&column, &reference(form, &z), "column");
                }
            }
        }
    }
}

#[test]
fn infinities_mask_and_nan_spreads() {
    let low = f32::NEG_INFINITY;
    for isa in Isa::available() {
        let mut y = [1.0, low, 1.0, low, f32::NAN, 0.0, 0.0, 0.0, low, low, low, low];
        softmax_in_place(isa, Form::Softmax, 4, 1.0, None, 0, &mut y);
        assert_eq!(y[..4], [0.5, 0.0, 0.5, 0.0]);
        assert!(y[4..].iter().all(|y| y.is_nan()));
    }
}
