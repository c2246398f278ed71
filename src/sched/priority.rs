//! Strict priority with ageing: the most urgent class first, but nobody waits for ever.

use super::{Decision, Policy, Precedence, View, Waiting};
use crate::clock::{Time, nanos};
use std::time::Duration;

/// Classes whose requests were seen within this time, in nanoseconds, are expected to ask again.
const MEMORY: u64 = 1_000_000_000;
/// Classes that are told apart when it is looked which ones ask.
const CLASSES: usize = 8;
/// One batch in so many has fewer rows, so that it shows whether those would do.
const TRIAL: u32 = 64;

/// The lowest class number first, by arrival within a class.
///
/// For each `ageing` that a request has waited it moves up one class. A request of class `c` therefore stands, after
/// `c * ageing`, among the most urgent, and before all of them that arrived later.
///
/// What runs cannot be overtaken any more. So while requests of several classes come, batches have no more rows than they need
/// to answer [four fifths](StrictPriority::efficiency) of what full ones would: an urgent request that finds all replicas busy
/// waits for a short batch, and rides in one.
#[derive(Debug, Clone)]
pub struct StrictPriority {
    ageing: u64,
    separate: bool,
    efficiency: f64,
    max_batch_time: Duration,
    seen: [Option<Time>; CLASSES],
    decisions: u32,
    order: Vec<((u64, u64), usize)>,
}

impl StrictPriority {
    /// Classes move up by one for each `ageing`; `Duration::MAX` never moves them.
    #[must_use]
    pub fn new(ageing: Duration) -> Self {
        StrictPriority {
            ageing: nanos(ageing).max(1),
            separate: false,
            efficiency: 0.8,
            max_batch_time: Duration::MAX,
            seen: [None; CLASSES],
            decisions: 0,
            order: Vec::new(),
        }
    }

    /// Lets no less urgent request ride in a batch with a more urgent one. An urgent request is answered sooner, as its
    /// batch is not made longer by others, and what runs stays interruptible for the next one; batches are smaller, so that less is
    /// answered in all. Default: what fits rides along.
    #[must_use]
    pub fn separate(mut self) -> Self {
        self.separate = true;
        self
    }

    /// Which part, from 0 to 1, of what the best batch size answers must be left while requests of several classes come;
    /// batches have no more rows than that takes. With 1 throughput comes first and urgent requests wait for full batches.
    /// Default 0.8.
    #[must_use]
    pub fn efficiency(mut self, part: f64) -> Self {
        self.efficiency = part.clamp(0.0, 1.0);
        self
    }

    /// How long a batch may probably take while requests of several classes come, whatever that costs in throughput: the
    /// longest time that an urgent request waits for what runs. A single request may take longer. Default: no bound.
    #[must_use]
    pub fn max_batch_time(mut self, time: Duration) -> Self {
        self.max_batch_time = time;
        self
    }

    /// Whether requests of several classes came of late.
    fn is_mixed(&mut self, view: &View<'_>) -> bool {
        for request in view.waiting {
            self.seen[usize::from(request.priority).min(CLASSES - 1)] = Some(view.now);
        }
        let of_late = |seen: &&Option<Time>| seen.is_some_and(|seen| nanos(view.now.since(seen)) <= MEMORY);
        self.seen.iter().filter(of_late).count() > 1
    }

    /// The most rows in a batch that `leader` opens.
    fn rows(&self, view: &View<'_>, leader: &Waiting) -> u32 {
        let rows = view.worthwhile_rows(leader.group, self.efficiency);
        // The smaller sizes have their trials in turn.
        let trial = self.decisions / TRIAL % rows.max(2).ilog2() + 1;
        let rows = if self.decisions.is_multiple_of(TRIAL) { rows >> trial } else { rows };
        view.rows_within(leader.group, rows, self.max_batch_time)
    }
}

impl Policy for StrictPriority {
    fn name(&self) -> &str {
        "priority"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        self.order.clear();
        self.order.extend(view.waiting.iter().enumerate().map(|(at, request)| {
            let waited = nanos(view.now.since(request.arrived));
            let class = u64::from(request.priority).saturating_sub(waited / self.ageing);
            ((class, request.arrived.as_nanos()), at)
        }));
        if self.separate {
            let first = self.order.iter().map(|((class, _), _)| *class).min();
            self.order.retain(|((class, _), _)| Some(*class) == first);
        }
        self.decisions = self.decisions.wrapping_add(1);
        let is_mixed = self.is_mixed(view);
        let mut order = std::mem::take(&mut self.order);
        let rows = |leader: &Waiting| if is_mixed { self.rows(view, leader) } else { u32::MAX };
        view.form_by_key_within(&mut order, rows, decision);
        self.order = order;
    }

    fn precedence(&self) -> Precedence {
        Precedence::Class
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Costs, Limits, Waiting};
    use super::*;
    use crate::clock::Time;

    #[test]
    fn separate_classes_do_not_ride_together() {
        let request = |priority| Waiting { priority, ..Waiting::at(Time::ZERO) };
        let waiting = [request(2), request(0), request(2), request(0)];
        let run = |mut policy: StrictPriority| {
            let mut decision = Decision::default();
            policy.decide(&View::new(Time::ZERO, &waiting, &Limits::default(), &()), &mut decision);
            decision.run
        };
        assert_eq!(run(StrictPriority::new(Duration::MAX)), [1, 3, 0, 2]);
        assert_eq!(run(StrictPriority::new(Duration::MAX).separate()), [1, 3]);
    }

    /// So many nanoseconds for a batch, and one for each row.
    struct Fixed(u64);

    impl Costs for Fixed {
        fn predict(&self, _group: u64, rows: u32) -> Option<Duration> {
            Some(Duration::from_nanos(self.0 + u64::from(rows)))
        }
    }

    #[test]
    fn batches_are_short_only_while_several_classes_come_and_where_long_ones_do_not_pay() {
        let request = |priority| Waiting { priority, ..Waiting::at(Time::ZERO) };
        let alike = vec![request(2); 40];
        let mixed: Vec<_> = alike.iter().copied().chain([request(0)]).collect();
        let limits = Limits::default();
        let mut policy = StrictPriority::new(Duration::MAX);
        let mut rows = |waiting: &[Waiting], now, fixed| {
            let mut decision = Decision::default();
            policy.decide(&View::new(Time::from_nanos(now), waiting, &limits, &Fixed(fixed)), &mut decision);
            decision.run.len()
        };
        assert_eq!(rows(&alike, 0, 0), 32, "nobody more urgent is expected");
        assert_eq!(rows(&mixed, 1, 0), 1, "a batch saves nothing");
        assert_eq!(rows(&alike, 2, 0), 1, "the next urgent one may come while it runs");
        assert_eq!(rows(&alike, 3, 1), 4, "a batch saves a little");
        assert_eq!(rows(&alike, 4, 1000), 32, "a batch saves nearly everything");
        assert_eq!(rows(&alike, MEMORY + 2, 0), 32, "long after the last urgent one");
    }

    #[test]
    fn smaller_batches_are_tried_now_and_then() {
        let request = |priority| Waiting { priority, ..Waiting::at(Time::ZERO) };
        let waiting: Vec<_> = (0..80).map(|at| request(at % 2)).collect();
        let mut policy = StrictPriority::new(Duration::MAX);
        let mut rows = || {
            let mut decision = Decision::default();
            policy.decide(&View::new(Time::ZERO, &waiting, &Limits::default(), &Fixed(1)), &mut decision);
            decision.run.len()
        };
        let sizes: Vec<_> = (0..TRIAL * 3).map(|_| rows()).collect();
        let count = |rows| sizes.iter().filter(|&&n| n == rows).count() as u32;
        assert_eq!([4, 2, 1].map(count), [TRIAL * 3 - 3, 1, 2]);
    }

    #[test]
    fn a_batch_takes_no_longer_than_it_may() {
        let request = |priority| Waiting { priority, ..Waiting::at(Time::ZERO) };
        let waiting: Vec<_> = (0..80).map(|at| request(at % 2)).collect();
        let mut policy = StrictPriority::new(Duration::MAX).efficiency(1.0).max_batch_time(Duration::from_nanos(1010));
        let mut decision = Decision::default();
        policy.decide(&View::new(Time::ZERO, &waiting, &Limits::default(), &Fixed(1000)), &mut decision);
        assert_eq!(decision.run.len(), 8);
    }

    #[test]
    fn urgent_first_until_the_others_have_aged() {
        let request = |arrived, priority| Waiting { priority, ..Waiting::at(Time::from_nanos(arrived)) };
        let waiting = [request(0, 2), request(1, 1), request(150, 0)];
        let limits = Limits { max_batch_size: 1, ..Limits::default() };
        let first = |now| {
            let mut decision = Decision::default();
            let view = View::new(Time::from_nanos(now), &waiting, &limits, &());
            StrictPriority::new(Duration::from_nanos(100)).decide(&view, &mut decision);
            decision.run[0]
        };
        assert_eq!(first(99), 2);
        assert_eq!(first(101), 1, "the first class 1 has aged to class 0 and came before");
        assert_eq!(first(200), 0);
    }
}
