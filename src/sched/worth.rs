//! How many rows a batch needs to be worth its fixed cost: where larger ones bring no more answers, they only make others wait.

use super::View;
use std::time::Duration;

/// A size that was seen less often is tried before it is judged.
const ENOUGH: u64 = 4;

impl View<'_> {
    /// The sizes that are compared: powers of two, and the largest batch.
    fn sizes(&self) -> impl Iterator<Item = u32> + use<> {
        let most = self.limits.max_batch_size.max(1);
        std::iter::successors(Some(1_u32), move |&rows| (rows < most).then(|| rows.saturating_mul(2).min(most)))
    }

    /// The fewest rows with which batches of `group` answer at least `efficiency` (0 to 1) of what the best size up to the
    /// limit answers in the same time.
    ///
    /// A size of which too little is known is named as long as so many requests wait, so that it becomes known. Where nothing
    /// is known of any size it is the limit. Sizes are compared by the times that they take undisturbed: what else the system
    /// does falls on few of many short batches and on all long ones, so that averages of a few differ by chance.
    #[must_use]
    pub fn worthwhile_rows(&self, group: u64, efficiency: f64) -> u32 {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let known = |rows: &u32| self.costs.times(group, *rows) >= ENOUGH;
        let per_row = |rows: u32| {
            let time = self.costs.floor(group, rows)?;
            Some((rows, time.as_secs_f64() / f64::from(rows)))
        };
        let most = self.limits.max_batch_size.max(1);
        if self.costs.predict(group, most).is_none() {
            return most;
        }
        if let Some(unknown) = self.sizes().find(|rows| !known(rows) && *rows <= waiting) {
            return unknown;
        }
        let best = self.sizes().filter(known).filter_map(per_row).map(|(_, time)| time).fold(f64::INFINITY, f64::min);
        let enough = self.sizes().filter(known).filter_map(per_row).find(|(_, time)| time * efficiency <= best);
        enough.map_or(most, |(rows, _)| rows)
    }

    /// The most rows up to `rows` with which a batch of `group` most probably takes no longer than `time`, halved until it
    /// does; at least one.
    #[must_use]
    pub fn rows_within(&self, group: u64, rows: u32, time: Duration) -> u32 {
        let mut rows = rows.max(1);
        while rows > 1 && self.costs.bound(group, rows).is_some_and(|bound| bound > time) {
            rows /= 2;
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Costs, Limits, Waiting};
    use super::*;
    use crate::clock::Time;

    /// So much for a batch and so much for a row; sizes from `unseen` on were seen twice only.
    struct Affine {
        fixed: u64,
        row: u64,
        unseen: u32,
    }

    impl Costs for Affine {
        fn predict(&self, _group: u64, rows: u32) -> Option<Duration> {
            Some(Duration::from_nanos(self.fixed + self.row * u64::from(rows)))
        }

        fn times(&self, _group: u64, rows: u32) -> u64 {
            if rows >= self.unseen { 2 } else { 100 }
        }
    }

    fn rows(costs: &dyn Costs, waiting: usize, efficiency: f64) -> u32 {
        let waiting = vec![Waiting::at(Time::ZERO); waiting];
        let limits = Limits { max_batch_size: 24, ..Limits::default() };
        View::new(Time::ZERO, &waiting, &limits, costs).worthwhile_rows(0, efficiency)
    }

    #[test]
    fn a_batch_is_as_large_as_it_pays() {
        let affine = |fixed, row| Affine { fixed, row, unseen: u32::MAX };
        assert_eq!(rows(&affine(0, 100), 100, 0.9), 1, "no row is cheaper in company");
        assert_eq!(rows(&affine(100, 100), 100, 0.9), 8, "12.5 % are left to gain, and 4.2 of them with 24");
        assert_eq!(rows(&affine(100, 100), 100, 1.0), 24);
        assert_eq!(rows(&affine(100, 0), 100, 0.9), 24);
        assert_eq!(rows(&(), 100, 0.9), 24, "nothing is known");
    }

    #[test]
    fn what_was_seldom_seen_is_tried_when_enough_wait() {
        let costs = Affine { fixed: 0, row: 100, unseen: 8 };
        assert_eq!((rows(&costs, 7, 0.9), rows(&costs, 8, 0.9), rows(&costs, 100, 0.9)), (1, 8, 8));
        assert_eq!(rows(&Affine { unseen: 1, ..costs }, 100, 0.9), 1);
    }

    #[test]
    fn a_batch_is_cut_to_a_time() {
        let limits = Limits::default();
        let within = |costs: &dyn Costs, time| {
            View::new(Time::ZERO, &[], &limits, costs).rows_within(0, 24, Duration::from_nanos(time))
        };
        let costs = Affine { fixed: 100, row: 100, unseen: u32::MAX };
        assert_eq!([2500, 2499, 400, 1].map(|time| within(&costs, time)), [24, 12, 3, 1]);
        assert_eq!(within(&(), 1), 24, "nothing is known");
    }
}
