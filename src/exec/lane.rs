//! A lane: many submitters push with one compare-and-swap each, one drainer takes everything with one swap.
//!
//! It is an intrusive stack of counted references, reversed by the drainer, so that the oldest comes out first. Nothing is
//! ever popped singly, so the ABA problem cannot arise: a push that finds the same head again links to a node that
//! really is the head. Ordering across lanes is left to the batcher.

use crate::sync::Arc;
use crate::sync::atomic::{AtomicPtr, Ordering};
use std::ptr;

/// Something that can stand in a lane: it carries the link to the next older one.
pub(super) trait Linked: Sized {
    /// The link. Written by the pusher before it publishes, read by the drainer after; touched by nobody else.
    fn link(&self) -> &AtomicPtr<Self>;
}

/// A lane of counted references.
///
/// `head` is published with `SeqCst`, and read with it by [`Lane::is_empty`]: a submitter that pushes and then sees no
/// worker searching, and a worker that stops searching and then sees the lane empty, must not both be possible (see
/// `sleepers`). The swap of the drainer acquires what every pusher released, through the release sequence of the
/// compare-and-swaps between them.
#[derive(Debug)]
pub(super) struct Lane<T> {
    head: AtomicPtr<T>,
}

impl<T: Linked> Lane<T> {
    pub(super) fn new() -> Self {
        Lane { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Adds `node`. It must not stand in a lane already.
    #[inline]
    pub(super) fn push(&self, node: Arc<T>) {
        let node = Arc::into_raw(node).cast_mut();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: `node` came from an `Arc` whose count this lane now owns, so it is alive.
            unsafe { &*node }.link().store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, node, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => head = newer,
            }
        }
    }

    /// Whether nothing stands in it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst).is_null()
    }

    /// Takes everything, oldest first.
    pub(super) fn drain(&self) -> Drained<T> {
        if self.is_empty() {
            return Drained { head: ptr::null_mut() };
        }
        let mut newest = self.head.swap(ptr::null_mut(), Ordering::SeqCst);
        let mut oldest = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: every node reachable from the head that we swapped out holds a count that we now own.
            let link = unsafe { &*newest }.link();
            let next = link.load(Ordering::Relaxed);
            link.store(oldest, Ordering::Relaxed);
            oldest = newest;
            newest = next;
        }
        Drained { head: oldest }
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        debug_assert!(self.head.load(Ordering::Relaxed).is_null(), "a lane is drained before it is dropped");
    }
}

/// What was drained, oldest first; what is not taken is released on drop.
#[derive(Debug)]
pub(super) struct Drained<T: Linked> {
    head: *mut T,
}

impl<T: Linked> Iterator for Drained<T> {
    type Item = Arc<T>;

    fn next(&mut self) -> Option<Arc<T>> {
        if self.head.is_null() {
            return None;
        }
        // SAFETY: the chain holds one count for each of its nodes, and this node leaves the chain here.
        let node = unsafe { Arc::from_raw(self.head.cast_const()) };
        self.head = node.link().load(Ordering::Relaxed);
        Some(node)
    }
}

impl<T: Linked> Drop for Drained<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node {
        value: usize,
        link: AtomicPtr<Node>,
    }

    impl Linked for Node {
        fn link(&self) -> &AtomicPtr<Node> {
            &self.link
        }
    }

    fn node(value: usize) -> Arc<Node> {
        Arc::new(Node { value, link: AtomicPtr::new(ptr::null_mut()) })
    }

    #[cfg(not(loom))]
    #[test]
    fn the_oldest_comes_first_and_the_rest_is_released() {
        let lane = Lane::new();
        let kept = node(2);
        lane.push(node(0));
        lane.push(node(1));
        lane.push(kept.clone());
        let mut drained = lane.drain();
        assert_eq!(drained.next().map(|n| n.value), Some(0));
        drop(drained);
        assert_eq!(Arc::strong_count(&kept), 1);
        assert!(lane.is_empty() && lane.drain().next().is_none());
    }

    #[cfg(not(loom))]
    #[test]
    fn each_pusher_keeps_its_order_and_nothing_is_lost() {
        let lane = Arc::new(Lane::new());
        let pushers: Vec<_> = (0..4)
            .map(|pusher| {
                let lane = lane.clone();
                std::thread::spawn(move || (0..1000).for_each(|i| lane.push(node(pusher * 1000 + i))))
            })
            .collect();
        let mut last = [None; 4];
        let mut seen = 0;
        while seen < 4000 {
            for node in lane.drain() {
                let (pusher, index) = (node.value / 1000, node.value % 1000);
                assert!(last[pusher].is_none_or(|before| before < index));
                last[pusher] = Some(index);
                seen += 1;
            }
            std::thread::yield_now();
        }
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        assert!(lane.is_empty());
    }

    #[cfg(loom)]
    #[test]
    fn loom_lane_loses_nothing() {
        loom::model(|| {
            let lane = Arc::new(Lane::new());
            let pushers: Vec<_> = (0..2)
                .map(|pusher| {
                    let lane = lane.clone();
                    loom::thread::spawn(move || {
                        lane.push(node(pusher * 2));
                        lane.push(node(pusher * 2 + 1));
                    })
                })
                .collect();
            let mut seen: Vec<usize> = lane.drain().map(|node| node.value).collect();
            pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
            seen.extend(lane.drain().map(|node| node.value));
            let position = |value| seen.iter().position(|&v| v == value).unwrap();
            assert!(position(0) < position(1) && position(2) < position(3) && seen.len() == 4);
        });
    }
}
