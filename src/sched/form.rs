//! Fills one batch from an order of preference: equal groups, bounded rows, bounded look-ahead, bounded delay.

use super::{Decision, View, Waiting};
use crate::clock::Time;

/// A batch while it is being filled.
struct Filling {
    group: u64,
    model: u32,
    rows: u32,
    oldest: Time,
    width: u32,
    elements: u64,
    /// The divided request of which a part rides; zero while none does.
    division: u64,
}

impl Filling {
    fn open(leader: &Waiting) -> Self {
        let elements = u64::from(leader.rows) * u64::from(leader.width);
        let Waiting { group, model, rows, arrived: oldest, width, division, .. } = *leader;
        Filling { group, model, rows, oldest, width, elements, division }
    }

    /// Lets `request` ride if it fits.
    fn join(&mut self, request: &Waiting, max_rows: u32, max_padding: u64) -> bool {
        let alike = request.group == self.group && request.model == self.model;
        let part_of_same = request.division != 0 && request.division == self.division;
        if !alike || part_of_same || request.rows > max_rows.saturating_sub(self.rows) {
            return false;
        }
        let (rows, width) = (self.rows + request.rows, self.width.max(request.width));
        let elements = self.elements + u64::from(request.rows) * u64::from(request.width);
        if u64::from(rows) * u64::from(width) - elements > max_padding {
            return false;
        }
        (self.rows, self.width, self.elements) = (rows, width, elements);
        self.oldest = self.oldest.min(request.arrived);
        self.division = if self.division == 0 { request.division } else { self.division };
        true
    }
}

impl View<'_> {
    /// Makes the batch that `order` (positions, the most wanted first) asks for.
    ///
    /// The first position opens the batch; later ones join while their group is the same and their rows fit. A batch that
    /// is not full waits, if the limits ask for it, until its oldest member has waited for `max_queue_delay`; one that
    /// reaches a preferred size does not wait, and is cut to it.
    pub fn form(&self, order: impl IntoIterator<Item = usize>, decision: &mut Decision) {
        self.form_within(order, self.limits.max_batch_size, decision);
    }

    /// As [`form`](View::form), with a bound on the rows of its own.
    pub fn form_within(&self, order: impl IntoIterator<Item = usize>, max_rows: u32, decision: &mut Decision) {
        let max_rows = max_rows.clamp(1, self.limits.max_batch_size.max(1));
        let mut order = order.into_iter().filter_map(|at| self.waiting.get(at).map(|request| (at, request)));
        let Some((first, leader)) = order.next() else { return };
        decision.run.push(first);
        let (mut batch, mut skipped) = (Filling::open(leader), 0);
        while batch.rows < max_rows
            && let Some((at, request)) = order.next()
        {
            if batch.join(request, max_rows, self.limits.max_padding) {
                decision.run.push(at);
            } else {
                skipped += 1;
                if skipped > self.limits.look_ahead {
                    break;
                }
            }
        }
        let preferred = self.limits.preferred_batch_sizes.iter().filter(|&&rows| rows <= batch.rows).max();
        let ripe = batch.oldest.after(self.limits.max_queue_delay);
        if batch.rows < max_rows && preferred.is_none() && self.now < ripe {
            decision.run.clear();
            decision.look_again = decision.look_again.min(ripe);
        } else if let Some(&rows) = preferred {
            self.cut(rows, decision);
        } else if self.limits.spread && self.idle > 0 {
            self.cut(self.even_part(leader), decision);
        }
    }

    /// What is left for this replica when the idle ones get as much of what could ride with `leader`.
    fn even_part(&self, leader: &Waiting) -> u32 {
        let alike =
            self.waiting.iter().filter(|request| request.group == leader.group && request.model == leader.model);
        let all = alike.fold(0_u64, |rows, request| rows + u64::from(request.rows));
        u32::try_from(all.div_ceil(u64::from(self.idle) + 1)).unwrap_or(u32::MAX)
    }

    /// Sorts `order` (keys with positions) as far as [`form`](View::form) will look, and forms the batch.
    ///
    /// A long queue is not sorted as a whole: only as many as one batch and its look-ahead can reach.
    pub fn form_by_key<K: Ord + Copy>(&self, order: &mut [(K, usize)], decision: &mut Decision) {
        self.form_by_key_within(order, |_| u32::MAX, decision);
    }

    /// As [`form_by_key`](View::form_by_key), with a bound on the rows that may depend on the request that opens the batch.
    pub fn form_by_key_within<K: Ord + Copy>(
        &self,
        order: &mut [(K, usize)],
        max_rows: impl FnOnce(&Waiting) -> u32,
        decision: &mut Decision,
    ) {
        let reach = (self.limits.max_batch_size as usize).saturating_add(self.limits.look_ahead).saturating_add(1);
        let near = if order.len() > reach.saturating_mul(2) {
            order.select_nth_unstable(reach);
            &mut order[..reach]
        } else {
            order
        };
        near.sort_unstable();
        let leader = near.first().and_then(|&(_, at)| self.waiting.get(at));
        self.form_within(near.iter().map(|&(_, at)| at), leader.map_or(1, max_rows), decision);
    }

    /// Lets those at the end wait, so that at most `rows` rows are left; the first always rides.
    fn cut(&self, rows: u32, decision: &mut Decision) {
        let mut sum = 0;
        let mut fits = |&at: &usize| {
            sum += self.waiting[at].rows;
            sum <= rows
        };
        let kept = decision.run.iter().take_while(|at| fits(at)).count();
        decision.run.truncate(kept.max(1));
    }

    /// The positions in the batch of those that would most probably be answered after their deadlines if it ran now.
    pub(super) fn late<'a>(&'a self, decision: &'a Decision) -> impl Iterator<Item = usize> + 'a {
        let rows = decision.run.iter().fold(0_u32, |rows, &at| rows.saturating_add(self.waiting[at].rows));
        let leader = decision.run.first().and_then(|&at| self.waiting.get(at));
        let time = leader.and_then(|leader| self.costs.bound(leader.group, rows));
        let end = time.map_or(Time::ZERO, |time| self.now.after(time));
        let is_late = move |request: &Waiting| request.deadline < end && !request.trial;
        (0..decision.run.len()).filter(move |&rank| is_late(&self.waiting[decision.run[rank]]))
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
    use super::super::Limits;
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
    fn parts_of_one_request_do_not_ride_together() {
        let mut waiting = waiting(&[(0, 1); 5]);
        [0, 2, 3].iter().for_each(|&at| waiting[at].division = 7);
        assert_eq!(decide(&waiting, &Limits::default(), 9).run, [0, 1, 4]);
        waiting[0].division = 0;
        assert_eq!(decide(&waiting, &Limits::default(), 9).run, [0, 1, 2, 4]);
    }

    #[test]
    fn idle_replicas_are_left_their_part() {
        let limits = Limits { max_batch_size: 8, spread: true, ..Limits::default() };
        let waiting = waiting(&[(0, 1), (0, 1), (1, 1), (0, 1), (0, 2), (0, 1)]);
        let mut decision = Decision::default();
        let view = View { idle: 2, ..View::new(Time::ZERO, &waiting, &limits, &()) };
        view.form(0..6, &mut decision);
        assert_eq!(decision.run, [0, 1], "six rows for three");
        decision.clear();
        View { idle: 0, ..view }.form(0..6, &mut decision);
        assert_eq!(decision.run, [0, 1, 3, 4, 5]);
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

    #[test]
    fn a_preferred_size_is_taken_at_once_and_not_exceeded() {
        let limits = Limits {
            max_batch_size: 8,
            max_queue_delay: Duration::from_nanos(100),
            preferred_batch_sizes: vec![2, 4],
            ..Limits::default()
        };
        assert_eq!(decide(&waiting(&[(0, 1); 7]), &limits, 7).run, [0, 1, 2, 3]);
        assert_eq!(decide(&waiting(&[(0, 1); 3]), &limits, 3).run, [0, 1]);
        assert!(decide(&waiting(&[(0, 1)]), &limits, 3).run.is_empty());
        assert_eq!(decide(&waiting(&[(0, 1)]), &limits, 100).run, [0], "the delay is over");
    }

    #[test]
    fn unequal_widths_ride_together_within_the_padding() {
        let widths = |widths: &[u32]| -> Vec<Waiting> {
            widths.iter().map(|&width| Waiting { width, ..Waiting::at(Time::ZERO) }).collect()
        };
        let strict = Limits::default();
        assert_eq!(decide(&widths(&[5, 4, 5]), &strict, 0).run, [0, 2]);
        let lenient = Limits { max_padding: 3, ..Limits::default() };
        assert_eq!(decide(&widths(&[5, 4, 5, 9, 3]), &lenient, 0).run, [0, 1, 2, 4]);
    }
}
