//! f32 convolutions against the definition, on every instruction set, over geometries that reach each algorithm.

use super::super::arch::Isa;
use super::super::gemm::{Activation, Residual};
use super::*;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.f32() * 2.0 - 1.0).collect()
}

/// The definition: channels-last input with `pixel` elements a pixel, weights in ONNX's order.
fn reference(g: &Geometry, batch: usize, input: &[f32], pixel: usize, weights: &[f32]) -> Vec<f64> {
    let [height, width] = g.output();
    let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
    let mut out = vec![0.0; batch * height * width * g.filters];
    for (at, out) in out.iter_mut().enumerate() {
        let (f, x) = (at % g.filters, at / g.filters % width);
        let (y, image) = (at / g.filters / width % height, at / g.filters / width / height);
        for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
            let iy = (y * g.strides[0] + ky * g.dilations[0]).wrapping_sub(g.pad_begin[0]);
            let ix = (x * g.strides[1] + kx * g.dilations[1]).wrapping_sub(g.pad_begin[1]);
            if iy < g.input[0] && ix < g.input[1] {
                let from = ((image * g.input[0] + iy) * g.input[1] + ix) * pixel + f / filters * channels;
                for c in 0..channels {
                    let weight = weights[((f * channels + c) * g.kernel[0] + ky) * g.kernel[1] + kx];
                    *out += f64::from(input[from + c]) * f64::from(weight);
                }
            }
        }
    }
    out
}

pub(super) fn geometries() -> Vec<Geometry> {
    let base = |input, channels, filters, kernel| Geometry::new(input, channels, filters, kernel);
    let padded = |g: Geometry, p: usize| Geometry { pad_begin: [p; 2], pad_end: [p; 2], ..g };
    let strided = |g: Geometry, s: usize| Geometry { strides: [s; 2], ..g };
    let grouped = |g: Geometry, groups: usize| Geometry { groups, ..g };
    let mut all = vec![
        base([5, 7], 6, 10, [1, 1]),
        strided(base([5, 7], 18, 33, [1, 1]), 2),
        padded(base([4, 5], 3, 5, [1, 1]), 1),
        padded(base([7, 9], 3, 8, [3, 3]), 1),
        strided(padded(base([11, 12], 3, 40, [3, 3]), 1), 2),
        strided(padded(base([15, 16], 3, 16, [7, 7]), 3), 2),
        strided(padded(base([30, 21], 3, 40, [3, 3]), 1), 2),
        padded(base([9, 31], 7, 13, [3, 3]), 1),
        padded(base([6, 5], 17, 19, [3, 3]), 1),
        strided(padded(base([9, 8], 32, 70, [3, 3]), 1), 2),
        Geometry { dilations: [2, 3], ..padded(base([12, 13], 5, 7, [3, 3]), 2) },
        Geometry { dilations: [2, 3], ..padded(base([12, 13], 20, 7, [3, 3]), 2) },
        Geometry { pad_begin: [0, 2], pad_end: [1, 0], ..base([6, 6], 16, 8, [2, 3]) },
        grouped(padded(base([6, 7], 12, 8, [3, 3]), 1), 4),
        grouped(base([6, 7], 12, 80, [1, 1]), 2),
        grouped(padded(base([5, 5], 4, 8, [3, 3]), 1), 4),
        base([3, 3], 2, 3, [3, 3]),
        padded(base([2, 2], 20, 3, [3, 3]), 1),
        base([1, 30], 4, 6, [1, 5]),
        Geometry { pad_begin: [0, 8], pad_end: [0, 8], ..base([1, 3], 2, 6, [1, 5]) },
    ];
    for channels in [2, 16, 32, 37, 100] {
        let depthwise = |input, kernel| grouped(base(input, channels, channels, kernel), channels);
        all.extend([
            padded(depthwise([7, 7], [3, 3]), 1),
            padded(depthwise([5, 20], [3, 3]), 1),
            strided(padded(depthwise([9, 26], [3, 3]), 1), 2),
            padded(depthwise([9, 12], [5, 5]), 2),
            strided(padded(depthwise([10, 11], [5, 5]), 2), 2),
            Geometry { dilations: [2, 2], ..padded(depthwise([9, 12], [3, 3]), 2) },
            Geometry { pad_end: [1, 1], ..strided(depthwise([8, 8], [3, 3]), 2) },
            padded(depthwise([2, 2], [3, 3]), 1),
            padded(depthwise([1, 2], [5, 5]), 4),
            depthwise([1, 9], [1, 4]),
        ]);
    }
    all
}

#[test]
fn every_geometry_by_the_definition() {
    for g in geometries() {
        let batch = 2;
        let weights = numbers(g.weights_len(), 2);
        let bias = numbers(g.filters, 3);
        let [height, width] = g.output();
        let rows = batch * height * width;
        // Exact slices: dense, and with gaps between the pixels.
        for pixel in [g.channels, g.channels + 3] {
            let input = numbers((batch * g.input_pixels() - 1) * pixel + g.channels, 1);
            let expected = reference(&g, batch, &input, pixel, &weights);
            let input = Matrix::new(&input, batch * g.input_pixels(), g.channels, pixel);
            for isa in Isa::available() {
                let packed = ConvWeights::pack(isa, &weights, g.filters, g.channels_per_group(), g.kernel, g.groups);
                let conv = Conv2d::new(g, Arc::new(packed.unwrap())).unwrap();
                let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                let mut out = vec![0.0; rows * g.filters];
                conv.run(input, MatrixMut::dense(&mut out, rows, g.filters), &epilogue);
                for (at, (&x, &expected)) in out.iter().zip(&expected).enumerate() {
                    let expected = expected + f64::from(bias[at % g.filters]);
                    let close = (f64::from(x) - expected).abs() <= 1e-5 * (1.0 + expected.abs());
                    assert!(close, "{} {g:?} at {at}: {x}, not {expected}", isa.name());
                }
                // In two parts, with another epilogue, against the same in one.
                let epilogue = Epilogue {
                    residual: Some(Residual::Before(Matrix::dense(&out, rows, g.filters))),
                    activation: Activation::HardSwish,
                    ..epilogue
                };
                let (mut whole, mut parts) = (vec![0.0; out.len()], vec![0.0; out.len()]);
                conv.run(input, MatrixMut::dense(&mut whole, rows, g.filters), &epilogue);
                let at = rows / 3;
                let (top, bottom) = MatrixMut::dense(&mut parts, rows, g.filters).split_rows(at);
                conv.run_rows(input, 0..at, rows, top, &epilogue);
                conv.run_rows(input, at..rows, rows, bottom, &epilogue);
                assert_eq!(parts, whole, "{} {g:?}", isa.name());
            }
        }
    }
}

#[test]
fn contradictions_are_refused() {
    let isa = Isa::available()[0];
    let weights = Arc::new(ConvWeights::pack(isa, &[0.0; 36], 2, 2, [3, 3], 1).unwrap());
    assert!(Conv2d::new(Geometry::new([4, 4], 2, 2, [3, 3]), weights.clone()).is_ok());
    assert!(Conv2d::new(Geometry::new([4, 4], 3, 2, [3, 3]), weights.clone()).is_err());
    let zero = Geometry { strides: [0, 1], ..Geometry::new([4, 4], 2, 2, [3, 3]) };
    assert!(Conv2d::new(zero, weights.clone()).is_err());
    let huge = Geometry { pad_end: [usize::MAX / 2, 0], ..Geometry::new([4, 4], 2, 2, [3, 3]) };
    assert!(Conv2d::new(huge, weights).is_err());
    assert!(ConvWeights::pack(isa, &[0.0; 35], 2, 2, [3, 3], 1).is_err());
}

/// Winograd's against the definition; its rows do not depend on how they are divided, nor on the batch.
#[test]
fn winograd_by_the_definition() {
    let padded = |g: Geometry, p: usize| Geometry { pad_begin: [p; 2], pad_end: [p; 2], ..g };
    let all = [
        padded(Geometry::new([7, 9], 32, 40, [3, 3]), 1),
        padded(Geometry::new([14, 14], 37, 35, [3, 3]), 1),
        Geometry::new([3, 3], 5, 3, [3, 3]),
        Geometry { pad_begin: [2, 0], pad_end: [0, 3], ..Geometry::new([5, 22], 33, 70, [3, 3]) },
        padded(Geometry::new([30, 33], 5, 3, [3, 3]), 1),
    ];
    for g in all {
        let batch = 2;
        let (weights, bias) = (numbers(g.weights_len(), 2), numbers(g.filters, 3));
        let (rows, pixel) = (batch * g.output_pixels(), g.channels + 3);
        let input = numbers((batch * g.input_pixels() - 1) * pixel + g.channels, 1);
        let expected = reference(&g, batch, &input, pixel, &weights);
        let view = Matrix::new(&input, batch * g.input_pixels(), g.channels, pixel);
        for (isa, tile) in Isa::available().into_iter().flat_map(|isa| [(isa, 2), (isa, 4)]) {
            let packed = ConvWeights::pack_winograd(isa, &weights, g.filters, g.channels, tile).unwrap();
            let conv = Conv2d::new(g, Arc::new(packed)).unwrap();
            let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
            let mut out = vec![0.0; rows * g.filters];
            conv.run(view, MatrixMut::dense(&mut out, rows, g.filters), &epilogue);
            // Numbers and weights of a variance of a third: the output's standard deviation, nearly.
            let unit = (9.0 * g.channels as f64).sqrt() / 3.0;
            for (at, (&x, &expected)) in out.iter().zip(&expected).enumerate() {
                let expected = expected + f64::from(bias[at % g.filters]);
                let close = (f64::from(x) - expected).abs() <= 2e-5 * unit;
                assert!(close, "{} {g:?} at {at}: {x}, not {expected}", isa.name());
            }
            let residual = Some(Residual::After(Matrix::dense(&out, rows, g.filters)));
            for activation in [Activation::Relu, Activation::Silu] {
                let direct = Some(Residual::Before(Matrix::dense(&out, rows, g.filters)));
                let residual = if activation == Activation::Relu { direct } else { residual };
                let epilogue = Epilogue { residual, activation, ..epilogue };
                let (mut whole, mut parts) = (vec![0.0; out.len()], vec![0.0; out.len()]);
                conv.run(view, MatrixMut::dense(&mut whole, rows, g.filters), &epilogue);
                let mut rest = MatrixMut::dense(&mut parts, rows, g.filters);
                let mut done = 0;
                for end in [1, rows / 2, rows / 2 + 1, rows] {
                    let (part, more) = rest.split_rows(end - done);
                    conv.run_rows(view, done..end, rows, part, &epilogue);
                    (rest, done) = (more, end);
                }
                assert_eq!(parts, whole, "{} {g:?}", isa.name());
            }
            if g.filters > 64 {
                let mut some = vec![0.0; rows * (g.filters - 64)];
                let columns = MatrixMut::dense(&mut some, rows, g.filters - 64);
                conv.run_region(view, 0..rows, 64..g.filters, rows, columns, &epilogue);
                let expected: Vec<f32> = out.chunks_exact(g.filters).flat_map(|row| row[64..].to_vec()).collect();
                assert_eq!(some, expected, "{} {g:?}", isa.name());
            }
            let mut solo = vec![0.0; rows / batch * g.filters];
            let second = Matrix::new(&input[g.input_pixels() * pixel..], g.input_pixels(), g.channels, pixel);
            conv.run(second, MatrixMut::dense(&mut solo, rows / batch, g.filters), &epilogue);
            assert_eq!(solo, out[solo.len()..], "{} {g:?}", isa.name());
        }
    }
}

#[test]
fn strips_are_the_lines_of_the_whole() {
    for isa in Isa::available() {
        for g in geometries() {
            let weights = numbers(g.weights_len(), 3);
            let packed =
                ConvWeights::pack(isa, &weights, g.filters, g.channels_per_group(), g.kernel, g.groups).unwrap();
            let conv = Conv2d::new(g, Arc::new(packed)).unwrap();
            let [height, width] = g.output();
            let (input, line) = (numbers(g.input_pixels() * g.channels, 5), width * g.filters);
            let mut whole = vec![0.0; height * line];
            let run = |conv: &Conv2d, input: &[f32], output: &mut [f32]| {
                let g = conv.geometry();
                let (pixels, rows) = (g.input_pixels(), g.output_pixels());
                let output = MatrixMut::dense(output, rows, g.filters);
                conv.run(Matrix::dense(input, pixels, g.channels), output, &Epilogue::default());
            };
            run(&conv, &input, &mut whole);
            let third = height.div_ceil(3);
            for (from, to) in [(0, 1), (0, third), (third / 2, height), (height - 1, height)] {
                let (strip, seen) = conv.strip(&(from..to));
                let row = g.input[1] * g.channels;
                let mut lines = vec![0.0; (to - from) * line];
                run(&strip, &input[seen.start * row..seen.end * row], &mut lines);
                assert_eq!(lines, whole[from * line..to * line], "{g:?} {} {from}..{to}", isa.name());
            }
        }
    }
}
