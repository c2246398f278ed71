//! The layout of the arena: largest block first, each into the smallest gap that is free for its whole lifetime.

use crate::order::{argsort, sort};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

const ALIGN: usize = 64;

/// Bytes that are needed from step `start` to step `end`, both included.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) bytes: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Block {
    fn overlaps(&self, other: &Block) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// Past so many blocks each goes where there is room when its time comes: the best places take time that grows with the
/// square of their number.
const MOST_SORTED: usize = 4096;

/// The offset of each block, and the size of the arena.
pub(super) fn layout(blocks: &[Block]) -> (Vec<usize>, usize) {
    if blocks.len() > MOST_SORTED { in_order_of_time(blocks) } else { largest_first(blocks) }
}

/// Each block at its first step into the smallest gap that there is then.
fn in_order_of_time(blocks: &[Block]) -> (Vec<usize>, usize) {
    let size = |index: usize| blocks[index].bytes.div_ceil(ALIGN) * ALIGN;
    let order = argsort(blocks.len(), |a, b| {
        let (a, b) = (&blocks[a], &blocks[b]);
        a.start.cmp(&b.start).then(b.bytes.cmp(&a.bytes))
    });
    let mut offsets = vec![0; blocks.len()];
    let mut alive = BinaryHeap::new();
    let mut gaps = Gaps::default();
    let mut total = 0;
    for index in order.into_iter().filter(|&index| blocks[index].bytes > 0) {
        while let Some(&Reverse((end, gone))) = alive.peek() {
            if end >= blocks[index].start {
                break;
            }
            alive.pop();
            gaps.insert(offsets[gone], size(gone));
        }
        offsets[index] = gaps.take(size(index)).unwrap_or_else(|| {
            total += size(index);
            total - size(index)
        });
        alive.push(Reverse((blocks[index].end, index)));
    }
    (offsets, total)
}

/// Free ranges, none of which touches another.
#[derive(Default)]
struct Gaps {
    by_offset: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
}

impl Gaps {
    fn insert(&mut self, offset: usize, size: usize) {
        let (mut offset, mut size) = (offset, size);
        if let Some((&before, &length)) = self.by_offset.range(..offset).next_back()
            && before + length == offset
        {
            self.remove(before, length);
            (offset, size) = (before, length + size);
        }
        if let Some(&length) = self.by_offset.get(&(offset + size)) {
            self.remove(offset + size, length);
            size += length;
        }
        self.by_offset.insert(offset, size);
        self.by_size.insert((size, offset));
    }

    fn remove(&mut self, offset: usize, size: usize) {
        self.by_offset.remove(&offset);
        self.by_size.remove(&(size, offset));
    }

    /// The start of the smallest gap of at least `size`.
    fn take(&mut self, size: usize) -> Option<usize> {
        let &(length, offset) = self.by_size.range((size, 0)..).next()?;
        self.remove(offset, length);
        if length > size {
            self.insert(offset + size, length - size);
        }
        Some(offset)
    }
}

fn largest_first(blocks: &[Block]) -> (Vec<usize>, usize) {
    let by_size = argsort(blocks.len(), |a, b| {
        let (a, b) = (&blocks[a], &blocks[b]);
        b.bytes.cmp(&a.bytes).then(a.start.cmp(&b.start))
    });
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    let mut total = 0;
    for index in by_size {
        let size = blocks[index].bytes.div_ceil(ALIGN) * ALIGN;
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| blocks[other].overlaps(&blocks[index]))
            .map(|&other| (offsets[other], offsets[other] + blocks[other].bytes.div_ceil(ALIGN) * ALIGN))
            .collect();
        sort(&mut taken);
        offsets[index] = smallest_gap(&taken, size);
        total = total.max(offsets[index] + size);
        placed.push(index);
    }
    (offsets, total)
}

/// The start of the smallest gap of at least `size` between the taken ranges, or the end of them all.
fn smallest_gap(taken: &[(usize, usize)], size: usize) -> usize {
    let mut best: Option<(usize, usize)> = None;
    let mut end = 0;
    for &(start, stop) in taken {
        let gap = start.saturating_sub(end);
        if gap >= size && best.is_none_or(|(smallest, _)| gap < smallest) {
            best = Some((gap, end));
        }
        end = end.max(stop);
    }
    best.map_or(end, |(_, offset)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_alive_together_never_overlap() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let blocks: Vec<Block> = (0..random.usize(1..40))
                .map(|_| {
                    let start = random.usize(0..30);
                    Block { bytes: random.usize(0..5000), start, end: start + random.usize(0..8) }
                })
                .collect();
            for (offsets, total) in [largest_first(&blocks), in_order_of_time(&blocks)] {
                for (i, a) in blocks.iter().enumerate() {
                    assert_eq!(offsets[i] % ALIGN, 0);
                    assert!(offsets[i] + a.bytes <= total);
                    for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                        let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                        assert!(!a.overlaps(b) || apart || a.bytes == 0 || b.bytes == 0);
                    }
                }
            }
        }
    }

    #[test]
    fn gaps_grow_together() {
        let mut gaps = Gaps::default();
        for offset in [0, 128, 64] {
            gaps.insert(offset, 64);
        }
        assert_eq!((gaps.take(256), gaps.take(128), gaps.take(128), gaps.take(64)), (None, Some(0), None, Some(128)));
        // A block that never ends does not hinder the others.
        let blocks = [(0, usize::MAX), (0, 1), (2, 3)].map(|(start, end)| Block { bytes: 64, start, end });
        assert_eq!(in_order_of_time(&blocks), (vec![0, 64, 64], 128));
    }

    #[test]
    fn a_chain_needs_two_buffers_only() {
        let chain: Vec<Block> = (0..10).map(|i| Block { bytes: 1024, start: i, end: i + 1 }).collect();
        assert_eq!((largest_first(&chain).1, in_order_of_time(&chain).1), (2048, 2048));
    }
}
