//! A concrete shape: the lengths of a tensor's axes, outermost first.

use crate::error::{Result, bail, err};
use smallvec::SmallVec;
use std::fmt;
use std::ops::Deref;

/// The lengths of a tensor's axes, outermost first; empty for a scalar. Derefs to `[usize]`.
///
/// ```
/// use onrush::Shape;
/// let shape = Shape::from([2, 3, 4]);
/// assert_eq!((shape.rank(), shape.elements(), shape.to_string()), (3, 24, "[2, 3, 4]".to_owned()));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 6]>);

impl Shape {
    /// The shape of a scalar: no axes, one element.
    #[must_use]
    pub fn scalar() -> Self {
        Shape::default()
    }

    /// Number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements; saturates, so compare with a limit before trusting a shape from outside.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.0.iter().fold(1, |n, &d| n.saturating_mul(d))
    }

    /// The number of elements. The length of the slice that a shape derefs to is its rank, so whoever writes this might
    /// mean either.
    #[must_use]
    #[doc(hidden)]
    #[allow(clippy::len_without_is_empty)]
    #[deprecated = "say `rank` or `elements`"]
    pub fn len(&self) -> usize {
        self.elements()
    }

    /// Number of elements, or an error where it does not fit in `isize`. Lengths beside a zero have to fit as well, so that
    /// any axes of an accepted shape can be multiplied.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when the product overflows.
    pub fn checked_len(&self) -> Result<usize> {
        self.0
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))
            .filter(|&n| n <= isize::MAX as usize / 16)
            .map(|n| if self.0.contains(&0) { 0 } else { n })
            .ok_or_else(|| err!(Limit, "a shape of {self} elements does not fit in memory"))
    }

    /// Row-major strides in elements.
    #[must_use]
    pub fn strides(&self) -> SmallVec<[usize; 6]> {
        let mut strides = SmallVec::from_elem(1, self.rank());
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = usize::saturating_mul(strides[axis], self.0[axis].max(1));
        }
        strides
    }

    /// The axes as a vector to change; build a new shape from it.
    #[must_use]
    pub fn to_vec(&self) -> Vec<usize> {
        self.0.to_vec()
    }

    /// `axis`, counted from the end when negative.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when it lies outside `-rank..rank`.
    pub fn axis(&self, axis: i64) -> Result<usize> {
        normalize_axis(axis, self.rank())
    }

    /// The shape with `range` of its axes replaced by `with`.
    #[must_use]
    pub fn replaced(&self, range: std::ops::Range<usize>, with: &[usize]) -> Shape {
        let mut dims = self.0.to_vec();
        dims.splice(range, with.iter().copied());
        Shape::from(dims)
    }
}

/// `axis` counted from the end when negative, checked against `rank`.
pub(crate) fn normalize_axis(axis: i64, rank: usize) -> Result<usize> {
    let signed = rank as i64;
    if axis < -signed || axis >= signed {
        bail!(Shape, "axis {axis} is outside a tensor of rank {rank}");
    }
    Ok(if axis < 0 { axis + signed } else { axis } as usize)
}

/// The common shape of numpy broadcasting.
pub(crate) fn broadcast_shapes(shapes: &[&[usize]]) -> Result<Shape> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out: SmallVec<[usize; 6]> = SmallVec::from_elem(1, rank);
    for shape in shapes {
        let offset = rank - shape.len();
        for (axis, &d) in shape.iter().enumerate() {
            let o = &mut out[offset + axis];
            match (*o, d) {
                (a, b) if a == b => {}
                (1, b) => *o = b,
                (_, 1) => {}
                _ => bail!(Shape, "shapes {shapes:?} do not broadcast"),
            }
        }
    }
    Ok(Shape(out))
}

/// For each element of `out`, row-major, the index of the element of `from` that broadcasting puts there.
/// `from` must broadcast to `out`.
pub(crate) fn broadcast_index(from: &[usize], out: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let rank = out.len();
    let offset = rank - from.len();
    let mut strides = vec![0usize; rank];
    let mut stride = 1;
    for axis in (0..from.len()).rev() {
        if from[axis] != 1 {
            strides[offset + axis] = stride;
        }
        // An empty shape may have axes whose product overflows; none of its strides is ever used.
        stride = stride.wrapping_mul(from[axis]);
    }
    let out: Vec<usize> = out.to_vec();
    let total = out.iter().fold(1usize, |n, &d| n.saturating_mul(d));
    let mut counter = vec![0usize; rank];
    let mut index = 0usize;
    (0..total).map(move |_| {
        let here = index;
        for axis in (0..rank).rev() {
            counter[axis] += 1;
            index += strides[axis];
            if counter[axis] < out[axis] {
                break;
            }
            index -= strides[axis] * out[axis];
            counter[axis] = 0;
        }
        here
    })
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

/// Axes that a message shows.
const MOST_SHOWN: usize = 32;

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A hostile rank must not make an endless message.
        match self.0.get(..MOST_SHOWN) {
            Some(first) if self.rank() > MOST_SHOWN => {
                write!(f, "{first:?} and {} axes more", self.rank() - MOST_SHOWN)
            }
            _ => f.debug_list().entries(self.0.iter()).finish(),
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(SmallVec::from_slice(dims))
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Shape(SmallVec::from_vec(dims))
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape(SmallVec::from_slice(&dims))
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Self {
        Shape(iter.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_row_major() {
        assert_eq!(Shape::from([2, 3, 4]).strides().as_slice(), [12, 4, 1]);
        assert!(Shape::scalar().strides().is_empty());
    }

    #[test]
    fn huge_shapes_are_refused() {
        assert!(Shape::from([usize::MAX, 2]).checked_len().is_err());
        assert_eq!(Shape::from([1 << 40, 0]).checked_len().unwrap(), 0);
        assert!(Shape::from([1 << 40, 0, 1 << 40]).checked_len().is_err(), "its axes multiply past any number");
    }

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(&*broadcast_shapes(&[&[3, 1], &[4]]).unwrap(), [3, 4]);
        assert!(broadcast_shapes(&[&[3], &[4]]).is_err());
        let index: Vec<_> = broadcast_index(&[2, 1], &[2, 3]).collect();
        assert_eq!(index, [0, 0, 0, 1, 1, 1]);
        assert_eq!(broadcast_index(&[], &[2]).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn axes_count_from_either_end() {
        let shape = Shape::from([2, 3]);
        assert_eq!((shape.axis(-1).unwrap(), shape.axis(0).unwrap()), (1, 0));
        assert!(shape.axis(2).is_err() && shape.axis(-3).is_err());
    }
}
