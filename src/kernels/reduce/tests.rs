//! Against f64, along every axis.

use super::super::arch::Isa;
use super::*;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 2003) as f32 / 500.0 - 1.7).collect()
}

fn reference(reduction: Reduction, z: &[f64]) -> f64 {
    let sum: f64 = z.iter().sum();
    let squares: f64 = z.iter().map(|z| z * z).sum();
    match reduction {
        Reduction::Sum => sum,
        Reduction::Mean => sum / z.len() as f64,
        Reduction::Max => z.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduction::Min => z.iter().copied().fold(f64::INFINITY, f64::min),
        Reduction::Prod => z.iter().product(),
        Reduction::L1 => z.iter().map(|z| z.abs()).sum(),
        Reduction::L2 => squares.sqrt(),
        Reduction::SumSquare => squares,
        Reduction::LogSum => sum.ln(),
        Reduction::LogSumExp => z.iter().map(|z| z.exp()).sum::<f64>().ln(),
    }
}

const ALL: [Reduction; 10] = [
    Reduction::Sum,
    Reduction::Mean,
    Reduction::Max,
    Reduction::Min,
    Reduction::Prod,
    Reduction::L1,
    Reduction::L2,
    Reduction::SumSquare,
    Reduction::LogSum,
    Reduction::LogSumExp,
];

#[test]
fn every_axis_is_folded() {
    let shapes =
        [(1, 1, 1), (3, 5, 1), (2, 17, 1), (2, 200, 1), (2, 5, 3), (1, 9, 40), (2, 4, 16), (1, 0, 1), (2, 0, 3)];
    for isa in Isa::available() {
        for reduction in ALL {
            for (outer, n, inner) in shapes {
                let x = numbers(outer * n * inner);
                let mut y = vec![0.0; outer * inner];
                reduce(isa, reduction, n, inner, &x, &mut y);
                for (i, &y) in y.iter().enumerate() {
                    let at = |k: usize| (i / inner * n + k) * inner + i % inner;
                    let z: Vec<f64> = (0..n).map(|k| f64::from(x[at(k)])).collect();
                    let e = reference(reduction, &z);
                    let size: f64 = z.iter().map(|z| z.abs()).sum::<f64>() + 1.0;
                    let close = (f64::from(y) - e).abs() <= 1e-6 * size + 1e-5 * e.abs() || f64::from(y) == e;
                    let sum: f64 = z.iter().sum();
                    let delicate = reduction == Reduction::LogSum && (sum.abs() < 1e-2 || e.is_nan());
                    assert!(
                        close || delicate || y.is_nan() && e.is_nan(),
                        "{reduction:?} of {n} x {inner}: {y}, not {e}"
                    );
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_are_not_lost() {
    for isa in Isa::available() {
        for n in [3, 20, 70] {
            for at in [0, n / 2, n - 1] {
                let mut x = numbers(n);
                x[at] = f32::NAN;
                let mut y = [0.0];
                for reduction in ALL {
                    reduce(isa, reduction, n, 1, &x, &mut y);
                    assert!(y[0].is_nan(), "{reduction:?} with NaN at {at} of {n}: {}", y[0]);
                }
                x[at] = 200.0;
                reduce(isa, Reduction::LogSumExp, n, 1, &x, &mut y);
                assert_eq!(y[0], 200.0);
                x.fill(f32::NEG_INFINITY);
                reduce(isa, Reduction::LogSumExp, n, 1, &x, &mut y);
                assert_eq!(y[0], f32::NEG_INFINITY);
            }
        }
        let (x, mut y) = ([f32::NAN, 1.0, 2.0, 3.0], [0.0; 2]);
        reduce(isa, Reduction::Max, 2, 2, &x, &mut y);
        assert!(y[0].is_nan() && y[1] == 3.0);
    }
}

#[test]
fn running_sums_go_either_way() {
    let x = [1i32, 2, 3, 10, 20, 30];
    let mut y = [0; 6];
    for (exclusive, reverse, n, inner, expected) in [
        (false, false, 3, 1, [1, 3, 6, 10, 30, 60]),
        (true, false, 3, 1, [0, 1, 3, 0, 10, 30]),
        (false, true, 3, 1, [6, 5, 3, 60, 50, 30]),
        (true, true, 3, 2, [23, 40, 20, 30, 0, 0]),
    ] {
        running_sum(exclusive, reverse, n, inner, &x, &mut y);
        assert_eq!(y, expected);
    }
}

#[test]
fn places_of_extremes() {
    let x = [3.0f32, 1.0, 3.0, f32::NAN, 7.0, f32::NAN];
    let mut y = [0; 2];
    arg_extreme(true, false, 3, 1, &x, &mut y);
    assert_eq!(y, [0, 0]);
    arg_extreme(true, true, 3, 1, &x, &mut y);
    assert_eq!(y, [2, 2]);
    let mut y = [0; 3];
    arg_extreme(false, false, 2, 3, &[5i64, 5, 1, 4, 6, 1], &mut y);
    assert_eq!(y, [1, 0, 0]);
    arg_extreme(false, true, 2, 3, &[5i64, 5, 1, 4, 6, 1], &mut y);
    assert_eq!(y, [1, 0, 1]);
}
