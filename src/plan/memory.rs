//! The layout of the arena: largest block first, each into the smallest gap that is free for its whole lifetime.

use crate::order::{argsort, sort};

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

/// The offset of each block, and the size of the arena.
pub(super) fn layout(blocks: &[Block]) -> (Vec<usize>, usize) {
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
            let (offsets, total) = layout(&blocks);
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

    #[test]
    fn a_chain_needs_two_buffers_only() {
        let chain: Vec<Block> = (0..10).map(|i| Block { bytes: 1024, start: i, end: i + 1 }).collect();
        assert_eq!(layout(&chain).1, 2048);
    }
}
