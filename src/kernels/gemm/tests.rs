//! f32 products against f64, on every instruction set, for every number of rows, columns and words of a few tiles.

use super::super::arch::Isa;
use super::super::view::{Matrix, MatrixMut};
use super::*;

/// Numbers in [-1, 1), the same on every run.
pub(crate) fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.f32() * 2.0 - 1.0).collect()
}

fn reference(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize), a_stride: usize) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        out[i * n + j] = (0..k).map(|k| f64::from(a[i * a_stride + k]) * f64::from(b[k * n + j])).sum();
    }
    out
}

fn close(actual: f32, expected: f64) -> bool {
    (f64::from(actual) - expected).abs() <= 1e-5 * (1.0 + expected.abs())
}

/// Runs a product whose slices end where their last element does, with gaps between rows that must stay as they are.
fn check(isa: Isa, (m, k, n): (usize, usize, usize)) {
    let (a_stride, out_stride) = (k + 3, n + 2);
    let a = numbers((m - 1) * a_stride + k, 1);
    let b = numbers(k * n, 2);
    let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
    let bias = numbers(n, 3);
    let mut out = vec![7.0; (m - 1) * out_stride + n];
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    gemm(isa, Matrix::new(&a, m, k, a_stride), &packed, MatrixMut::new(&mut out, m, n, out_stride), &epilogue);
    let expected = reference(&a, &b, (m, k, n), a_stride);
    for (at, &x) in out.iter().enumerate() {
        let (row, column) = (at / out_stride, at % out_stride);
        if column < n {
            let expected = expected[row * n + column] + f64::from(bias[column]);
            assert!(close(x, expected), "{} {m}x{k}x{n} [{row}, {column}]: {x}, not {expected}", isa.name());
        } else {
            assert_eq!(x, 7.0, "{} {m}x{k}x{n} wrote between the rows", isa.name());
        }
    }
}

#[test]
fn every_size_of_a_few_tiles() {
    for isa in Isa::available() {
        for m in 1..=26 {
            for n in [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 130] {
                check(isa, (m, 5, n));
            }
        }
        for n in 1..=70 {
            [1, 4, 12, 13].into_iter().for_each(|m| check(isa, (m, 7, n)));
        }
        for k in 0..=20 {
            [(1, 40), (13, 33), (6, 8), (49, 13), (98, 43)].into_iter().for_each(|(m, n)| check(isa, (m, k, n)));
        }
        check(isa, (30, 300, 150));
    }
}

#[test]
fn a_row_never_depends_on_its_neighbors() {
    for isa in Isa::available() {
        for (m, k, n, most) in [(29, 61, 200, 14), (51, 30, 13, 51), (100, 6, 75, 4)] {
            let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
            let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
            for activation in [Activation::None, Activation::Silu] {
                let epilogue = Epilogue { bias: Some(&bias), activation, ..Epilogue::default() };
                let mut whole = vec![0.0; m * n];
                gemm(isa, Matrix::dense(&a, m, k), &packed, MatrixMut::dense(&mut whole, m, n), &epilogue);
                for (first, count) in
                    (0..m).flat_map(|first| (1..=(m - first).min(most)).map(move |count| (first, count)))
                {
                    let mut part = vec![0.0; count * n];
                    let rows = Matrix::dense(&a[first * k..], count, k);
                    gemm(isa, rows, &packed, MatrixMut::dense(&mut part, count, n), &epilogue);
                    assert_eq!(part, whole[first * n..][..count * n], "{} rows {first}+{count}", isa.name());
                }
            }
        }
    }
}

#[test]
fn even_rows_in_chunks_have_the_same_bits() {
    for isa in Isa::available() {
        // Rows 4 KiB and 8 KiB apart, and a length that fills no chunk in rows of two blocks.
        for (k, stride) in [(1024, 1024), (1700, 2048), (4100, 4101)] {
            let (m, n) = (61, 35);
            let (a, b, bias) = (numbers((m - 1) * stride + k, 1), numbers(k * n, 2), numbers(n, 3));
            let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
            let residual = numbers(m * n, 4);
            let epilogue = Epilogue {
                bias: Some(&bias),
                residual: Some(Residual::Before(Matrix::dense(&residual, m, n))),
                activation: Activation::Relu,
                ..Epilogue::default()
            };
            let mut whole = vec![f32::NAN; m * n];
            gemm(isa, Matrix::new(&a, m, k, stride), &packed, MatrixMut::dense(&mut whole, m, n), &epilogue);
            for row in 0..m {
                let mut one = vec![0.0; n];
                let epilogue = Epilogue {
                    residual: Some(Residual::Before(Matrix::dense(&residual[row * n..], 1, n))),
                    ..epilogue
                };
                let a = Matrix::dense(&a[row * stride..], 1, k);
                gemm(isa, a, &packed, MatrixMut::dense(&mut one, 1, n), &epilogue);
                assert_eq!(one, whole[row * n..][..n], "{} row {row} of {k}", isa.name());
            }
        }
    }
}

#[test]
fn rows_evenly_apart_have_the_same_bits() {
    for isa in Isa::available() {
        // As many rows as fill one strip, and more; words round a turn's and a long row's; columns round a panel's.
        let sizes =
            [(12, 64, 64), (13, 64, 96), (14, 67, 33), (25, 640, 64), (53, 641, 70), (61, 66, 31), (50, 130, 130)];
        for (m, k, n) in sizes {
            let stride = k + 5;
            let (a, b, bias) = (numbers((m - 1) * stride + k, 1), numbers(k * n, 2), numbers(n, 3));
            let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
            let residual = numbers(m * n, 4);
            for mask in 0..8 {
                let on = |bit: usize| mask & bit != 0;
                let epilogue = |first: usize, m: usize| Epilogue {
                    bias: on(1).then_some(&bias[..]),
                    residual: on(2).then(|| Residual::Before(Matrix::dense(&residual[first * n..], m, n))),
                    activation: if on(4) { Activation::Clip { lo: -0.5, hi: 2.0 } } else { Activation::None },
                    ..Epilogue::default()
                };
                let mut whole = vec![f32::NAN; m * n];
                let out = MatrixMut::dense(&mut whole, m, n);
                gemm(isa, Matrix::new(&a, m, k, stride), &packed, out, &epilogue(0, m));
                for row in (0..m).step_by(3) {
                    let mut one = vec![0.0; n];
                    let (a, out) = (Matrix::dense(&a[row * stride..], 1, k), MatrixMut::dense(&mut one, 1, n));
                    gemm(isa, a, &packed, out, &epilogue(row, 1));
                    assert_eq!(one, whole[row * n..][..n], "{} row {row} of {m}x{k}x{n}", isa.name());
                }
            }
        }
    }
}

#[test]
fn large_panels_in_sides_have_the_same_bits() {
    let isa = Isa::available()[0];
    let (m, k, n) = (90, 1100, 2000);
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
    let mut whole = vec![f32::NAN; m * n];
    gemm(isa, Matrix::dense(&a, m, k), &packed, MatrixMut::dense(&mut whole, m, n), &Epilogue::default());
    for row in [0, 44, 45, 89] {
        let mut one = vec![0.0; n];
        let a = Matrix::dense(&a[row * k..], 1, k);
        gemm(isa, a, &packed, MatrixMut::dense(&mut one, 1, n), &Epilogue::default());
        assert_eq!(one, whole[row * n..][..n], "row {row}");
    }
}

#[test]
fn regions_join_to_the_whole() {
    for isa in Isa::available() {
        let (m, k, n) = (15, 9, 150);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let (bias, residual, row_scale) = (numbers(n, 3), numbers(m * n, 4), numbers(m, 5));
        let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
        let epilogue = Epilogue {
            bias: Some(&bias),
            residual: Some(Residual::After(Matrix::dense(&residual, m, n))),
            row_scale: Some(&row_scale),
            column_scale: Some(&bias),
            activation: Activation::HardSwish,
            extremes: None,
            next: bytemuck::cast_slice(&b),
            pack_rows: Some(true),
        };
        let a = Matrix::dense(&a, m, k);
        let mut whole = vec![0.0; m * n];
        gemm(isa, a, &packed, MatrixMut::dense(&mut whole, m, n), &epilogue);
        let mut parts = vec![0.0; m * n];
        let (top, bottom) = MatrixMut::dense(&mut parts, m, n).split_rows(4);
        let at = 2 * packed.panel();
        let (left, right) = bottom.split_cols(at);
        gemm_region(isa, a, &packed, 0..4, 0..n, top, &epilogue);
        gemm_region(isa, a, &packed, 4..m, 0..at, left, &epilogue);
        gemm_region(isa, a, &packed, 4..m, at..n, right, &epilogue);
        assert_eq!(parts, whole);
    }
}

#[test]
fn every_epilogue() {
    every_epilogue_of((14, 6, 75));
    every_epilogue_of((27, 6, 11));
    every_epilogue_of((96, 2, 20));
}

fn every_epilogue_of((m, k, n): (usize, usize, usize)) {
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let (bias, residual, row_scale, column_scale) = (numbers(n, 3), numbers(m * n, 4), numbers(m, 5), numbers(n, 6));
    let sums = reference(&a, &b, (m, k, n), k);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let activations: [(Activation, &dyn Fn(f64) -> f64); 11] = [
        (Activation::None, &|x| x),
        (Activation::Relu, &|x| x.max(0.0)),
        (Activation::Clip { lo: -0.25, hi: 0.5 }, &|x| x.clamp(-0.25, 0.5)),
        (Activation::LeakyRelu { alpha: 0.1 }, &|x| if x < 0.0 { 0.1 * x } else { x }),
        (Activation::Sigmoid, &sigmoid),
        (Activation::Tanh, &f64::tanh),
        (Activation::Silu, &|x| x * sigmoid(x)),
        (Activation::HardSwish, &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (Activation::HardSigmoid { alpha: 0.2, beta: 0.4 }, &|x| (0.2 * x + 0.4).clamp(0.0, 1.0)),
        (Activation::Gelu, &|x| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()))),
        (Activation::GeluTanh, &|x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }),
    ];
    for isa in Isa::available() {
        let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
        for (activation, function) in activations {
            for mask in 0..8 * 5 {
                let on = |bit: usize| (mask / 5) & bit != 0;
                let matrix = Matrix::dense(&residual, m, n);
                let kinds = [
                    None,
                    Some(Residual::Before(matrix)),
                    Some(Residual::After(matrix)),
                    Some(Residual::OutputBefore),
                    Some(Residual::OutputAfter),
                ];
                let epilogue = Epilogue {
                    column_scale: on(1).then_some(&column_scale[..]),
                    row_scale: on(2).then_some(&row_scale[..]),
                    bias: on(4).then_some(&bias[..]),
                    residual: kinds[mask % 5],
                    activation,
                    extremes: None,
                    next: &[],
                    pack_rows: [None, Some(true), Some(false)][mask % 3],
                };
                let mut out = residual.clone();
                gemm(isa, Matrix::dense(&a, m, k), &packed, MatrixMut::dense(&mut out, m, n), &epilogue);
                for (at, &x) in out.iter().enumerate() {
                    let (row, column) = (at / n, at % n);
                    let pick = |operand: Option<&[f32]>, i: usize, other: f64| operand.map_or(other, |o| o[i].into());
                    let scale = pick(epilogue.column_scale, column, 1.0) * pick(epilogue.row_scale, row, 1.0);
                    let v = sums[at] * scale + pick(epilogue.bias, column, 0.0);
                    let r = f64::from(residual[at]);
                    let expected = match mask % 5 {
                        0 => function(v),
                        1 | 3 => function(v + r),
                        _ => function(v) + r,
                    };
                    assert!(close(x, expected), "{} {epilogue:?} [{row}, {column}]: {x}, not {expected}", isa.name());
                }
            }
        }
    }
}

#[test]
fn not_a_number_is_not_bounded_away() {
    for isa in Isa::available() {
        let packed = PackedB::pack(isa, &[1.0; 32], 1, 32, Layout::RowMajor { stride: 32 });
        for activation in [Activation::Relu, Activation::Clip { lo: 0.0, hi: 6.0 }] {
            let mut out = [0.0; 32];
            let epilogue = Epilogue { activation, ..Epilogue::default() };
            gemm(isa, Matrix::dense(&[f32::NAN], 1, 1), &packed, MatrixMut::dense(&mut out, 1, 32), &epilogue);
            assert!(out.iter().all(|x| x.is_nan()));
        }
    }
}
