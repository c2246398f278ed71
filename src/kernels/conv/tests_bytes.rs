//! Convolutions of bytes against the definition, exactly, on every instruction set.

use super::super::arch::Isa;
use super::super::gemm::{Activation, ByteEpilogue, ByteOutput, ByteWeights, Requantize};
use super::super::view::{Matrix, MatrixMut};
use super::tests::geometries;
use super::*;

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| if random.u8(..4) == 0 { [0, 255, 128, 127][random.usize(..4)] } else { random.u8(..) }).collect()
}

/// The definition; padding contributes nothing, as it is the zero point.
fn reference(
    g: &Geometry,
    batch: usize,
    input: &[u8],
    pixel: usize,
    weight: impl Fn(usize) -> i32,
    zero: i32,
) -> Vec<i32> {
    let [height, width] = g.output();
    let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
    let mut out = vec![0; batch * height * width * g.filters];
    for (at, out) in out.iter_mut().enumerate() {
        let (f, x) = (at % g.filters, at / g.filters % width);
        let (y, image) = (at / g.filters / width % height, at / g.filters / width / height);
        for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
            let iy = (y * g.strides[0] + ky * g.dilations[0]).wrapping_sub(g.pad_begin[0]);
            let ix = (x * g.strides[1] + kx * g.dilations[1]).wrapping_sub(g.pad_begin[1]);
            if iy < g.input[0] && ix < g.input[1] {
                let from = ((image * g.input[0] + iy) * g.input[1] + ix) * pixel + f / filters * channels;
                for c in 0..channels {
                    let w = weight(((f * channels + c) * g.kernel[0] + ky) * g.kernel[1] + kx);
                    *out += (i32::from(input[from + c]) - zero) * w;
                }
            }
        }
    }
    out
}

#[test]
fn every_geometry_exactly() {
    for g in geometries() {
        let batch = 2;
        let (weights, zero) = (bytes(g.weights_len(), 2), 113);
        let signed: Vec<i8> = weights.iter().map(|&w| w as i8).collect();
        let taps = g.weights_len() / g.filters;
        let many: Vec<i32> = (0..g.filters as i32).map(|f| f % 3 - 1).collect();
        let rows = batch * g.output_pixels();
        let pixel = g.channels + 3;
        let input = bytes((batch * g.input_pixels() - 1) * pixel + g.channels, 1);
        let cases: [(ByteWeights<'_>, &[i32]); 3] =
            [(ByteWeights::I8(&signed), &[]), (ByteWeights::U8(&weights), &[128]), (ByteWeights::I8(&signed), &many)];
        for (weights, zero_points) in cases {
            let zero_point = |at: usize| match zero_points {
                [] => 0,
                [one] => *one,
                many => many[at / taps],
            };
            let expected = reference(&g, batch, &input, pixel, |at| weights.get(at) - zero_point(at), zero);
            for (isa, table_zero) in Isa::available().into_iter().flat_map(|isa| [(isa, 113), (isa, 0)]) {
                let packed = Arc::new(ByteConvWeights::pack(isa, weights, &g, zero_points).unwrap());
                let conv = ByteConv2d::new(g, packed, table_zero).unwrap();
                let input = Matrix::new(&input, batch * g.input_pixels(), g.channels, pixel);
                let epilogue = ByteEpilogue { zero_point: zero, ..ByteEpilogue::default() };
                let mut out = vec![0; rows * g.filters];
                conv.run(input, ByteOutput::I32(MatrixMut::dense(&mut out, rows, g.filters)), &epilogue);
                assert_eq!(out, expected, "{} {g:?}", isa.name());
                // To bytes, in two parts.
                let scale = vec![1e-3; g.filters];
                let epilogue = ByteEpilogue { column_scale: Some(&scale), ..epilogue };
                let to = Requantize { factor: 1.0, zero_point: 77 };
                let mut out = vec![0; rows * g.filters];
                let at = rows / 3;
                let (top, bottom) = MatrixMut::dense(&mut out, rows, g.filters).split_rows(at);
                conv.run_rows(input, 0..at, rows, ByteOutput::U8(top, to), &epilogue);
                conv.run_rows(input, at..rows, rows, ByteOutput::U8(bottom, to), &epilogue);
                for (x, sum) in out.iter().zip(&expected) {
                    let q = (*sum as f32 * 1e-3).round_ties_even() as i32 + 77;
                    assert_eq!(i32::from(*x), q.clamp(0, 255), "{} {g:?}", isa.name());
                }
            }
        }
    }
}

/// Depthwise convolutions by 3 x 3 taps to bytes: every number of channels, every width, signed and not.
#[test]
fn every_depthwise_size_exactly() {
    let widths = (1..=20).flat_map(|width| [16, 40, 72, 100].map(|channels| (channels, width)));
    let sizes = (1..=130).map(|channels| (channels, channels * 7 % 19 + 1)).chain(widths);
    for (case, (channels, width)) in sizes.enumerate() {
        let (height, strides) = (case % 4 + 1, [[1, 1], [2, 2], [1, 2], [2, 1]][case / 4 % 4]);
        let g = Geometry::new([height, width], channels, channels, [3, 3]);
        let g = Geometry { groups: channels, strides, pad_begin: [1, case % 3], pad_end: [1, 2 - case % 3], ..g };
        to_bytes(&g, case);
    }
}

/// Images whose border is a good part of them.
#[test]
fn every_border_exactly() {
    for (case, side) in [1, 2, 3, 5, 7, 14].into_iter().enumerate() {
        let g = Geometry::new([side, side], 64, 40, [3, 3]);
        for stride in 1..=2 {
            to_bytes(&Geometry { strides: [stride; 2], pad_begin: [1; 2], pad_end: [1; 2], ..g }, case);
        }
    }
}

/// Stems of 3 x 3 taps.
#[test]
fn every_stem_size_exactly() {
    for (case, filters) in (1..=40).chain([48, 63, 64, 65, 96, 128, 130]).enumerate() {
        let (height, strides) = (case % 4 + 1, [[1, 1], [2, 2], [1, 2], [2, 1]][case / 4 % 4]);
        let g = Geometry::new([height, case % 21 + 1], 3 + case % 2, filters, [3, 3]);
        to_bytes(&Geometry { strides, pad_begin: [1, case % 3], pad_end: [1, 2 - case % 3], ..g }, case);
    }
}

/// To bytes, signed and not, in two parts, on every instruction set.
fn to_bytes(g: &Geometry, case: usize) {
    let (channels, filters) = (g.channels, g.filters);
    let (batch, zero, pixel) = (2, [0, 200][case % 2], channels + case % 2 * 5);
    let rows = batch * g.output_pixels();
    let input = bytes((batch * g.input_pixels() - 1) * pixel + channels, case as u64);
    let weights: Vec<i8> = bytes(g.weights_len(), 7).iter().map(|&w| w as i8).collect();
    let bias: Vec<i32> = (0..filters).map(|c| c as i32 * 500 - 20_000).collect();
    // Products beyond 32 bits too.
    let scale: Vec<f32> = (0..filters).map(|c| if case % 16 == 15 && c == 3 { 1e6 } else { 1e-3 }).collect();
    let sums = reference(g, batch, &input, pixel, |at| weights[at].into(), zero);
    let expected = |at: usize, zero_point: i32, [least, most]: [i32; 2]| {
        let sum = sums[at] + bias[at % filters];
        let q = (sum as f32 * scale[at % filters]).clamp(-60.0, 90.5).round_ties_even() as i32 + zero_point;
        q.clamp(least, most)
    };
    for isa in Isa::available() {
        let packed = Arc::new(ByteConvWeights::pack(isa, ByteWeights::I8(&weights), g, &[]).unwrap());
        let conv = ByteConv2d::new(*g, packed, zero as u8).unwrap();
        let input = Matrix::new(&input, batch * g.input_pixels(), channels, pixel);
        let epilogue = ByteEpilogue {
            zero_point: zero,
            bias: Some(&bias),
            column_scale: Some(&scale),
            activation: Activation::Clip { lo: -60.0, hi: 90.5 },
            ..ByteEpilogue::default()
        };
        let to = |zero_point| Requantize { factor: 1.0, zero_point };
        let (mut out, at) = (vec![0u8; rows * filters], case % 7 * rows / 7);
        let (top, bottom) = MatrixMut::dense(&mut out, rows, filters).split_rows(at);
        conv.run_rows(input, 0..at, rows, ByteOutput::U8(top, to(30)), &epilogue);
        conv.run_rows(input, at..rows, rows, ByteOutput::U8(bottom, to(30)), &epilogue);
        for (at, &x) in out.iter().enumerate() {
            assert_eq!(i32::from(x), expected(at, 30, [0, 255]), "{at} of {} {g:?}", isa.name());
        }
        // Where packing alone bounds them.
        let mut out = vec![0u8; rows * filters];
        let plain = ByteEpilogue { activation: Activation::Relu, ..epilogue };
        conv.run(input, ByteOutput::U8(MatrixMut::dense(&mut out, rows, filters), to(0)), &plain);
        for (at, &x) in out.iter().enumerate() {
            let q = ((sums[at] + bias[at % filters]) as f32 * scale[at % filters]).round_ties_even();
            assert_eq!(f32::from(x), q.clamp(0.0, 255.0), "{at} of {} {g:?}", isa.name());
        }
        let mut out = vec![0i8; rows * filters];
        conv.run(input, ByteOutput::I8(MatrixMut::dense(&mut out, rows, filters), to(-70)), &epilogue);
        for (at, &x) in out.iter().enumerate() {
            assert_eq!(i32::from(x), expected(at, -70, [-128, 127]), "{at} of {} {g:?}", isa.name());
        }
    }
}
