//! Convolutions of f32, direct and by Winograd's algorithm, and transposed ones, by phases and by lines:
//! `cargo bench --bench conv`. Elements a second are
//! multiply-accumulates of the definition; for shares of the machine's peak see the `peak` bench.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onrush::kernels::arch::Isa;
use onrush::kernels::conv::{
    Conv2d, ConvTranspose2d, ConvWeights, Geometry, TransposedForm, TransposedGeometry, TransposedWeights,
};
use onrush::kernels::gemm::{Activation, Epilogue};
use onrush::kernels::{Matrix, MatrixMut};
use std::hint::black_box;
use std::sync::Arc;

/// Name, size of the image, channels, filters, groups, kernel, stride.
const CASES: [(&str, usize, usize, usize, usize, usize, usize); 7] = [
    ("stem", 224, 3, 32, 1, 3, 2),
    ("3x3", 56, 64, 64, 1, 3, 1),
    ("3x3 few channels", 55, 16, 64, 1, 3, 1),
    ("3x3 stride 2", 28, 128, 128, 1, 3, 2),
    ("1x1", 56, 24, 144, 1, 1, 1),
    ("depthwise", 56, 144, 144, 144, 3, 1),
    ("depthwise 5x5", 28, 240, 240, 240, 5, 1),
];

fn convolutions(criterion: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    for (name, size, channels, filters, groups, kernel, stride) in CASES {
        let pad = kernel / 2;
        let g = Geometry {
            groups,
            strides: [stride; 2],
            pad_begin: [pad; 2],
            pad_end: [pad; 2],
            ..Geometry::new([size; 2], channels, filters, [kernel; 2])
        };
        let weights = vec![0.25; g.weights_len()];
        let direct = ConvWeights::pack(isa, &weights, filters, channels / groups, g.kernel, groups);
        let winograd = g.winograd_tile().map(|tile| ConvWeights::pack_winograd(isa, &weights, filters, channels, tile));
        let (input, bias) = (vec![0.5; g.input_pixels() * channels], vec![0.125; filters]);
        let mut output = vec![0.0; g.output_pixels() * filters];
        let mut group = criterion.benchmark_group(format!("{name} {size}x{size} {channels}->{filters}"));
        group.throughput(Throughput::Elements((g.output_pixels() * g.weights_len()) as u64)).sample_size(20);
        for (form, weights) in [("direct", Some(direct)), ("winograd", winograd)] {
            let Some(weights) = weights else { continue };
            let conv = Conv2d::new(g, Arc::new(weights.expect("the sizes fit"))).expect("the geometry is right");
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
            group.bench_function(form, |bencher| {
                bencher.iter(|| {
                    let input = Matrix::dense(black_box(&input), g.input_pixels(), channels);
                    conv.run(input, MatrixMut::dense(&mut output, g.output_pixels(), filters), &epilogue);
                });
            });
        }
        group.finish();
    }
}

/// Name, size of the image, channels, filters, groups, kernel, stride, what is cut before and behind.
const TRANSPOSED: [(&str, usize, usize, usize, usize, usize, usize, usize, usize); 11] = [
    ("2x2", 28, 256, 128, 1, 2, 2, 0, 0),
    ("2x2", 112, 64, 32, 1, 2, 2, 0, 0),
    ("2x2", 112, 32, 16, 1, 2, 2, 0, 0),
    ("2x2", 112, 64, 8, 1, 2, 2, 0, 0),
    ("4x4", 8, 512, 256, 1, 4, 2, 1, 1),
    ("4x4", 32, 128, 64, 1, 4, 2, 1, 1),
    ("4x4", 32, 64, 16, 1, 4, 2, 1, 1),
    ("4x4 to an image", 32, 64, 3, 1, 4, 2, 1, 1),
    ("3x3", 28, 128, 64, 1, 3, 2, 1, 0),
    ("3x3 few filters", 56, 32, 16, 1, 3, 2, 1, 0),
    ("depthwise 4x4", 32, 64, 64, 64, 4, 2, 1, 1),
];

fn transposed(criterion: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    for (name, size, channels, filters, groups, kernel, stride, before, behind) in TRANSPOSED {
        let g = TransposedGeometry::new([size; 2], channels, filters, [kernel; 2], [stride; 2]);
        let g = TransposedGeometry { groups, ..g }.padded([before; 2], [behind; 2]);
        let weights = vec![0.25; g.weights_len()];
        let (input, bias) = (vec![0.5; g.input_pixels() * channels], vec![0.125; filters]);
        let mut output = vec![0.0; g.output_pixels() * filters];
        let mut group = criterion.benchmark_group(format!("transposed {name} {size}x{size} {channels}->{filters}"));
        group.throughput(Throughput::Elements((g.input_pixels() * g.weights_len()) as u64)).sample_size(20);
        for (name, form) in [("phases", TransposedForm::Phases), ("lines", TransposedForm::Scatter)] {
            let shape = [channels, filters / groups, kernel, kernel];
            let packed = TransposedWeights::pack_as(isa, &weights, shape, groups, g.strides, g.dilations, Some(form));
            let conv =
                ConvTranspose2d::new(g, Arc::new(packed.expect("the sizes fit"))).expect("the geometry is right");
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let input = Matrix::dense(black_box(&input), g.input_pixels(), channels);
                    conv.run(input, MatrixMut::dense(&mut output, g.output_pixels(), filters), &epilogue);
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, convolutions, transposed);
criterion_main!(benches);
