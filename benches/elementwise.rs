//! Maps, broadcasts, softmax and norms over 1 MiB, beside a copy of as much: `cargo bench --bench elementwise`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onrush::kernels::arch::Isa;
use onrush::kernels::elementwise::{Binary, Broadcast, Operand, Unary, binary, unary};
use onrush::kernels::norm::{Center, RowNorm, Rows, row_norm};
use onrush::kernels::softmax::{Form, softmax};
use std::hint::black_box;

/// Elements: 1 MiB, so that input and output lie in the second and third cache.
const ELEMENTS: usize = 1 << 18;

/// Elements of a row of the norms and of one of the softmaxes.
const ROW: usize = 256;

fn elementwise(criterion: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    let x: Vec<f32> = (0..ELEMENTS).map(|i| (i % 1000) as f32 / 250.0 - 2.0).collect();
    let (row, mut y) = (x[..ROW].to_vec(), vec![0.0; ELEMENTS]);
    let mut group = criterion.benchmark_group("elementwise");
    group.throughput(Throughput::Bytes(8 * ELEMENTS as u64)).sample_size(20);
    group.bench_function("copy", |bencher| bencher.iter(|| y.copy_from_slice(black_box(&x))));
    for op in [Unary::Relu, Unary::Exp, Unary::Tanh, Unary::Sigmoid, Unary::Erf, Unary::Gelu, Unary::HardSwish] {
        group.bench_function(format!("{op:?}"), |bencher| bencher.iter(|| unary(isa, op, black_box(&x), &mut y)));
    }
    let (over_rows, over_columns) = (Broadcast::cycle(ROW, 1), Broadcast::cycle(ROW, ELEMENTS / ROW));
    let operands = [
        ("each", Operand::Full(&x)),
        ("row", Operand::Spread(&row, &over_rows)),
        ("column", Operand::Spread(&row, &over_columns)),
    ];
    for (name, operand) in operands {
        group.bench_function(format!("Add {name}"), |bencher| {
            bencher.iter(|| binary(isa, Binary::Add, Operand::Full(black_box(&x)), operand, 0, &mut y));
        });
    }
    for cols in [2, ROW] {
        group.bench_function(format!("softmax over {cols}"), |bencher| {
            bencher.iter(|| softmax(isa, Form::Softmax, cols, 1.0, None, 0, black_box(&x), &mut y));
        });
    }
    let norm = RowNorm { center: Center::Mean, cols: ROW, epsilon: 1e-5, scale: Some(&row), shift: Some(&row) };
    group.bench_function("layer norm", |bencher| {
        bencher.iter(|| {
            let rows = Rows { x: Some(black_box(&x)), ..Rows::default() };
            row_norm(isa, &norm, rows, None, &mut y);
        });
    });
    group.finish();
}

criterion_group!(benches, elementwise);
criterion_main!(benches);
