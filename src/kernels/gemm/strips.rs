//! The way from the loops, compiled once, to the tiles, compiled for each element type, height and instruction set.

use super::super::arch::{Body, ByteTile, EvenWords, Isa, Simd};
use super::product::{Element, Product};
use super::tile::{Shared, Strip, tallest};
use std::marker::PhantomData;
use std::ops::Range;

/// The strips of an element type on an instruction set.
pub(super) struct Strips {
    /// Rows of the tallest.
    pub(super) height: usize,
    /// Columns of a panel of B.
    pub(super) width: usize,
    /// Columns of a vector.
    pub(super) lanes: usize,
    /// How many rows that lie evenly apart have tiles of their own, and what their words are.
    pub(super) even: Option<(Range<usize>, EvenWords)>,
    /// Computes a strip of so many rows, at most `height`.
    ///
    /// # Safety
    /// The rows, B and the output are as large as the strip says.
    pub(super) run: unsafe fn(Isa, usize, &mut StripOf<'_>),
}

impl Strips {
    /// Those of `E`.
    #[inline]
    pub(super) fn of<E: Element>(isa: Isa) -> &'static Self {
        isa.dispatch(Sizes::<E>(PhantomData))
    }
}

/// A strip of any height: see [`Strip`].
pub(super) struct StripOf<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) rows: *const *const u8,
    pub(super) row: usize,
    pub(super) columns: Range<usize>,
    pub(super) state: &'a mut Option<ByteTile>,
}

/// Asks an instruction set for its strips.
struct Sizes<E>(PhantomData<E>);

impl<E: Element> Body for Sizes<E> {
    type Output = &'static Strips;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> &'static Strips {
        const {
            let height = tallest::<S, E::On<S>>();
            let even = match E::On::<S>::EVEN {
                Some(words) if S::EVEN_ROWS.end > 0 => Some((S::EVEN_ROWS, words)),
                _ => None,
            };
            &Strips { height, width: E::On::<S>::PANEL * S::LANES, lanes: S::LANES, even, run: run::<E> }
        }
    }
}

/// A strip of `MR` rows, where an instruction set has registers for one.
struct Fitting<'a, 'b, E, const MR: usize>(&'a mut StripOf<'b>, PhantomData<E>);

impl<E: Element, const MR: usize> Body for Fitting<'_, '_, E, MR> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if const { MR <= tallest::<S, E::On<S>>() } {
            let StripOf { shared, rows, row, ref columns, ref mut state } = *self.0;
            Strip::<E, MR> { shared, rows, row, columns: columns.clone(), state, element: PhantomData }.run(s);
        }
    }
}

/// Computes a strip of `count` rows.
///
/// # Safety
/// As of [`Strips::run`].
unsafe fn run<E: Element>(isa: Isa, count: usize, of: &mut StripOf<'_>) {
    macro_rules! heights {
        ($($height:literal)*) => {
            match count {
                $($height => isa.dispatch(Fitting::<E, $height>(of, PhantomData)),)*
                _ => unreachable!("a strip of {count} rows"),
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12);
}
