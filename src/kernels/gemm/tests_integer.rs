//! Integer products against i64, the same on every instruction set.

use super::super::arch::Isa;
use super::super::view::{Matrix, MatrixMut};
use super::*;

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    // Extremes often: they are what saturating instructions get wrong.
    (0..len).map(|_| if random.u8(..4) == 0 { [0, 255, 128, 127][random.usize(..4)] } else { random.u8(..) }).collect()
}

/// The definition of the integer part.
fn reference(
    (m, k, n): (usize, usize, usize),
    (a, a_stride, a_zero): (&[u8], usize, i32),
    b: impl Fn(usize, usize) -> i32,
    bias: &[i32],
) -> Vec<i32> {
    let mut out = vec![0; m * n];
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let sum: i64 = (0..k).map(|k| i64::from(i32::from(a[i * a_stride + k]) - a_zero) * i64::from(b(k, j))).sum();
        out[i * n + j] = sum as i32 + bias[j];
    }
    out
}

fn check(isa: Isa, (m, k, n): (usize, usize, usize), zero_points: &[i32], signed: bool) {
    let (a_stride, out_stride, a_zero) = (k + 3, n + 2, 117);
    let (a, b) = (bytes((m - 1) * a_stride + k, 1), bytes(k * n, 2));
    let signed_b: Vec<i8> = b.iter().map(|&b| b as i8).collect();
    let weights = if signed { ByteWeights::I8(&signed_b) } else { ByteWeights::U8(&b) };
    let bias: Vec<i32> = (0..n as i32).map(|c| 1000 - 77 * c).collect();
    let packed = PackedBytes::pack(isa, weights, k, n, zero_points);
    let element = |k: usize, j: usize| weights.get(k * n + j) - zero_points[if zero_points.len() == 1 { 0 } else { j }];
    let expected = reference((m, k, n), (&a, a_stride, a_zero), element, &bias);
    let mut out = vec![7; (m - 1) * out_stride + n];
    let epilogue = ByteEpilogue { zero_point: a_zero, bias: Some(&bias), ..ByteEpilogue::default() };
    let a = Matrix::new(&a, m, k, a_stride);
    gemm_bytes(isa, a, &packed, ByteOutput::I32(MatrixMut::new(&mut out, m, n, out_stride)), &epilogue);
    for (at, &x) in out.iter().enumerate() {
        let (row, column) = (at / out_stride, at % out_stride);
        let expected = if column < n { expected[row * n + column] } else { 7 };
        assert_eq!(x, expected, "{} {m}x{k}x{n} [{row}, {column}], zero points {zero_points:?}", isa.name());
    }
}

#[test]
fn every_size_of_a_few_tiles() {
    for isa in Isa::available() {
        for m in 1..=26 {
            [1, 8, 9, 31, 32, 33, 65, 130].into_iter().for_each(|n| check(isa, (m, 11, n), &[0], true));
        }
        for n in 1..=70 {
            [1, 6, 13].into_iter().for_each(|m| check(isa, (m, 6, n), &[-3], true));
        }
        for k in 0..=35 {
            [(1, 40), (13, 33), (6, 8)].into_iter().for_each(|(m, n)| check(isa, (m, k, n), &[0], true));
        }
        check(isa, (20, 400, 50), &[0], true);
    }
}

#[test]
fn unsigned_weights_of_any_zero_point() {
    for isa in Isa::available() {
        for zero_point in [0, 1, 100, 128, 131, 255] {
            check(isa, (5, 19, 37), &[zero_point], false);
        }
        let many: Vec<i32> = (0..37).map(|c| 7 * c).collect();
        check(isa, (13, 19, 37), &many, false);
    }
}

#[test]
fn the_same_bytes_on_every_instruction_set() {
    let (m, k, n) = (14, 50, 75);
    let (a_bytes, b, residual) = (bytes(m * k, 1), bytes(k * n, 2), bytes(m * n, 3));
    let scale: Vec<f32> = (0..n).map(|c| 2e-4 * (1.0 + c as f32 / 50.0)).collect();
    let shift: Vec<f32> = (0..n).map(|c| c as f32 / 7.0 - 5.0).collect();
    let to = Requantize { factor: 3.7, zero_point: 11 };
    for activation in [Activation::None, Activation::Relu, Activation::Clip { lo: -2.0, hi: 20.0 }] {
        for mask in 0..8 {
            let epilogue = ByteEpilogue {
                zero_point: 120,
                column_scale: Some(&scale),
                row_scale: (mask & 1 != 0).then_some(&shift[..m]),
                shift: (mask & 2 != 0).then_some(&shift),
                byte_residual: (mask & 4 != 0).then_some(QuantizedResidual {
                    data: Matrix::dense(&residual, m, n),
                    scale: 0.05,
                    zero_point: 100,
                }),
                activation,
                ..ByteEpilogue::default()
            };
            let exact = {
                let element = |k: usize, j: usize| i32::from(b[k * n + j]) - 128;
                reference((m, k, n), (&a_bytes, k, 120), element, &vec![0; n])
            };
            for isa in Isa::available() {
                let packed = PackedBytes::pack(isa, ByteWeights::U8(&b), k, n, &[128]);
                let (mut unsigned, mut signed) = (vec![0u8; m * n], vec![0i8; m * n]);
                let mut real = vec![0f32; m * n];
                let a = Matrix::dense(&a_bytes, m, k);
                gemm_bytes(isa, a, &packed, ByteOutput::U8(MatrixMut::dense(&mut unsigned, m, n), to), &epilogue);
                gemm_bytes(isa, a, &packed, ByteOutput::I8(MatrixMut::dense(&mut signed, m, n), to), &epilogue);
                gemm_bytes(isa, a, &packed, ByteOutput::F32(MatrixMut::dense(&mut real, m, n)), &epilogue);
                for at in 0..m * n {
                    let (row, column) = (at / n, at % n);
                    let mut v = exact[at] as f32 * scale[column];
                    if mask & 1 != 0 {
                        v *= shift[row];
                    }
                    if mask & 2 != 0 {
                        v += shift[column];
                    }
                    if mask & 4 != 0 {
                        v += (f32::from(residual[at]) - 100.0) * 0.05;
                    }
                    let (lo, hi) = activation.bounds().unwrap();
                    let v = v.max(lo).min(hi);
                    assert_eq!(real[at], v, "{}", isa.name());
                    let q = (v * to.factor).round_ties_even() as i32 + to.zero_point;
                    assert_eq!(i32::from(unsigned[at]), q.clamp(0, 255), "{}", isa.name());
                    assert_eq!(i32::from(signed[at]), q.clamp(-128, 127), "{}", isa.name());
                }
                let mut one = vec![0u8; n];
                let single = ByteEpilogue {
                    row_scale: epilogue.row_scale.map(|scale| &scale[..1]),
                    byte_residual: epilogue
                        .byte_residual
                        .map(|r| QuantizedResidual { data: Matrix::dense(&residual[..n], 1, n), ..r }),
                    ..epilogue
                };
                let first = Matrix::dense(&a_bytes[..k], 1, k);
                gemm_bytes(isa, first, &packed, ByteOutput::U8(MatrixMut::dense(&mut one, 1, n), to), &single);
                assert_eq!(one, unsigned[..n], "a row by itself, {}", isa.name());
            }
        }
    }
}

/// Scales that hold the output's factor, a first rounding, and what is added behind it: the definition, number by number.
#[test]
fn bytes_are_rounded_once_or_twice() {
    rounded((13, 9, 50), 0.002);
    // Tiles of every height whose epilogue waits for the next.
    for m in [7, 9, 11, 12, 16, 20, 25] {
        rounded((m, 64, 70), 0.002);
    }
    rounded((23, 136, 128), 0.002);
    // Beyond what an integer holds.
    rounded((23, 64, 70), 1e6);
}

fn rounded((m, k, n): (usize, usize, usize), first: f32) {
    let (a, b, other) = (bytes(m * k, 5), bytes(k * n, 6), bytes(m * n, 7));
    let scale: Vec<f32> = (0..n).map(|c| first + c as f32 * 1e-4).collect();
    let shift: Vec<f32> = (0..n).map(|c| c as f32 - 20.0).collect();
    let bias: Vec<i32> = (0..n as i32).map(|c| 900 - 77 * c).collect();
    for isa in Isa::available() {
        let packed = PackedBytes::pack(isa, ByteWeights::U8(&b), k, n, &[128]);
        let sums = reference((m, k, n), (&a, k, 100), |row, c| i32::from(b[row * n + c]) - 128, &bias);
        let residual = QuantizedResidual { data: Matrix::dense(&other, m, n), scale: 0.3, zero_point: 7 };
        let limits = (-90, 165);
        let through = Through { factor: 1.0, limits, scale: 0.4, shift: Some(&shift), residual: Some(residual) };
        for (through, activation, shifted) in [
            (None, Activation::None, false),
            (None, Activation::Clip { lo: -3.0, hi: 20.5 }, true),
            (None, Activation::Clip { lo: -3.0, hi: 20.5 }, false),
            (Some(through), Activation::None, true),
            (Some(Through { shift: None, ..through }), Activation::Relu, false),
            (Some(Through { residual: None, ..through }), Activation::LeakyRelu { alpha: 0.25 }, false),
        ] {
            let epilogue = ByteEpilogue {
                zero_point: 100,
                bias: Some(&bias),
                column_scale: Some(&scale),
                shift: shifted.then_some(&shift[..]),
                activation,
                through,
                ..ByteEpilogue::default()
            };
            let value = |at: usize| {
                let mut v = sums[at] as f32 * scale[at % n];
                v += if shifted { shift[at % n] } else { 0.0 };
                v = match activation {
                    Activation::Relu => v.max(0.0),
                    Activation::Clip { lo, hi } => v.clamp(lo, hi),
                    Activation::LeakyRelu { alpha } if v < 0.0 => v * alpha,
                    _ => v,
                };
                if let Some(through) = through {
                    v = v.round_ties_even().clamp(-90.0, 165.0) * through.scale;
                    v += through.shift.map_or(0.0, |shift| shift[at % n]);
                    v += through.residual.map_or(0.0, |_| (i32::from(other[at]) - 7) as f32 * 0.3);
                }
                v.round_ties_even()
            };
            let to = |zero_point| Requantize { factor: 1.0, zero_point };
            let (mut unsigned, mut signed) = (vec![0u8; m * n], vec![0i8; m * n]);
            let a = Matrix::dense(&a, m, k);
            let mut positive = vec![0u8; m * n];
            gemm_bytes(isa, a, &packed, ByteOutput::U8(MatrixMut::dense(&mut positive, m, n), to(0)), &epilogue);
            gemm_bytes(isa, a, &packed, ByteOutput::U8(MatrixMut::dense(&mut unsigned, m, n), to(30)), &epilogue);
            gemm_bytes(isa, a, &packed, ByteOutput::I8(MatrixMut::dense(&mut signed, m, n), to(-40)), &epilogue);
            for at in 0..m * n {
                let v = value(at);
                assert_eq!(f32::from(positive[at]), v.clamp(0.0, 255.0), "{} {activation:?}", isa.name());
                assert_eq!(f32::from(unsigned[at]), (v + 30.0).clamp(0.0, 255.0), "{} {activation:?}", isa.name());
                assert_eq!(f32::from(signed[at]), (v - 40.0).clamp(-128.0, 127.0), "{} {activation:?}", isa.name());
            }
        }
    }
}
