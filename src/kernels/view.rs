//! Views of row-major matrices over slices: checked once where they are made, split safely, read through pointers inside.

use std::marker::PhantomData;
use std::ops::Range;

/// `rows x cols` elements to read; row `r` starts at element `r * stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// Elements that `rows` rows of `cols` elements span when they lie `stride` apart.
fn span(rows: usize, cols: usize, stride: usize) -> Option<usize> {
    match rows.checked_sub(1) {
        Some(gaps) if cols > 0 => gaps.checked_mul(stride)?.checked_add(cols),
        _ => Some(0),
    }
}

impl<'a, T> Matrix<'a, T> {
    /// A view of `data`.
    ///
    /// # Panics
    /// If the last row would end behind `data`.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        let needed = span(rows, cols, stride);
        assert!(
            needed.is_some_and(|needed| needed <= data.len()),
            "{rows} x {cols}, stride {stride}, in {} elements",
            data.len()
        );
        Matrix { data, rows, cols, stride }
    }

    /// Rows that follow each other without gaps.
    ///
    /// # Panics
    /// If `data` holds fewer than `rows * cols` elements.
    #[must_use]
    #[track_caller]
    pub fn dense(data: &'a [T], rows: usize, cols: usize) -> Self {
        Matrix::new(data, rows, cols, cols)
    }

    /// Number of rows.
    #[must_use]
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    #[must_use]
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from the start of one row to the start of the next.
    #[must_use]
    #[inline]
    pub fn stride(&self) -> usize {
        self.stride
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }
}

/// `rows x cols` elements to write; row `r` starts at element `r * stride`. What lies between the rows is left alone.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable borrow of the elements of its rows, which no other view holds: `new` takes a whole slice,
// and the splits give out disjoint rows or columns.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}
// SAFETY: a shared reference to it gives no access to the elements.
unsafe impl<T: Sync> Sync for MatrixMut<'_, T> {}

impl<'a, T> MatrixMut<'a, T> {
    /// A view of `data`.
    ///
    /// # Panics
    /// If the last row would end behind `data`, or rows overlap.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        let len = data.len();
        let fits = span(rows, cols, stride).is_some_and(|needed| needed <= len);
        assert!(fits && (rows <= 1 || stride >= cols), "{rows} x {cols}, stride {stride}, in {len} elements");
        MatrixMut { data: data.as_mut_ptr(), rows, cols, stride, lifetime: PhantomData }
    }

    /// Rows that follow each other without gaps.
    ///
    /// # Panics
    /// If `data` holds fewer than `rows * cols` elements.
    #[must_use]
    #[track_caller]
    pub fn dense(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        MatrixMut::new(data, rows, cols, cols)
    }

    /// A view of some columns, where others have views of the rest.
    ///
    /// # Safety
    /// For `'a`, the `cols` elements of each row, which begin `stride` apart at `data`, are good to read and write, and
    /// nobody else reads or writes them.
    #[must_use]
    pub(crate) unsafe fn from_raw(data: *mut T, rows: usize, cols: usize, stride: usize) -> Self {
        MatrixMut { data, rows, cols, stride, lifetime: PhantomData }
    }

    /// Number of rows.
    #[must_use]
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    #[must_use]
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from the start of one row to the start of the next.
    #[must_use]
    #[inline]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The same view for a shorter time.
    #[must_use]
    pub fn reborrow(&mut self) -> MatrixMut<'_, T> {
        MatrixMut { lifetime: PhantomData, ..*self }
    }

    /// The rows before `at`, and the rest.
    ///
    /// # Panics
    /// If there are fewer than `at` rows.
    #[must_use]
    #[track_caller]
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "split at row {at} of {}", self.rows);
        let rest = self.data.wrapping_add(at * self.stride);
        (MatrixMut { rows: at, ..self }, MatrixMut { data: rest, rows: self.rows - at, ..self })
    }

    /// The columns before `at`, and the rest: the rows interleave in memory, the elements do not.
    ///
    /// # Panics
    /// If there are fewer than `at` columns.
    #[must_use]
    #[track_caller]
    pub fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols, "split at column {at} of {}", self.cols);
        let rest = self.data.wrapping_add(at);
        (MatrixMut { cols: at, ..self }, MatrixMut { data: rest, cols: self.cols - at, ..self })
    }

    /// Only the columns of `range`.
    ///
    /// # Panics
    /// If the range ends behind the last column.
    #[must_use]
    #[track_caller]
    pub fn columns(self, range: Range<usize>) -> Self {
        self.split_cols(range.end).0.split_cols(range.start).1
    }

    #[inline]
    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_disjoint_and_complete() {
        let mut data = vec![0; 4 * 7];
        let (top, bottom) = MatrixMut::new(&mut data, 4, 5, 7).split_rows(1);
        let (left, mut right) = bottom.split_cols(2);
        assert_eq!((top.rows(), left.cols(), right.rows(), right.cols()), (1, 2, 3, 3));
        // SAFETY: the first element of the view.
        unsafe { *right.as_mut_ptr() = 1 };
        assert_eq!(data.iter().position(|&x| x == 1), Some(7 + 2));
    }

    #[test]
    #[should_panic(expected = "2 x 5, stride 7, in 11 elements")]
    fn a_view_past_the_end_is_refused() {
        let _ = Matrix::new(&[0; 11], 2, 5, 7);
    }
}
