//! The lines of a tensor along one axis, for operators that work on one line at a time.

/// How the lines along an axis lie in row-major storage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// Elements in a line.
    pub(super) len: usize,
    /// Distance of neighbors in a line.
    pub(super) stride: usize,
    outer: usize,
}

impl Lines {
    /// The lines of a tensor of `shape` along `axis`, which it has.
    pub(super) fn new(shape: &[usize], axis: usize) -> Self {
        // An empty tensor has no lines, and axes whose product may overflow.
        if shape.contains(&0) {
            return Lines { len: shape[axis], stride: 0, outer: 0 };
        }
        let stride = shape[axis + 1..].iter().product();
        Lines { len: shape[axis], stride, outer: shape[..axis].iter().product() }
    }

    /// The index of the first element of each line, in row-major order of the other axes.
    pub(super) fn starts(self) -> impl Iterator<Item = usize> {
        let block = self.len * self.stride;
        (0..self.outer).flat_map(move |o| (0..self.stride).map(move |i| o * block + i))
    }

    /// The indices of the line that starts at `start`.
    pub(super) fn indices(self, start: usize) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        (0..self.len).map(move |i| start + i * self.stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cover_the_tensor_once() {
        let lines = Lines::new(&[2, 3, 2], 1);
        let mut seen: Vec<usize> = lines.starts().flat_map(|s| lines.indices(s)).collect();
        assert_eq!(seen[..3], [0, 2, 4]);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..12));
    }
}
