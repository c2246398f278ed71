//! Strict priority with ageing: the most urgent class first, but nobody waits for ever.

use super::{Decision, Policy, Precedence, View};
use crate::clock::nanos;
use std::time::Duration;

/// The lowest class number first, by arrival within a class.
///
/// For each `ageing` that a request has waited it moves up one class. A request of class `c` therefore stands, after
/// `c * ageing`, among the most urgent, and before all of them that arrived later.
#[derive(Debug, Clone)]
pub struct StrictPriority {
    ageing: u64,
    separate: bool,
    order: Vec<((u64, u64), usize)>,
}

impl StrictPriority {
    /// Classes move up by one for each `ageing`; `Duration::MAX` never moves them.
    #[must_use]
    pub fn new(ageing: Duration) -> Self {
        StrictPriority { ageing: nanos(ageing).max(1), separate: false, order: Vec::new() }
    }

    /// Lets no less urgent request ride in a batch with a more urgent one. An urgent request is answered sooner, as its
    /// batch is not made longer by others, and what runs stays interruptible for the next one; batches are smaller, so that less is
    /// answered in all. Default: what fits rides along.
    #[must_use]
    pub fn separate(mut self) -> Self {
        self.separate = true;
        self
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
        view.form_by_key(&mut self.order, decision);
    }

    fn precedence(&self) -> Precedence {
        Precedence::Class
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Waiting};
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
