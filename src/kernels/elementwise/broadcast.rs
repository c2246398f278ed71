//! How an operand of a smaller shape is spread over a flat output, block by block.
//!
//! Most broadcasts repeat: element `i` of the output reads element `(i / inner) % len` of the operand. The whole output,
//! a scalar, a row (`inner` 1), a column, a channel of NCHW are all that, and need no more than a pointer for a block
//! that stays inside one run. What does not repeat so simply is walked by strides into a small buffer.

use super::binary::Lane;
use std::mem::MaybeUninit;

/// Elements of one block: 4 KiB of f32, so that a chain's registers stay in the first cache.
pub(super) const BLOCK: usize = 1024;

/// Memory for the elements of one block: it starts a cache line, so that no vector straddles two.
#[repr(C, align(64))]
pub(super) struct Room<T>(MaybeUninit<[T; BLOCK]>);

impl<T> Room<T> {
    pub(super) const fn new() -> Self {
        Room(MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const T {
        self.0.as_ptr().cast()
    }

    #[inline(always)]
    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// How an operand's elements are spread over an output; worked out once from the two shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    kind: Kind,
    /// Elements that the operand must have.
    len: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// One element for each of the output.
    Full,
    /// Element `(i / inner) % len`.
    Cycle { inner: usize },
    /// By output dimensions, outermost first, and the operand's stride in each.
    Strided { dims: Box<[(usize, usize)]> },
}

impl Broadcast {
    /// Of an operand shaped `from` over an output shaped `to`, by ONNX's multidirectional rule; `None` where the
    /// operand does not fit, or where `to` has more elements than `usize` counts.
    #[must_use]
    pub fn of(from: &[usize], to: &[usize]) -> Option<Broadcast> {
        let missing = to.len().checked_sub(from.len())?;
        let total = to.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let fits = from.iter().zip(&to[missing..]).all(|(&f, &t)| f == t || f == 1);
        if !fits {
            return None;
        }
        let len: usize = from.iter().product();
        // Neighboring dimensions that are both spread or both read are one; lengths of 1 drop out.
        let mut dims: Vec<(usize, bool)> = Vec::new();
        for (axis, &t) in to.iter().enumerate() {
            let read = axis >= missing && from[axis - missing] == t;
            match dims.last_mut() {
                _ if t == 1 => {}
                Some((length, same)) if *same == read => *length *= t,
                _ => dims.push((t, read)),
            }
        }
        let kind = match dims[..] {
            _ if total == 0 || len == total => Kind::Full,
            [(_, false)] => Kind::Cycle { inner: 1 },
            [(_, false), (_, true)] => Kind::Cycle { inner: 1 },
            [(_, true), (inner, false)] | [(_, false), (_, true), (inner, false)] => Kind::Cycle { inner },
            _ => {
                let mut stride = len;
                let with_strides = dims.iter().map(|&(d, read)| {
                    if read {
                        stride /= d;
                    }
                    (d, if read { stride } else { 0 })
                });
                Kind::Strided { dims: with_strides.collect() }
            }
        };
        Some(Broadcast { kind, len: if total == 0 { 0 } else { len } })
    }

    /// Element for element.
    #[must_use]
    pub fn full(len: usize) -> Broadcast {
        Broadcast { kind: Kind::Full, len }
    }

    /// Element `(i / inner) % len` for output element `i`: a row with `inner` 1, a column of rows of `inner` elements,
    /// the channels of NCHW with `inner` the pixels of a plane. `inner` must not be 0.
    #[must_use]
    pub fn cycle(len: usize, inner: usize) -> Broadcast {
        Broadcast { kind: Kind::Cycle { inner: inner.max(1) }, len }
    }

    /// True where every element of the output has its own.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Elements that the operand has.
    #[must_use]
    pub fn operand_len(&self) -> usize {
        self.len
    }
}

/// One operand of a map: where its elements are, and how they are spread.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a, T> {
    /// The same value everywhere.
    Scalar(T),
    /// As many elements as the whole output.
    Full(&'a [T]),
    /// What the target slice held before: for results that overwrite their first operand.
    Target,
    /// Elements and their spread.
    Spread(&'a [T], &'a Broadcast),
}

impl<'a, T: Copy> Operand<'a, T> {
    /// The operand as a source of blocks; `target` is the start of the slice that is written.
    #[inline(always)]
    pub(in crate::kernels) fn blocks(self, target: *const T) -> Blocks<'a, T> {
        let (kind, data) = self.load();
        let mut blocks = Blocks { kind, data, target, filled: None, buffer: Room::new() };
        blocks.fill(self);
        blocks
    }

    /// The same where the source is to stay: its buffer is long to move.
    #[inline(always)]
    pub(super) fn blocks_in(self, target: *const T, place: &mut MaybeUninit<Blocks<'a, T>>) {
        let ((kind, data), to) = (self.load(), place.as_mut_ptr());
        // SAFETY: every field but the buffer, which may hold anything, is written where it belongs.
        let blocks = unsafe {
            (&raw mut (*to).kind).write(kind);
            (&raw mut (*to).data).write(data);
            (&raw mut (*to).target).write(target);
            (&raw mut (*to).filled).write(None);
            &mut *to
        };
        blocks.fill(self);
    }

    fn load(&self) -> (Load<'a>, &'a [T]) {
        match *self {
            Operand::Scalar(_) | Operand::Spread(&[_], _) => (Load::Scalar, &[]),
            Operand::Full(data) => (Load::Full, data),
            Operand::Target => (Load::Target, &[]),
            Operand::Spread(data, broadcast) => {
                assert!(data.len() >= broadcast.len, "an operand holds the elements that its broadcast spreads");
                let kind = match &broadcast.kind {
                    Kind::Full => Load::Full,
                    Kind::Cycle { inner } => Load::Cycle { inner: *inner },
                    Kind::Strided { dims } => Load::Strided { dims },
                };
                (kind, &data[..broadcast.len])
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Load<'a> {
    Scalar,
    Full,
    Target,
    Cycle { inner: usize },
    Strided { dims: &'a [(usize, usize)] },
}

/// An operand that yields its elements block by block.
pub(in crate::kernels) struct Blocks<'a, T> {
    kind: Load<'a>,
    data: &'a [T],
    target: *const T,
    /// Phase and length of the cycle that the buffer holds.
    filled: Option<(usize, usize)>,
    buffer: Room<T>,
}

impl<T: Copy> Blocks<'_, T> {
    /// Puts what is the same everywhere where every block finds it.
    #[inline(always)]
    fn fill(&mut self, operand: Operand<'_, T>) {
        match operand {
            Operand::Scalar(value) | Operand::Spread(&[value], _) => self.repeat(value),
            _ => {}
        }
    }

    /// How many elements from output `index` on one block can have.
    #[inline(always)]
    pub(in crate::kernels) fn reach(&self, index: usize) -> usize {
        match self.kind {
            Load::Scalar | Load::Full | Load::Target => usize::MAX,
            Load::Strided { .. } => BLOCK,
            Load::Cycle { inner } => {
                let run = if inner > 1 { inner } else { self.data.len() };
                if run >= if inner > 1 { BLOCK / 4 } else { BLOCK / 2 } {
                    return run - index % run;
                }
                // Whole periods, so that the next block finds the buffer as it needs it.
                let period = self.data.len().saturating_mul(inner);
                if period <= BLOCK { BLOCK / period * period } else { BLOCK }
            }
        }
    }

    /// Where the `n` elements from output `index` on lie; `at` is the same place within the target.
    #[inline(always)]
    pub(in crate::kernels) fn lane(&mut self, index: usize, at: usize, n: usize) -> Lane<T> {
        match self.kind {
            Load::Scalar => Lane { from: self.buffer.as_ptr(), step: 0 },
            Load::Full => Lane { from: self.data[index..index + n].as_ptr(), step: 1 },
            Load::Target => Lane { from: self.target.wrapping_add(at), step: 1 },
            Load::Cycle { inner } => self.cycle(inner, index, n),
            Load::Strided { dims } => {
                assert!(n <= BLOCK, "a block fits its buffer");
                self.gather(dims, index, n);
                Lane { from: self.buffer.as_ptr(), step: 1 }
            }
        }
    }

    fn cycle(&mut self, inner: usize, index: usize, n: usize) -> Lane<T> {
        let len = self.data.len();
        let first = index / inner % len;
        if inner == 1 && first + n <= len {
            return Lane { from: self.data[first..first + n].as_ptr(), step: 1 };
        }
        if inner > 1 && index % inner + n <= inner {
            self.repeat(self.data[first]);
            self.filled = None;
            return Lane { from: self.buffer.as_ptr(), step: 0 };
        }
        let phase = index % (len * inner);
        let there = self.filled.is_some_and(|(p, filled)| p == phase && n <= filled);
        if !there {
            assert!(n <= BLOCK, "a block fits its buffer");
            let buffer = self.buffer.as_mut_ptr();
            let (mut element, mut left, mut done) = (first, inner - index % inner, 0);
            while done < n {
                let run = if inner == 1 { (len - element).min(n - done) } else { left.min(n - done) };
                // SAFETY: done + run <= n <= BLOCK; the elements read are within the data.
                unsafe {
                    if inner == 1 {
                        std::ptr::copy_nonoverlapping(self.data.as_ptr().add(element), buffer.add(done), run);
                    } else {
                        let value = self.data[element];
                        (0..run).for_each(|i| *buffer.add(done + i) = value);
                    }
                }
                element = if inner == 1 { 0 } else { (element + 1) % len };
                left = inner;
                done += run;
            }
            self.filled = Some((phase, n));
        }
        Lane { from: self.buffer.as_ptr(), step: 1 }
    }

    /// Sixteen copies of `value` at the beginning of the buffer.
    #[inline(always)]
    fn repeat(&mut self, value: T) {
        let buffer = self.buffer.as_mut_ptr();
        for i in 0..16 {
            // SAFETY: the buffer holds more than sixteen elements.
            unsafe { *buffer.add(i) = value };
        }
    }

    fn gather(&mut self, dims: &[(usize, usize)], index: usize, n: usize) {
        let buffer = self.buffer.as_mut_ptr();
        let Some((&(last, last_stride), outer)) = dims.split_last() else { return };
        let (mut row, mut column) = (index / last, index % last);
        let mut done = 0;
        while done < n {
            let (mut rest, mut from) = (row, column * last_stride);
            for &(d, stride) in outer.iter().rev() {
                from += rest % d * stride;
                rest /= d;
            }
            let run = (last - column).min(n - done);
            // SAFETY: done + run <= n <= BLOCK; the slice is as long as what is read.
            unsafe {
                let to = buffer.add(done);
                if last_stride == 0 {
                    let value = self.data[from];
                    (0..run).for_each(|i| *to.add(i) = value);
                } else {
                    std::ptr::copy_nonoverlapping(self.data[from..from + run].as_ptr(), to, run);
                }
            }
            done += run;
            if let Some(&(d, 0)) = outer.last()
                && run == last
            {
                // The row comes again and again: what is there is doubled.
                let again = ((d - 1 - row % d) * last).min(n - done);
                let mut there = last;
                while there < last + again {
                    let more = there.min(last + again - there);
                    // SAFETY: both parts lie in the first n elements of the buffer, the second behind the first.
                    unsafe {
                        let from = buffer.add(done - last);
                        std::ptr::copy_nonoverlapping(from, from.add(there), more);
                    }
                    there += more;
                }
                done += again;
                row += again / last;
                // A part of a row ends the block.
                debug_assert!(again.is_multiple_of(last) || done == n);
            }
            (row, column) = (row + 1, 0);
        }
    }
}
