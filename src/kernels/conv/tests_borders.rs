//! Products in pieces against the same with all taps: each way to divide the output, on every instruction set.

use super::super::arch::Isa;
use super::super::gemm::{
    Activation, ByteEpilogue, ByteOutput, ByteWeights, Part, QuantizedResidual, Requantize, RowPointers, Through,
    product_bytes,
};
use super::super::view::{Matrix, MatrixMut};
use super::borders::Borders;
use super::bytes::Form;
use super::*;

fn geometry(random: &mut fastrand::Rng) -> Geometry {
    let kernel = [[3, 3], [3, 3], [1, 3], [3, 1], [2, 3], [5, 5]][random.usize(..6)];
    let mut pair = |least: usize, most: usize| [random.usize(least..=most), random.usize(least..=most)];
    let (input, strides, dilations) = (pair(1, 7), pair(1, 2), pair(1, 2));
    let most = [0, 1, 4][pair(0, 2)[0]];
    let (pad_begin, pad_end) = (pair(0, most), pair(0, most));
    let groups = [1, 1, 2][random.usize(..3)];
    let channels = groups * [16, 18, 20][random.usize(..3)];
    let filters = groups * [3, 32, 40][random.usize(..3)];
    Geometry { groups, strides, dilations, pad_begin, pad_end, ..Geometry::new(input, channels, filters, kernel) }
}

#[test]
fn pieces_are_the_same_as_all_taps() {
    let mut pieces = 0;
    for case in 0..36 {
        let mut random = fastrand::Rng::with_seed(case);
        let g = geometry(&mut random);
        if g.output_pixels() > 0 {
            pieces += every_way(&g, &mut random);
        }
    }
    assert!(pieces > 50, "{pieces} ways in all");
}

/// How many ways were tried.
fn every_way(g: &Geometry, random: &mut fastrand::Rng) -> usize {
    let (batch, zero, gap) = (random.usize(1..=7), [0, 200][random.usize(..2)], random.usize(..2) * 5);
    let pixel = g.channels + gap;
    let input: Vec<u8> = (0..batch * g.input_pixels() * pixel).map(|_| random.u8(..)).collect();
    let weights: Vec<i8> = (0..g.weights_len()).map(|_| random.i8(..)).collect();
    let total = batch * g.output_pixels();
    let start = random.usize(..total);
    let rows = [0..total, start..random.usize(start..=total)][random.usize(..2)].clone();
    let bias: Vec<i32> = (0..g.filters).map(|_| random.i32(-20_000..20_000)).collect();
    let scale: Vec<f32> = (0..g.filters).map(|_| random.f32() * 1e-3).collect();
    let other: Vec<u8> = (0..total * g.filters).map(|_| random.u8(..)).collect();
    let mut ways = 0;
    for isa in Isa::available() {
        let packed = ByteConvWeights::pack(isa, ByteWeights::I8(&weights), g, &[]).unwrap();
        let Form::Groups(groups) = &packed.form else { panic!("{g:?} is depthwise") };
        let Some(borders) = Borders::new(isa, g, groups, zero) else { continue };
        let taps = taps::TapTable::new(g, 1, zero);
        for (group, b) in groups.iter().enumerate() {
            let filters = g.filters_per_group();
            let columns = group * filters..(group + 1) * filters;
            let all = taps.bytes(input[group * g.channels_per_group()..].as_ptr(), pixel, zero);
            let first_column = columns.start;
            let part = Part { whole: (total, g.filters), rows: rows.clone(), columns, first_column };
            let (epilogue, len) = (
                ByteEpilogue { zero_point: zero.into(), bias: Some(&bias), ..ByteEpilogue::default() },
                rows.len() * filters,
            );
            let sums = |a: &dyn RowPointers| {
                let mut out = vec![-1; len];
                let to = ByteOutput::I32(MatrixMut::dense(&mut out, rows.len(), filters));
                run(isa, a, b, &part, to, &epilogue);
                out
            };
            let scaled = ByteEpilogue { column_scale: Some(&scale), activation: Activation::Relu, ..epilogue };
            let floats = |a: &dyn RowPointers| {
                let mut out = vec![-1.0; len];
                run(isa, a, b, &part, ByteOutput::F32(MatrixMut::dense(&mut out, rows.len(), filters)), &scaled);
                out
            };
            let residual =
                QuantizedResidual { data: Matrix::dense(&other, total, g.filters), scale: 0.3, zero_point: 90 };
            let through =
                Through { factor: 1.0, limits: (-100, 90), scale: 0.8, shift: None, residual: Some(residual) };
            let bytes = |a: &dyn RowPointers, through: Option<Through<'_>>| {
                let mut out = vec![99; len];
                let to = Requantize { factor: 1.0, zero_point: 30 };
                let to = ByteOutput::U8(MatrixMut::dense(&mut out, rows.len(), filters), to);
                run(isa, a, b, &part, to, &ByteEpilogue { through, ..scaled });
                out
            };
            let expected = (sums(&all), floats(&all), bytes(&all, None), bytes(&all, Some(through)));
            for a in borders.all_ways(&all, &part) {
                let found = (sums(&a), floats(&a), bytes(&a, None), bytes(&a, Some(through)));
                let differs = first(&found.0, &expected.0)
                    .or_else(|| first(&found.1, &expected.1))
                    .or_else(|| first(&found.2, &expected.2))
                    .or_else(|| first(&found.3, &expected.3));
                assert!(differs.is_none(), "{differs:?}, {} {g:?}, {rows:?} of {total}", isa.name());
                ways += 1;
            }
        }
    }
    ways
}

/// Where they differ first.
fn first<T: PartialEq>(found: &[T], expected: &[T]) -> Option<usize> {
    (0..expected.len().max(found.len())).find(|&at| found.get(at) != expected.get(at))
}

fn run(
    isa: Isa,
    a: &dyn RowPointers,
    b: &super::super::gemm::PackedBytes,
    part: &Part,
    mut out: ByteOutput<'_>,
    epilogue: &ByteEpilogue<'_>,
) {
    // SAFETY: the rows are those of the input that the tables were made for.
    unsafe { product_bytes(isa, a, b, part, &mut out, epilogue) }
}
