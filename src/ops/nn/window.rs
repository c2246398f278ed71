//! A window that slides over the spatial axes: how many places it has, and which element each tap reads there.
//!
//! Convolutions and pools share it; what is done with the elements is theirs.

use super::padding::{Padding, entry, reach};
use crate::error::{Result, ensure, err};
use crate::tensor::Dim;

/// The attributes that make a window, as the operators hold them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowSpec<'a> {
    pub(crate) kernel: &'a [usize],
    pub(crate) strides: &'a [usize],
    pub(crate) dilations: &'a [usize],
    pub(crate) padding: &'a Padding,
    pub(crate) ceil_mode: bool,
}

impl WindowSpec<'_> {
    /// The spatial axes of the output. A symbol survives where the window keeps every length.
    pub(crate) fn infer(&self, input: &[Dim]) -> Result<Vec<Dim>> {
        let rank = input.len();
        ensure!(self.kernel.len() == rank, Shape, "a kernel of {} axes on {rank} spatial axes", self.kernel.len());
        (0..rank).map(|axis| self.infer_axis(axis, rank, &input[axis])).collect()
    }

    fn infer_axis(&self, axis: usize, rank: usize, input: &Dim) -> Result<Dim> {
        let kernel = self.kernel[axis];
        let stride = entry(self.strides, axis, rank, "strides")?;
        let dilation = entry(self.dilations, axis, rank, "dilations")?;
        if let Dim::Known(length) = input {
            return Ok(Dim::Known(self.geometry_axis(axis, rank, *length)?.output));
        }
        let keeps = stride == 1
            && match self.padding {
                Padding::SameUpper | Padding::SameLower => true,
                Padding::Valid => kernel == 1,
                Padding::Explicit { begin, end } => {
                    let pad = |list: &[i64]| i128::from(list.get(axis).copied().unwrap_or(0));
                    pad(begin) + pad(end) == reach(kernel, dilation) - 1
                }
            };
        Ok(if keeps { input.clone() } else { Dim::Unknown })
    }

    /// The window over concrete lengths.
    pub(crate) fn over(&self, input: &[usize]) -> Result<Window> {
        let rank = input.len();
        ensure!(self.kernel.len() == rank, Shape, "a kernel of {} axes on {rank} spatial axes", self.kernel.len());
        let axes = (0..rank).map(|axis| self.geometry_axis(axis, rank, input[axis])).collect::<Result<_>>()?;
        Ok(Window { axes })
    }

    fn geometry_axis(&self, axis: usize, rank: usize, input: usize) -> Result<Axis> {
        let kernel = self.kernel[axis];
        ensure!(kernel > 0, Shape, "the kernel has a zero: {:?}", self.kernel);
        let stride = entry(self.strides, axis, rank, "strides")?;
        let dilation = entry(self.dilations, axis, rank, "dilations")?;
        let (begin, end) = self.padding.axis(axis, rank, input, kernel, stride, dilation)?;
        let same = matches!(self.padding, Padding::SameUpper | Padding::SameLower);
        let output = if same {
            input.div_ceil(stride)
        } else {
            let room = (input as i128 + i128::from(begin) + i128::from(end)).saturating_sub(reach(kernel, dilation));
            ensure!(
                room >= 0,
                Shape,
                "a kernel of {kernel} (dilation {dilation}) does not fit on {input} elements padded by {begin} and {end}"
            );
            let ceil = self.ceil_mode && !matches!(self.padding, Padding::Valid);
            let stride = stride as i128;
            let mut places = room / stride + 1;
            // A window that would start behind the input and its padding before it is no place.
            if ceil && room % stride != 0 && places * stride < input as i128 + i128::from(begin) {
                places += 1;
            }
            usize::try_from(places).map_err(|_| err!(Limit, "the window has {places} places"))?
        };
        Ok(Axis { input, output, kernel, stride, dilation, begin, end })
    }
}

/// One axis of a [`Window`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) begin: i64,
    pub(crate) end: i64,
}

impl Axis {
    /// Where tap `tap` reads at place `place`, counted from the first element of the input.
    fn coordinate(&self, place: usize, tap: usize) -> i128 {
        place as i128 * self.stride as i128 + tap as i128 * self.dilation as i128 - i128::from(self.begin)
    }
}

/// A window over concrete lengths.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) axes: Vec<Axis>,
}

/// Marks a tap that reads padding.
pub(crate) const PADDING: usize = usize::MAX;

impl Window {
    /// The spatial axes of the output.
    pub(crate) fn output(&self) -> impl Iterator<Item = usize> {
        self.axes.iter().map(|a| a.output)
    }

    /// Number of elements of a channel of the input.
    pub(crate) fn inputs(&self) -> usize {
        self.axes.iter().fold(1, |n, a| n.saturating_mul(a.input))
    }

    /// Number of places: elements of a channel of the output.
    pub(crate) fn places(&self) -> usize {
        self.axes.iter().fold(1, |n, a| n.saturating_mul(a.output))
    }

    /// Number of taps: elements of the kernel.
    pub(crate) fn taps(&self) -> usize {
        self.axes.iter().fold(1, |n, a| n.saturating_mul(a.kernel))
    }

    /// For each tap and each place of `range`, the index that it reads within a channel, or [`PADDING`]:
    /// `[taps, range]`.
    pub(crate) fn table(&self, range: std::ops::Range<usize>) -> Vec<usize> {
        let width = range.len();
        let mut table = vec![0usize; self.taps() * width];
        let mut place = vec![0usize; self.axes.len()];
        for (column, index) in range.enumerate() {
            unravel(index, self.axes.iter().map(|a| a.output), &mut place);
            let mut tap = vec![0usize; self.axes.len()];
            for row in 0..self.taps() {
                table[row * width + column] = self.read(&place, &tap);
                advance(&mut tap, self.axes.iter().map(|a| a.kernel));
            }
        }
        table
    }

    fn read(&self, place: &[usize], tap: &[usize]) -> usize {
        let mut index = 0;
        for (axis, (&p, &t)) in self.axes.iter().zip(place.iter().zip(tap)) {
            let at = axis.coordinate(p, t);
            if at < 0 || at >= axis.input as i128 {
                return PADDING;
            }
            index = index * axis.input + at as usize;
        }
        index
    }

    /// Where a tap reads at a place, of a window over two axes: row and column, which may lie outside.
    pub(crate) fn coordinates(&self, place: usize, tap: usize) -> (f64, f64) {
        match self.axes.as_slice() {
            [rows, columns] => (
                rows.coordinate(place / columns.output, tap / columns.kernel) as f64,
                columns.coordinate(place % columns.output, tap % columns.kernel) as f64,
            ),
            _ => (f64::NAN, f64::NAN),
        }
    }

    /// The index of an element of a channel when the first spatial axis runs fastest.
    pub(crate) fn column_major(&self, index: usize) -> usize {
        let mut at = vec![0usize; self.axes.len()];
        unravel(index, self.axes.iter().map(|a| a.input), &mut at);
        self.axes.iter().zip(&at).rev().fold(0, |n, (axis, &i)| n * axis.input + i)
    }

    /// How many taps at place `index` read the input or its padding, but nothing behind the padding.
    pub(crate) fn taps_within_padding(&self, index: usize) -> usize {
        let mut place = vec![0usize; self.axes.len()];
        unravel(index, self.axes.iter().map(|a| a.output), &mut place);
        let within = |axis: &Axis, p: usize| {
            let limit = axis.input as i128 + i128::from(axis.end);
            (0..axis.kernel).filter(|&t| axis.coordinate(p, t) < limit).count()
        };
        self.axes.iter().zip(&place).map(|(axis, &p)| within(axis, p)).product()
    }
}

/// The coordinates of the element `index` of a row-major shape.
pub(super) fn unravel(mut index: usize, shape: impl DoubleEndedIterator<Item = usize>, out: &mut [usize]) {
    for (slot, length) in out.iter_mut().rev().zip(shape.rev()) {
        *slot = index % length;
        index /= length;
    }
}

/// Steps a counter over a row-major shape; wraps to zeros at the end.
pub(super) fn advance(counter: &mut [usize], shape: impl DoubleEndedIterator<Item = usize>) {
    for (slot, length) in counter.iter_mut().rev().zip(shape.rev()) {
        *slot += 1;
        if *slot < length {
            return;
        }
        *slot = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Symbol;

    fn spec<'a>(kernel: &'a [usize], strides: &'a [usize], padding: &'a Padding, ceil_mode: bool) -> WindowSpec<'a> {
        WindowSpec { kernel, strides, dilations: &[], padding, ceil_mode }
    }

    #[test]
    fn places_are_counted_as_onnx_says() {
        let one = Padding::symmetric(&[1]);
        let none = Padding::none();
        // input, kernel, stride, padding, ceil, places
        let cases = [
            (5, 3, 1, &none, false, 3),
            (4, 3, 2, &none, false, 1),
            (4, 3, 2, &none, true, 2),
            (2, 1, 2, &none, true, 1),
            (2, 3, 3, &one, true, 1),
            (5, 3, 2, &Padding::SameUpper, false, 3),
            (5, 3, 2, &Padding::Valid, true, 2),
        ];
        for (input, kernel, stride, padding, ceil, places) in cases {
            let window = spec(&[kernel], &[stride], padding, ceil).over(&[input]).unwrap();
            assert_eq!(window.places(), places, "{input} {kernel} {stride} {padding:?} {ceil}");
        }
    }

    #[test]
    fn hostile_windows_are_errors() {
        let none = Padding::none();
        assert!(spec(&[5], &[], &none, false).over(&[4]).is_err());
        assert!(spec(&[0], &[], &none, false).over(&[4]).is_err());
        assert!(spec(&[1], &[0], &none, false).over(&[4]).is_err());
        let huge = Padding::symmetric(&[i64::MAX]);
        assert!(spec(&[1], &[], &huge, false).over(&[usize::MAX / 2]).is_err());
        let crop = Padding::symmetric(&[-3]);
        assert!(spec(&[1], &[], &crop, false).over(&[4]).is_err());
    }

    #[test]
    fn a_symbol_survives_a_window_that_keeps_lengths() {
        let n = [Dim::Symbol(Symbol::new("W"))];
        assert_eq!(spec(&[3], &[], &Padding::symmetric(&[1]), false).infer(&n).unwrap(), n);
        assert_eq!(spec(&[3], &[1], &Padding::SameLower, false).infer(&n).unwrap(), n);
        assert_eq!(spec(&[3], &[2], &Padding::SameLower, false).infer(&n).unwrap(), [Dim::Unknown]);
    }

    #[test]
    fn the_table_reads_rows_and_marks_padding() {
        let pads = Padding::symmetric(&[0, 1]);
        let window = spec(&[1, 3], &[1, 2], &pads, false).over(&[2, 3]).unwrap();
        assert_eq!(window.table(0..4), [PADDING, 1, PADDING, 4, 0, 2, 3, 5, 1, PADDING, 4, PADDING]);
        assert_eq!(window.taps_within_padding(0), 3);
    }
}
