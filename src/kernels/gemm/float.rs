//! f32 products: `out = epilogue(A x B)` with B packed.

use super::super::arch::Isa;
use super::super::view::{Matrix, MatrixMut};
use super::driver::{Drive, RowPointers};
use super::epilogue::{Activation, Epilogue, Residual};
use super::finish::{Direct, Finish, Store};
use super::pack::{PackedView, panel_width};
use super::product::Float;
use super::tile::Shared;
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
pub fn gemm<'b>(
    isa: Isa,
    a: Matrix<'_, f32>,
    b: impl Into<PackedView<'b>>,
    out: MatrixMut<'_, f32>,
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
pub fn gemm_region<'b>(
    isa: Isa,
    a: Matrix<'_, f32>,
    b: impl Into<PackedView<'b>>,
    rows: Range<usize>,
    columns: Range<usize>,
    mut out: MatrixMut<'_, f32>,
    epilogue: &Epilogue<'_>,
) {
    let b = b.into();
    assert!(a.cols() == b.k, "A has {} columns, B {} rows", a.cols(), b.k);
    assert!(rows.start <= rows.end && rows.end <= a.rows(), "rows {rows:?} of {}", a.rows());
    let part = Part { whole: (a.rows(), b.n), rows, columns, first_column: 0 };
    // SAFETY: the rows of A are in its slice, and each of them is k elements long.
    unsafe {
        let strided = Strided { data: a.as_ptr().cast(), stride_bytes: a.stride() * 4 };
        product(isa, &strided, b, b.k, part, &mut out, epilogue);
    }
}

/// Rows that lie a stride apart.
pub(in crate::kernels) struct Strided {
    pub(in crate::kernels) data: *const u8,
    pub(in crate::kernels) stride_bytes: usize,
}

impl RowPointers for Strided {
    fn segments(&self) -> usize {
        1
    }

    #[inline(always)]
    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], _: &mut [u8]) {
        for (row, pointer) in (first..).zip(&mut pointers[..count]) {
            *pointer = self.data.wrapping_add(row * self.stride_bytes);
        }
    }
}

/// Which part of an output is computed.
pub(in crate::kernels) struct Part {
    /// Rows and columns of the whole output, which the epilogue's operands have.
    pub(in crate::kernels) whole: (usize, usize),
    /// The rows of the part.
    pub(in crate::kernels) rows: Range<usize>,
    /// The columns of the part.
    pub(in crate::kernels) columns: Range<usize>,
    /// The column of the output that is B's first.
    pub(in crate::kernels) first_column: usize,
}

/// A product of rows from anywhere, each of segments of `segment` elements.
///
/// # Safety
/// The pointers that `a` yields for the part's rows are good for `segment` elements each, and B is
/// `a.segments() * segment` rows high.
#[track_caller]
pub(in crate::kernels) unsafe fn product<R: RowPointers>(
    isa: Isa,
    a: &R,
    b: PackedView<'_>,
    segment: usize,
    part: Part,
    out: &mut MatrixMut<'_, f32>,
    epilogue: &Epilogue<'_>,
) {
    let Part { rows, columns, first_column, .. } = &part;
    let in_b = columns.start - first_column..columns.end - first_column;
    assert!(b.panel == panel_width(isa), "B is packed in panels of {}, not for {}", b.panel, isa.name());
    assert!(in_b.start <= in_b.end && in_b.end <= b.n, "columns {in_b:?} of {}", b.n);
    assert!(in_b.start.is_multiple_of(b.panel), "column {} starts no panel of {}", in_b.start, b.panel);
    if rows.is_empty() || columns.is_empty() {
        return;
    }
    let panel_bytes = b.k * b.panel * 4;
    let finish = finish(epilogue, &part, out);
    let shared = Shared {
        segments: a.segments(),
        words: segment,
        tail: 0,
        b: b.data.as_ptr().cast::<u8>().wrapping_add(in_b.start / b.panel * panel_bytes),
        panel_bytes,
        finish: &finish,
    };
    isa.dispatch(Drive {
        shared: &shared,
        rows: a,
        range: rows.clone(),
        columns: columns.len(),
        element: PhantomData::<Float>,
    });
}

/// The epilogue in the coordinates of a part of the output, its operands checked.
///
/// # Panics
/// If an operand's size is not the output's.
#[track_caller]
pub(in crate::kernels) fn finish<'a>(epilogue: &Epilogue<'a>, part: &Part, out: &mut MatrixMut<'_, f32>) -> Finish<'a> {
    let Part { whole: (m, n), rows, columns, .. } = part;
    let (m, n) = (*m, *n);
    assert!(
        out.rows() == rows.len() && out.cols() == columns.len(),
        "the output is {} x {}, the product {} x {}",
        out.rows(),
        out.cols(),
        rows.len(),
        columns.len()
    );
    let per_column = |operand: Option<&'a [f32]>| {
        operand.map(|operand| {
            assert!(operand.len() == n, "{} elements for {n} columns", operand.len());
            operand[columns.start..].as_ptr()
        })
    };
    let matrix = |residual: Matrix<'a, f32>| {
        assert!(
            residual.rows() == m && residual.cols() == n,
            "the residual is {} x {}, the product {m} x {n}",
            residual.rows(),
            residual.cols()
        );
        (residual.as_ptr().wrapping_add(rows.start * residual.stride() + columns.start), residual.stride())
    };
    let own = (out.as_mut_ptr().cast_const(), out.stride());
    let residual = epilogue.residual.map(|residual| match residual {
        Residual::Before(residual) => (matrix(residual), false),
        Residual::After(residual) => (matrix(residual), true),
        Residual::OutputBefore => (own, false),
        Residual::OutputAfter => (own, true),
    });
    let ((residual, residual_stride), residual_after) = match residual {
        Some(((pointer, stride), after)) => ((Some(pointer), stride), after),
        None => ((None, 0), false),
    };
    let row_scale = epilogue.row_scale.map(|scale| {
        assert!(scale.len() == m, "{} factors for {m} rows", scale.len());
        scale[rows.start..].as_ptr()
    });
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
    Finish {
        // Unscaled, the sums start from the bias; it costs nothing then.
        start: if scaled { None } else { bias.map(<*const f32>::cast) },
        direct,
        integer: false,
        column_scale,
        row_scale,
        shift: if scaled { bias } else { None },
        residual,
        residual_stride,
        residual_after,
        activation: epilogue.activation,
        store: Store::F32,
        out: out.as_mut_ptr().cast(),
        stride: out.stride(),
        lifetime: PhantomData,
    }
}
