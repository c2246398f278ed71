//! What is stored as half a word has the bits of the f32 store rounded afterwards; the extremes are those of what was
//! written.

use super::super::arch::Isa;
use super::super::view::{Matrix, MatrixMut};
use super::*;
use half::{bf16, f16};

/// Rows, depth and columns: tails of both, short rows, few columns, a long K, more than one strip.
const SIZES: [[usize; 3]; 7] =
    [[1, 5, 1], [1, 90, 70], [3, 16, 33], [14, 17, 50], [98, 6, 34], [50, 30, 5], [2, 1, 129]];

/// Numbers from small to large, of which a few round to infinities of half precision, to denormal numbers and to ties.
fn numbers(random: &mut fastrand::Rng, len: usize) -> Vec<f32> {
    (0..len)
        .map(|_| {
            let v = random.f32() * 2.0 - 1.0;
            match random.u8(..) {
                0..8 => v * 1e6,
                8..16 => v * 1e-6,
                16..24 => 1.0 + f32::from(random.u8(..)) / 4096.0,
                _ => v,
            }
        })
        .collect()
}

/// A product's epilogues, each of another form inside.
fn epilogues<'a>(bias: &'a [f32], scale: &'a [f32], rows: &'a [f32], more: Matrix<'a, f32>) -> Vec<Epilogue<'a>> {
    let bias = Some(bias);
    vec![
        Epilogue::default(),
        Epilogue { bias, activation: Activation::Relu, ..Default::default() },
        Epilogue {
            bias,
            residual: Some(Residual::Before(more)),
            activation: Activation::Clip { lo: -1.0, hi: 6.0 },
            ..Default::default()
        },
        Epilogue { bias, activation: Activation::Gelu, ..Default::default() },
        Epilogue { bias, residual: Some(Residual::After(more)), activation: Activation::Silu, ..Default::default() },
        Epilogue { column_scale: Some(scale), row_scale: Some(rows), bias, ..Default::default() },
    ]
}

/// The same bits; any NaN for a NaN.
#[track_caller]
fn same(found: &[u16], expected: impl Iterator<Item = u16>, is_nan: impl Fn(u16) -> bool, what: &str) {
    for (at, (&found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            found == expected || is_nan(found) && is_nan(expected),
            "{what} at {at}: {found:#x}, not {expected:#x}"
        );
    }
}

/// Runs a product into rows that are three elements apart, and takes what is between them to have stayed.
fn rows_of<T: Copy + PartialEq + std::fmt::Debug>(
    mark: T,
    m: usize,
    n: usize,
    run: impl FnOnce(MatrixMut<'_, T>),
) -> Vec<T> {
    let mut out = vec![mark; (m - 1) * (n + 3) + n];
    run(MatrixMut::new(&mut out, m, n, n + 3));
    let gaps = out.chunks(n + 3).filter(|row| row.len() > n).flat_map(|row| &row[n..]);
    assert!(gaps.into_iter().all(|gap| *gap == mark), "something between the rows was written");
    out.chunks(n + 3).flat_map(|row| row[..n].to_vec()).collect()
}

fn extremes_of(values: &[f32]) -> (f32, f32) {
    let numbers = || values.iter().copied().filter(|v| !v.is_nan());
    (numbers().fold(f32::INFINITY, f32::min), numbers().fold(f32::NEG_INFINITY, f32::max))
}

#[test]
fn halves_are_the_rounded_f32() {
    let mut random = fastrand::Rng::with_seed(3);
    for [m, k, n] in SIZES {
        let (a, b) = (numbers(&mut random, m * k), numbers(&mut random, k * n));
        let [mut bias, scale] = [(); 2].map(|()| numbers(&mut random, n));
        (bias[n / 2], bias[n / 3]) = (f32::NAN, f32::INFINITY);
        let (scales, more) = (numbers(&mut random, m), numbers(&mut random, m * n));
        for isa in Isa::available() {
            let a16: Vec<bf16> = a.iter().map(|&x| bf16::from_f32(x)).collect();
            let (plain, brain) = (Matrix::dense(&a, m, k), Matrix::dense(&a16, m, k));
            let layout = Layout::RowMajor { stride: n };
            let (packed, packed16) = (PackedB::pack(isa, &b, k, n, layout), PackedBf16::pack(isa, &b, k, n, layout));
            for (form, e) in epilogues(&bias, &scale, &scales, Matrix::dense(&more, m, n)).into_iter().enumerate() {
                let what = |kind: &str| format!("{kind} {m}x{k}x{n}, epilogue {form} on {}", isa.name());
                let wide = rows_of(7.0, m, n, |out| gemm(isa, plain, &packed, out, &e));
                let half = rows_of(f16::ONE, m, n, |out| gemm(isa, plain, &packed, out, &e));
                let half: Vec<u16> = half.into_iter().map(f16::to_bits).collect();
                let rounded = wide.iter().map(|&v| f16::from_f32(v).to_bits());
                same(&half, rounded, |v| f16::from_bits(v).is_nan(), &what("f16"));
                let half = rows_of(bf16::ONE, m, n, |out| gemm(isa, plain, &packed, out, &e));
                let half: Vec<u16> = half.into_iter().map(bf16::to_bits).collect();
                let rounded = wide.iter().map(|&v| bf16::from_f32(v).to_bits());
                same(&half, rounded, |v| bf16::from_bits(v).is_nan(), &what("bf16"));
                let wide = rows_of(7.0, m, n, |out| gemm_bf16(isa, brain, &packed16, out, &e));
                let half = rows_of(bf16::ONE, m, n, |out| gemm_bf16(isa, brain, &packed16, out, &e));
                let half: Vec<u16> = half.into_iter().map(bf16::to_bits).collect();
                let rounded = wide.iter().map(|&v| bf16::from_f32(v).to_bits());
                same(&half, rounded, |v| bf16::from_bits(v).is_nan(), &what("bf16 of bf16"));
            }
        }
    }
}

#[test]
fn extremes_are_those_of_what_was_written() {
    let mut random = fastrand::Rng::with_seed(4);
    for [m, k, n] in SIZES.into_iter().chain([[50, 2100, 17]]) {
        let (a, b) = (numbers(&mut random, m * k), numbers(&mut random, k * n));
        let [mut bias, scale] = [(); 2].map(|()| numbers(&mut random, n));
        bias[n / 2] = f32::NAN;
        let (scales, more) = (numbers(&mut random, m), numbers(&mut random, m * n));
        for isa in Isa::available() {
            let plain = Matrix::dense(&a, m, k);
            let packed = PackedB::pack(isa, &b, k, n, Layout::RowMajor { stride: n });
            for (form, e) in epilogues(&bias, &scale, &scales, Matrix::dense(&more, m, n)).into_iter().enumerate() {
                let expected = rows_of(7.0, m, n, |out| gemm(isa, plain, &packed, out, &e));
                let told = Extremes::default();
                assert_eq!(told.get(), (f32::INFINITY, f32::NEG_INFINITY));
                let e = Epilogue { extremes: Some(&told), ..e };
                let wide = rows_of(7.0, m, n, |out| gemm(isa, plain, &packed, out, &e));
                let what = format!("{m}x{k}x{n}, epilogue {form} on {}", isa.name());
                let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&wide), bits(&expected), "{what}: what is told changes what is written");
                assert_eq!(told.get(), extremes_of(&wide), "{what}");
                // In parts, of which none sees all.
                let told = Extremes::default();
                let e = Epilogue { extremes: Some(&told), ..e };
                let (panel, middle) = (panel_width(isa).min(n), m / 2);
                for rows in [0..middle, middle..m] {
                    for columns in [0..panel, panel..n].into_iter().filter(|c| !c.is_empty() && !rows.is_empty()) {
                        let mut out = vec![0.0f32; rows.len() * columns.len()];
                        let view = MatrixMut::dense(&mut out, rows.len(), columns.len());
                        gemm_region(isa, plain, &packed, rows.clone(), columns, view, &e);
                    }
                }
                assert_eq!(told.get(), extremes_of(&wide), "{what}, in parts");
            }
        }
    }
}

#[test]
fn integers_as_halves_and_their_extremes() {
    let mut random = fastrand::Rng::with_seed(5);
    for [m, k, n] in SIZES {
        let a: Vec<u8> = (0..m * k).map(|_| random.u8(..)).collect();
        let b: Vec<i8> = (0..k * n).map(|_| random.i8(-127..)).collect();
        let [scale, shift] = [(); 2].map(|()| numbers(&mut random, n));
        let more = numbers(&mut random, m * n);
        for isa in Isa::available() {
            let packed = PackedBytes::pack(isa, ByteWeights::I8(&b), k, n, &[0]);
            for (activation, residual) in
                [(Activation::None, false), (Activation::Relu, true), (Activation::Gelu, false)]
            {
                let residual = residual.then(|| Residual::Before(Matrix::dense(&more, m, n)));
                let told = Extremes::default();
                let e = ByteEpilogue {
                    zero_point: 3,
                    column_scale: Some(&scale),
                    shift: Some(&shift),
                    residual,
                    activation,
                    extremes: Some(&told),
                    ..Default::default()
                };
                let rows = Matrix::dense(&a, m, k);
                let what = format!("{m}x{k}x{n}, {activation:?} on {}", isa.name());
                let wide = rows_of(7.0, m, n, |out| gemm_bytes(isa, rows, &packed, ByteOutput::F32(out), &e));
                assert_eq!(told.get(), extremes_of(&wide), "{what}");
                let half = rows_of(f16::ONE, m, n, |out| gemm_bytes(isa, rows, &packed, ByteOutput::F16(out), &e));
                let half: Vec<u16> = half.into_iter().map(f16::to_bits).collect();
                let rounded = wide.iter().map(|&v| f16::from_f32(v).to_bits());
                same(&half, rounded, |v| f16::from_bits(v).is_nan(), &format!("f16 {what}"));
                let half = rows_of(bf16::ONE, m, n, |out| gemm_bytes(isa, rows, &packed, ByteOutput::Bf16(out), &e));
                let half: Vec<u16> = half.into_iter().map(bf16::to_bits).collect();
                let rounded = wide.iter().map(|&v| bf16::from_f32(v).to_bits());
                same(&half, rounded, |v| bf16::from_bits(v).is_nan(), &format!("bf16 {what}"));
                assert_eq!(told.get(), extremes_of(&wide), "{what}: halves are not told");
            }
        }
    }
}
