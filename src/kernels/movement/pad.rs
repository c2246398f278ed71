//! Padding on any axes, in every mode of ONNX; negative padding crops.

/// What stands in the padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edge {
    /// A value given at run time.
    Constant,
    /// The nearest element.
    Replicate,
    /// Mirrored, without the edge element twice.
    Reflect,
    /// From the other end.
    Wrap,
}

/// A padding worked out from a shape.
#[derive(Debug, Clone)]
pub struct Pad {
    axes: Vec<Axis>,
    source_len: usize,
    len: usize,
}

#[derive(Debug, Clone)]
struct Axis {
    /// Source index of every output index; `None` where the constant stands.
    from: Vec<Option<usize>>,
    stride: usize,
    /// Output indices that run along the source.
    run: std::ops::Range<usize>,
}

impl Pad {
    /// `begin[k]` elements before and `end[k]` after axis `k` of `shape`. `None` where ranks differ, an axis would
    /// become negative, an element would be mirrored out of nothing, or a number overflows.
    #[must_use]
    pub fn new(shape: &[usize], begin: &[i64], end: &[i64], edge: Edge) -> Option<Pad> {
        if begin.len() != shape.len() || end.len() != shape.len() {
            return None;
        }
        let mut axes = Vec::with_capacity(shape.len());
        let (mut stride, mut len) = (1usize, 1usize);
        for k in (0..shape.len()).rev() {
            let source = i64::try_from(shape[k]).ok()?;
            let padded = usize::try_from(source.checked_add(begin[k])?.checked_add(end[k])?).ok()?;
            len = len.checked_mul(padded)?;
            let mut from = Vec::with_capacity(padded);
            for i in 0..padded {
                let place = i as i64 - begin[k];
                let inside = (0..source).contains(&place);
                let mapped = match edge {
                    _ if inside => Some(place),
                    Edge::Constant => None,
                    _ if source == 0 => return None,
                    Edge::Replicate => Some(place.clamp(0, source - 1)),
                    Edge::Wrap => Some(place.rem_euclid(source)),
                    Edge::Reflect if source == 1 => Some(0),
                    Edge::Reflect => {
                        let folded = place.rem_euclid(2 * (source - 1));
                        Some(folded.min(2 * (source - 1) - folded))
                    }
                };
                from.push(mapped.map(|m| m as usize));
            }
            let first = begin[k].clamp(0, padded as i64);
            let last = begin[k].saturating_add(source).clamp(first, padded as i64);
            axes.push(Axis { from, stride, run: first as usize..last as usize });
            stride = stride.checked_mul(shape[k].max(1))?;
        }
        axes.reverse();
        Some(Pad { axes, source_len: shape.iter().product(), len })
    }

    /// Elements of the output.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where the output has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pads `source` into `to`.
    ///
    /// # Panics
    /// Where the source is too short or the output has another length than [`Pad::len`].
    pub fn run<T: Copy>(&self, source: &[T], constant: T, to: &mut [T]) {
        assert!(source.len() >= self.source_len && to.len() == self.len, "both have the padding's shapes");
        level(&self.axes, source, Some(0), constant, to);
    }
}

/// Fills the part of the output below one index of the outer axes, whose source begins at `at`.
fn level<T: Copy>(axes: &[Axis], source: &[T], at: Option<usize>, constant: T, to: &mut [T]) {
    let Some(at) = at else { return to.fill(constant) };
    let Some((axis, inner)) = axes.split_first() else { return to.fill(source[at]) };
    if to.is_empty() {
        return;
    }
    if !inner.is_empty() {
        let block = to.len() / axis.from.len();
        for (to, from) in to.chunks_exact_mut(block).zip(&axis.from) {
            level(inner, source, from.map(|i| at + i * axis.stride), constant, to);
        }
        return;
    }
    let run = axis.run.clone();
    if let Some(first) = axis.from.get(run.start).copied().flatten().filter(|_| !run.is_empty()) {
        to[run.clone()].copy_from_slice(&source[at + first..][..run.len()]);
    }
    for i in (0..run.start).chain(run.end..to.len()) {
        to[i] = axis.from[i].map_or(constant, |k| source[at + k]);
    }
}
