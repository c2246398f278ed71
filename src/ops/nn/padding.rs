//! How the spatial axes of a convolution or a pool are padded, as attributes say it and as numbers.

use crate::error::{Result, bail, ensure, err};
use crate::ops::{Attrs, NodeReader};

/// How far a window may reach over the edges of its input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Padding {
    /// So many elements before and behind each spatial axis; empty means none. Negative entries crop.
    Explicit {
        /// Before each axis.
        begin: Vec<i64>,
        /// Behind each axis.
        end: Vec<i64>,
    },
    /// So many that the output has `ceil(input / stride)` elements; the odd one goes behind.
    SameUpper,
    /// As [`SameUpper`](Padding::SameUpper), but the odd one goes before.
    SameLower,
    /// None.
    Valid,
}

impl Default for Padding {
    fn default() -> Self {
        Padding::none()
    }
}

impl Padding {
    /// No padding, said explicitly.
    #[must_use]
    pub const fn none() -> Self {
        Padding::Explicit { begin: Vec::new(), end: Vec::new() }
    }

    /// The same number of elements on both sides of each axis.
    #[must_use]
    pub fn symmetric(pads: &[i64]) -> Self {
        Padding::Explicit { begin: pads.to_vec(), end: pads.to_vec() }
    }

    /// Elements before and behind each axis, for concrete lengths. Empty `strides` and `dilations` mean ones.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when the lists have different lengths, or one holds a zero.
    pub fn resolve(
        &self,
        input: &[usize],
        kernel: &[usize],
        strides: &[usize],
        dilations: &[usize],
    ) -> Result<(Vec<i64>, Vec<i64>)> {
        let rank = input.len();
        ensure!(kernel.len() == rank, Shape, "a kernel of {} axes on {rank} spatial axes", kernel.len());
        let mut begins = Vec::with_capacity(rank);
        let mut ends = Vec::with_capacity(rank);
        for axis in 0..rank {
            let (stride, dilation) =
                (entry(strides, axis, rank, "strides")?, entry(dilations, axis, rank, "dilations")?);
            let (begin, end) = self.axis(axis, rank, input[axis], kernel[axis], stride, dilation)?;
            begins.push(begin);
            ends.push(end);
        }
        Ok((begins, ends))
    }

    /// Padding of one axis.
    pub(super) fn axis(
        &self,
        axis: usize,
        rank: usize,
        input: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
    ) -> Result<(i64, i64)> {
        match self {
            Padding::Explicit { begin, end } => {
                let side = |list: &[i64]| match list.len() {
                    0 => Ok(0),
                    n if n == rank => Ok(list[axis]),
                    n => Err(err!(Shape, "pads for {n} axes on {rank} spatial axes")),
                };
                Ok((side(begin)?, side(end)?))
            }
            Padding::Valid => Ok((0, 0)),
            Padding::SameUpper | Padding::SameLower => {
                let output = input.div_ceil(stride) as i128;
                let needed = reach(kernel, dilation).saturating_add((output - 1) * stride as i128 - input as i128);
                let total =
                    i64::try_from(needed.max(0)).map_err(|_| err!(Limit, "a kernel of {kernel} is too long"))?;
                let small = total / 2;
                Ok(if *self == Padding::SameUpper { (small, total - small) } else { (total - small, small) })
            }
        }
    }

    /// Reads `auto_pad` and `pads`.
    pub(crate) fn read(node: &mut NodeReader) -> Result<Self> {
        let auto = node.str_or("auto_pad", "NOTSET")?;
        let pads = node.ints("pads")?.unwrap_or_default();
        ensure!(pads.len() % 2 == 0, InvalidModel, "pads needs two entries an axis, but has {}", pads.len());
        Ok(match auto.as_str() {
            "NOTSET" | "" => {
                let (begin, end) = pads.split_at(pads.len() / 2);
                Padding::Explicit { begin: begin.to_vec(), end: end.to_vec() }
            }
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            "VALID" => Padding::Valid,
            other => bail!(InvalidModel, "auto_pad is {other}; ONNX knows NOTSET, SAME_UPPER, SAME_LOWER and VALID"),
        })
    }

    /// Adds `auto_pad` or `pads`.
    pub(crate) fn write(&self, attrs: Attrs) -> Attrs {
        match self {
            Padding::Explicit { begin, end } if begin.is_empty() && end.is_empty() => attrs,
            Padding::Explicit { begin, end } => attrs.ints("pads", begin.iter().chain(end).copied()),
            Padding::SameUpper => attrs.str("auto_pad", "SAME_UPPER"),
            Padding::SameLower => attrs.str("auto_pad", "SAME_LOWER"),
            Padding::Valid => attrs.str("auto_pad", "VALID"),
        }
    }
}

/// How many elements a kernel spans: `(kernel - 1) * dilation + 1`; saturates.
pub(super) fn reach(kernel: usize, dilation: usize) -> i128 {
    (kernel as i128 - 1).saturating_mul(dilation as i128).saturating_add(1)
}

/// Entry `axis` of a list where empty means ones.
pub(super) fn entry(list: &[usize], axis: usize, rank: usize, name: &str) -> Result<usize> {
    match list.len() {
        0 => Ok(1),
        n if n == rank => {
            ensure!(list[axis] > 0, Shape, "{name} has a zero: {list:?}");
            Ok(list[axis])
        }
        n => bail!(Shape, "{name} for {n} axes on {rank} spatial axes"),
    }
}

/// Reads a list of positive lengths, empty where the attribute is absent.
pub(super) fn read_positive(node: &mut NodeReader, name: &str) -> Result<Vec<usize>> {
    let list = node.lengths(name)?.unwrap_or_default();
    ensure!(!list.contains(&0), InvalidModel, "attribute {name} has a zero: {list:?}");
    Ok(list)
}

/// Adds a list of lengths unless it is empty.
pub(super) fn write_lengths(attrs: Attrs, name: &'static str, list: &[usize]) -> Attrs {
    if list.is_empty() { attrs } else { attrs.lengths(name, list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_element_goes_to_the_named_side() {
        let pads = |p: Padding| p.resolve(&[5], &[2], &[1], &[]).unwrap();
        assert_eq!(pads(Padding::SameUpper), (vec![0], vec![1]));
        assert_eq!(pads(Padding::SameLower), (vec![1], vec![0]));
        assert_eq!(pads(Padding::Valid), (vec![0], vec![0]));
    }

    #[test]
    fn same_padding_counts_dilation_and_is_never_negative() {
        assert_eq!(Padding::SameUpper.resolve(&[8], &[3], &[1], &[2]).unwrap(), (vec![2], vec![2]));
        assert_eq!(Padding::SameUpper.resolve(&[8], &[1], &[4], &[]).unwrap(), (vec![0], vec![0]));
    }

    #[test]
    fn contradicting_lists_are_errors() {
        assert!(Padding::symmetric(&[1]).resolve(&[4, 4], &[3, 3], &[], &[]).is_err());
        assert!(Padding::none().resolve(&[4], &[3], &[0], &[]).is_err());
        assert!(Padding::none().resolve(&[4], &[3, 3], &[], &[]).is_err());
        let huge = Padding::SameUpper.resolve(&[4], &[usize::MAX], &[], &[usize::MAX]);
        assert!(huge.is_err());
    }
}
