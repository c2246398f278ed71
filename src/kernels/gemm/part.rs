//! The parts that a product is divided into, and the checks that all products share.

use super::super::arch::Isa;
use super::super::view::Matrix;
use super::deferred::{Columns, Deferred};
use super::driver::{Drive, RowPointers};
use super::finish::{Direct, Finish};
use super::product::{Element, Float};
use super::strips::Strips;
use super::tile::{Ahead, Shared};
use std::ops::Range;

/// Rows that lie a stride apart.
pub(in crate::kernels) struct Strided {
    pub(in crate::kernels) data: *const u8,
    pub(in crate::kernels) stride_bytes: usize,
}

impl RowPointers for Strided {
    fn segments(&self) -> usize {
        1
    }

    fn apart(&self) -> usize {
        self.stride_bytes
    }

    #[inline(always)]
    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], _: &mut [u8]) {
        let from = self.data.wrapping_add(first * self.stride_bytes);
        for (j, pointer) in pointers[..count].iter_mut().enumerate() {
            *pointer = from.wrapping_add(j * self.stride_bytes);
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

impl Part {
    /// # Panics
    /// If the output's size is not the part's.
    #[track_caller]
    pub(super) fn check_output(&self, rows: usize, cols: usize) {
        assert!(
            rows == self.rows.len() && cols == self.columns.len(),
            "the output is {rows} x {cols}, the product {} x {}",
            self.rows.len(),
            self.columns.len()
        );
    }

    /// The part's share of an operand with an element a column.
    #[track_caller]
    pub(super) fn per_column<T>(&self, operand: &[T]) -> *const T {
        assert!(operand.len() == self.whole.1, "{} elements for {} columns", operand.len(), self.whole.1);
        operand[self.columns.start..].as_ptr()
    }

    /// The part's share of an operand with an element a row.
    #[track_caller]
    pub(super) fn per_row<T>(&self, operand: &[T]) -> *const T {
        assert!(operand.len() == self.whole.0, "{} elements for {} rows", operand.len(), self.whole.0);
        operand[self.rows.start..].as_ptr()
    }

    /// The part's share of an operand of the output's size, and its stride.
    #[track_caller]
    pub(super) fn matrix<T>(&self, operand: Matrix<'_, T>) -> (*const T, usize) {
        let (m, n) = self.whole;
        let (rows, cols) = (operand.rows(), operand.cols());
        assert!(rows == m && cols == n, "the residual is {rows} x {cols}, the product {m} x {n}");
        let first = self.rows.start * operand.stride() + self.columns.start;
        (operand.as_ptr().wrapping_add(first), operand.stride())
    }
}

/// A packed B of any element type.
pub(super) struct Operand {
    pub(super) data: *const u8,
    /// Columns, and columns of a panel.
    pub(super) n: usize,
    pub(super) panel: usize,
    pub(super) panel_bytes: usize,
    /// Whole words of a segment of K, and bytes after them.
    pub(super) words: usize,
    pub(super) tail: usize,
}

/// Words of the shortest rows whose products take the epilogue of the tile before.
const DEFERRING_WORDS: usize = 16;

/// Runs the product of a part; `chunks` where the output can hold sums between chunks of K.
///
/// # Safety
/// The pointers that `a` yields for the part's rows are good for a segment each; B has as many segments as `a`; the
/// epilogue's pointers are good for the part.
#[track_caller]
pub(super) unsafe fn drive<E: Element>(
    isa: Isa,
    a: &dyn RowPointers,
    b: Operand,
    part: &Part,
    finish: &Finish<'_>,
    chunks: bool,
) {
    let Part { rows, columns, first_column, .. } = part;
    let in_b = columns.start - first_column..columns.end - first_column;
    assert!(in_b.start <= in_b.end && in_b.end <= b.n, "columns {in_b:?} of {}", b.n);
    assert!(in_b.start.is_multiple_of(b.panel), "column {} starts no panel of {}", in_b.start, b.panel);
    if rows.is_empty() || columns.is_empty() {
        return;
    }
    let shared = Shared {
        segments: a.segments(),
        of_segments: a.segments(),
        layout: std::ptr::null(),
        apart: true,
        words: b.words,
        tail: b.tail,
        b: b.data.wrapping_add(in_b.start / b.panel * b.panel_bytes),
        panel_bytes: b.panel_bytes,
        ahead: Ahead::default(),
        deferred: Deferred::of(finish).filter(|_| {
            // Two words at a time; few of them do not hide an epilogue.
            b.tail == 0 && b.words.is_multiple_of(2) && b.words.saturating_mul(a.segments()) >= DEFERRING_WORDS
        }),
        operands: Columns::NONE,
        sums: finish.column_sums,
        places: std::ptr::null(),
        finish,
    };
    debug_assert!(finish.integer || (a.pieces() == 0 && a.segments_apart()), "only integers have pieces");
    let (range, columns) = (rows.clone(), columns.len());
    let strips = Strips::of::<E>(isa);
    // SAFETY: as the caller promises.
    unsafe { Drive { isa, strips, shared: &shared, rows: a, range, columns, chunks }.run() }
}

/// The product of a part with rows `own` of a B whose panels lie unpacked in `scratch`: added to what the output holds of the
/// rows before, with the epilogue behind the last row.
///
/// # Safety
/// `scratch` holds the rows of all of the part's panels, `panel` columns wide; the epilogue's pointers are good for the part.
#[track_caller]
pub(super) unsafe fn drive_unpacked(
    isa: Isa,
    a: Matrix<'_, f32>,
    scratch: &[f32],
    panel: usize,
    own: Range<usize>,
    part: &Part,
    finish: &mut Finish<'_>,
) {
    let operand = Operand {
        data: scratch.as_ptr().cast(),
        n: part.columns.len(),
        panel,
        panel_bytes: own.len() * panel * 4,
        words: own.len(),
        tail: 0,
    };
    finish.resume = own.start > 0;
    let (direct, extremes) = (finish.direct, finish.extremes);
    if own.end < a.cols() {
        (finish.direct, finish.extremes) = (Some(Direct::NOTHING), None);
    }
    // SAFETY: rows of A are as long as B is high; the rest is as the caller promises.
    unsafe {
        let a = Strided { data: a.as_ptr().add(own.start).cast(), stride_bytes: a.stride() * 4 };
        drive::<Float>(isa, &a, operand, part, finish, false);
    }
    (finish.direct, finish.extremes) = (direct, extremes);
}
