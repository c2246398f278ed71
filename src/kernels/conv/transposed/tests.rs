//! Transposed convolutions against the definition, on every instruction set, in every form.

use super::super::super::arch::Isa;
use super::super::super::gemm::{Activation, Residual};
use super::super::super::stored::{Parts, Stored};
use super::*;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.f32() * 2.0 - 1.0).collect()
}

/// The definition: every input pixel lays its kernel on the output. Input with `pixel` elements a pixel.
fn reference(g: &TransposedGeometry, batch: usize, input: &[f32], pixel: usize, weights: &[f32]) -> Vec<f64> {
    let (channels, filters) = (g.channels_per_group(), g.filters_per_group());
    let taps = g.kernel[0] * g.kernel[1];
    let mut out = vec![0.0; batch * g.output_pixels() * g.filters];
    for (at, tap) in (0..batch * g.input_pixels()).flat_map(|at| (0..taps).map(move |tap| (at, tap))) {
        let (image, y, x) = (at / g.input_pixels(), at / g.input[1] % g.input[0], at % g.input[1]);
        let oy = (y * g.strides[0] + tap / g.kernel[1] * g.dilations[0]).wrapping_sub(g.pad_begin[0]);
        let ox = (x * g.strides[1] + tap % g.kernel[1] * g.dilations[1]).wrapping_sub(g.pad_begin[1]);
        if oy >= g.output[0] || ox >= g.output[1] {
            continue;
        }
        let to = ((image * g.output[0] + oy) * g.output[1] + ox) * g.filters;
        for (c, f) in (0..g.channels).flat_map(|c| (0..filters).map(move |f| (c, f))) {
            let weight = weights[(c * filters + f) * taps + tap];
            out[to + c / channels * filters + f] += f64::from(input[at * pixel + c]) * f64::from(weight);
        }
    }
    out
}

fn geometries() -> Vec<TransposedGeometry> {
    let of = TransposedGeometry::new;
    let grouped = |g: TransposedGeometry, groups| TransposedGeometry { groups, ..g };
    let sized = |g: TransposedGeometry, output| TransposedGeometry { output, ..g };
    let dilated = |g: TransposedGeometry, d: [usize; 2]| {
        let along = |a: usize| (g.input[a] - 1) * g.strides[a] + (g.kernel[a] - 1) * d[a] + 1;
        TransposedGeometry { dilations: d, output: [along(0), along(1)], ..g }
    };
    let mut all = vec![
        // Upsampling layers: no overlap; overlap; output_padding.
        of([4, 5], 18, 34, [2, 2], [2, 2]),
        of([4, 5], 18, 34, [4, 4], [2, 2]).padded([1, 1], [1, 1]),
        sized(of([4, 5], 7, 20, [3, 3], [2, 2]).padded([1, 1], [0, 0]), [8, 10]),
        of([2, 14], 20, 70, [4, 4], [2, 2]).padded([1, 1], [1, 1]),
        // Stride 1, a single tap, strides without taps, wide strides.
        of([5, 6], 5, 9, [3, 3], [1, 1]).padded([1, 1], [1, 1]),
        of([3, 4], 5, 9, [1, 1], [2, 3]),
        of([3, 4], 5, 9, [2, 1], [3, 2]).padded([1, 0], [0, 1]),
        of([3, 2], 3, 17, [9, 7], [4, 5]).padded([2, 3], [1, 0]),
        // Dilations that share factors with the strides, and do not.
        dilated(of([4, 5], 6, 11, [3, 3], [2, 2]), [2, 3]),
        dilated(of([4, 5], 6, 11, [3, 2], [3, 4]), [2, 2]).padded([1, 2], [0, 3]),
        // One line; more output than taps reach; less than one kernel.
        of([1, 9], 8, 12, [1, 5], [1, 3]).padded([0, 2], [0, 0]),
        sized(of([2, 3], 4, 18, [2, 2], [2, 2]), [9, 8]),
        sized(of([3, 3], 4, 6, [3, 3], [2, 2]).padded([4, 3], [0, 0]), [2, 1]),
        // Groups, and channels by themselves.
        grouped(of([4, 3], 12, 8, [3, 3], [2, 2]).padded([1, 1], [0, 0]), 4),
        grouped(of([4, 3], 6, 80, [2, 2], [2, 2]), 2),
        // Few filters.
        of([9, 8], 20, 3, [4, 4], [2, 2]).padded([1, 1], [1, 1]),
        of([7, 5], 33, 1, [5, 3], [1, 2]).padded([2, 0], [1, 0]),
    ];
    for channels in [2, 16, 37] {
        all.push(grouped(of([4, 5], channels, channels, [4, 4], [2, 2]).padded([1, 1], [1, 1]), channels));
        all.push(grouped(of([3, 4], channels, channels, [3, 2], [2, 3]), channels));
    }
    all
}

fn pack(isa: Isa, g: &TransposedGeometry, weights: &[f32], form: Option<TransposedForm>) -> TransposedWeights {
    let shape = [g.channels, g.filters_per_group(), g.kernel[0], g.kernel[1]];
    TransposedWeights::pack_as(isa, weights, shape, g.groups, g.strides, g.dilations, form).unwrap()
}

#[test]
fn every_geometry_by_the_definition() {
    for (case, g) in geometries().into_iter().enumerate() {
        let batch = 2;
        let (weights, bias) = (numbers(g.weights_len(), 2), numbers(g.filters, 3));
        let (lines, rows) = (batch * g.output[0], batch * g.output_pixels());
        for (pixel, form) in [(g.channels, TransposedForm::Phases), (g.channels + 3, TransposedForm::Scatter)] {
            let input = numbers((batch * g.input_pixels() - 1) * pixel + g.channels, 1);
            let expected = reference(&g, batch, &input, pixel, &weights);
            let view = Matrix::new(&input, batch * g.input_pixels(), g.channels, pixel);
            for isa in Isa::available() {
                let conv = ConvTranspose2d::new(g, Arc::new(pack(isa, &g, &weights, Some(form)))).unwrap();
                let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                let mut out = vec![f32::NAN; rows * g.filters];
                conv.run(view, MatrixMut::dense(&mut out, rows, g.filters), &epilogue);
                for (at, (&x, &expected)) in out.iter().zip(&expected).enumerate() {
                    let expected = expected + f64::from(bias[at % g.filters]);
                    let close = (f64::from(x) - expected).abs() <= 1e-5 * (1.0 + expected.abs());
                    assert!(close, "{} {form:?} {g:?} at {at}: {x}, not {expected}", isa.name());
                }
                // In parts, with another epilogue, against the same in one; and an image by itself.
                let summand = Matrix::dense(&out, rows, g.filters);
                let (residual, activation) = match case % 3 {
                    0 => (None, Activation::Relu),
                    1 => (Some(Residual::Before(summand)), Activation::Relu),
                    _ => (Some(Residual::After(summand)), Activation::Silu),
                };
                let other = Epilogue { residual, activation, ..epilogue };
                let (mut whole, mut parts) = (vec![f32::NAN; out.len()], vec![f32::NAN; out.len()]);
                conv.run(view, MatrixMut::dense(&mut whole, rows, g.filters), &other);
                let mut rest = MatrixMut::dense(&mut parts, rows, g.filters);
                let mut done = 0;
                for end in [1, lines / 3, lines - 1, lines] {
                    let end = end.max(done);
                    let (part, more) = rest.split_rows((end - done) * g.output[1]);
                    conv.run_lines(view, done..end, lines, part, &other);
                    (rest, done) = (more, end);
                }
                assert_eq!(parts, whole, "{} {form:?} {g:?}", isa.name());
                let mut solo = vec![f32::NAN; out.len() / 2];
                let second = Matrix::new(&input[g.input_pixels() * pixel..], g.input_pixels(), g.channels, pixel);
                conv.run(second, MatrixMut::dense(&mut solo, rows / 2, g.filters), &epilogue);
                assert_eq!(solo, out[solo.len()..], "{} {form:?} {g:?}", isa.name());
            }
        }
    }
}

/// K that is cut into chunks, and weights in blocks.
#[test]
fn many_channels() {
    let g = TransposedGeometry::new([1, 52], 780, 40, [1, 1], [1, 1]);
    let (weights, input) = (numbers(g.weights_len(), 2), numbers(g.input_pixels() * g.channels, 1));
    let expected = reference(&g, 1, &input, g.channels, &weights);
    for isa in Isa::available() {
        let conv = ConvTranspose2d::new(g, Arc::new(pack(isa, &g, &weights, None))).unwrap();
        let rows = g.output_pixels();
        let mut out = vec![0.5; rows * g.filters];
        let own = Epilogue { residual: Some(Residual::OutputBefore), ..Epilogue::default() };
        for (epilogue, added) in [(own, 0.5), (Epilogue::default(), 0.0)] {
            let input = Matrix::dense(&input, g.input_pixels(), g.channels);
            conv.run(input, MatrixMut::dense(&mut out, rows, g.filters), &epilogue);
            let close = |x: f32, expected: f64| (f64::from(x) - expected - added).abs() <= 1e-4;
            assert!(out.iter().zip(&expected).all(|(&x, &expected)| close(x, expected)), "{}", isa.name());
        }
    }
}

#[test]
fn contradictions_are_refused() {
    let isa = Isa::available()[0];
    let pack = |shape, groups, strides| TransposedWeights::pack(isa, &[0.0; 36], shape, groups, strides, [1, 1]);
    let weights = Arc::new(pack([2, 2, 3, 3], 1, [2, 2]).unwrap());
    let g = TransposedGeometry::new([4, 4], 2, 2, [3, 3], [2, 2]);
    assert!(ConvTranspose2d::new(g, weights.clone()).is_ok());
    assert!(ConvTranspose2d::new(TransposedGeometry { strides: [1, 2], ..g }, weights.clone()).is_err());
    assert!(ConvTranspose2d::new(TransposedGeometry { channels: 4, ..g }, weights.clone()).is_err());
    assert!(ConvTranspose2d::new(TransposedGeometry { output: [usize::MAX; 2], ..g }, weights).is_err());
    assert!(pack([2, 2, 3, 2], 1, [2, 2]).is_err());
    assert!(pack([2, 2, 3, 3], 3, [2, 2]).is_err());
    assert!(pack([2, 2, 3, 3], 1, [0, 2]).is_err());
}

/// What is stored comes back the same, and no size can be changed to something that reads past its end.
#[test]
fn every_form_comes_back() {
    for (isa, g) in Isa::available().into_iter().flat_map(|isa| geometries().into_iter().map(move |g| (isa, g))) {
        let form = pack(isa, &g, &numbers(g.weights_len(), 1), None);
        let stored = |form: &TransposedWeights| {
            let mut parts = Parts::default();
            form.store(&mut parts);
            parts
        };
        let bytes = |parts: &Parts| parts.buffers.iter().map(|b| b.as_slice().to_vec()).collect::<Vec<_>>();
        let whole = stored(&form);
        let restored = |mut parts: Parts| {
            TransposedWeights::restore(isa, &mut parts).and_then(|form| parts.finish().map(|()| form))
        };
        let again = stored(&restored(whole.clone()).unwrap());
        assert_eq!((&again.numbers, bytes(&again)), (&whole.numbers, bytes(&whole)));
        for (index, other) in (0..whole.numbers.len()).flat_map(|i| [0, 1, 5, 1 << 40, u64::MAX].map(|n| (i, n))) {
            let mut parts = whole.clone();
            parts.numbers[index] = other;
            if let Ok(form) = restored(parts) {
                assert_eq!(bytes(&stored(&form)), bytes(&whole));
            }
        }
    }
}
