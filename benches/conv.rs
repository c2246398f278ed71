//! Convolutions of f32, direct and by Winograd's algorithm: `cargo bench --bench conv`. Elements a second are
//! multiply-accumulates of the definition; for shares of the machine's peak see the `peak` bench.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onrush::kernels::arch::Isa;
use onrush::kernels::conv::{Conv2d, ConvWeights, Geometry};
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
        let winograd = g.suits_winograd().then(|| ConvWeights::pack_winograd(isa, &weights, filters, channels));
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

criterion_group!(benches, convolutions);
criterion_main!(benches);
