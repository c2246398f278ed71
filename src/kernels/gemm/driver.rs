//! The loops round the tile: blocks of B's panels outside, strips of rows inside.
//!
//! ```text
//! for each block of panels that fits in half of the second cache:
//!     for each strip of at most MR rows, all of nearly the same height:
//!         for each panel of the block: one tile
//! ```
//! A strip's rows of A stay in the first cache while it walks over a block's panels, and the block stays in the second
//! while the strips walk over it.

use super::super::arch::{Body, Simd};
use super::product::{Element, Product};
use super::tile::{Shared, Strip, tallest};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes of B that are kept in the second cache while rows pass by.
const BLOCK_BYTES: usize = 512 * 1024;

/// Where rows begin.
pub(in crate::kernels) trait RowPointers {
    /// Segments of K of every row.
    fn segments(&self) -> usize;

    /// Bytes that a row needs where it must be put together first.
    fn copy_bytes(&self) -> usize {
        0
    }

    /// Writes `[segments][count]` pointers for the rows `first..first + count`. `copies` holds
    /// [`copy_bytes`](RowPointers::copy_bytes) for each of them, which stay until the next call.
    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], copies: &mut [u8]);
}

/// A product of rows and panels.
pub(super) struct Drive<'a, E, R> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) rows: &'a R,
    /// The rows of A; the output's first row is the first of them.
    pub(super) range: Range<usize>,
    /// Columns to compute, from the first panel on.
    pub(super) columns: usize,
    pub(super) element: PhantomData<E>,
}

/// What a strip needs beside registers: kept by each thread, so that a warm call allocates nothing.
#[derive(Default)]
struct Workspace {
    pointers: Vec<*const u8>,
    copies: Vec<u8>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

impl<E: Element, R: RowPointers> Body for Drive<'_, E, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (height, width) = const { (tallest::<S, E::On<S>>(), E::On::<S>::PANEL * S::LANES) };
        let rows = self.range.len();
        let strips = rows.div_ceil(height);
        if strips == 0 {
            return;
        }
        let panels = self.columns.div_ceil(width);
        let in_block = if strips == 1 { panels } else { (BLOCK_BYTES / self.shared.panel_bytes.max(1)).max(1) };
        // Whole blocks of nearly the same size, in even numbers of panels, as short strips take panels in pairs.
        let blocks = panels.div_ceil(in_block).max(1);
        let in_block = panels.div_ceil(blocks).next_multiple_of(2);
        let segments = self.rows.segments();
        let copy_bytes = self.rows.copy_bytes();
        WORKSPACE.with_borrow_mut(|Workspace { pointers, copies }| {
            if pointers.len() < segments * height {
                pointers.resize(segments * height, std::ptr::null());
            }
            if copies.len() < copy_bytes * height {
                copies.resize(copy_bytes * height, 0);
            }
            let mut column = 0;
            while column < self.columns {
                let end = self.columns.min(column + in_block * width);
                let mut done = 0;
                for strip in 0..strips {
                    let count = rows / strips + usize::from(strip < rows % strips);
                    self.rows.fill(self.range.start + done, count, pointers, copies);
                    strip_of::<S, E>(s, self.shared, pointers, count, done, column..end);
                    done += count;
                }
                column = end;
            }
        });
    }
}

/// Calls the strip of `count` rows.
#[inline(always)]
fn strip_of<S: Simd, E: Element>(
    s: S,
    shared: &Shared<'_>,
    pointers: &[*const u8],
    count: usize,
    row: usize,
    columns: Range<usize>,
) {
    macro_rules! heights {
        ($($height:literal)*) => {
            match count {
                $($height => {
                    if const { $height <= tallest::<S, E::On<S>>() } {
                        let rows = pointers.as_ptr();
                        s.call(Strip::<E, $height> { shared, rows, row, columns, element: PhantomData })
                    }
                })*
                _ => unreachable!("a strip of {count} rows"),
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12);
}
