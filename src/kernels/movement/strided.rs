//! A dense output out of a strided source: transposes, slices, expansions, depth to space.
//!
//! Lengths of 1 drop out and neighboring axes that move as one are joined. What remains is one of three: runs of
//! consecutive elements are copied; where another axis is consecutive in the source, blocks are transposed through
//! registers; anything else is read element by element. Short runs (up to 16 bytes) count as wider elements.

use super::tile::transpose_2d;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A movement worked out from shapes and strides, to be run on any elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// Output axes, outermost first.
    axes: Vec<Axis>,
    /// First element read.
    offset: usize,
    /// Elements that the source must have.
    needed: usize,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    len: usize,
    /// Between neighbors in the source, in elements.
    stride: isize,
}

impl Movement {
    /// The output of `shape`, whose element at index `i` is the source's at `offset + sum(i[k] * strides[k])`. `None`
    /// where ranks differ, an element would lie outside a source of `source_len`, or a number overflows.
    #[must_use]
    pub fn new(shape: &[usize], strides: &[isize], offset: usize, source_len: usize) -> Option<Movement> {
        if shape.len() != strides.len() {
            return None;
        }
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if len == 0 {
            return Some(Movement { axes: vec![Axis { len: 0, stride: 0 }], offset: 0, needed: 0, len });
        }
        let (mut low, mut high) = (isize::try_from(offset).ok()?, isize::try_from(offset).ok()?);
        for (&d, &stride) in shape.iter().zip(strides) {
            let reach = isize::try_from(d - 1).ok()?.checked_mul(stride)?;
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        let needed = usize::try_from(high).ok()? + 1;
        if low < 0 || needed > source_len {
            return None;
        }
        let mut axes: Vec<Axis> = Vec::with_capacity(shape.len());
        for (&len, &stride) in shape.iter().zip(strides) {
            match axes.last_mut() {
                _ if len == 1 => {}
                Some(outer) if outer.stride == stride.checked_mul(isize::try_from(len).ok()?)? => {
                    *outer = Axis { len: outer.len * len, stride };
                }
                _ => axes.push(Axis { len, stride }),
            }
        }
        if axes.is_empty() {
            axes.push(Axis { len: 1, stride: 1 });
        }
        Some(Movement { axes, offset, needed, len })
    }

    /// Output axis `k` is input axis `perm[k]` of a dense input of `shape`. `None` where `perm` is no permutation.
    #[must_use]
    pub fn transpose(shape: &[usize], perm: &[usize]) -> Option<Movement> {
        let strides = dense_strides(shape)?;
        let mut seen = vec![false; shape.len()];
        for &p in perm {
            if std::mem::replace(seen.get_mut(p)?, true) {
                return None;
            }
        }
        if perm.len() != shape.len() {
            return None;
        }
        let lens: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        let moved: Vec<isize> = perm.iter().map(|&p| strides[p]).collect();
        Movement::new(&lens, &moved, 0, shape.iter().product())
    }

    /// `lens[k]` elements from `starts[k]` on, `steps[k]` apart, of every axis of a dense input of `shape`.
    #[must_use]
    pub fn slice(shape: &[usize], starts: &[usize], steps: &[isize], lens: &[usize]) -> Option<Movement> {
        let strides = dense_strides(shape)?;
        if [starts.len(), steps.len(), lens.len()] != [shape.len(); 3] {
            return None;
        }
        if lens.contains(&0) {
            return Movement::new(lens, &strides, 0, 0);
        }
        let mut offset = 0usize;
        let mut stepped = Vec::with_capacity(shape.len());
        for k in 0..shape.len() {
            let last = isize::try_from(starts[k]).ok()?.checked_add(steps[k].checked_mul(lens[k] as isize - 1)?)?;
            if starts[k] >= shape[k] || last < 0 || last as usize >= shape[k] {
                return None;
            }
            offset += starts[k] * strides[k] as usize;
            stepped.push(strides[k].checked_mul(steps[k])?);
        }
        Movement::new(lens, &stepped, offset, shape.iter().product())
    }

    /// Blocks of channels become blocks of pixels: `shape` is `[images, channels, height, width]`, or `[images, height,
    /// width, channels]` with `channels_last`; the channels count `block x block x rest`, or `rest x block x block` when
    /// `crd` (ONNX's column-row-depth mode). `None` where the block does not divide the channels.
    #[must_use]
    pub fn depth_to_space(shape: [usize; 4], block: usize, crd: bool, channels_last: bool) -> Option<Movement> {
        let [n, c, h, w] = if channels_last { [shape[0], shape[3], shape[1], shape[2]] } else { shape };
        let squared = block.checked_mul(block).filter(|&b| b > 0 && c.is_multiple_of(b))?;
        let rest = c / squared;
        let channel_axes = if crd { [rest, block, block] } else { [block, block, rest] };
        // Where rest and the two blocks stand among the three channel axes.
        let (r, by, bx) = if crd { (0, 1, 2) } else { (2, 0, 1) };
        let [a, b, d] = channel_axes;
        if channels_last {
            let at = |k: usize| 3 + k;
            Movement::transpose(&[n, h, w, a, b, d], &[0, 1, at(by), 2, at(bx), at(r)])
        } else {
            let at = |k: usize| 1 + k;
            Movement::transpose(&[n, a, b, d, h, w], &[0, at(r), 4, at(by), 5, at(bx)])
        }
    }

    /// A dense input of `from` spread over `to` by ONNX's multidirectional rule.
    #[must_use]
    pub fn expand(from: &[usize], to: &[usize]) -> Option<Movement> {
        let missing = to.len().checked_sub(from.len())?;
        let dense = dense_strides(from)?;
        let mut strides = vec![0; missing];
        for (k, &d) in from.iter().enumerate() {
            if d != 1 && d != to[missing + k] {
                return None;
            }
            strides.push(if d == 1 { 0 } else { dense[k] });
        }
        Movement::new(to, &strides, 0, from.iter().product())
    }

    /// True where output and source are the same elements in the same order, so that no copy is needed.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.offset == 0 && matches!(self.axes[..], [Axis { stride: 1, .. } | Axis { len: 0 | 1, .. }])
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

    /// Slices of the outermost axis, into which the output may be split over threads.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.axes[0].len
    }

    /// Moves everything.
    ///
    /// # Panics
    /// Where the source is too short or the output has another length than [`Movement::len`].
    pub fn run<T: Copy>(&self, source: &[T], to: &mut [T]) {
        self.run_rows(source, 0..self.rows(), to);
    }

    /// Moves `rows` of the outermost axis; `to` holds exactly these.
    ///
    /// # Panics
    /// Where the source is too short or the output has not the elements of these rows.
    pub fn run_rows<T: Copy>(&self, source: &[T], rows: Range<usize>, to: &mut [T]) {
        assert!(rows.start <= rows.end && rows.end <= self.rows(), "rows lie in the output");
        assert!(source.len() >= self.needed, "the source has the elements that are read");
        let row = self.len.checked_div(self.rows()).unwrap_or(0);
        assert_eq!(to.len(), rows.len() * row, "the output holds its rows");
        if to.is_empty() {
            return;
        }
        let first =
            source.as_ptr().wrapping_add(self.offset).wrapping_offset(rows.start as isize * self.axes[0].stride);
        let (from, to) = (first.cast::<u8>(), to.as_mut_ptr().cast::<u8>());
        let mut axes = Axes::new(&self.axes);
        axes.as_mut()[0].len = rows.len();
        // SAFETY: `new` checked every element that is read against `needed`; the output was compared just now.
        unsafe { by_unit(axes, size_of::<T>(), from, to) }
    }
}

/// Row-major strides of a dense shape; `None` on overflow.
fn dense_strides(shape: &[usize]) -> Option<Vec<isize>> {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1isize;
    for (k, &d) in shape.iter().enumerate().rev() {
        strides[k] = stride;
        stride = stride.checked_mul(isize::try_from(d.max(1)).ok()?)?;
    }
    Some(strides)
}

/// Axes on the stack, so that a run allocates nothing up to a rank that no model passes after joining.
struct Axes {
    few: [MaybeUninit<Axis>; 12],
    many: Vec<Axis>,
    len: usize,
}

impl Axes {
    fn new(axes: &[Axis]) -> Axes {
        let mut few = [MaybeUninit::uninit(); 12];
        let many = if axes.len() > few.len() { axes.to_vec() } else { Vec::new() };
        few.iter_mut().zip(axes).for_each(|(to, &axis)| _ = to.write(axis));
        Axes { few, many, len: axes.len() }
    }

    fn as_mut(&mut self) -> &mut [Axis] {
        if !self.many.is_empty() {
            return &mut self.many[..self.len];
        }
        // SAFETY: `new` wrote the first `len` entries, and `len` is at most twelve here.
        unsafe { std::slice::from_raw_parts_mut(self.few.as_mut_ptr().cast(), self.len) }
    }
}

/// Chooses the unit of the copies: the element, or a short run of elements.
///
/// # Safety
/// Every element that `axes` reach from `from` is readable, every one of the dense output at `to` writable.
unsafe fn by_unit(mut axes: Axes, size: usize, from: *const u8, to: *mut u8) {
    let all = axes.as_mut();
    let (last, outer) = all.split_last_mut().map_or((None, &mut [][..]), |(l, o)| (Some(l), o));
    let mut unit = size;
    if let Some(last) = last {
        let run = last.len * size;
        let wide = last.stride == 1 && matches!(run, 2 | 4 | 8 | 16) && !outer.is_empty();
        if wide && outer.iter().all(|axis| axis.stride % last.len as isize == 0) {
            outer.iter_mut().for_each(|axis| axis.stride /= last.len as isize);
            *last = Axis { len: 1, stride: 1 };
            unit = run;
        }
    }
    let all = axes.as_mut();
    let all = if unit != size { &all[..all.len() - 1] } else { &all[..] };
    // SAFETY: as the caller promises; units of bytes have no alignment.
    unsafe {
        match unit {
            1 => walk::<[u8; 1]>(all, from.cast(), to.cast()),
            2 => walk::<[u8; 2]>(all, from.cast(), to.cast()),
            4 => walk::<[u8; 4]>(all, from.cast(), to.cast()),
            8 => walk::<[u8; 8]>(all, from.cast(), to.cast()),
            16 => walk::<[u8; 16]>(all, from.cast(), to.cast()),
            _ => odd_unit(all, unit, from, to),
        }
    }
}

/// Runs the two innermost loops under an odometer of the other axes.
///
/// # Safety
/// As [`by_unit`].
unsafe fn walk<U: Copy>(axes: &[Axis], from: *const U, to: *mut U) {
    let Some((&last, outer)) = axes.split_last() else { return };
    let total: usize = axes.iter().map(|axis| axis.len).product();
    if total == 0 {
        return;
    }
    // An axis that is consecutive in the source while the last one is not: blocks of the two are transposed.
    let across = if last.stride == 1 { None } else { outer.iter().rposition(|axis| axis.stride == 1) };
    if last.stride == 1 {
        let one = Axis { len: 1, stride: 0 };
        let (near, far) = outer.split_last().map_or((one, outer), |(near, far)| (*near, far));
        let (run, pitch) = (last.len * size_of::<U>(), near.stride * size_of::<U>() as isize);
        return odometer(far, None, axes, &mut |source, target| {
            // SAFETY: as the caller promises.
            unsafe { copy_runs(from.wrapping_offset(source).cast(), pitch, to.add(target).cast(), near.len, run) }
        });
    }
    let step_of = |k: usize| axes[k + 1..].iter().map(|axis| axis.len).product::<usize>();
    let body = |from: *const U, to: *mut U| {
        // SAFETY: as the caller promises.
        unsafe {
            match across {
                Some(k) => transpose_2d(from, last.stride, last.len, to, step_of(k), outer[k].len),
                None => (0..last.len).for_each(|i| *to.add(i) = *from.offset(i as isize * last.stride)),
            }
        }
    };
    odometer(outer, across, axes, &mut |source, target| body(from.wrapping_offset(source), to.wrapping_add(target)));
}

/// Copies `count` runs of `run` bytes, `pitch` apart in the source, one behind the other.
///
/// # Safety
/// As [`by_unit`].
unsafe fn copy_runs(from: *const u8, pitch: isize, to: *mut u8, count: usize, run: usize) {
    /// # Safety
    /// As [`copy_runs`], of runs of `RUN` bytes.
    unsafe fn fixed<const RUN: usize>(from: *const u8, pitch: isize, to: *mut u8, count: usize) {
        for i in 0..count {
            // SAFETY: as the caller promises.
            unsafe { *to.add(i * RUN).cast::<[u8; RUN]>() = *from.wrapping_offset(i as isize * pitch).cast() };
        }
    }
    // SAFETY: as the caller promises.
    unsafe {
        match run {
            // Heads of attention, which a call for each would take longer to reach than to copy.
            32 => fixed::<32>(from, pitch, to, count),
            64 => fixed::<64>(from, pitch, to, count),
            128 => fixed::<128>(from, pitch, to, count),
            _ => {
                for i in 0..count {
                    std::ptr::copy_nonoverlapping(from.wrapping_offset(i as isize * pitch), to.add(i * run), run);
                }
            }
        }
    }
}

/// Calls `f(source offset, target offset)` for every index of `outer` but the axis `skip`.
fn odometer(outer: &[Axis], skip: Option<usize>, axes: &[Axis], f: &mut dyn FnMut(isize, usize)) {
    fn level(
        k: usize,
        outer: &[Axis],
        skip: Option<usize>,
        axes: &[Axis],
        at: (isize, usize),
        f: &mut dyn FnMut(isize, usize),
    ) {
        let Some(axis) = outer.get(k) else { return f(at.0, at.1) };
        if skip == Some(k) {
            return level(k + 1, outer, skip, axes, at, f);
        }
        let step: usize = axes[k + 1..].iter().map(|axis| axis.len).product();
        for i in 0..axis.len {
            level(k + 1, outer, skip, axes, (at.0 + i as isize * axis.stride, at.1 + i * step), f);
        }
    }
    level(0, outer, skip, axes, (0, 0), f);
}

/// Elements of an uncommon size, one at a time.
///
/// # Safety
/// As [`by_unit`].
unsafe fn odd_unit(axes: &[Axis], size: usize, from: *const u8, to: *mut u8) {
    let inner = Axis { len: 1, stride: 1 };
    let whole: Vec<Axis> = axes.iter().copied().chain([inner]).collect();
    odometer(axes, None, &whole, &mut |source, target| {
        // SAFETY: as the caller promises.
        unsafe {
            let from = from.wrapping_offset(source * size as isize);
            std::ptr::copy_nonoverlapping(from, to.add(target * size), size);
        }
    });
}
