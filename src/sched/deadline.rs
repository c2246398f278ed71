//! Earliest deadline first, with early drop: under overload, work that would come too late is not begun.

use super::{Decision, Policy, Precedence, View};

/// The earliest deadline first, by arrival among equals; those without a deadline last.
///
/// A request is dropped when it would end after its deadline even if it ran now, in the batch that is about to be formed.
/// Without that, an overloaded queue spends its time on answers that nobody waits for any more.
#[derive(Debug, Clone, Default)]
pub struct EarliestDeadline {
    order: Vec<(u64, usize)>,
    gone: Vec<usize>,
}

impl EarliestDeadline {
    /// The policy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn is_gone(&self, at: usize) -> bool {
        self.gone.binary_search(&at).is_ok()
    }
}

impl Policy for EarliestDeadline {
    fn name(&self) -> &str {
        "earliest-deadline"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        self.gone.clear();
        self.order.clear();
        if !view.deadlines_rise {
            self.order.extend(view.waiting.iter().enumerate().map(|(at, request)| (request.deadline.as_nanos(), at)));
        }
        loop {
            if view.deadlines_rise {
                view.form((0..view.waiting.len()).filter(|&at| !self.is_gone(at)), decision);
            } else {
                view.form_by_key(&mut self.order, decision);
            }
            // Others take the places of those that would be late, and the batch is looked at again.
            let before = self.gone.len();
            self.gone.extend(view.late(decision).map(|rank| decision.run[rank]));
            if self.gone.len() == before {
                return;
            }
            decision.drop.extend(&self.gone[before..]);
            decision.run.clear();
            self.gone.sort_unstable();
            let mut order = std::mem::take(&mut self.order);
            order.retain(|&(_, at)| !self.is_gone(at));
            self.order = order;
        }
    }

    fn precedence(&self) -> Precedence {
        Precedence::Deadline
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Costs, Limits, Waiting};
    use super::*;
    use crate::clock::Time;
    use std::time::Duration;

    struct PerRow(u64);

    impl Costs for PerRow {
        fn predict(&self, _group: u64, rows: u32) -> Option<Duration> {
            Some(Duration::from_nanos(self.0 * u64::from(rows)))
        }
    }

    fn decide(deadlines: &[u64], max_batch_size: u32) -> Decision {
        let request = |&at: &u64| Waiting { deadline: Time::from_nanos(at), ..Waiting::at(Time::ZERO) };
        let waiting: Vec<_> = deadlines.iter().map(request).collect();
        let limits = Limits { max_batch_size, ..Limits::default() };
        let mut decision = Decision::default();
        let view = View::new(Time::ZERO, &waiting, &limits, &PerRow(10));
        EarliestDeadline::new().decide(&view, &mut decision);
        if deadlines.is_sorted() {
            let mut same = Decision::default();
            EarliestDeadline::new().decide(&View { deadlines_rise: true, ..view }, &mut same);
            assert_eq!((&same.run, &same.drop), (&decision.run, &decision.drop), "the short way");
        }
        decision
    }

    #[test]
    fn the_earliest_goes_first() {
        assert_eq!(decide(&[90, 70, u64::MAX, 80], 2).run, [1, 3]);
    }

    #[test]
    fn what_would_end_too_late_is_dropped_and_its_place_taken() {
        let decision = decide(&[15, 90, 19, 91, 92], 2);
        assert_eq!((decision.drop, decision.run), (vec![0, 2], vec![1, 3]));
        let decision = decide(&[15, 19, 19, 90, 91, 92], 2);
        assert_eq!((decision.drop, decision.run), (vec![0, 1, 2], vec![3, 4]));
    }

    #[test]
    fn a_lone_request_that_can_be_met_is_not_dropped() {
        let decision = decide(&[10], 8);
        assert_eq!((decision.drop.len(), decision.run), (0, vec![0]));
    }
}
