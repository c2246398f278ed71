//! An adaptive cap on the batch: larger while answers come in time, smaller when they do not.

use crate::clock::nanos;
use std::time::Duration;

/// Additive increase, multiplicative decrease of the batch size against a target for the latency.
///
/// After each batch it is told how many rows rode and how long the slowest of them was in the executor. Over the target,
/// the cap falls to three quarters; within it, and only if the cap was reached, it grows by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptiveCap {
    target: u64,
    least: u32,
    most: u32,
    cap: u32,
}

impl AdaptiveCap {
    /// Keeps latency under `target` with batches of `least` to `most` rows; begins with `least`.
    #[must_use]
    pub fn new(target: Duration, least: u32, most: u32) -> Self {
        let least = least.max(1);
        AdaptiveCap { target: nanos(target), least, most: most.max(least), cap: least }
    }

    /// Most rows in the next batch.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.cap
    }

    /// Told after each batch.
    pub fn observe(&mut self, rows: u32, slowest: Duration) {
        if nanos(slowest) > self.target {
            self.cap = (self.cap - self.cap.div_ceil(4)).max(self.least);
        } else if rows >= self.cap {
            self.cap = (self.cap + 1).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_settles_where_the_target_is_met() {
        let mut cap = AdaptiveCap::new(Duration::from_nanos(1000), 1, 64);
        // A batch takes 50 and 40 per row: 23 rows just meet the target.
        let mut seen = Vec::new();
        for _ in 0..300 {
            let rows = cap.rows();
            seen.push(rows);
            cap.observe(rows, Duration::from_nanos(50 + 40 * u64::from(rows)));
        }
        assert!(seen[100..].iter().all(|rows| (16..=24).contains(rows)), "{seen:?}");
    }

    #[test]
    fn it_keeps_its_bounds_and_does_not_grow_unused() {
        let mut cap = AdaptiveCap::new(Duration::from_nanos(10), 2, 4);
        (0..9).for_each(|_| cap.observe(1, Duration::ZERO));
        assert_eq!(cap.rows(), 2);
        (0..9).for_each(|_| cap.observe(4, Duration::ZERO));
        assert_eq!(cap.rows(), 4);
        (0..9).for_each(|_| cap.observe(4, Duration::from_secs(1)));
        assert_eq!(cap.rows(), 2);
    }
}
