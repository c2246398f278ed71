//! f32 products: `out = epilogue(A x B)` with B packed.

use super::super::arch::Isa;
use super::super::view::{Matrix, MatrixMut};
use super::driver::RowPointers;
use super::epilogue::{Activation, Epilogue, Residual};
use super::finish::{Direct, Finish, Store};
use super::output::FloatOutput;
use super::pack::{PackedView, panel_width};
use super::part::{Operand, Part, Strided, drive};
use super::product::Float;
use super::short::short;
use std::marker::PhantomData;
use std::ops::Range;

/// `out = epilogue(a x b)`; `a` is `[m, k]`, `b` `[k, n]`, `out` `[m, n]`.
///
/// An element's bits depend on its row of `a`, its column of `b` and the epilogue alone: not on `m`, nor on how the
/// product was divided.
///
/// # Panics
/// If the sizes do not fit together, or `b` was packed for another instruction set.
#[track_caller]
pub fn gemm<'b, 'o>(
    isa: Isa,
    a: Matrix<'_, f32>,
    b: impl Into<PackedView<'b>>,
    out: impl Into<FloatOutput<'o>>,
    epilogue: &Epilogue<'_>,
) {
    let b = b.into();
    gemm_region(isa, a, b, 0..a.rows(), 0..b.n, out, epilogue);
}

/// The part of [`gemm`] that lies in `rows` of `a` and `columns` of `b`: how a product is divided over threads.
///
/// `out` holds that part only; all of the epilogue's operands are those of the whole product, save the output's own
/// content as a residual.
///
/// # Panics
/// As [`gemm`], or if `columns` does not start with a panel of `b`.
#[track_caller]
pub fn gemm_region<'b, 'o>(
    isa: Isa,
    a: Matrix<'_, f32>,
    b: impl Into<PackedView<'b>>,
    rows: Range<usize>,
    columns: Range<usize>,
    out: impl Into<FloatOutput<'o>>,
    epilogue: &Epilogue<'_>,
) {
    region(isa, a, b.into(), rows, columns, out.into(), epilogue);
}

/// The same, compiled once.
#[track_caller]
fn region(
    isa: Isa,
    a: Matrix<'_, f32>,
    b: PackedView<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    mut out: FloatOutput<'_>,
    epilogue: &Epilogue<'_>,
) {
    assert!(a.cols() == b.k, "A has {} columns, B {} rows", a.cols(), b.k);
    assert!(rows.start <= rows.end && rows.end <= a.rows(), "rows {rows:?} of {}", a.rows());
    let part = Part { whole: (a.rows(), b.n), rows, columns, first_column: 0 };
    // SAFETY: the rows of A are in its slice, and each of them is k elements long.
    unsafe {
        let strided = Strided { data: a.as_ptr().cast(), stride_bytes: a.stride() * 4 };
        let finish = finish_as(epilogue, &part, &mut out);
        let chunks = epilogue.allows_chunks() && finish.store == Store::F32;
        product_to(isa, &strided, b, b.k, &part, &finish, chunks);
    }
}

/// A product of rows from anywhere, each of segments of `segment` elements.
///
/// # Safety
/// The pointers that `a` yields for the part's rows are good for `segment` elements each, and B is
/// `a.segments() * segment` rows high.
#[track_caller]
pub(in crate::kernels) unsafe fn product(
    isa: Isa,
    a: &dyn RowPointers,
    b: PackedView<'_>,
    segment: usize,
    part: Part,
    out: &mut MatrixMut<'_, f32>,
    epilogue: &Epilogue<'_>,
) {
    let finish = finish(epilogue, &part, out);
    // SAFETY: as the caller promises.
    unsafe { product_to(isa, a, b, segment, &part, &finish, epilogue.allows_chunks()) }
}

/// The same with an epilogue in the coordinates of the part; `chunks` where the output can hold sums between chunks of K.
///
/// # Safety
/// As of [`product`]; the part's rows and columns lie in what `finish` describes.
#[track_caller]
pub(in crate::kernels) unsafe fn product_to(
    isa: Isa,
    a: &dyn RowPointers,
    b: PackedView<'_>,
    segment: usize,
    part: &Part,
    finish: &Finish<'_>,
    chunks: bool,
) {
    assert!(b.panel == panel_width(isa), "B is packed in panels of {}, not for {}", b.panel, isa.name());
    let operand = Operand {
        data: b.data.as_ptr().cast(),
        n: b.n,
        panel: b.panel,
        panel_bytes: b.k * b.panel * 4,
        words: segment,
        tail: 0,
    };
    // SAFETY: as the caller promises; the rows that are left are those of the part.
    unsafe {
        match short(isa, a, &operand, part, finish) {
            0 => drive::<Float>(isa, a, operand, part, finish, chunks),
            done => {
                let Part { whole, columns, first_column, .. } = part;
                let rows = part.rows.start + done..part.rows.end;
                let rest = Part { whole: *whole, rows, columns: columns.clone(), first_column: *first_column };
                drive::<Float>(isa, a, operand, &rest, &finish.at(done, 0, 1), chunks);
            }
        }
    }
}

/// The epilogue in the coordinates of a part of the output, its operands checked.
///
/// # Panics
/// If an operand's size is not the output's.
#[track_caller]
pub(in crate::kernels) fn finish<'a>(epilogue: &Epilogue<'a>, part: &Part, out: &mut MatrixMut<'_, f32>) -> Finish<'a> {
    finish_as(epilogue, part, &mut out.reborrow().into())
}

/// The same, of any kind of output.
///
/// # Panics
/// If an operand's size is not the output's, or the output's own content is to be added that is not f32.
#[track_caller]
pub(super) fn finish_as<'a>(epilogue: &Epilogue<'a>, part: &Part, out: &mut FloatOutput<'_>) -> Finish<'a> {
    let (rows, cols) = out.size();
    part.check_output(rows, cols);
    let (pointer, stride, store) = out.parts();
    let per_column = |operand: Option<&'a [f32]>| operand.map(|operand| part.per_column(operand));
    let own = || {
        assert!(store == Store::F32, "only an f32 output can be its own residual");
        (pointer.cast_const().cast::<f32>(), stride)
    };
    let residual = epilogue.residual.map(|residual| match residual {
        Residual::Before(residual) => (part.matrix(residual), false),
        Residual::After(residual) => (part.matrix(residual), true),
        Residual::OutputBefore => (own(), false),
        Residual::OutputAfter => (own(), true),
    });
    let ((residual, residual_stride), residual_after) = match residual {
        Some(((pointer, stride), after)) => ((Some(pointer), stride), after),
        None => ((None, 0), false),
    };
    let row_scale = epilogue.row_scale.map(|scale| part.per_row(scale));
    let column_scale = per_column(epilogue.column_scale);
    let bias = per_column(epilogue.bias);
    let scaled = row_scale.is_some() || column_scale.is_some();
    let direct = match epilogue.activation.bounds() {
        Some((lo, hi)) if !scaled && (residual.is_none() || !residual_after) => {
            let bounded = epilogue.activation != Activation::None;
            Some(Direct { residual, residual_stride, bounded, lo, hi })
        }
        _ => None,
    };
    let extremes = epilogue.extremes.filter(|_| store == Store::F32);
    let by_tile = store == Store::F32 && extremes.is_none();
    Finish {
        // Unscaled, the sums start from the bias; it costs nothing then.
        start: if scaled { None } else { bias.map(<*const f32>::cast) },
        direct: direct.filter(|_| by_tile),
        simple: direct.filter(|_| !by_tile),
        rescale: None,
        resume: false,
        integer: false,
        zero_point: 0,
        column_sums: None,
        byte_residual: None,
        through: None,
        column_scale,
        row_scale,
        shift: if scaled { bias } else { None },
        residual,
        residual_stride,
        residual_after,
        activation: epilogue.activation,
        store,
        extremes,
        out: pointer,
        stride,
        next: epilogue.next,
        pack_rows: epilogue.pack_rows,
        lifetime: PhantomData,
    }
}
