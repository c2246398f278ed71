//! Fills one batch from an order of preference: equal groups, bounded rows, bounded look-ahead, bounded delay.

use super::{Decision, View};
use crate::clock::Time;

impl View<'_> {
    /// Makes the batch that `order` (positions, the most wanted first) asks for.
    ///
    /// The first position opens the batch; later ones join while their group is the same and their rows fit. A batch that
    /// is not full waits, if the limits ask for it, until its oldest member has waited for `max_queue_delay`.
    pub fn form(&self, order: impl IntoIterator<Item = usize>, decision: &mut Decision) {
        let max_rows = self.limits.max_batch_size.max(1);
        let mut order = order.into_iter().filter_map(|at| self.waiting.get(at).map(|request| (at, request)));
        let Some((first, leader)) = order.next() else { return };
        decision.run.push(first);
        let (mut rows, mut skipped, mut oldest) = (leader.rows, 0, leader.arrived);
        if rows < max_rows {
            for (at, request) in order {
                if request.group == leader.group && request.rows <= max_rows - rows {
                    decision.run.push(at);
                    rows += request.rows;
                    oldest = oldest.min(request.arrived);
                    if rows == max_rows {
                        break;
                    }
                } else {
                    skipped += 1;
                    if skipped > self.limits.look_ahead {
                        break;
                    }
                }
            }
        }
        let ripe = oldest.after(self.limits.max_queue_delay);
        if rows < max_rows && self.now < ripe {
            decision.run.clear();
            decision.look_again = decision.look_again.min(ripe);
        }
    }

    /// Puts every request whose deadline has passed among those to drop.
    pub fn drop_expired(&self, decision: &mut Decision) {
        let expired = |at: &usize| self.waiting[*at].deadline <= self.now;
        decision.drop.extend((0..self.waiting.len()).filter(expired));
    }

    /// The earliest deadline of those that wait.
    #[must_use]
    pub fn earliest_deadline(&self) -> Time {
        self.waiting.iter().map(|request| request.deadline).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Waiting};
    use super::*;
    use std::time::Duration;

    fn decide(waiting: &[Waiting], limits: &Limits, now: u64) -> Decision {
        let mut decision = Decision::default();
        decision.clear();
        View::new(Time::from_nanos(now), waiting, limits, &()).form(0..waiting.len(), &mut decision);
        decision
    }

    fn waiting(groups_and_rows: &[(u64, u32)]) -> Vec<Waiting> {
        let record = |(at, &(group, rows)): (usize, &(u64, u32))| Waiting {
            group,
            rows,
            ..Waiting::at(Time::from_nanos(at as u64))
        };
        groups_and_rows.iter().enumerate().map(record).collect()
    }

    #[test]
    fn only_equal_groups_ride_together() {
        let limits = Limits { max_batch_size: 8, ..Limits::default() };
        assert_eq!(decide(&waiting(&[(1, 1), (2, 1), (1, 1), (2, 1)]), &limits, 9).run, [0, 2]);
    }

    #[test]
    fn rows_are_bounded_and_smaller_requests_fill_the_gap() {
        let limits = Limits { max_batch_size: 4, ..Limits::default() };
        assert_eq!(decide(&waiting(&[(0, 2), (0, 3), (0, 1), (0, 1), (0, 1)]), &limits, 9).run, [0, 2, 3]);
        assert_eq!(decide(&waiting(&[(0, 9), (0, 1)]), &limits, 9).run, [0], "an oversized request runs alone");
    }

    #[test]
    fn look_ahead_is_bounded() {
        let limits = Limits { look_ahead: 1, ..Limits::default() };
        assert_eq!(decide(&waiting(&[(0, 1), (1, 1), (1, 1), (0, 1)]), &limits, 9).run, [0]);
    }

    #[test]
    fn a_batch_that_is_not_full_waits_for_its_delay() {
        let limits = Limits { max_batch_size: 3, max_queue_delay: Duration::from_nanos(100), ..Limits::default() };
        let early = decide(&waiting(&[(0, 1), (0, 1)]), &limits, 50);
        assert_eq!((early.run.len(), early.look_again), (0, Time::from_nanos(100)));
        assert_eq!(decide(&waiting(&[(0, 1), (0, 1)]), &limits, 100).run, [0, 1]);
        assert_eq!(decide(&waiting(&[(0, 1), (0, 1), (0, 1)]), &limits, 50).run, [0, 1, 2], "full: no wait");
    }
}
