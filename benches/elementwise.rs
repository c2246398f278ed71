//! Maps, broadcasts, softmax and norms over 1 MiB, beside a copy of as much, and a chain of five maps in one pass beside
//! five passes: `cargo bench --bench elementwise`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onrush::kernels::arch::Isa;
use onrush::kernels::elementwise::{
    Binary, Broadcast, Operand, Program, Source, Step, Unary, binary, unary, unary_in_place,
};
use onrush::kernels::norm::{Center, RowNorm, Rows, row_norm};
use onrush::kernels::softmax::{Form, softmax};
use std::hint::black_box;

/// Elements: 1 MiB, so that input and output lie in the second and third cache.
const ELEMENTS: usize = 1 << 18;

/// Elements of a cache line.
const LINE: usize = 16;

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

/// `relu(x row + row) 0.5 + x`, by a program and map by map, each over what the one before it wrote.
fn chains(criterion: &mut Criterion) {
    let isa = Isa::chosen().expect("ONRUSH_ISA names an instruction set of this machine");
    let steps = [
        Step::Binary(Binary::Mul, Source::Operand(0), Source::Operand(1)),
        Step::Binary(Binary::Add, Source::Step(0), Source::Operand(2)),
        Step::Unary(Unary::Relu, Source::Step(1)),
        Step::Binary(Binary::Mul, Source::Step(2), Source::Constant(0.5)),
        Step::Binary(Binary::Add, Source::Step(3), Source::Operand(0)),
    ];
    let program = Program::new(3, 0, &steps).expect("three operands and one register are few");
    let mut group = criterion.benchmark_group("chain of 5");
    for elements in [10_240, 1 << 20] {
        let x: Vec<f32> = (0..elements + LINE).map(|i| (i % 1000) as f32 / 250.0 - 2.0).collect();
        let (scale, shift, mut y) = (x[..ROW].to_vec(), x[ROW..2 * ROW].to_vec(), vec![0.0; elements + LINE]);
        // As they lie in an arena.
        let (x, y) = (&x[x.as_ptr().align_offset(64)..][..elements], &mut y[..]);
        let start = y.as_ptr().align_offset(64);
        let y = &mut y[start..][..elements];
        let rows = Broadcast::cycle(ROW, 1);
        let (scale, shift) = (Operand::Spread(&scale, &rows), Operand::Spread(&shift, &rows));
        group.throughput(Throughput::Elements(elements as u64)).sample_size(20);
        group.bench_function(format!("one pass over {elements}"), |bencher| {
            bencher.iter(|| program.run(isa, &[Operand::Full(black_box(x)), scale, shift], &[], 0, y));
        });
        group.bench_function(format!("five passes over {elements}"), |bencher| {
            bencher.iter(|| {
                let x = Operand::Full(black_box(x));
                binary(isa, Binary::Mul, x, scale, 0, y);
                binary(isa, Binary::Add, Operand::Target, shift, 0, y);
                unary_in_place(isa, Unary::Relu, y);
                binary(isa, Binary::Mul, Operand::Target, Operand::Scalar(0.5), 0, y);
                binary(isa, Binary::Add, Operand::Target, x, 0, y);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, elementwise, chains);
criterion_main!(benches);
